"""Wires that are real: every node in a network namespace of its own, on one bridge.

    [cluster] wires = "namespaces"          needs root and the program `ip` (iproute2)

    host 10.213.S.254 ---- bridge triS ----+---- veth ---- triS-n1 10.213.S.1
                                           +---- veth ---- triS-n2 10.213.S.2

A cut from n1 to n2 is a blackhole route in n1's namespace: what n1 sends to n2 is dropped by
its own kernel, what n2 sends still arrives. So TCP's own timers decide what happens next: its
retransmissions back off, and after healing the next one may be a while away. That is what a real
partition costs and a proxy does not show.

Nodes leave loopback here, so the laboratory gives them a secret and a password of their own.

Invariants: only names that begin with `tri` and this run's number are made and removed; `close`
removes all of them, in whatever state the run ended.

Does not do: delay and loss (they need a kernel with netem: use the proxies).

Proved by: tests/lab/test_namespaces.py
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from node.lab import files
from node.lab.config import ExperimentError

__all__ = ["Namespaces", "RouteDirection", "RouteWire", "why_not"]


def why_not() -> str | None:
    """Why there can be no namespaces here; None: there can."""
    if os.geteuid() != 0:
        return "namespaces need root"
    if not files.has_program("ip"):
        return "namespaces need the program `ip` (Debian: iproute2)"
    return None


def _ip(*words: str, check: bool = True) -> None:
    """One `ip` command, some five milliseconds. ExperimentError with what it said."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if check and done.returncode:
        raise ExperimentError(f"ip {' '.join(words)}: {done.stderr.strip()}")


class RouteDirection:
    """One way between two namespaces. See proxy.Direction."""

    def __init__(self, namespace: str, target: str) -> None:
        self._namespace = namespace
        self._target = target
        self.held = False
        self.delay_ms: tuple[float, float] = (0.0, 0.0)
        self.loss = 0.0

    def hold(self) -> None:
        """Let nothing pass."""
        if not self.held:
            self.held = True
            _ip("-n", self._namespace, "route", "add", "blackhole", f"{self._target}/32")

    def heal(self) -> None:
        """As new."""
        if self.held:
            self.held = False
            _ip("-n", self._namespace, "route", "del", "blackhole", f"{self._target}/32")


class RouteWire:
    """Both ways between two nodes. See proxy.Wire."""

    def __init__(self, ends: tuple[str, str], there: RouteDirection, back: RouteDirection) -> None:
        self.ends = ends
        self._there, self._back = there, back

    def direction(self, source: str) -> RouteDirection:
        """The way from one of its ends to the other."""
        return self._there if source == self.ends[0] else self._back

    def heal(self) -> None:
        """Both ways as new."""
        self._there.heal()
        self._back.heal()

    async def close(self) -> None:
        """The routes go with the namespaces."""


class Namespaces:
    """The namespaces of one run."""

    def __init__(self, ids: Sequence[str]) -> None:
        problem = why_not()
        if problem is not None:
            raise ExperimentError(f"cluster.wires: {problem}")
        self._slot = os.getpid() % 250 + 1
        self._ids = list(ids)

    def host_of(self, node: str) -> str:
        """The address of a node."""
        return f"10.213.{self._slot}.{self._ids.index(node) + 1}"

    def name_of(self, node: str) -> str:
        """Its namespace."""
        return f"tri{self._slot}-{node}"

    def program(self, node: str) -> tuple[str, ...]:
        """Words before a program that is to run there."""
        return ("ip", "netns", "exec", self.name_of(node))

    def open(self) -> list[RouteWire]:
        """Make all of it; the wires between the nodes."""
        self.close()
        bridge = f"tri{self._slot}"
        _ip("link", "add", bridge, "type", "bridge")
        _ip("addr", "add", f"10.213.{self._slot}.254/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for place, node in enumerate(self._ids):
            name, outside = self.name_of(node), f"tri{self._slot}v{place}"
            _ip("netns", "add", name)
            _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", outside, "master", bridge, "up")
            _ip("-n", name, "addr", "add", f"{self.host_of(node)}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        return [
            RouteWire((one, other), self._way(one, other), self._way(other, one))
            for place, one in enumerate(self._ids)
            for other in self._ids[place + 1 :]
        ]

    def _way(self, source: str, target: str) -> RouteDirection:
        return RouteDirection(self.name_of(source), self.host_of(target))

    def close(self) -> None:
        """Remove all of it. What is not there is fine."""
        for node in self._ids:
            _ip("netns", "del", self.name_of(node), check=False)
        _ip("link", "del", f"tri{self._slot}", check=False)
