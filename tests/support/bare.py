"""PySyncObj as it comes, for the tests that show what it does: no network, no clock, no disk.

    bare = Bare("n1", ["n2", "n3"])       a SyncObj with a MemoryJournal and a transport in memory
    bare.receive("n2", type="...", ...)   a message comes in
    bare.sent("append_entries")           what it sent of a kind: [(to, message), ...]
    bare.advance(1.0)                     its clock; `tick()` lets it work
    bare.lead()                           stand, and be elected by everybody

Its applied batches are in `bare.applied`; `bare.on_apply` may raise. Nothing of `node` is in
the way, except that node.raft must be imported first: it lets a Journal object through
`createJournal` and switches the pipe off (tests/node/test_pysyncobj_seams.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from pysyncobj import SyncObj, SyncObjConf, replicated
from pysyncobj.journal import Journal, MemoryJournal
from pysyncobj.node import Node
from pysyncobj.transport import Transport

import node.raft  # noqa: F401 - see above
from node.entry import KIND_BATCH, wrap

__all__ = ["Bare", "bare_clock"]

_now_s = [0.0]


def _monotonic() -> float:
    return _now_s[0]


@contextmanager
def bare_clock() -> Iterator[None]:
    """PySyncObj's clock is in our hand meanwhile (an autouse fixture of the tests)."""
    _now_s[0] = 1000.0
    with mock.patch("pysyncobj.syncobj.monotonicTime", _monotonic):
        yield


class MemoryTransport(Transport):  # type: ignore[misc]
    """Keeps what is sent."""

    def __init__(self) -> None:
        super().__init__(None, None, [])
        self.messages: list[tuple[str, dict[str, Any]]] = []

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        self.messages.append((node.id, message))
        return True

    def receive(self, sender: str, message: dict[str, Any]) -> None:
        self._onMessageReceived(Node(sender), message)

    def connect(self, peer_id: str) -> None:
        self._onNodeConnected(Node(peer_id))

    def disconnect(self, peer_id: str) -> None:
        self._onNodeDisconnected(Node(peer_id))


class Bare(SyncObj):  # type: ignore[misc]
    """See the top of the file."""

    def __init__(
        self, node_id: str, peer_ids: list[str], journal: Journal | None = None, **conf: Any
    ) -> None:
        self.applied: list[bytes] = []
        self.on_apply: Callable[[bytes], None] = lambda batch: None
        self.wire = MemoryTransport()
        settings: dict[str, Any] = {
            "autoTick": False,
            "appendEntriesUseBatch": False,
            "commandsWaitLeader": False,
            "journalFile": journal if journal is not None else MemoryJournal(),
            **conf,
        }
        super().__init__(
            Node(node_id),
            [Node(peer_id) for peer_id in peer_ids],
            SyncObjConf(**settings),
            nodeClass=Node,
            transport=self.wire,
        )
        self.peer_ids = peer_ids

    @replicated  # type: ignore[untyped-decorator]
    def apply(self, batch: bytes) -> None:
        self.applied.append(batch)
        self.on_apply(batch)

    @property
    def log(self) -> list[tuple[int, int]]:
        """(index, term) of every entry."""
        return [(index, term) for _, index, term in self._SyncObj__raftLog[:]]

    @property
    def is_leader(self) -> bool:
        return bool(self._isLeader())

    def connect(self) -> None:
        for peer_id in self.peer_ids:
            self.wire.connect(peer_id)

    def advance(self, seconds: float) -> None:
        _now_s[0] += seconds

    def tick(self) -> None:
        self._onTick(0)

    def receive(self, sender: str, **message: Any) -> None:
        self.wire.receive(sender, message)

    def sent(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        return [(to, message) for to, message in self.wire.messages if message["type"] == kind]

    def lead(self) -> None:
        """Stand, and get every vote."""
        self.connect()
        self.advance(10)
        self.tick()
        for peer_id in self.peer_ids:
            self.receive(peer_id, type="response_vote", term=self.raftCurrentTerm)
        assert self.is_leader

    def propose(self, batch: bytes, callback: Any = None) -> None:
        self._applyCommand(wrap(KIND_BATCH, batch), callback)
        self._checkCommandsToApply()

    def acknowledged(self, sender: str, index: int) -> None:
        """A peer says that it has everything up to `index`."""
        self.receive(
            sender, type="next_node_idx", next_node_idx=index + 1, reset=False, success=True
        )

    def append(
        self, sender: str, term: int, previous: tuple[int, int], entries: list[Any], commit: int
    ) -> None:
        """An append comes in; entries are (index, term), their batches b"index@term"."""
        self.receive(
            sender,
            type="append_entries",
            term=term,
            commit_index=commit,
            prevLogIdx=previous[0],
            prevLogTerm=previous[1],
            entries=[
                (wrap(KIND_BATCH, b"%d@%d" % (index, entry_term)), index, entry_term)
                for index, entry_term in entries
            ],
        )
