"""A network in memory for whole nodes: links that are cut, healed, slowed and reset by a test.

    n1 SimulatedLinks ---+                       +--- SimulatedLinks n2
                         +--- _Session: frames --+
    frames of one direction arrive in order after a random delay, or die with their session

A cut loses what is on its way; each side is told at once, or later, as with a cable that is
pulled. A new session comes 50 ms after the end of a cut or of the last one. All randomness comes
from the seed, one source for each direction.

Does not do: handshakes, bytes on sockets (tests/node/test_links.py).

Proved by: tests/node/test_simulation.py
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from node import wire
from node.config import Member
from node.links import LinkEvents

__all__ = ["Network", "SimulatedLinks"]


class Network:
    """Every link of the simulation.

    Args:
        delay_s: range of the time a frame takes.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seed: int, delay_s: tuple[float, float]
    ) -> None:
        self.loop = loop
        self.delay_s = delay_s
        self.slow: dict[tuple[str, str], tuple[float, float]] = {}
        """Delays of single directions: (from, to) -> range."""
        self.cut_pairs: set[frozenset[str]] = set()
        self.frames: list[tuple[str, str, wire.Message]] | None = None
        """Set to a list to see all that is delivered: (from, to, message)."""
        self._seed = seed
        self._chances: dict[tuple[str, str], random.Random] = {}
        self._ends: dict[str, SimulatedLinks] = {}
        self._sessions: dict[frozenset[str], _Session] = {}

    def links(self, me: Member, others: tuple[Member, ...], **options: Any) -> SimulatedLinks:
        """In place of node.links.Links."""
        return SimulatedLinks(self, me, others, **options)

    def chance(self, sender: str, to: str) -> random.Random:
        """Randomness of one direction, whatever order others are asked in."""
        key = (sender, to)
        if key not in self._chances:
            self._chances[key] = random.Random(f"{self._seed} {sender} {to}")
        return self._chances[key]

    def delay_of(self, sender: str, to: str) -> float:
        return self.chance(sender, to).uniform(*self.slow.get((sender, to), self.delay_s))

    def cut(self, one: str, other: str, *, notice_s: float = 0.0) -> None:
        """Lose what is on its way and all that follows; each side notices within `notice_s`."""
        pair = frozenset((one, other))
        self.cut_pairs.add(pair)
        self.break_session(pair, notice_s)

    def break_session(self, pair: frozenset[str], notice_s: float = 0.0) -> None:
        """Reset the connection; it is dialled again unless it is cut."""
        session = self._sessions.pop(pair, None)
        if session is not None:
            session.dead = True
            for end, peer_id in session.ends():
                after_s = self.chance(end.me.id, peer_id).uniform(0, notice_s)
                self.loop.call_later(after_s, end.down, peer_id, session)
        self._redial(pair)

    def heal(self, one: str | None = None, other: str | None = None) -> None:
        """Take back a cut, or all of them and every delay."""
        if one is None or other is None:
            pairs = list(self.cut_pairs)
            self.cut_pairs.clear()
            self.slow.clear()
        else:
            pairs = [frozenset((one, other))]
            self.cut_pairs.discard(pairs[0])
        for pair in pairs:
            self._redial(pair)

    def join(self, end: SimulatedLinks) -> None:
        self._ends[end.me.id] = end
        for peer_id in end.members:
            self._redial(frozenset((end.me.id, peer_id)))

    def leave(self, end: SimulatedLinks) -> None:
        if self._ends.get(end.me.id) is end:
            del self._ends[end.me.id]
            for peer_id in end.members:
                self.break_session(frozenset((end.me.id, peer_id)))

    def _redial(self, pair: frozenset[str]) -> None:
        self.loop.call_later(0.05, self._connect, pair)

    def _connect(self, pair: frozenset[str]) -> None:
        if pair in self.cut_pairs or pair in self._sessions or not pair <= self._ends.keys():
            return
        one, other = sorted(pair)
        if other not in self._ends[one].members or one not in self._ends[other].members:
            return  # a stranger to the other: dialled again when it is one no more
        session = _Session(self, self._ends[one], self._ends[other])
        self._sessions[pair] = session
        for end, peer_id in session.ends():
            end.up(peer_id, session)


class _Session:
    """One connection of two nodes: frames in order, until it is dead."""

    def __init__(self, network: Network, one: SimulatedLinks, other: SimulatedLinks) -> None:
        self._network = network
        self._pair = (one, other)
        self._last_s = {one.me.id: 0.0, other.me.id: 0.0}
        self.waiting_bytes = {one.me.id: 0, other.me.id: 0}
        self.dead = False

    def ends(self) -> list[tuple[SimulatedLinks, str]]:
        one, other = self._pair
        return [(one, other.me.id), (other, one.me.id)]

    def send(self, sender: str, to: str, frame: bytes) -> None:
        network = self._network
        # Strictly rising: the loop keeps no order among timers of the same moment.
        at_s = max(network.loop.time() + network.delay_of(sender, to), self._last_s[to] + 1e-7)
        self._last_s[to] = at_s
        self.waiting_bytes[to] += len(frame)
        network.loop.call_at(at_s, self._arrive, sender, to, frame)

    def _arrive(self, sender: str, to: str, frame: bytes) -> None:
        self.waiting_bytes[to] -= len(frame)
        if self.dead:
            return
        end = next(end for end in self._pair if end.me.id == to)
        message = wire.decode(frame[wire.LENGTH.size :])
        if self._network.frames is not None:
            self._network.frames.append((sender, to, message))
        assert len(frame) - wire.LENGTH.size <= end.frame_bytes_max
        end.events.message(sender, message)
        end.events.received()


class SimulatedLinks:
    """node.links.Links on the simulated network."""

    def __init__(
        self,
        network: Network,
        me: Member,
        others: tuple[Member, ...],
        *,
        frame_bytes_max: int,
        events: LinkEvents,
        **rest: Any,
    ) -> None:
        self._network = network
        self.me = me
        self.members = {member.id: member for member in others}
        self.frame_bytes_max = frame_bytes_max
        self.events = events
        self._open: dict[str, _Session] = {}
        self._closed = False
        self._is_started = False

    async def start(self) -> None:
        self._is_started = True
        self._network.join(self)

    def add_peer(self, member: Member) -> None:
        if self.members.get(member.id) != member:
            self.members[member.id] = member
            if self._is_started and not self._closed:
                self._network.join(self)

    def remove_peer(self, peer_id: str) -> None:
        self.members.pop(peer_id, None)
        self._network.break_session(frozenset((self.me.id, peer_id)))

    def up(self, peer_id: str, session: _Session) -> None:
        older = self._open.get(peer_id)
        if older is not None:
            self.down(peer_id, older)
        if not self._closed:
            self._open[peer_id] = session
            self.events.up(peer_id)

    def down(self, peer_id: str, session: _Session) -> None:
        if self._open.get(peer_id) is session:
            del self._open[peer_id]
            if not self._closed:
                self.events.down(peer_id)

    def send(self, peer_id: str, frame: bytes) -> bool:
        session = self._open.get(peer_id)
        if session is None:
            return False
        session.send(self.me.id, peer_id, frame)
        return True

    def is_up(self, peer_id: str) -> bool:
        return peer_id in self._open

    def buffered_bytes(self, peer_id: str) -> int:
        session = self._open.get(peer_id)
        return session.waiting_bytes[peer_id] if session is not None else 0

    def kill(self) -> None:
        self._closed = True
        self._network.leave(self)

    async def close(self) -> None:
        self.kill()
