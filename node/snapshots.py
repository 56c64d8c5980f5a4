"""Snapshots between nodes: a leader streams its newest one to a peer that is too far behind.

    leader                                              follower
      begin(term, stream, index ...)          ->
                                <-  ack(stream, bytes it has of this snapshot, False)
      chunk(stream, offset, bytes) x n        ->   written to a temporary file
                                <-  ack(stream, bytes received, False)      each moves the window
                                <-  ack(stream, size, True)   verified, synced, installed, log
                                                              begun anew; or: no more of it

The file is the one that the state machine made (statemachine.snapshot); it is opened once, so
that pruning it meanwhile does no harm. A lost link ends the stream; both ends keep what they
have of it, and when the next stream is of the same snapshot (the same SHA-256) it goes on from
there. Each stream has a number, so what is still said of an earlier one is not taken for it.

Invariants:
  - bytes in flight to one peer never exceed WINDOW_BYTES, so a slow peer costs no memory;
  - a snapshot is installed only when its SHA-256 checks out, only behind what is applied here,
    and all at once (statemachine); PySyncObj then starts its log anew at its index (P8, P15);
  - while a stream runs the peer gets heartbeats, no entries;
  - none is begun with for which there is no room on the disk: its beginning is not answered until
    there is. The leader waits (the stream costs it an open file), and says nothing twice;
  - one snapshot is received at a time; the syncs at its end and its installation are done in
    threads, while the old state serves on; who begins another meanwhile waits for its answer.

On a crash of the follower: the temporary file is removed at the next start; once installed
the snapshot is a durable checkpoint, and the journal is aligned with it at boot (node.raft).

Does not do: make snapshots, decide when (node.upkeep).

Proved by: tests/node/test_snapshots.py, tests/cluster/test_catch_up.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from node import wire
from node.errors import Fatal, Rejected
from node.journal import FileJournal
from node.links import Links
from node.logs import EventLog
from node.worker import Worker
from statemachine import FileStateMachine, LogId, SnapshotMetadata, SnapshotReceiver
from statemachine.fs import ReadFile

__all__ = ["Snapshots"]

CHUNK_BYTES: Final = 256 * 1024
WINDOW_BYTES: Final = 2 * 1024 * 1024


class _Outgoing:
    """One stream to one peer."""

    __slots__ = ("acked_bytes", "file", "has_begun", "metadata", "number", "sent_bytes")

    def __init__(self, number: int, metadata: SnapshotMetadata, file: ReadFile) -> None:
        self.number = number
        self.metadata = metadata
        self.file = file
        self.has_begun = False
        """The peer has said how much of it it has."""
        self.sent_bytes = 0
        self.acked_bytes = 0

    @property
    def index(self) -> int:
        return self.metadata.last_included.index


class _Incoming:
    """One stream from a leader. `peer_id` is None once its link is lost: another may go on."""

    __slots__ = ("metadata", "number", "peer_id", "received_bytes", "receiver", "term")

    def __init__(self, metadata: SnapshotMetadata, receiver: SnapshotReceiver) -> None:
        self.peer_id: str | None = None
        self.term = self.number = 0
        self.metadata = metadata
        self.receiver = receiver
        self.received_bytes = 0


class Snapshots:
    """Both ends of snapshot streams.

    Args:
        machine: makes and installs snapshots.
        worker: syncs what was received.
        follow: told (peer, term) of a leader's message; whether it is a leader of ours.
        installed: told (peer, term, index) when a snapshot is in place.
        announce: called before a stream to a peer begins: it has to know the members first.
        room_bytes: how much may be written at present.
        may_install: told the snapshot's index: whether all that has to be durable before is.
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
        worker: Worker,
        log: EventLog,
        announce: Callable[[str], None] = lambda peer_id: None,
        room_bytes: Callable[[], int] = lambda: 1 << 62,
        may_install: Callable[[int], bool] = lambda index: True,
    ) -> None:
        self._machine = machine
        self._worker = worker
        self._announce = announce
        self._room_bytes = room_bytes
        self._may_install = may_install
        self._links = links
        self._journal = journal
        self._term = term
        self._settled_index = settled_index
        self._follow = follow
        self._installed = installed
        self._log = log
        self._number = 0
        self._outgoing: dict[str, _Outgoing] = {}
        self._broken: dict[str, _Outgoing] = {}
        """Streams whose link was lost, by peer: the next one may be of the same snapshot."""
        self._incoming: _Incoming | None = None
        self._is_finishing = False
        """From the last chunk until what it came to is known."""
        self._ready: tuple[_Incoming, Path] | None = None
        """Received and synced; its installation waits until the state machine is free."""
        self._installing: _Incoming | None = None
        self._held: tuple[Any, ...] | None = None
        """The beginning of a stream that came while another snapshot was being synced, or for
        which there is no room."""
        self._lacks_room = False
        self._closed = False

    # -- leader ---------------------------------------------------------------------------

    def is_sending_to(self, peer_id: str) -> bool:
        """Whether a stream to this peer is under way."""
        return peer_id in self._outgoing

    def send_to(self, peer_id: str) -> None:
        """Start a stream to this peer, unless one is under way."""
        if peer_id in self._outgoing or not self._links.is_up(peer_id):
            return
        found = self._snapshot_for(peer_id)
        if found is None:
            self._machine.start_snapshot()  # there will be one when PySyncObj asks again
            return
        metadata, file = found
        last = metadata.last_included
        self._number += 1
        self._outgoing[peer_id] = _Outgoing(self._number, metadata, file)
        self._log.info(
            "snapshot stream begins", to=peer_id, index=last.index, bytes=metadata.size_bytes
        )
        self._announce(peer_id)
        self._links.send(
            peer_id,
            wire.encode(
                wire.SNAPSHOT_BEGIN,
                self._term(),
                self._number,
                last.index,
                last.term,
                metadata.size_bytes,
                metadata.checksum,
            ),
        )

    def _snapshot_for(self, peer_id: str) -> tuple[SnapshotMetadata, ReadFile] | None:
        """The one whose stream to this peer was broken off, or else the newest."""
        broken = self._broken.pop(peer_id, None)
        if broken is not None:
            if self._is_enough(broken.metadata):
                return broken.metadata, broken.file
            broken.file.close()
        newest = self._machine.open_snapshot()
        if newest is not None and not self._is_enough(newest[0]):
            newest[1].close()
            return None
        return newest

    def _is_enough(self, metadata: SnapshotMetadata) -> bool:
        """Whether all that has to follow the snapshot is in the journal.

        Where that began anew behind the state (node.raft, alignment) its first two entries are
        placeholders: the snapshot has to hold both.
        """
        first_index = self._journal.first_index
        return first_index <= 1 or metadata.last_included.index > first_index

    def _pump(self, peer_id: str, stream: _Outgoing) -> None:
        size_bytes = stream.metadata.size_bytes
        while (
            stream.sent_bytes < size_bytes and stream.sent_bytes - stream.acked_bytes < WINDOW_BYTES
        ):
            chunk = stream.file.pread(CHUNK_BYTES, stream.sent_bytes)
            if not chunk:
                raise Fatal(f"snapshot {stream.index} ends at byte {stream.sent_bytes}")
            frame = wire.encode(wire.SNAPSHOT_CHUNK, stream.number, stream.sent_bytes, chunk)
            if not self._links.send(peer_id, frame):
                self.abort(peer_id)
                return
            stream.sent_bytes += len(chunk)

    def _on_ack(self, peer_id: str, number: int, received_bytes: int, done: bool) -> None:
        stream = self._outgoing.get(peer_id)
        if stream is None or stream.number != number:
            return
        if done:
            self._log.info("snapshot stream ends", to=peer_id, index=stream.index)
            self._end_outgoing(peer_id)
            return
        if not stream.has_begun:
            stream.has_begun = True
            stream.sent_bytes = min(received_bytes, stream.metadata.size_bytes)
        # NB: no more than was sent, or the whole file would be queued at once.
        stream.acked_bytes = max(stream.acked_bytes, min(received_bytes, stream.sent_bytes))
        self._pump(peer_id, stream)

    def on_progress(self, peer_id: str, acked_index: int) -> None:
        """The peer acknowledged entries: past the snapshot, no stream is needed."""
        stream = self._outgoing.get(peer_id)
        if stream is not None and acked_index >= stream.index:
            self._end_outgoing(peer_id)

    def _end_outgoing(self, peer_id: str) -> None:
        stream = self._outgoing.pop(peer_id, None)
        if stream is not None:
            stream.file.close()

    def abort(self, peer_id: str) -> None:
        """The link is lost: the streams to and from this peer end. They may be gone on with."""
        stream = self._outgoing.pop(peer_id, None)
        if stream is not None:
            self._forget_broken(peer_id)
            self._broken[peer_id] = stream
        if self._incoming is not None and self._incoming.peer_id == peer_id:
            self._incoming.peer_id = None
        if self._held is not None and self._held[0] == peer_id:
            self._held = None

    def _forget_broken(self, peer_id: str) -> None:
        broken = self._broken.pop(peer_id, None)
        if broken is not None:
            broken.file.close()

    def abort_outgoing(self) -> None:
        """Leadership is over: end every stream to a peer."""
        for peer_id in list(self._outgoing):
            self._end_outgoing(peer_id)
        for peer_id in list(self._broken):
            self._forget_broken(peer_id)

    def close(self) -> None:
        """The node stops."""
        self._closed = True
        self.abort_outgoing()
        self._worker.close()
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
        self,
        peer_id: str,
        term: int,
        number: int,
        index: int,
        index_term: int,
        size: int,
        checksum: bytes,
    ) -> None:
        if not self._follow(peer_id, term):
            return
        if self._is_finishing:
            self._held = (peer_id, term, number, index, index_term, size, checksum)
            return
        self._held = None
        if index <= self._settled_index():
            self._ack(peer_id, number, 0, done=True)  # a late stream: we are past it
            return
        metadata = SnapshotMetadata(
            last_included=LogId(index=index, term=index_term), checksum=checksum, size_bytes=size
        )
        stream = self._incoming
        if stream is None or stream.metadata != metadata:
            self._drop_incoming()
            if self._is_too_large(size):
                self._held = (peer_id, term, number, index, index_term, size, checksum)
                return
            receiver = self._machine.snapshot_receiver()
            receiver.begin(metadata)
            self._incoming = stream = _Incoming(metadata, receiver)
        stream.peer_id, stream.term, stream.number = peer_id, term, number
        if stream.received_bytes:
            self._log.info("snapshot stream goes on", peer=peer_id, bytes=stream.received_bytes)
        self._ack(peer_id, number, stream.received_bytes, done=False)

    def _is_too_large(self, size_bytes: int) -> bool:
        room_bytes = self._room_bytes()
        lacks, lacked = size_bytes > room_bytes, self._lacks_room
        self._lacks_room = lacks
        if lacks and not lacked:
            self._log.error(
                "no room for a snapshot", reason=f"it has {size_bytes} bytes, {room_bytes} are free"
            )
        elif lacked and not lacks:
            self._log.info("there is room for a snapshot again", free_bytes=room_bytes)
        return lacks

    def _ack(self, peer_id: str, number: int, received_bytes: int, *, done: bool) -> None:
        self._links.send(peer_id, wire.encode(wire.SNAPSHOT_ACK, number, received_bytes, done))

    def _on_chunk(self, peer_id: str, number: int, offset: int, chunk: bytes) -> None:
        stream = self._incoming
        if stream is None or (stream.peer_id, stream.number) != (peer_id, number):
            if not self._is_finishing:
                self._ack(peer_id, number, 0, done=True)  # of a stream that is over here
            return
        if stream.term != self._term():
            self._drop_incoming()
            self._ack(peer_id, number, 0, done=True)
            return
        if offset != stream.received_bytes:
            return  # what lies between is lost with its link
        stream.received_bytes += len(chunk)
        done = stream.received_bytes >= stream.metadata.size_bytes
        if stream.received_bytes <= stream.metadata.size_bytes:
            stream.receiver.write(chunk)  # what is too long is short of its last chunk: refused
        if done:
            self._incoming = None
            self._install(stream)
        else:
            self._ack(peer_id, number, stream.received_bytes, done=False)

    def _install(self, stream: _Incoming) -> None:
        self._is_finishing = True
        self._worker.do(
            lambda: _finished(stream.receiver), lambda found: self._on_finished(stream, found)
        )

    def _on_finished(self, stream: _Incoming, found: Path | Rejected) -> None:
        if self._closed:
            return
        if isinstance(found, Rejected):
            self._end_install(stream, found)
        elif stream.term != self._term() or self._is_behind(stream):
            stream.receiver.abort()
            self._end_install(stream, None)
        else:
            self._ready = (stream, found)
            self.tick()

    def tick(self) -> None:
        """Go on with an installation: begin it when the state machine is free, or see it done;
        and with a stream that has waited for room."""
        if self._held is not None and self._lacks_room and not self._is_finishing:
            # NB: looked at first. What was said long ago is no sign that its leader still lives.
            if not self._is_too_large(self._held[5]):
                held, self._held = self._held, None
                self._on_begin(*held)
            return
        if self._ready is not None:
            stream, directory = self._ready
            if not self._may_install(stream.metadata.last_included.index):
                return
            try:
                if not self._machine.start_install(stream.metadata, directory):
                    return  # an image is being written: next time
            except Rejected as error:
                self._ready = None
                self._end_install(stream, error)
                return
            self._ready, self._installing = None, stream
        if self._installing is None:
            return
        self._machine.poll_background()
        outcome = self._machine.install_outcome
        if outcome is not None:
            # NB: in the same turn in which the state changed: PySyncObj must not tick between.
            stream, self._installing = self._installing, None
            self._end_install(stream, outcome)

    def _end_install(self, stream: _Incoming, outcome: SnapshotMetadata | Rejected | None) -> None:
        self._is_finishing = False
        index = stream.metadata.last_included.index
        assert stream.peer_id is not None
        if isinstance(outcome, Rejected):
            # Nothing has changed here; the leader will find us behind and begin again.
            self._log.warning("snapshot refused", peer=stream.peer_id, reason=str(outcome))
        elif outcome is not None and self._machine.last_applied.index == index:
            self._log.info("snapshot installed", peer=stream.peer_id, index=index)
            self._installed(stream.peer_id, stream.term, index)
        self._ack(stream.peer_id, stream.number, stream.received_bytes, done=True)
        held, self._held = self._held, None
        if held is not None:
            self._on_begin(*held)

    def _is_behind(self, stream: _Incoming) -> bool:
        return stream.metadata.last_included.index <= self._settled_index()

    def _drop_incoming(self) -> None:
        if self._incoming is not None:
            self._incoming.receiver.abort()
            self._incoming = None


def _finished(receiver: SnapshotReceiver) -> Path | Rejected:
    """In the worker's thread: check it and make it durable."""
    try:
        return receiver.finish()
    except Rejected as error:
        return error
