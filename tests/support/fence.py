"""The fence (node.transport) alone: everything around it is a stand-in that the test sets.

    fence = Fence()                    n1 of n1, n2, n3: a follower in term 1, no leader, log [1@0]
    fence.state.leads(term=3)          what PySyncObj would say of itself
    fence.log((2, 3), (3, 3))          entries behind the log, durable
    fence.send("n2", ...)              PySyncObj sends
    fence.receive("n2", wire.ACK, ...) a peer's message comes in, through encode and decode
    fence.outgoing                     what left: [(to, [kind, field, ...]), ...]
    fence.take()                       the same, and it is empty again
    fence.delivered                    what PySyncObj was told: [(from, {...}), ...]

The PySyncObj of this stand-in does nothing but record; its log is changed only by the test, or,
with `fence.follows = True`, by appends as PySyncObj does it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pysyncobj.node import Node

from node import wire
from node.entry import KIND_BATCH, NOOP_COMMAND, Entry, wrap
from node.errors import Rejected
from node.logs import EventLog
from node.transport import FencedTransport
from statemachine.commands import BatchBuilder

__all__ = ["FakeElectorate", "FakeJournal", "FakeLinks", "FakeState", "Fence", "batch", "entry"]

HEARTBEAT_S = 0.06


def entry(index: int, term: int) -> Entry:
    """An entry whose batch says where it belongs."""
    return wrap(KIND_BATCH, batch(index, term)), index, term


def batch(index: int, term: int, origin: bytes = b"") -> bytes:
    """An empty batch that says where it belongs, or whose it is."""
    return BatchBuilder().build(origin or b"%d@%d" % (index, term), 1, 1)


class FakeJournal(list[Entry]):
    """Of node.journal.FileJournal, what the rooms of consensus ask."""

    def __init__(self) -> None:
        super().__init__([(NOOP_COMMAND, 1, 0)])
        self.durable_index = 1
        self.hold: int | None = None
        self.term_is_durable = True

    @property
    def first_index(self) -> int:
        return self[0][1]

    @property
    def memory_index(self) -> int:
        return self[0][1]

    def has_pending_roster(self) -> bool:
        return False

    def hold_index(self) -> int | None:
        return self.hold

    @property
    def gated_index(self) -> int:
        return self.durable_index if self.hold is None else min(self.durable_index, self.hold)

    @property
    def last_index(self) -> int:
        return self[-1][1]

    @property
    def last_term(self) -> int:
        return self[-1][2]

    def term_at(self, index: int) -> int | None:
        position = index - self[0][1]
        return self[position][2] if 0 <= position < len(self) else None


class FakeLinks:
    """Links that keep what is sent, decoded."""

    def __init__(self, *up: str) -> None:
        self.open = set(up)
        self.sent: list[tuple[str, wire.Message]] = []
        self.frames: list[bytes] = []
        self.waiting_bytes: dict[str, int] = {}

    def send(self, peer_id: str, frame: bytes) -> bool:
        if peer_id not in self.open:
            return False
        self.frames.append(frame)
        self.sent.append((peer_id, wire.decode(frame[wire.LENGTH.size :])))
        return True

    def is_up(self, peer_id: str) -> bool:
        return peer_id in self.open

    def buffered_bytes(self, peer_id: str) -> int:
        return self.waiting_bytes.get(peer_id, 0)


class FakeState:
    """What PySyncObj would say of itself."""

    def __init__(self) -> None:
        self._term = 1
        self._leader_id: str | None = None
        self._leads = False
        self.commit = self.applied = 1
        self.settled: int | None = None
        self.observed: list[int] = []
        self.proposed: list[bytes] = []
        self.refuses = False
        self.kicks = 0

    def leads(self, term: int) -> None:
        self._term, self._leads, self._leader_id = term, True, "n1"

    def follows(self, leader_id: str | None, term: int) -> None:
        self._term, self._leads, self._leader_id = term, False, leader_id

    def term(self) -> int:
        return self._term

    def is_leader(self) -> bool:
        return self._leads

    def leader_id(self) -> str | None:
        return self._leader_id

    def commit_index(self) -> int:
        return self.commit

    def applied_index(self) -> int:
        return self.applied

    def settled_index(self) -> int:
        return self.applied if self.settled is None else self.settled

    def observe_term(self, term: int) -> None:
        self.observed.append(term)
        self.follows(None, term)

    def propose(self, batch: bytes) -> bool:
        if self.refuses:
            raise Rejected("not a batch")
        self.proposed.append(batch)
        return self._leads

    def kick(self) -> None:
        """A tick would follow."""
        self.kicks += 1

    def stir(self) -> None:
        """A tick would follow if there was something to do."""


class FakeElectorate(FakeState):
    """The same, as node.elections asks it."""

    def __init__(self, links: FakeLinks) -> None:
        super().__init__()
        self.links = links
        self.stood: list[int] = []
        self.can_stand = True

    def peers_up(self) -> list[str]:
        return sorted(self.links.open)

    def send(self, peer_id: str, frame: bytes) -> bool:
        return self.links.send(peer_id, frame)

    def stand(self) -> bool:
        if self.can_stand:
            self._term += 1
            self.stood.append(self._term)
        return self.can_stand


class FakeElections:
    """Notes what the fence hands on."""

    def __init__(self) -> None:
        self.heard = 0
        self.calls: list[tuple[Any, ...]] = []
        self.lets_pass = True

    def heard_leader(self) -> None:
        self.heard += 1

    def admits(self, term: int, transfer: bool) -> bool:
        self.calls.append(("admits", term, transfer))
        return self.lets_pass

    def may_stand(self) -> bool:
        return True

    def counts(self, peer_id: str, term: int) -> bool:
        self.calls.append(("counts", peer_id, term))
        return self.lets_pass

    def early_votes(self) -> list[tuple[str, int]]:
        return []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.calls.append((name, *arguments))


class FakeSnapshots:
    """Streams that are only said to run."""

    def __init__(self) -> None:
        self.sending: set[str] = set()
        self.started: list[str] = []
        self.progress: list[tuple[str, int]] = []
        self.received: list[tuple[str, wire.Message]] = []

    def is_sending_to(self, peer_id: str) -> bool:
        return peer_id in self.sending

    def send_to(self, peer_id: str) -> None:
        self.started.append(peer_id)

    def on_progress(self, peer_id: str, acked_index: int) -> None:
        self.progress.append((peer_id, acked_index))

    def receive(self, peer_id: str, message: wire.Message) -> None:
        self.received.append((peer_id, message))


class FakeReads:
    """Notes what the fence hands on."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.calls.append((name, *arguments))


class Fence:
    """See the top of the file."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.journal = FakeJournal()
        self.links = FakeLinks("n2", "n3")
        self.state = FakeState()
        self.elections = FakeElections()
        self.snapshots = FakeSnapshots()
        self.reads = FakeReads()
        self.outcomes = FakeReads()
        self.follows = False
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.delivered: list[tuple[str, dict[str, Any]]] = []
        self.connected: set[str] = set()
        self.transport = FencedTransport(
            ["n2", "n3"],
            self.links,  # type: ignore[arg-type]
            self.journal,  # type: ignore[arg-type]
            heartbeat_s=HEARTBEAT_S,
            call_later=lambda seconds, work: self.later.append((seconds, work)),
            send_buffer_bytes_max=1000,
            monotonic=lambda: self.now_s,
            log=EventLog("n1"),
        )
        self.transport.bind(
            self.state,
            self.elections,  # type: ignore[arg-type]
            self.reads,  # type: ignore[arg-type]
            self.snapshots,  # type: ignore[arg-type]
            self.outcomes,  # type: ignore[arg-type]
        )
        self.transport.setOnMessageReceivedCallback(self._deliver)
        self.transport.setOnNodeConnectedCallback(lambda node: self.connected.add(node.id))
        self.transport.setOnNodeDisconnectedCallback(lambda node: self.connected.discard(node.id))

    @property
    def outgoing(self) -> list[tuple[str, wire.Message]]:
        return self.links.sent

    def take(self) -> list[tuple[str, wire.Message]]:
        """What left since the last time."""
        taken, self.links.sent = self.links.sent, []
        return taken

    def log(self, *entries: tuple[int, int], durable: bool = True) -> None:
        """Append entries (index, term)."""
        self.journal.extend(entry(index, term) for index, term in entries)
        if durable:
            self.journal.durable_index = self.journal.last_index

    def send(self, to: str, **message: Any) -> bool:
        return bool(self.transport.send(Node(to), message))

    def send_append(self, to: str, previous: int, *entries: Entry, commit: int = 1) -> bool:
        """PySyncObj sends entries behind `previous`."""
        return self.send(
            to,
            type="append_entries",
            term=self.state.term(),
            commit_index=commit,
            prevLogIdx=previous,
            prevLogTerm=self.journal.term_at(previous),
            entries=list(entries),
        )

    def receive(self, sender: str, kind: int, *fields: Any) -> None:
        frame = wire.encode(kind, *fields)
        self.transport.receive(sender, wire.decode(frame[wire.LENGTH.size :]))

    def receive_append(
        self,
        sender: str,
        term: int,
        previous: tuple[int, int],
        *entries: tuple[int, int],
        commit: int = 1,
    ) -> None:
        """A leader's entries (index, term) come in; `previous` is (index, term) as well."""
        rows = [(entry_term, KIND_BATCH, batch(at, entry_term)) for at, entry_term in entries]
        self.receive(sender, wire.APPEND, term, commit, *previous, rows)

    def _deliver(self, node: Node, message: dict[str, Any]) -> None:
        self.delivered.append((node.id, message))
        if not self.follows or message["type"] != "append_entries":
            return
        self.state.follows(node.id, message["term"])
        previous = message["prevLogIdx"]
        if self.journal.term_at(previous) != message["prevLogTerm"]:
            return
        del self.journal[previous + 1 - self.journal.first_index :]
        self.journal.durable_index = min(self.journal.durable_index, previous)
        self.journal.extend(message["entries"])
        self.state.commit = max(self.state.commit, message["commit_index"])
        self.send(
            node.id,
            type="next_node_idx",
            next_node_idx=self.journal.last_index + 1,
            reset=False,
            success=True,
        )
