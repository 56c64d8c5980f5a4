"""The leader's half of the fence: appends out, acknowledgements in.

    PySyncObj: append_entries -> [ trim, split, encode once ] -> peer
    peer: ack(term, next index) -> [ term, gate ] -> PySyncObj: next_node_idx

  append, out   P6   an acknowledgement moves PySyncObj's nextIndex back, so it sends again what is
                     in flight: what this link has carried in this term is trimmed off.
                P10  a chunked entry would never replicate: one is a bug of ours, so Fatal.
                P25  nothing is queued behind send_buffer_bytes_max. PySyncObj takes it for sent
                     all the same; what was held back follows, from the journal, when there is
                     room. On a new link, and after a refusal, only empty appends leave until
                     one is accepted: of a pipeline that does not fit each frame would be
                     refused, and each refusal would have the backlog sent once more.
                     An empty append is left out when an append has just gone and there is no
                     news in it. That something is committed is news at once for a peer whose own
                     clients wait for it (`await_commit`); to others the next append says it, or an
                     empty one ANNOUNCE_S later: a frame and a wake-up saved for each entry.
                     A placeholder (node.raft) is never sent: the snapshot goes
                     instead. Where PySyncObj would begin a transfer of its own (P8), since what
                     the peer lacks has left memory, it gets that from the files (node.backlog),
                     or the snapshot when it has left those too.
  ack, in       P9   stamped with its term: another term's is dropped, a higher one ends ours.
                     Delivered up to our own durable index only, since PySyncObj always counts
                     the leader itself; the rest follows when our sync is done (the gate).

    per peer    delivered <= acked <= sent     all of the present term, sent of the present link

Invariant: PySyncObj never counts an entry that is not durable here and at the peer.

On a crash nothing here is needed again: what was acknowledged is in the journals.

Does not do: know what a follower is told in return (node.following), votes, reads.

Proved by: tests/node/test_transport.py, tests/node/test_pitfalls_append.py,
tests/node/test_pitfalls_durable.py
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from node import wire
from node.backlog import Backlog
from node.entry import NOOP_COMMAND, Entry
from node.errors import Fatal
from node.journal import FileJournal
from node.links import Links

if TYPE_CHECKING:
    from node.snapshots import Snapshots
    from node.transport import Deliver, RaftState

__all__ = ["Leading"]

_APPEND_BYTES: Final = 1024 * 1024
"""A frame is closed when its entries have grown to this. Soft: an entry is never cut."""


_CATCH_UP_ENTRIES: Final = 4096
ANNOUNCE_S: Final = 0.002
"""How long a commit waits for an append to go with, when no client of the peer waits for it."""


@dataclass(slots=True)
class _Follower:
    """What the leader knows of one follower. Indexes are of the current term."""

    sent_index: int = 0
    """Highest index sent on the present link; 0: not known."""
    is_probing: bool = False
    """No append has been accepted on this link, or since the last refusal."""
    probed_index: int = 0
    """While probing: what the empty appends stand behind, until they are answered; 0: none yet."""
    sent_s: float = 0.0
    sent_commit: int = 0
    awaited_index: int = 0
    """Clients of this peer wait for entries up to here to be committed."""
    acked_index: int = 0
    """Highest index that the peer says is durable there."""
    delivered_index: int = 0
    """What of that PySyncObj was told."""
    end_index: int = 0
    """How far its log reached when it last answered, or where it disagreed; 0: not known."""


class Leading:
    """What a leader sends and is told.

    Args:
        heartbeat_s: PySyncObj's append period.
        send_buffer_bytes_max: a peer gets no entries while this much waits for it.
        deliver: hands PySyncObj a message of a peer.
    """

    def __init__(
        self,
        peer_ids: list[str],
        links: Links,
        journal: FileJournal,
        *,
        heartbeat_s: float,
        send_buffer_bytes_max: int,
        monotonic: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], object],
        deliver: Deliver,
    ) -> None:
        self._followers = {peer_id: _Follower() for peer_id in peer_ids}
        self._links = links
        self._journal = journal
        self._heartbeat_s = heartbeat_s
        self._send_buffer_bytes_max = send_buffer_bytes_max
        self._monotonic = monotonic
        self._call_later = call_later
        self._deliver = deliver
        self._announces = False
        self.backlog = Backlog(
            journal, send=self._send_old, begins_too_late=lambda peer_id: self._snapshot(peer_id)
        )
        self._encoded: tuple[tuple[int, int, int, int], bytes] | None = None

    def bind(self, state: RaftState, snapshots: Snapshots) -> None:
        """Introduce the neighbours."""
        self._state = state
        self._snapshots = snapshots

    def reconfigure(self, peer_ids: Collection[str]) -> None:
        """Voters and learners from now on."""
        for gone in self._followers.keys() - set(peer_ids):
            del self._followers[gone]
            self.backlog.end(gone)
        for peer_id in peer_ids:
            self._followers.setdefault(peer_id, _Follower())

    def forget(self, peer_id: str) -> None:
        """Whoever has this id from now on has a new log: nothing that was acknowledged counts."""
        if peer_id in self._followers:
            self._followers[peer_id] = _Follower()
            self.backlog.end(peer_id)

    def begin_term(self) -> None:
        """This node leads: acknowledgements of older terms mean nothing now."""
        self.backlog.end_all()
        for peer_id in self._followers:
            self._followers[peer_id] = _Follower()

    def end(self) -> None:
        """This node leads no more."""
        self.backlog.end_all()

    def forget_sent(self, peer_id: str) -> None:
        """The link is a new one, or gone with all that it still carried."""
        follower = self._followers.get(peer_id)
        if follower is not None:
            self._probe(follower)
        self.backlog.end(peer_id)

    def _probe(self, follower: _Follower) -> None:
        """Find out anew where this follower's log ends, with the next append."""
        follower.sent_index = follower.probed_index = 0
        follower.is_probing, follower.sent_s = True, 0.0

    def acked_index(self, peer_id: str) -> int:
        """What this peer has acknowledged, up to our own durable index."""
        follower = self._followers.get(peer_id)
        return follower.delivered_index if follower is not None else 0

    # -- out ------------------------------------------------------------------------------

    def send_append(self, peer_id: str, message: dict[str, Any]) -> bool:
        """PySyncObj has entries for a peer, or a heartbeat; whether something was sent."""
        if "transmission" in message:
            raise Fatal("PySyncObj cuts an entry in pieces: it is larger than a batch may be")
        if "serialized" in message:
            follower = self._followers[peer_id]
            # NB: not from what is acknowledged: a peer with a slow disk acknowledges seconds after
            # it was sent something; what is on its way need not be sent again, least of all as a
            # snapshot.
            self._send_what_left_memory(peer_id, max(follower.sent_index, follower.end_index))
            return True
        previous, entries = message["prevLogIdx"], message.get("entries", [])
        if previous is None:
            return False
        follower = self._followers[peer_id]
        if self._is_streaming_to(peer_id):
            entries = []
        elif 0 < follower.sent_index < previous:
            if follower.sent_index < self._journal.memory_index:
                self._send_what_left_memory(peer_id, follower.sent_index)
                return True
            previous, entries = follower.sent_index, self._entries_behind(follower.sent_index)
        elif previous < follower.sent_index:
            entries = entries[follower.sent_index - previous :]
            previous = follower.sent_index
        if entries and 1 < self._journal.first_index == previous and entries[0][0] == NOOP_COMMAND:
            # Perhaps a placeholder (node.raft): what it stands for is in the state only.
            self._snapshots.send_to(peer_id)
            return True
        is_full = self._links.buffered_bytes(peer_id) > self._send_buffer_bytes_max
        if follower.is_probing:
            if follower.probed_index >= self._journal.memory_index:
                previous = follower.probed_index  # NB: PySyncObj's own runs ahead with each write
            follower.probed_index = previous
        if follower.is_probing or is_full:
            entries = []
        commit = message["commit_index"]
        if not entries and not self._is_worth_sending(follower, commit):
            return True
        return self._send_parts(peer_id, message["term"], commit, previous, entries)

    def _is_streaming_to(self, peer_id: str) -> bool:
        return self._snapshots.is_sending_to(peer_id) or self.backlog.is_sending_to(peer_id)

    def _snapshot(self, peer_id: str) -> None:
        self._snapshots.send_to(peer_id)

    def _send_what_left_memory(self, peer_id: str, end_index: int) -> None:
        """The peer has everything up to `end_index`, and lacks what memory does not hold."""
        if self._is_streaming_to(peer_id):
            return
        if end_index == 0:
            return  # it refuses what PySyncObj sends next, and so tells where its log ends
        if end_index < self._journal.first_index:
            self._snapshots.send_to(peer_id)
        elif end_index < self._journal.memory_index:
            self.backlog.begin(peer_id, end_index)

    def _send_old(self, peer_id: str, previous: int, term: int, entries: list[Entry]) -> bool:
        """The backlog's entries. They are applied here: committed, whatever the commit index."""
        frame = wire.encode_append(
            self._state.term(), self._state.commit_index(), previous, term, entries
        )
        follower = self._followers.get(peer_id)
        if follower is None:
            return False  # no member any more
        follower.sent_s = self._monotonic()
        follower.sent_index = max(follower.sent_index, entries[-1][1])
        return self._state.is_leader() and self._links.send(peer_id, frame)

    def _entries_behind(self, index: int) -> list[Entry]:
        """Of those in memory, a few frames' worth."""
        start = index + 1 - self._journal.memory_index
        entries: list[Entry] = []
        size_bytes = 0
        for entry in self._journal[start : start + _CATCH_UP_ENTRIES]:
            entries.append(entry)
            size_bytes += len(entry[0])
            if size_bytes > 4 * _APPEND_BYTES:
                break
        return entries

    def _is_worth_sending(self, follower: _Follower, commit: int) -> bool:
        """Whether an empty append says something: that we live, or what is committed."""
        if commit > follower.sent_commit and commit >= self._journal.last_index:
            if follower.awaited_index > follower.sent_commit:
                return True
            if not self._announces:
                self._announces = True
                self._call_later(ANNOUNCE_S, self._announce)
        return self._monotonic() - follower.sent_s >= self._heartbeat_s / 2

    def await_commit(self, peer_id: str, index: int) -> None:
        """Clients of this peer wait for `index`: what is committed up to there is said at once."""
        follower = self._followers.get(peer_id)
        if follower is not None and index > follower.awaited_index:
            follower.awaited_index = index
            if follower.sent_commit < index <= self._state.commit_index():
                self._send_empty(peer_id)

    def _announce(self) -> None:
        """Say what is committed to whom no append has said it meanwhile."""
        self._announces = False
        commit = self._state.commit_index()
        if not self._state.is_leader() or commit < self._journal.last_index:
            return  # an append is under way: its commit is news in its turn
        for peer_id, follower in self._followers.items():
            if follower.sent_commit < commit:
                follower.awaited_index = max(follower.awaited_index, commit)
                self._send_empty(peer_id)

    def _send_empty(self, peer_id: str) -> None:
        self.send_append(
            peer_id,
            {
                "prevLogIdx": self._journal.last_index,
                "term": self._state.term(),
                "commit_index": self._state.commit_index(),
            },
        )

    def _send_parts(
        self, peer_id: str, term: int, commit: int, previous: int, entries: list[Entry]
    ) -> bool:
        follower = self._followers[peer_id]
        for part in _parts(entries):
            frame = self._encode(term, commit, previous, part)
            if frame is None or not self._links.send(peer_id, frame):
                return False
            if part:
                previous += len(part)
                follower.sent_index = previous
        follower.sent_s, follower.sent_commit = self._monotonic(), commit
        return True

    def _encode(self, term: int, commit: int, previous: int, entries: list[Entry]) -> bytes | None:
        """The frame, made once for all peers; None when what precedes it was cut meanwhile."""
        key = (term, commit, previous, len(entries))
        if self._encoded is not None and self._encoded[0] == key:
            return self._encoded[1]
        previous_term = self._journal.term_at(previous)
        if previous_term is None:
            return None  # the next append starts the snapshot
        frame = wire.encode_append(term, commit, previous, previous_term, entries)
        self._encoded = (key, frame)
        return frame

    # -- in -------------------------------------------------------------------------------

    def on_ack(self, peer_id: str, next_index: int, reset: bool, success: bool) -> None:
        """A follower of the current term says what it has.

        Raises:
            WireError: more than there is. A follower in our term has nothing that we lack.
        """
        if not 1 <= next_index <= self._journal.last_index + 1:
            raise wire.WireError("acknowledges entries that there are not")
        follower = self._followers.get(peer_id)
        if follower is None:
            return  # removed meanwhile: PySyncObj does not know it any more
        if success:
            follower.acked_index = max(follower.acked_index, next_index - 1)
            follower.end_index = next_index - 1
            if 0 < follower.sent_index < follower.acked_index:
                # It came by a snapshot, past what this link had carried before.
                follower.sent_index = follower.acked_index
            self._snapshots.on_progress(peer_id, follower.acked_index)
            self.backlog.on_ack(peer_id, follower.acked_index)
            self._hand_on(peer_id, follower, is_sign_of_life=True)
            if follower.is_probing and next_index > follower.probed_index > 0:
                self._end_probe(peer_id, follower)
            return
        follower.end_index = next_index - 1
        self.backlog.on_refusal(peer_id, next_index - 1)
        if self._is_streaming_to(peer_id):
            self._tell(peer_id, follower.delivered_index + 1, reset=False, success=False)
        else:
            self._probe(follower)
            self._tell(peer_id, next_index, reset=reset, success=False)

    def _end_probe(self, peer_id: str, follower: _Follower) -> None:
        """The log up to there is the follower's too: what is behind it follows at once."""
        follower.sent_index, follower.is_probing = follower.acked_index, False
        if follower.sent_index < self._journal.last_index:
            self._send_empty(peer_id)

    def on_durable(self) -> None:
        """Our own sync is done: hand on what waited for it."""
        for peer_id, follower in self._followers.items():
            self._hand_on(peer_id, follower, is_sign_of_life=False)

    def _hand_on(self, peer_id: str, follower: _Follower, *, is_sign_of_life: bool) -> None:
        index = min(follower.acked_index, self._journal.gated_index)
        if index > follower.delivered_index or is_sign_of_life:
            follower.delivered_index = max(follower.delivered_index, index)
            self._tell(peer_id, index + 1, reset=False, success=True)
            if index > self._state.commit_index():
                self._state.kick()  # perhaps a majority has it now

    def _tell(self, peer_id: str, next_index: int, *, reset: bool, success: bool) -> None:
        self._deliver(
            peer_id,
            type="next_node_idx",
            next_node_idx=next_index,
            reset=reset,
            success=success,
        )


def _parts(entries: list[Entry]) -> list[list[Entry]]:
    """The entries in frames' worths; one empty part when there are none.

    PySyncObj fills a message up to one entry past its limit, which a frame need not hold.
    """
    parts: list[list[Entry]] = [[]]
    size_bytes = 0
    for entry in entries:
        if parts[-1] and size_bytes + len(entry[0]) > _APPEND_BYTES:
            parts.append([])
            size_bytes = 0
        parts[-1].append(entry)
        size_bytes += len(entry[0])
    return parts
