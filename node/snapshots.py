"""Snapshots between nodes: a leader streams its newest one to a peer that is too far behind.

    leader                                              follower
      begin(term, index, index's term, size, sha256) ->   new receiver, old one dropped
      chunk(offset, bytes) x n, at most WINDOW ahead  ->   written to a temporary file
                                   <-  ack(bytes received, False)
                                   <-  ack(size, True)   verified, installed, log begun anew

The file is the one that the state machine made (statemachine.snapshot); it is opened once, so
that pruning it meanwhile does no harm. A lost link or a lost leadership ends the stream on
both sides; what was received is dropped, and the next append of PySyncObj starts another.

Invariants:
  - bytes in flight to one peer never exceed WINDOW_BYTES, so a slow peer costs no memory;
  - a snapshot is installed only when its SHA-256 checks out, only behind what is applied here,
    and all at once (statemachine); PySyncObj then starts its log anew at its index (P8, P15);
  - while a stream runs the peer gets heartbeats, no entries.

On a crash of the follower: the temporary file is removed at the next start; once installed
the snapshot is a durable checkpoint, and the journal is aligned with it at boot (node.raft).

Does not do: make snapshots, decide when (node.upkeep). Installing blocks the follower's loop
for as long as loading takes (about 0.5 s for a million keys of 256 bytes).

Proved by: tests/node/test_snapshots.py, tests/cluster/test_catch_up.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from node import wire
from node.errors import Fatal, Rejected
from node.journal import FileJournal
from node.links import Links
from node.logs import EventLog
from statemachine import FileStateMachine, LogId, SnapshotMetadata, SnapshotReceiver
from statemachine.fs import ReadFile

__all__ = ["Snapshots"]

CHUNK_BYTES: Final = 256 * 1024
WINDOW_BYTES: Final = 2 * 1024 * 1024


class _Outgoing:
    """One stream to one peer."""

    __slots__ = ("acked_bytes", "file", "index", "sent_bytes", "size_bytes", "term")

    def __init__(self, file: ReadFile, index: int, term: int, size_bytes: int) -> None:
        self.file = file
        self.index = index
        self.term = term
        self.size_bytes = size_bytes
        self.sent_bytes = 0
        self.acked_bytes = 0


class _Incoming:
    """One stream from a leader."""

    __slots__ = ("metadata", "peer_id", "received_bytes", "receiver", "term")

    def __init__(
        self, peer_id: str, term: int, metadata: SnapshotMetadata, receiver: SnapshotReceiver
    ) -> None:
        self.peer_id = peer_id
        self.term = term
        self.metadata = metadata
        self.receiver = receiver
        self.received_bytes = 0


class Snapshots:
    """Both ends of snapshot streams.

    Args:
        machine: makes and installs snapshots.
        follow: told (peer, term) of a leader's message; whether it is a leader of ours.
        installed: told (peer, term, index) when a snapshot is in place.
    """

    def __init__(
        self,
        machine: FileStateMachine,
        links: Links,
        journal: FileJournal,
        *,
        term: Callable[[], int],
        settled_index: Callable[[], int],
        follow: Callable[[str, int], bool],
        installed: Callable[[str, int, int], None],
        log: EventLog,
    ) -> None:
        self._machine = machine
        self._links = links
        self._journal = journal
        self._term = term
        self._settled_index = settled_index
        self._follow = follow
        self._installed = installed
        self._log = log
        self._outgoing: dict[str, _Outgoing] = {}
        self._incoming: _Incoming | None = None

    # -- leader ---------------------------------------------------------------------------

    def is_sending_to(self, peer_id: str) -> bool:
        """Whether a stream to this peer is under way."""
        return peer_id in self._outgoing

    def send_to(self, peer_id: str) -> None:
        """Start a stream to this peer, unless one is under way."""
        if peer_id in self._outgoing or not self._links.is_up(peer_id):
            return
        newest = self._machine.open_snapshot()
        if newest is None:
            self._machine.start_snapshot()  # there will be one when PySyncObj asks again
            return
        metadata, file = newest
        last = metadata.last_included
        if last.index <= self._journal.first_index > 1:
            # The journal began anew behind the state (node.raft, alignment): what would have
            # to follow this snapshot is not there any more, or is a placeholder.
            file.close()
            self._machine.start_snapshot()
            return
        stream = _Outgoing(file, last.index, self._term(), file.size_bytes)
        self._outgoing[peer_id] = stream
        self._log.info(
            "snapshot stream begins",
            to=peer_id,
            index=last.index,
            bytes=stream.size_bytes,
        )
        self._links.send(
            peer_id,
            wire.encode(
                wire.SNAPSHOT_BEGIN,
                stream.term,
                last.index,
                last.term,
                stream.size_bytes,
                metadata.checksum,
            ),
        )
        self._pump(peer_id, stream)

    def _pump(self, peer_id: str, stream: _Outgoing) -> None:
        while (
            stream.sent_bytes < stream.size_bytes
            and stream.sent_bytes - stream.acked_bytes < WINDOW_BYTES
        ):
            chunk = stream.file.pread(CHUNK_BYTES, stream.sent_bytes)
            if not chunk:
                raise Fatal(f"snapshot {stream.index} ends at byte {stream.sent_bytes}")
            frame = wire.encode(wire.SNAPSHOT_CHUNK, stream.sent_bytes, chunk)
            if not self._links.send(peer_id, frame):
                self.abort(peer_id)
                return
            stream.sent_bytes += len(chunk)

    def _on_ack(self, peer_id: str, received_bytes: int, done: bool) -> None:
        stream = self._outgoing.get(peer_id)
        if stream is None:
            return
        # NB: no more than was sent, or the whole file would be queued at once.
        stream.acked_bytes = max(stream.acked_bytes, min(received_bytes, stream.sent_bytes))
        if done:
            self._log.info("snapshot stream ends", to=peer_id, index=stream.index)
            self.abort(peer_id)
        else:
            self._pump(peer_id, stream)

    def on_progress(self, peer_id: str, acked_index: int) -> None:
        """The peer acknowledged entries: past the snapshot, no stream is needed."""
        stream = self._outgoing.get(peer_id)
        if stream is not None and acked_index >= stream.index:
            self.abort(peer_id)

    def abort(self, peer_id: str) -> None:
        """End the streams to and from this peer, if any."""
        stream = self._outgoing.pop(peer_id, None)
        if stream is not None:
            stream.file.close()
        if self._incoming is not None and self._incoming.peer_id == peer_id:
            self._drop_incoming()

    def abort_outgoing(self) -> None:
        """Leadership is over: end every stream to a peer."""
        for stream in self._outgoing.values():
            stream.file.close()
        self._outgoing.clear()

    def close(self) -> None:
        """The node stops."""
        self.abort_outgoing()
        self._drop_incoming()

    # -- follower -------------------------------------------------------------------------

    def receive(self, peer_id: str, message: wire.Message) -> None:
        """A message of a stream."""
        kind = message[0]
        if kind == wire.SNAPSHOT_ACK:
            self._on_ack(peer_id, *message[1:])
        elif kind == wire.SNAPSHOT_BEGIN:
            self._on_begin(peer_id, *message[1:])
        else:
            self._on_chunk(peer_id, *message[1:])

    def _on_begin(
        self, peer_id: str, term: int, index: int, index_term: int, size: int, checksum: bytes
    ) -> None:
        if not self._follow(peer_id, term):
            return
        self._drop_incoming()
        if index <= self._settled_index():
            self._links.send(peer_id, wire.encode(wire.SNAPSHOT_ACK, 0, True))
            return  # a late stream: we are past it
        metadata = SnapshotMetadata(
            last_included=LogId(index=index, term=index_term), checksum=checksum, size_bytes=size
        )
        receiver = self._machine.snapshot_receiver()
        receiver.begin(metadata)
        self._incoming = _Incoming(peer_id, term, metadata, receiver)

    def _on_chunk(self, peer_id: str, offset: int, chunk: bytes) -> None:
        stream = self._incoming
        if stream is None or stream.peer_id != peer_id or offset != stream.received_bytes:
            return  # of a stream that was dropped meanwhile
        if stream.term != self._term():
            self._drop_incoming()
            return
        stream.received_bytes += len(chunk)
        done = stream.received_bytes >= stream.metadata.size_bytes
        if stream.received_bytes <= stream.metadata.size_bytes:
            stream.receiver.write(chunk)  # what is too long is short of its last chunk: refused
        if done:
            self._incoming = None
            self._install(stream)
        self._links.send(peer_id, wire.encode(wire.SNAPSHOT_ACK, stream.received_bytes, done))

    def _install(self, stream: _Incoming) -> None:
        index = stream.metadata.last_included.index
        try:
            directory = stream.receiver.finish()
            self._machine.apply_snapshot_from_file(stream.metadata, directory)
        except Rejected as error:
            # Nothing has changed here; the leader will find us behind and begin again.
            self._log.warning("snapshot refused", peer=stream.peer_id, reason=str(error))
            return
        self._log.info("snapshot installed", peer=stream.peer_id, index=index)
        self._installed(stream.peer_id, stream.term, index)

    def _drop_incoming(self) -> None:
        if self._incoming is not None:
            self._incoming.receiver.abort()
            self._incoming = None
