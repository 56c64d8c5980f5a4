"""The network between simulated nodes: TCP as an adversary has it.

    n1 SimLinks --- Session --- SimLinks n2        one open connection of a pair at a time, for each
                                                   end by itself: the two ends learn of its
                                                   beginning and its end at different moments

    cut       what is on its way is lost, each side is told within notice_s, nothing new connects
    hold      one direction says nothing until it is let go: then all of it arrives, as TCP has it
    slow      delays of one direction from another range
    reset     the connection ends, a prefix of what is on its way still arrives; dialled anew
    double    a second connection is opened beside the first, which each end drops for the newer
    again     single votes, grants and echoes arrive twice, as from a peer that repeats itself
    late      a forwarded batch arrives once more, long after, perhaps at another leader and when
              its sender has been started anew: what an earlier connection still carried

Frames of one direction of one session arrive in order or not at all; those of two sessions in any
order. Delays come from one source for each direction. What arrives is handled as the process that
it is for; nothing arrives at a dead one, and a dead one sends nothing.

Does not do: handshakes, TLS, bytes cut anywhere (tests/node/test_links.py).

Proved by: tests/simulation/test_simulation_parts.py
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from node import wire
from node.config import Member
from node.links import LinkEvents
from tests.simulation.loop import Life, life_now

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["SimLinks", "SimNetwork"]

REDIAL_S = 0.05
_REPEATABLE = frozenset((wire.VOTE, wire.PRE_GRANT, wire.READ_ECHO, wire.ACK))
Pair = tuple[str, str]


class SimNetwork:
    """Every connection of the world."""

    def __init__(self, world: World, delay_s: tuple[float, float], repeats: float) -> None:
        self.world = world
        self.delay_s = delay_s
        self.repeats = repeats
        """How likely a vote or an echo arrives twice."""
        self.slow: dict[Pair, tuple[float, float]] = {}
        self.cuts: dict[Pair, int] = {}
        """Pairs, and how many faults keep each of them cut."""
        self.holds: dict[Pair, int] = {}
        """Directions, likewise."""
        self.ends: dict[str, SimLinks] = {}
        self.sessions: dict[Pair, Session] = {}
        self._chances: dict[Pair, random.Random] = {}
        self._late = random.Random(f"{world.seed} late")

    def links(self, me: Member, others: tuple[Member, ...], **options: Any) -> SimLinks:
        """In place of node.links.Links."""
        return SimLinks(self, me, others, **options)

    def chance(self, sender: str, to: str) -> random.Random:
        key = (sender, to)
        if key not in self._chances:
            self._chances[key] = random.Random(f"{self.world.seed} {sender} {to}")
        return self._chances[key]

    def delay_of(self, sender: str, to: str) -> float:
        low_s, high_s = self.slow.get((sender, to), self.delay_s)
        return low_s + (high_s - low_s) * self.chance(sender, to).random()

    # -- faults -----------------------------------------------------------------------------

    def cut(self, one: str, other: str, notice_s: float) -> None:
        pair = _pair(one, other)
        self.cuts[pair] = self.cuts.get(pair, 0) + 1
        self.break_session(pair, notice_s, lossy=True)

    def heal(self, one: str, other: str) -> None:
        pair = _pair(one, other)
        left = self.cuts.get(pair, 0) - 1
        if left > 0:
            self.cuts[pair] = left
        else:
            self.cuts.pop(pair, None)
            self.redial(pair)

    def hold(self, sender: str, to: str) -> None:
        self.holds[sender, to] = self.holds.get((sender, to), 0) + 1

    def let_go(self, sender: str, to: str) -> None:
        left = self.holds.get((sender, to), 0) - 1
        if left > 0:
            self.holds[sender, to] = left
            return
        self.holds.pop((sender, to), None)
        session = self.sessions.get(_pair(sender, to))
        if session is not None:
            session.let_go(to)

    def heal_all(self) -> None:
        for direction in list(self.holds):
            self.holds[direction] = 1
            self.let_go(*direction)
        pairs = list(self.cuts)
        self.cuts.clear()
        self.slow.clear()
        self.repeats = 0.0
        for pair in pairs:
            self.redial(pair)

    def double(self, one: str, other: str) -> None:
        pair = _pair(one, other)
        if pair in self.sessions and pair not in self.cuts:
            self._open(pair)

    def break_session(self, pair: Pair, notice_s: float, *, lossy: bool) -> None:
        session = self.sessions.pop(pair, None)
        if session is not None:
            session.end(notice_s, lossy=lossy)
        self.redial(pair)

    def forwarded(self, sender: str, message: wire.Message) -> None:
        """A batch was forwarded: perhaps it comes once more, later."""
        if self.repeats and self._late.random() < self.repeats:
            host = self.world.hosts[sender]
            self.world.loop.call_later(
                0.05 + self._late.random(),
                self._again,
                sender,
                host.incarnation,
                host.boots,
                message,
                context=self.world.context,
            )

    def _again(self, sender: str, incarnation: str, boots: int, message: wire.Message) -> None:
        world, leader = self.world, self.world.leader()
        host = world.hosts[sender]
        if not self.repeats or leader is None or leader.life is None or leader.id == sender:
            return
        session = self.sessions.get(_pair(sender, leader.id))
        if session is None or host.incarnation != incarnation or host.life is None:
            return
        world.count("a forwarded batch came again, late")
        if host.boots != boots:
            world.count("a batch of a dead process came late")
        world.loop.spawn(leader.life, session.again, sender, leader.id, message)

    # -- connecting -------------------------------------------------------------------------

    def join(self, end: SimLinks) -> None:
        self.ends[end.me.id] = end
        for peer_id in end.members:
            self.redial(_pair(end.me.id, peer_id))

    def leave(self, end: SimLinks) -> None:
        """The process is gone: the kernel closes its connections."""
        if self.ends.get(end.me.id) is end:
            del self.ends[end.me.id]
            for peer_id in list(end.members):
                self.break_session(_pair(end.me.id, peer_id), 0.01, lossy=False)

    def redial(self, pair: Pair) -> None:
        self.world.loop.call_later(
            REDIAL_S + self.delay_of(*pair), self._dial, pair, context=self.world.context
        )

    def _dial(self, pair: Pair) -> None:
        if pair in self.sessions or pair in self.cuts:
            return
        if not (pair[0] in self.ends and pair[1] in self.ends):
            return
        one, other = self.ends[pair[0]], self.ends[pair[1]]
        if pair[1] in one.members and pair[0] in other.members:  # else strangers, dialled later
            self._open(pair)

    def _open(self, pair: Pair) -> None:
        older = self.sessions.get(pair)
        session = Session(self, pair, self.ends[pair[0]], self.ends[pair[1]])
        self.sessions[pair] = session
        if older is not None:
            self.world.count("a second connection of a pair")
        session.begin()


def _pair(one: str, other: str) -> Pair:
    return (one, other) if one < other else (other, one)


class Session:
    """One connection."""

    def __init__(self, network: SimNetwork, pair: Pair, one: SimLinks, other: SimLinks) -> None:
        self._network = network
        self._loop = network.world.loop
        self.ends = {pair[0]: one, pair[1]: other}
        self._peer = {pair[0]: pair[1], pair[1]: pair[0]}
        now_s = self._loop.time()
        self._last_s = {pair[0]: now_s, pair[1]: now_s}
        self.ends_s = {pair[0]: float("inf"), pair[1]: float("inf")}
        self._held: dict[str, list[bytes]] = {pair[0]: [], pair[1]: []}
        self.carried: dict[str, tuple[int, int, int]] = {}
        """To whom: term, index up to which entries were sent and not refused since, and how often
        some of them were sent again."""
        self.waiting_bytes = {pair[0]: 0, pair[1]: 0}
        self.over = False

    def begin(self) -> None:
        """Each end opens in its own time; what the other sends arrives behind that."""
        for name, end in self.ends.items():
            at_s = self._loop.time() + self._network.delay_of(self._peer[name], name)
            self._last_s[name] = at_s
            self._at(at_s, name, end.up, self._peer[name], self)

    def _at(self, at_s: float, to: str, function: Any, *arguments: Any) -> None:
        self._loop.call_at(at_s, function, *arguments, context=self.ends[to].life.context)

    def send(self, to: str, frame: bytes) -> None:
        self.waiting_bytes[to] += len(frame)
        sender = self._peer[to]
        if (sender, to) in self._network.holds:
            self._held[to].append(frame)
            return
        self._arrive_later(to, frame)

    def _arrive_later(self, to: str, frame: bytes) -> None:
        sender = self._peer[to]
        # Strictly rising: the loop keeps no order among timers of the same moment.
        at_s = max(self._loop.time() + self._network.delay_of(sender, to), self._last_s[to] + 1e-7)
        self._last_s[to] = at_s
        self._at(at_s, to, self._arrive, to, frame, at_s)

    def let_go(self, to: str) -> None:
        held, self._held[to] = self._held[to], []
        for frame in held:
            self._arrive_later(to, frame)

    def _arrive(self, to: str, frame: bytes, at_s: float) -> None:
        self.waiting_bytes[to] -= len(frame)
        end, sender = self.ends[to], self._peer[to]
        if at_s > self.ends_s[to] or not end.is_session(sender, self):
            return
        network = self._network
        message = wire.decode(frame[wire.LENGTH.size :])
        network.world.oracles.delivered(sender, to, message)
        if network.world.tracing:
            network.world.trace(f"{sender} -> {to} {told(message)}")
        oracles = network.world.oracles
        acked = oracles.acked(to, sender) if message[0] == wire.ACK else 0
        if not self._handle(end, sender, message):
            return
        if message[0] == wire.ACK and not message[4]:
            self.carried.pop(sender, None)
        if message[0] == wire.FORWARD:
            network.forwarded(sender, message)
        if message[0] == wire.ACK:
            oracles.handled(sender, to, message, acked)
        if (
            network.repeats
            and message[0] in _REPEATABLE
            and network.chance(sender, to).random() < network.repeats
            and end.is_session(sender, self)
        ):
            network.world.count("a vote or an acknowledgement came twice")
            self._handle(end, sender, message)

    def again(self, sender: str, to: str, message: wire.Message) -> None:
        """A message that came before comes once more."""
        if self.ends[to].is_session(sender, self):
            self._handle(self.ends[to], sender, message)

    def _handle(self, end: SimLinks, sender: str, message: wire.Message) -> bool:
        try:
            end.events.message(sender, message)
        except wire.WireError as error:
            # The link is closed for it, as node.link does.
            world = self._network.world
            world.count("a message that cannot be true")
            world.trace(f"{end.me.id} hangs up on {sender}: {error}")
            world.oracles.hung_up(sender, end.me.id, str(error))
            self._network.break_session(_pair(sender, end.me.id), 0.0, lossy=True)
            return False
        end.events.received()
        return True

    def end(self, notice_s: float, *, lossy: bool) -> None:
        """It is over: each end is told in its own time."""
        if self.over:
            return
        self.over = True
        now_s = self._loop.time()
        for name, end in self.ends.items():
            chance = self._network.chance(self._peer[name], name)
            told_s = now_s + chance.random() * notice_s
            self.ends_s[name] = now_s if lossy else told_s
            self._at(told_s, name, end.down, self._peer[name], self)


class SimLinks:
    """node.links.Links on the simulated network; belongs to the process that makes it."""

    def __init__(
        self,
        network: SimNetwork,
        me: Member,
        others: tuple[Member, ...],
        *,
        frame_bytes_max: int,
        events: LinkEvents,
        **rest: Any,
    ) -> None:
        life = life_now()
        assert life is not None
        self.life: Life = life
        self.me = me
        self.members = {member.id: member for member in others}
        self.frame_bytes_max = frame_bytes_max
        self.events = events
        self._network = network
        self._open: dict[str, Session] = {}
        self._closed = False
        self._is_started = False
        life.host.links = self

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
        self._network.break_session(_pair(self.me.id, peer_id), 0.0, lossy=False)

    def is_session(self, peer_id: str, session: Session) -> bool:
        return not self._closed and self._open.get(peer_id) is session

    def up(self, peer_id: str, session: Session) -> None:
        if self._closed or peer_id not in self.members:
            return
        if session.over and session.ends_s[self.me.id] <= self._network.world.loop.time():
            return
        older = self._open.get(peer_id)
        if older is not None:
            self.down(peer_id, older)
            older.end(REDIAL_S, lossy=False)  # closed here, so the other end hears of it as well
        self._open[peer_id] = session
        self.events.up(peer_id)

    def down(self, peer_id: str, session: Session) -> None:
        if self._open.get(peer_id) is session:
            del self._open[peer_id]
            if not self._closed:
                self.events.down(peer_id)

    def send(self, peer_id: str, frame: bytes) -> bool:
        session = self._open.get(peer_id)
        if session is None or self._closed or self.life.dead:
            return False
        self._network.world.oracles.sent(self.life, peer_id, frame, session)
        session.send(peer_id, frame)
        return True

    def is_up(self, peer_id: str) -> bool:
        return peer_id in self._open

    def buffered_bytes(self, peer_id: str) -> int:
        session = self._open.get(peer_id)
        return session.waiting_bytes[peer_id] if session is not None else 0

    def kill(self) -> None:
        """The process is gone."""
        self._closed = True
        self._network.leave(self)

    async def close(self) -> None:
        self.kill()


_NAMES = {
    value: name.lower()
    for name, value in vars(wire).items()
    if name.isupper() and type(value) is int and not name.endswith("MIN")
}


def told(message: wire.Message) -> str:
    """One line for people."""
    kind, fields = message[0], message[1:]
    if kind == wire.APPEND:
        term, commit, previous, previous_term, rows = fields
        first = previous + 1
        what = f"{first}..{previous + len(rows)}" if rows else "nothing"
        return f"append term={term} commit={commit} behind {previous}@{previous_term}: {what}"
    words = [f"<{len(each)} bytes>" if isinstance(each, bytes) else str(each) for each in fields]
    return " ".join([_NAMES.get(kind, str(kind)), *words])
