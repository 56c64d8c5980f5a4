"""Wires that are real: every node in a network namespace of its own, on one switch of ours.

    [cluster] wires = "namespaces"          needs root, `ip` (iproute2) and /dev/net/tun

    host 10.213.S.254 --- card triS ---+
                                       +--- node.lab.switch
    triS-n1 10.213.S.1 -- card eth0 ---+
    triS-n2 10.213.S.2 -- card eth0 ---+

A cut from n1 to n2 is packets that the switch drops; what n2 sends still arrives. So TCP's own
timers decide what happens next: its retransmissions back off, and after healing the next one may
be a while away. That is what a real partition costs and a proxy does not show. Lost and late
packets likewise: each of them by itself, acknowledgements too.

Nodes leave loopback here, so the laboratory gives them a secret and a password of their own.

Invariants: only names that begin with `tri` and this run's number are made and removed; `close`
removes all of them, in whatever state the run ended. If the laboratory is killed the cards go
with it, and the next run of the same number removes the namespaces.

Proved by: tests/lab/test_namespaces.py
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from collections.abc import Sequence
from typing import Final

from node.lab import files
from node.lab.config import ExperimentError
from node.lab.switch import TUN_PATH, PacketWay, Switch, make_card

__all__ = ["Namespaces", "PacketWire", "why_not"]

_MTU_BYTES: Final = 9_000
"""Jumbo frames: a switch in Python counts packets, not bytes."""


def why_not() -> str | None:
    """Why there can be no namespaces here; None: there can."""
    if os.geteuid() != 0:
        return "namespaces need root"
    if not files.has_program("ip"):
        return "namespaces need the program `ip` (Debian: iproute2)"
    if not os.path.exists(TUN_PATH):
        return f"namespaces need {TUN_PATH} (the kernel's module tun)"
    return None


def _ip(*words: str, check: bool = True) -> None:
    """One `ip` command, some five milliseconds. ExperimentError with what it said."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if check and done.returncode:
        raise ExperimentError(f"ip {' '.join(words)}: {done.stderr.strip()}")


class PacketWire:
    """Both ways between two nodes. See proxy.Wire."""

    def __init__(self, ends: tuple[str, str], there: PacketWay, back: PacketWay) -> None:
        self.ends = ends
        self._there, self._back = there, back

    def direction(self, source: str) -> PacketWay:
        """The way from one of its ends to the other."""
        return self._there if source == self.ends[0] else self._back

    def heal(self) -> None:
        """Both ways as new."""
        self._there.heal()
        self._back.heal()


class Namespaces:
    """The namespaces of one run.

    Args:
        rng: decides which packets are lost, and how late others are.
        delay_ms: how slow all ways are when nothing is wrong with them.
    """

    def __init__(
        self,
        ids: Sequence[str],
        rng: random.Random,
        delay_ms: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        problem = why_not()
        if problem is not None:
            raise ExperimentError(f"cluster.wires: {problem}")
        self._slot = os.getpid() % 250 + 1
        self._ids = list(ids)
        self._rng = rng
        self._delay_ms = delay_ms
        self._switch: Switch | None = None

    def host_of(self, node: str) -> str:
        """The address of a node."""
        return f"10.213.{self._slot}.{self._ids.index(node) + 1}"

    def _address_of(self, node: str) -> bytes:
        return bytes(map(int, self.host_of(node).split(".")))

    def name_of(self, node: str) -> str:
        """Its namespace."""
        return f"tri{self._slot}-{node}"

    def program(self, node: str) -> tuple[str, ...]:
        """Words before a program that is to run there."""
        return ("ip", "netns", "exec", self.name_of(node))

    def open(self) -> list[PacketWire]:
        """Make all of it; the wires between the nodes. ExperimentError: it cannot be done."""
        self.close()
        cards: dict[bytes, int] = {}
        try:
            host = f"tri{self._slot}"
            cards[bytes((10, 213, self._slot, 254))] = make_card(host)
            _up(host, f"10.213.{self._slot}.254")
            for place, node in enumerate(self._ids):
                name, card = self.name_of(node), f"tri{self._slot}p{place}"
                cards[self._address_of(node)] = make_card(card)
                _ip("netns", "add", name)
                _ip("link", "set", card, "netns", name, "name", "eth0")
                _up("eth0", self.host_of(node), "-n", name)
                _ip("-n", name, "link", "set", "lo", "up")
        except (OSError, ExperimentError) as error:
            for fd in cards.values():
                os.close(fd)
            self.close()
            raise ExperimentError(f"cluster.wires: no namespaces here: {error}") from error
        wires, ways = [], {}
        for one, other in itertools.combinations(self._ids, 2):
            there, back = (PacketWay(self._rng, self._delay_ms) for _ in range(2))
            ways[self._address_of(one), self._address_of(other)] = there
            ways[self._address_of(other), self._address_of(one)] = back
            wires.append(PacketWire((one, other), there, back))
        self._switch = Switch(cards, ways)
        self._switch.start()
        return wires

    def close(self) -> None:
        """Remove all of it. What is not there is fine."""
        if self._switch is not None:
            self._switch.close()
            self._switch = None
        for node in self._ids:
            _ip("netns", "del", self.name_of(node), check=False)


def _up(card: str, address: str, *where: str) -> None:
    """Give a card its address, and switch it on."""
    _ip(*where, "addr", "add", f"{address}/24", "dev", card)
    _ip(*where, "link", "set", card, "mtu", str(_MTU_BYTES), "up")
