"""The fence between PySyncObj and its peers: every message passes here, both ways.

    PySyncObj --send()--> [ gate, trim, stamp ] --> wire ==> peer
    PySyncObj <--_onMessageReceived-- [ check, skip, cap, gate ] <-- wire <== peer

What each message needs (the numbers are the pitfalls of PYSYNCOBJ.md):

  append, out   P6   an acknowledgement moves PySyncObj's nextIndex back, so it sends again what is
                     in flight: what this link has carried in this term is trimmed off.
                P10  a chunked entry would never replicate: one is a bug of ours, so Fatal.
                P25  nothing is queued behind send_buffer_bytes_max: the peer will ask again.
                     Encoded once for all peers. An empty append is left out when an append has
                     just gone and there is no news in it. A placeholder (node.raft) is never
                     sent: the snapshot goes instead.
  append, in    P7   PySyncObj truncates matching, even applied, entries when an older append
                     comes late: entries that match (index and term) are skipped first.
                     Truncating an applied entry is Fatal.
                P18  a leader of a lower term is told ours.
                     The commit index is capped: at what this leader has verified in this term
                     (PySyncObj would take all of its own log for verified), and at
                     APPLY_ENTRIES_PER_TURN past the applied one, so that a long backlog does
                     not block the loop (`continue_apply` brings the rest, turn by turn).
  ack, out           leaves when the journal is durable up to it (the gate); when the disk is
                     slow a reduced one leaves every half heartbeat, so the leader hears us.
  ack, in       P9   stamped with its term: another term's is dropped, a higher one ends ours.
                     Delivered up to our own durable index only, since PySyncObj always counts
                     the leader itself; the rest follows when our sync is done.
  snapshot      P8   PySyncObj's own transfer is not used (no flow control, blind commit):
                     what it would send starts a stream of our own (node.snapshots).
                P15  it acknowledges even what it failed to install: muted until it was seen.
  votes              node.elections.   reads: node.reads.   anything else: refused.

Invariants: `verified_index` is the highest index known to equal the leader's log, in this
term; an acknowledgement never exceeds min(durable_index, verified_index).

On a crash nothing here is needed again: what was acknowledged is in the journal.

Does not do: sockets (node.links), bytes (node.wire), decide (PySyncObj).

Proved by: tests/node/test_transport.py, tests/node/test_pitfalls_append.py,
tests/node/test_simulation.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from pysyncobj.node import Node
from pysyncobj.transport import Transport

from node import wire
from node.entry import NOOP_COMMAND
from node.errors import Fatal, Rejected
from node.journal import FileJournal
from node.links import Links
from node.logs import EventLog

if TYPE_CHECKING:
    from node.elections import Elections
    from node.reads import Reads
    from node.snapshots import Snapshots

__all__ = ["FencedTransport", "RaftState"]

APPLY_ENTRIES_PER_TURN: Final = 256
_APPEND_BYTES: Final = 1024 * 1024
"""A frame is closed when its entries have grown to this. Soft: an entry is never cut."""


class RaftState(Protocol):
    """PySyncObj's state, as the fence reads it."""

    def term(self) -> int: ...
    def is_leader(self) -> bool: ...
    def leader_id(self) -> str | None: ...
    def commit_index(self) -> int: ...
    def applied_index(self) -> int: ...
    def settled_index(self) -> int: ...
    def observe_term(self, term: int) -> None: ...
    def propose(self, batch: bytes) -> bool: ...
    def kick(self) -> None: ...


@dataclass(slots=True)
class _Peer:
    """What the leader knows of one follower. Indexes are of the current term."""

    node: Node
    sent_index: int = 0
    """Highest index sent on the present link."""
    sent_s: float = 0.0
    sent_commit: int = 0
    acked_index: int = 0
    """Highest index that the peer says is durable there."""
    delivered_index: int = 0
    """What of that PySyncObj was told."""


class FencedTransport(Transport):  # type: ignore[misc]
    """PySyncObj's transport. `bind` gives it its neighbours before the first message.

    Args:
        peer_ids: the other members.
        heartbeat_s: PySyncObj's append period.
        send_buffer_bytes_max: a peer gets no entries while this much waits for it.
        monotonic: seconds.
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
        log: EventLog,
    ) -> None:
        super().__init__(None, None, [])
        self._peers = {peer_id: _Peer(Node(peer_id)) for peer_id in peer_ids}
        self._links = links
        self._journal = journal
        self._heartbeat_s = heartbeat_s
        self._log = log
        self._send_buffer_bytes_max = send_buffer_bytes_max
        self._monotonic = monotonic
        self._encoded: tuple[tuple[int, int, int, int], bytes] | None = None
        self.verified_index = 0
        self._verified_term = 0
        self._leader_commit = 0
        self._ack_wanted = False
        self._acked_index = 0
        self._acked_s = 0.0
        self._mute = False

    def bind(
        self, state: RaftState, elections: Elections, reads: Reads, snapshots: Snapshots
    ) -> None:
        """Introduce the neighbours."""
        self._state = state
        self._elections = elections
        self._reads = reads
        self._snapshots = snapshots

    # -- connections: PySyncObj sees them only while it leads or stands (P17) -------------

    def node_of(self, peer_id: str) -> Node:
        """PySyncObj's name for a peer."""
        return self._peers[peer_id].node

    def peers_up(self) -> list[str]:
        """Peers with an open link."""
        return [peer_id for peer_id in self._peers if self._links.is_up(peer_id)]

    def show_connected(self) -> None:
        """Tell PySyncObj of every open link."""
        for peer_id in self.peers_up():
            self._onNodeConnected(self._peers[peer_id].node)

    def hide_connected(self) -> None:
        """Tell PySyncObj that nobody is connected: it will not stand."""
        for peer in self._peers.values():
            self._onNodeDisconnected(peer.node)

    def link_up(self, peer_id: str) -> None:
        """A link opened: nothing has been sent on it yet."""
        self._peers[peer_id].sent_index = 0
        if self._state.is_leader():
            self._onNodeConnected(self._peers[peer_id].node)

    def link_down(self, peer_id: str) -> None:
        """A link closed, with all that it still carried."""
        self._peers[peer_id].sent_index = 0
        self._onNodeDisconnected(self._peers[peer_id].node)

    def became_leader(self) -> None:
        """A new term of our own: acknowledgements of older ones mean nothing now."""
        for peer in self._peers.values():
            peer.sent_index = peer.acked_index = peer.delivered_index = peer.sent_commit = 0
        self._ack_wanted = False
        self.show_connected()

    def acked_index(self, peer_id: str) -> int:
        """What this peer has acknowledged to us as the leader, up to our own durable index."""
        return self._peers[peer_id].delivered_index

    def send_frame(self, peer_id: str, frame: bytes) -> bool:
        """Send a frame that PySyncObj knows nothing of."""
        return self._links.send(peer_id, frame)

    def follow(self, peer_id: str, term: int) -> bool:
        """A leader has spoken: whether it is one of ours, or of a newer term.

        One of a lower term is told ours (P18).
        """
        ours = self._state.term()
        if term < ours:
            self._links.send(peer_id, wire.encode(wire.HIGHER_TERM, ours))
            return False
        if term > ours:
            # A snapshot may be the first that we hear of a term: PySyncObj has to know it too.
            self._state.observe_term(term)
        if term != self._verified_term:
            self._verified_term = term
            self.verified_index = self._leader_commit = self._acked_index = 0
        self._elections.heard_leader()
        return True

    # -- out ------------------------------------------------------------------------------

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        """What PySyncObj has to say to a peer."""
        peer_id: str = node.id
        kind = message["type"]
        if kind == "append_entries":
            return self._send_append(peer_id, message)
        if kind == "next_node_idx":
            return self._send_ack(peer_id, message)
        if kind == "request_vote":
            self._elections.ask_vote(
                peer_id, message["term"], message["last_log_index"], message["last_log_term"]
            )
            return True
        if kind == "response_vote":
            self._elections.give_vote(peer_id, message["term"])
            return True
        if kind == "timeout_now":
            self._reads.end_lease()
            return self._links.send(peer_id, wire.encode(wire.TIMEOUT_NOW, message["term"]))
        if kind == "apply_command":
            # A batch that a pause left in PySyncObj's queue until another led (P5). Whoever
            # made it sends it again.
            return False
        raise Fatal(f"PySyncObj sends {kind}, which this node never asks of it")

    def _send_append(self, peer_id: str, message: dict[str, Any]) -> bool:
        if "transmission" in message:
            raise Fatal("PySyncObj cuts an entry in pieces: it is larger than a batch may be")
        peer = self._peers[peer_id]
        if "serialized" in message:
            self._snapshots.send_to(peer_id)
            return True
        previous, entries = message["prevLogIdx"], message.get("entries", [])
        if previous is None:
            return False
        if self._snapshots.is_sending_to(peer_id):
            entries = []
        elif previous < peer.sent_index:
            entries = entries[peer.sent_index - previous :]
            previous = peer.sent_index
        if entries and 1 < self._journal.first_index == previous and entries[0][0] == NOOP_COMMAND:
            # Perhaps a placeholder (node.raft): what it stands for is in the state only.
            self._snapshots.send_to(peer_id)
            return True
        if entries and self._links.buffered_bytes(peer_id) > self._send_buffer_bytes_max:
            return False
        now_s = self._monotonic()
        commit = message["commit_index"]
        if not entries:
            is_news = commit > peer.sent_commit and commit >= self._journal.last_index
            if not is_news and now_s - peer.sent_s < self._heartbeat_s / 2:
                return True
        for part in _parts(entries):
            frame = self._encode_append(message["term"], commit, previous, part)
            if frame is None or not self._links.send(peer_id, frame):
                return False
            if part:
                previous += len(part)
                peer.sent_index = previous
        peer.sent_s, peer.sent_commit = now_s, commit
        return True

    def _encode_append(
        self, term: int, commit: int, previous: int, entries: list[Any]
    ) -> bytes | None:
        key = (term, commit, previous, len(entries))
        if self._encoded is not None and self._encoded[0] == key:
            return self._encoded[1]
        previous_term = self._journal.term_at(previous)
        if previous_term is None:
            return None  # cut meanwhile: the next append starts the snapshot
        frame = wire.encode_append(term, commit, previous, previous_term, entries)
        self._encoded = (key, frame)
        return frame

    def _send_ack(self, peer_id: str, message: dict[str, Any]) -> bool:
        if self._mute:
            return True
        if message["success"]:
            self._ack_wanted = True
            self._acknowledge()
            return True
        frame = wire.encode(
            wire.ACK, self._state.term(), message["next_node_idx"], message["reset"], False
        )
        return self._links.send(peer_id, frame)

    def _acknowledge(self) -> None:
        """Acknowledge what is durable; all of it, or as a sign of life what there is."""
        leader_id = self._state.leader_id()
        if not self._ack_wanted or leader_id is None or self._state.is_leader():
            return
        index = min(self._journal.durable_index, self.verified_index)
        now_s = self._monotonic()
        if index == self.verified_index:
            self._ack_wanted = False
        if index <= self._acked_index and now_s - self._acked_s < self._heartbeat_s / 2:
            return
        self._acked_index, self._acked_s = index, now_s
        self._links.send(
            leader_id, wire.encode(wire.ACK, self._state.term(), index + 1, False, True)
        )

    # -- in -------------------------------------------------------------------------------

    def receive(self, peer_id: str, message: wire.Message) -> None:
        """A checked message of a peer. Fatal leaves through here to the node's one door."""
        kind = message[0]
        if kind == wire.APPEND:
            self._on_append(peer_id, *message[1:])
        elif kind == wire.ACK:
            self._on_ack(peer_id, *message[1:])
        elif kind == wire.FORWARD:
            self._on_forward(peer_id, message[1])
        elif kind == wire.READ_PROBE:
            self._on_probe(peer_id, *message[1:])
        elif kind == wire.READ_ECHO:
            self._reads.on_echo(peer_id, *message[1:])
        elif kind == wire.READ_ASK:
            self._reads.on_ask(peer_id, message[1])
        elif kind == wire.READ_GRANT:
            self._reads.on_grant(peer_id, *message[1:])
        elif kind in (wire.SNAPSHOT_BEGIN, wire.SNAPSHOT_CHUNK, wire.SNAPSHOT_ACK):
            self._snapshots.receive(peer_id, message)
        else:
            self._on_election(peer_id, message)

    def _on_forward(self, peer_id: str, batch: bytes) -> None:
        """A peer's batch for the leader. It sends again by itself if this is not the leader."""
        try:
            self._state.propose(batch)
        except Rejected as error:
            self._log.error("a peer's batch refused", peer=peer_id, reason=str(error))

    def _on_election(self, peer_id: str, message: wire.Message) -> None:
        kind, elections = message[0], self._elections
        if kind == wire.PRE_VOTE:
            elections.on_pre_vote(peer_id, *message[1:])
        elif kind == wire.PRE_GRANT:
            elections.on_pre_grant(peer_id, message[1])
        elif kind == wire.VOTE_REQUEST:
            term, last_index, last_term, transfer = message[1:]
            if elections.admits(term, transfer):
                self._deliver(
                    peer_id,
                    type="request_vote",
                    term=term,
                    last_log_index=last_index,
                    last_log_term=last_term,
                )
        elif kind == wire.VOTE:
            if elections.counts(peer_id, message[1]):
                self._deliver(peer_id, type="response_vote", term=message[1])
        elif kind == wire.HIGHER_TERM:
            elections.on_higher_term(message[1])
        elif (
            kind == wire.TIMEOUT_NOW
            and message[1] == self._state.term()
            and peer_id == self._state.leader_id()
        ):
            self._deliver(peer_id, type="timeout_now", term=message[1])
            elections.begin_transfer()

    def deliver_hopeless_vote_request(self, term: int) -> None:
        """Make PySyncObj a follower in a higher term without a vote: no log is worse."""
        self._onMessageReceived(
            Node(""),
            {"type": "request_vote", "term": term, "last_log_index": 0, "last_log_term": -1},
        )
        self._state.kick()

    def _deliver(self, peer_id: str, **message: object) -> None:
        self._onMessageReceived(self._peers[peer_id].node, message)
        self._state.kick()

    def _on_append(
        self, peer_id: str, term: int, commit: int, previous: int, previous_term: int, rows: Any
    ) -> None:
        if not self.follow(peer_id, term):
            return
        journal = self._journal
        settled = self._state.settled_index()
        # The first entry we keep is committed, or is the one all logs begin with: it matches.
        matches = previous <= journal.first_index or journal.term_at(previous) == previous_term
        entries = wire.entries_of(previous, rows) if matches else []
        if matches:
            self.verified_index = max(self.verified_index, previous + len(entries))
            entries = self._unknown_part(entries)
            if entries:
                previous = entries[0][1] - 1
                previous_term = journal.term_at(previous) or 0
            else:
                previous, previous_term = journal.last_index, journal.last_term
            if entries and entries[0][1] <= settled:
                raise Fatal(f"{peer_id} would truncate applied entry {entries[0][1]}")
        elif previous <= settled:
            raise Fatal(f"{peer_id} disagrees on applied entry {previous}@{previous_term}")
        self._leader_commit = max(self._leader_commit, min(commit, self.verified_index))
        self._deliver(
            peer_id,
            type="append_entries",
            term=term,
            commit_index=self._capped_commit(),
            prevLogIdx=previous,
            prevLogTerm=previous_term,
            entries=entries,
        )

    def _unknown_part(self, entries: list[Any]) -> list[Any]:
        """What is left of `entries` behind those that our log holds already (P7)."""
        journal = self._journal
        first_index = journal.first_index
        for place, (_, index, term) in enumerate(entries):
            if index > first_index and journal.term_at(index) != term:
                return entries[place:]
        return []

    def _capped_commit(self) -> int:
        return min(self._leader_commit, self._state.applied_index() + APPLY_ENTRIES_PER_TURN)

    def continue_apply(self) -> None:
        """After a turn: raise the commit index of a follower by one more turn's worth."""
        leader_id = self._state.leader_id()
        if (
            leader_id in self._peers
            and self._verified_term == self._state.term()
            and self._capped_commit() > self._state.commit_index()
        ):
            self._mute = True
            try:
                self._deliver(
                    leader_id,
                    type="append_entries",
                    term=self._verified_term,
                    commit_index=self._capped_commit(),
                    prevLogIdx=self._journal.last_index,
                    prevLogTerm=self._journal.last_term,
                    entries=[],
                )
            finally:
                self._mute = False

    def _on_ack(self, peer_id: str, term: int, next_index: int, reset: bool, success: bool) -> None:
        if term != self._state.term():
            self._elections.on_higher_term(term)
            return
        if not self._state.is_leader():
            return
        peer = self._peers[peer_id]
        if success:
            peer.acked_index = max(peer.acked_index, next_index - 1)
            self._snapshots.on_progress(peer_id, peer.acked_index)
            self._deliver_ack(peer_id, peer, is_sign_of_life=True)
        elif self._snapshots.is_sending_to(peer_id):
            self._deliver_raw_ack(peer_id, peer.delivered_index + 1, reset=False, success=False)
        else:
            peer.sent_index = 0
            self._deliver_raw_ack(peer_id, next_index, reset=reset, success=False)

    def _deliver_ack(self, peer_id: str, peer: _Peer, *, is_sign_of_life: bool) -> None:
        index = min(peer.acked_index, self._journal.durable_index)
        if index > peer.delivered_index or is_sign_of_life:
            peer.delivered_index = max(peer.delivered_index, index)
            self._deliver_raw_ack(peer_id, index + 1, reset=False, success=True)

    def _deliver_raw_ack(
        self, peer_id: str, next_index: int, *, reset: bool, success: bool
    ) -> None:
        self._deliver(
            peer_id,
            type="next_node_idx",
            next_node_idx=next_index,
            reset=reset,
            success=success,
        )

    def _on_probe(self, peer_id: str, term: int, number: int) -> None:
        ours = self._state.term()
        if term == ours and peer_id == self._state.leader_id():
            self._elections.heard_leader()
            self._links.send(peer_id, wire.encode(wire.READ_ECHO, term, number))
        elif term < ours:
            self._links.send(peer_id, wire.encode(wire.HIGHER_TERM, ours))

    # -- durability -------------------------------------------------------------------------

    def on_durable(self) -> None:
        """The journal's sync is done: let go what waited for it."""
        self._elections.release()
        if self._state.is_leader():
            for peer_id, peer in self._peers.items():
                self._deliver_ack(peer_id, peer, is_sign_of_life=False)
        else:
            self._acknowledge()

    def install(self, peer_id: str, term: int) -> None:
        """A snapshot is in place: have PySyncObj start its log anew behind it.

        Its own hook (`deserializer`, node.raft) provides the two entries; the commit index is 0
        so that nothing is believed of entries that were not checked (P8). It acknowledges even
        what it failed to install (P15): nothing is said before `believe_installed`.
        """
        self._mute = True
        try:
            self._deliver(
                peer_id,
                type="append_entries",
                term=term,
                commit_index=0,
                serialized=(b"", True, True),
            )
        finally:
            self._mute = False

    def believe_installed(self, index: int) -> None:
        """The log was seen to begin behind the snapshot: acknowledge it when it is durable."""
        self.verified_index = max(self.verified_index, index)
        self._ack_wanted = True
        self._acknowledge()


def _parts(entries: list[Any]) -> list[list[Any]]:
    """The entries in frames' worths; one empty part when there are none.

    PySyncObj fills a message up to one entry past its limit, which a frame need not hold.
    """
    parts: list[list[Any]] = [[]]
    size_bytes = 0
    for entry in entries:
        if parts[-1] and size_bytes + len(entry[0]) > _APPEND_BYTES:
            parts.append([])
            size_bytes = 0
        parts[-1].append(entry)
        size_bytes += len(entry[0])
    return parts
