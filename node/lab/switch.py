"""A switch for packets, in this process: each port of it is the network card of a namespace.

    kernel of n1 --- card --- fd ---+                    +--- fd --- card --- kernel of n2
                                    +--- Switch thread ---+
    kernel of host - card --- fd ---+   way(n1, n2), way(n2, n1): held, lost, late

A card is a TUN device: what its kernel sends is read from the fd as one IPv4 packet, what is
written there its kernel receives. So every packet between two nodes passes here and can be
dropped, dropped by chance, or kept for a while; what TCP makes of it is the kernels' own. No
module of the kernel is needed for it but `tun`: many kernels come without netem.

    held    every packet is dropped
    loss    each packet is dropped with this probability
    delay   each packet comes that much later; with a span, packets overtake each other

Invariants: a packet goes where its destination address says, or nowhere; what comes from or goes
to a port without a way (the host) is never touched; ways may be set from any thread.

The ends of a crash: cards go with their fds, so with this process.

Does not do: IPv6, broadcast, more packets per second than Python can carry (some 30,000 a core).

Proved by: tests/lab/test_namespaces.py
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import os
import random
import selectors
import struct
import threading
from collections.abc import Mapping
from typing import Final

from node.lab.clock import RunClock

__all__ = ["TUN_PATH", "PacketWay", "Switch", "make_card"]

TUN_PATH: Final = "/dev/net/tun"
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_PACKET_BYTES_MAX: Final = 65_535
_BURST: Final = 32
"""Packets from one card before the others are looked at."""
_LATE_MAX: Final = 20_000
"""Packets that are kept at most; one more is dropped, as a full queue does."""


class PacketWay:
    """One way between two ports. See proxy.Direction."""

    def __init__(self, rng: random.Random, delay_ms: tuple[float, float] = (0.0, 0.0)) -> None:
        self._rng = rng
        self._usual_ms = delay_ms
        self.held = False
        self.delay_ms = delay_ms
        self.loss = 0.0

    def hold(self) -> None:
        """Let nothing pass."""
        self.held = True

    def heal(self) -> None:
        """As new."""
        self.held, self.delay_ms, self.loss = False, self._usual_ms, 0.0

    def lateness_ms(self) -> float | None:
        """How much later the next packet is to arrive; None: never."""
        if self.held or (self.loss and self._rng.random() < self.loss):
            return None
        return self._rng.uniform(*self.delay_ms) if any(self.delay_ms) else 0.0


class Switch(threading.Thread):
    """Carries packets from `start` to `close`.

    Args:
        cards: the fd of each port, by the address that is reached there (4 bytes).
        ways: by (source, destination) address.
    """

    def __init__(
        self, cards: Mapping[bytes, int], ways: Mapping[tuple[bytes, bytes], PacketWay]
    ) -> None:
        super().__init__(name="lab-switch", daemon=True)
        self._cards = dict(cards)
        self._ways = dict(ways)
        self._clock = RunClock()
        self._late: list[tuple[int, int, int, bytes]] = []
        self._numbers = itertools.count()
        self._waker, self._wake = os.pipe()

    def run(self) -> None:
        """Until it is closed."""
        with selectors.DefaultSelector() as selector:
            for card in self._cards.values():
                selector.register(card, selectors.EVENT_READ)
            selector.register(self._waker, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select(self._until_next_s()):
                    if key.fd == self._waker:
                        return
                    self._read(key.fd)
                self._deliver()

    def _until_next_s(self) -> float | None:
        if not self._late:
            return None
        return max(self._late[0][0] - self._clock.now_us(), 0) / 1_000_000

    def _read(self, card: int) -> None:
        with contextlib.suppress(OSError):  # none left; or the card's namespace is gone
            for _ in range(_BURST):
                self._route(os.read(card, _PACKET_BYTES_MAX))

    def _route(self, packet: bytes) -> None:
        if len(packet) < 20 or packet[0] >> 4 != 4:
            return
        target = self._cards.get(packet[16:20])
        if target is None:
            return
        way = self._ways.get((packet[12:16], packet[16:20]))
        late_ms = 0.0 if way is None else way.lateness_ms()
        if late_ms is None:
            return
        if late_ms <= 0:
            _write(target, packet)
        elif len(self._late) < _LATE_MAX:
            due_us = self._clock.now_us() + round(late_ms * 1000)
            heapq.heappush(self._late, (due_us, next(self._numbers), target, packet))

    def _deliver(self) -> None:
        now_us = self._clock.now_us() if self._late else 0
        while self._late and self._late[0][0] <= now_us:
            _, _, target, packet = heapq.heappop(self._late)
            _write(target, packet)

    def close(self) -> None:
        """Stop, and remove the cards."""
        os.write(self._wake, b"x")
        if self.is_alive():
            self.join(10)
        for fd in (*self._cards.values(), self._waker, self._wake):
            os.close(fd)


def _write(card: int, packet: bytes) -> None:
    with contextlib.suppress(OSError):  # its namespace is gone: nobody to hear it
        os.write(card, packet)


def make_card(name: str) -> int:
    """A network card of this name, in the namespace of this process; its fd. OSError: cannot."""
    card = os.open(TUN_PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(card, _TUNSETIFF, struct.pack("16sH14x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError:
        os.close(card)
        raise
    return card
