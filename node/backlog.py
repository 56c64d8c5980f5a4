"""Old entries for followers: what left the leader's memory is read from its files and sent.

    PySyncObj (its log begins where memory does) would send a snapshot
      -> the follower's log ends at `previous`, and our files reach back to there:
             read (in a thread) -> append -> append ...   at most WINDOW_BYTES unacknowledged
             <- acknowledgements, each lets the next part be read
         until the follower has what memory begins with: PySyncObj goes on from there
      -> our files begin later: a snapshot (node.snapshots)

However far behind a follower is, that costs the leader a window's worth of memory. While such a
stream runs the follower gets heartbeats from PySyncObj, no entries.

Invariants: what is sent is applied here, so committed; a part follows the one before it without a
gap; a stream ends with its link, and with the leadership.

On a crash nothing here is needed again. A part that is lost is lost with its link.

Does not do: know where a follower's log ends (node.leading), read files (node.journal).

Proved by: tests/node/test_backlog.py
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from node.entry import NOOP_COMMAND, Entry
from node.journal import FileJournal
from node.milestones import entry_bytes

__all__ = ["Backlog"]

PART_BYTES: Final = 1024 * 1024
"""How much is read and sent at once. Soft: an entry is never cut."""
WINDOW_BYTES: Final = 4 * 1024 * 1024


class _Stream:
    """What is sent to one peer."""

    __slots__ = ("acked_index", "flying", "flying_bytes", "is_reading", "previous")

    def __init__(self, previous: int) -> None:
        self.acked_index = previous
        """Its log is known to reach this far; at first it is only said to."""
        self.previous: tuple[int, int] | int = previous
        """The entry behind which the next part goes: (index, term), or the index alone when the
        term has yet to be read."""
        self.flying: deque[tuple[int, int]] = deque()
        """(last index, bytes) of each part that is not acknowledged."""
        self.flying_bytes = 0
        self.is_reading = False

    @property
    def sent_index(self) -> int:
        return self.previous if isinstance(self.previous, int) else self.previous[0]


class Backlog:
    """The streams of a leader, at most one to each peer.

    Args:
        send: sends a peer the entries behind (index, term); False when the link is gone.
        begins_too_late: told (peer) that the files do not reach back to where its log ends.
    """

    def __init__(
        self,
        journal: FileJournal,
        *,
        send: Callable[[str, int, int, list[Entry]], bool],
        begins_too_late: Callable[[str], None],
    ) -> None:
        self._journal = journal
        self._send = send
        self._begins_too_late = begins_too_late
        self._streams: dict[str, _Stream] = {}

    def is_sending_to(self, peer_id: str) -> bool:
        """Whether a stream to this peer is under way."""
        return peer_id in self._streams

    def begin(self, peer_id: str, previous: int) -> None:
        """Send what follows entry `previous`, with which the peer's log ends or agrees."""
        if peer_id not in self._streams:
            self._streams[peer_id] = stream = _Stream(previous)
            self._read(peer_id, stream)

    def on_ack(self, peer_id: str, acked_index: int) -> None:
        """The peer has everything up to here."""
        stream = self._streams.get(peer_id)
        if stream is None:
            return
        stream.acked_index = max(stream.acked_index, acked_index)
        while stream.flying and stream.flying[0][0] <= acked_index:
            stream.flying_bytes -= stream.flying.popleft()[1]
        if stream.acked_index >= self._journal.memory_index:
            self.end(peer_id)
        else:
            self._read(peer_id, stream)

    def on_refusal(self, peer_id: str, previous: int) -> None:
        """The peer's log ends at `previous`, or disagrees behind it: perhaps we began too late.

        Heartbeats are refused as well while it has not caught up: that says nothing new.
        """
        stream = self._streams.get(peer_id)
        if stream is not None and previous < stream.acked_index:
            self.end(peer_id)
            self.begin(peer_id, previous)

    def end(self, peer_id: str) -> None:
        """Stop, if a stream is under way; what is being read is dropped."""
        self._streams.pop(peer_id, None)

    def end_all(self) -> None:
        """The leadership is over, or a new one begins."""
        self._streams.clear()

    def _read(self, peer_id: str, stream: _Stream) -> None:
        if (
            stream.is_reading
            or stream.flying_bytes >= WINDOW_BYTES
            or stream.sent_index >= self._journal.memory_index
        ):
            return
        if stream.sent_index < self._journal.first_index:
            self._give_up(peer_id)
            return
        stream.is_reading = True
        previous = stream.previous
        # The first part is read from the entry before it: it tells its term.
        index = previous if isinstance(previous, int) else previous[0] + 1
        self._journal.read_later(
            index, PART_BYTES, lambda found: self._on_read(peer_id, stream, found)
        )

    def _on_read(self, peer_id: str, stream: _Stream, entries: list[Entry] | None) -> None:
        if self._streams.get(peer_id) is not stream:
            return
        stream.is_reading = False
        if entries is None:
            self._give_up(peer_id)
            return
        if isinstance(stream.previous, int):
            stream.previous = entries[0][1:]
            del entries[0]
            if self._may_be_placeholder(stream.previous[0], entries):
                self._give_up(peer_id)
                return
        if entries:
            if not self._send(peer_id, *stream.previous, entries):
                self.end(peer_id)
                return
            stream.previous = entries[-1][1:]
            size_bytes = sum(map(entry_bytes, entries))
            stream.flying.append((entries[-1][1], size_bytes))
            stream.flying_bytes += size_bytes
        self._read(peer_id, stream)

    def _may_be_placeholder(self, previous: int, entries: list[Entry]) -> bool:
        """A log that began anew behind the state begins with two (node.raft): never sent."""
        is_first = 1 < self._journal.first_index == previous
        return is_first and bool(entries) and entries[0][0] == NOOP_COMMAND

    def _give_up(self, peer_id: str) -> None:
        self.end(peer_id)
        self._begins_too_late(peer_id)
