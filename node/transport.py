"""The fence between PySyncObj and its peers: every message passes here, both ways.

    PySyncObj --send()--> leading | following | elections --> wire ==> peer
    PySyncObj <--_onMessageReceived-- following | leading | elections <-- wire <== peer

    append, ack       node.leading (this node leads), node.following (another does)
    votes, pre-votes  node.elections
    reads             node.reads
    snapshots         node.snapshots (PySyncObj's own transfer is not used: P8)
    forward           a peer's batch for the leader
    outcome           what came of a batch that its origin has skipped: node.outcomes
    anything else     refused (P3, P5)

No bytes of a peer stop this node. What cannot be true is a WireError, which costs the peer its
link and nothing else: a term far above ours, an acknowledgement of what was never sent, a batch
in another node's name, entries that contradict what is applied here (node.following). What is
only false (a peer with the right credentials that lies) Raft does not defend against.

PySyncObj is told of connections only while this node leads or stands (P17): see node.elections.

On a crash nothing here is needed again: what was acknowledged is in the journal.

Does not do: sockets (node.links), bytes (node.wire), decide (PySyncObj).

Proved by: tests/node/test_transport.py, tests/node/test_pitfalls_append.py,
tests/node/test_simulation.py
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from pysyncobj.node import Node
from pysyncobj.transport import Transport

from node import wire
from node.entry import Entry
from node.errors import Fatal, Rejected
from node.following import Following
from node.journal import FileJournal
from node.leading import Leading
from node.links import Links
from node.logs import EventLog

if TYPE_CHECKING:
    from node.elections import Elections
    from node.outcomes import Outcomes
    from node.reads import Reads
    from node.snapshots import Snapshots

__all__ = ["Deliver", "FencedTransport", "RaftState"]


TERM_STEP_MAX: Final = 1 << 24
"""Elections lead no further above our term. Without it one message could use up all terms."""
_WITH_TERM: Final = frozenset(
    (
        *(wire.APPEND, wire.ACK, wire.VOTE_REQUEST, wire.VOTE, wire.PRE_VOTE, wire.PRE_GRANT),
        *(wire.HIGHER_TERM, wire.TIMEOUT_NOW, wire.READ_PROBE, wire.READ_ECHO),
        wire.SNAPSHOT_BEGIN,
    )
)
"""Messages whose first field is the term of their sender, or one that it seeks."""


class Peer(str, Node):  # type: ignore[misc]
    """A member as PySyncObj names it: by its id, which it looks up dozens of times for each entry.

    Node does so in Python; hash and equality of a str are the same, and C's.
    """

    __hash__ = str.__hash__
    __eq__ = str.__eq__
    __ne__ = str.__ne__
    id = property(str.__str__)


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
    def stir(self) -> None: ...


class LogWatch(Protocol):
    """Who wants to know of membership entries (node.membership)."""

    def observe(self, entries: Sequence[Entry]) -> None:
        """Our log may have been truncated, and these entries may have been appended to it."""
        ...


class _Unwatched:
    """The members never change."""

    def observe(self, entries: Sequence[Entry]) -> None:
        """Nothing."""


class Deliver(Protocol):
    """Hands PySyncObj a message as if a peer had sent it, and has it work soon if it has any."""

    def __call__(self, peer_id: str, **message: object) -> None: ...


class FencedTransport(Transport):  # type: ignore[misc]
    """PySyncObj's transport. `bind` gives it its neighbours before the first message.

    Args:
        peer_ids: the other members.
        heartbeat_s: PySyncObj's append period.
        send_buffer_bytes_max: a peer gets no entries while this much waits for it.
        monotonic: seconds.
        call_later: runs a function in the loop after that many seconds.
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
        log: EventLog,
    ) -> None:
        super().__init__(None, None, [])
        self._nodes = {peer_id: Peer(peer_id) for peer_id in peer_ids}
        """Everybody with whom we are linked: removed members too."""
        self._member_ids = set(peer_ids)
        self._watch: LogWatch = _Unwatched()
        self._links = links
        self._journal = journal
        self._log = log
        self.leading = Leading(
            peer_ids,
            links,
            journal,
            heartbeat_s=heartbeat_s,
            send_buffer_bytes_max=send_buffer_bytes_max,
            monotonic=monotonic,
            call_later=call_later,
            deliver=self._deliver,
        )
        self.following = Following(
            links,
            journal,
            heartbeat_s=heartbeat_s,
            monotonic=monotonic,
            deliver=self._deliver,
        )

    def bind(
        self,
        state: RaftState,
        elections: Elections,
        reads: Reads,
        snapshots: Snapshots,
        outcomes: Outcomes,
    ) -> None:
        """Introduce the neighbours."""
        self._state = state
        self._elections = elections
        self._reads = reads
        self._snapshots = snapshots
        self._outcomes = outcomes
        self.leading.bind(state, snapshots)
        self.following.bind(state, elections)

    # -- connections: PySyncObj sees them only while it leads or stands (P17) -------------

    def peers_up(self) -> list[str]:
        """Peers, voters and learners, with an open link."""
        links = self._links
        return [each for each in self._nodes if each in self._member_ids and links.is_up(each)]

    def is_linked(self, peer_id: str) -> bool:
        """Whether the link is open, also of one that our roster has removed."""
        return peer_id in self._nodes and self._links.is_up(peer_id)

    def watch(self, watch: LogWatch) -> None:
        """Tell somebody of each change of our log that is a peer's doing."""
        self._watch = watch

    def reconfigure(self, linked_ids: Collection[str], member_ids: Collection[str]) -> None:
        """Whom we are linked with from now on, and which of them are voters or learners."""
        self._nodes = {name: self._nodes.get(name) or Peer(name) for name in sorted(linked_ids)}
        self._member_ids = set(member_ids)
        self.leading.reconfigure(member_ids)

    def show_connected(self) -> None:
        """Tell PySyncObj of every open link."""
        for peer_id in self.peers_up():
            self._onNodeConnected(self._nodes[peer_id])

    def hide_connected(self) -> None:
        """Tell PySyncObj that nobody is connected: it will not stand."""
        for node in self._nodes.values():
            self._onNodeDisconnected(node)

    def link_up(self, peer_id: str) -> None:
        """A link opened: nothing has been sent on it yet."""
        self.leading.forget_sent(peer_id)
        if self._state.is_leader() and peer_id in self._member_ids:
            self._onNodeConnected(self._nodes[peer_id])

    def link_down(self, peer_id: str) -> None:
        """A link closed, with all that it still carried."""
        self.leading.forget_sent(peer_id)
        self._onNodeDisconnected(Peer(peer_id))

    def became_leader(self) -> None:
        """A new term of our own."""
        self.leading.begin_term()
        self.following.end()
        self.show_connected()

    def send_frame(self, peer_id: str, frame: bytes) -> bool:
        """Send a frame that PySyncObj knows nothing of."""
        return self._links.send(peer_id, frame)

    # -- out ------------------------------------------------------------------------------

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        """What PySyncObj has to say to a peer."""
        peer_id: str = node.id
        kind = message["type"]
        if kind == "append_entries":
            return self.leading.send_append(peer_id, message)
        if kind == "next_node_idx":
            return self.following.send_ack(peer_id, message)
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

    # -- in -------------------------------------------------------------------------------

    def receive(self, peer_id: str, message: wire.Message) -> None:
        """A checked message of a peer. Fatal leaves through here to the node's one door.

        Raises:
            WireError: it cannot be true. Nothing of it was used.
        """
        kind = message[0]
        if kind in _WITH_TERM and message[1] > self._state.term() + TERM_STEP_MAX:
            raise wire.WireError(f"claims a term more than {TERM_STEP_MAX} above ours")
        if kind == wire.APPEND:
            self.following.on_append(peer_id, *message[1:])
        elif kind == wire.ACK:
            self._on_ack(peer_id, *message[1:])
        elif kind == wire.FORWARD:
            self._on_forward(peer_id, message[1])
        elif kind == wire.READ_PROBE:
            self.following.on_probe(peer_id, *message[1:])
        elif kind == wire.READ_ECHO:
            self._reads.on_echo(peer_id, *message[1:])
        elif kind == wire.READ_ASK:
            self._reads.on_ask(peer_id, message[1])
        elif kind == wire.READ_GRANT:
            self._reads.on_grant(peer_id, *message[1:])
        elif kind in (wire.SNAPSHOT_BEGIN, wire.SNAPSHOT_CHUNK, wire.SNAPSHOT_ACK):
            self._snapshots.receive(peer_id, message)
        elif kind == wire.OUTCOME_ASK:
            self._outcomes.on_ask(peer_id, *message[1:])
        elif kind == wire.OUTCOME:
            self._outcomes.on_answer(peer_id, *message[1:])
        else:
            self._on_election(peer_id, message)

    def _on_ack(self, peer_id: str, term: int, next_index: int, reset: bool, success: bool) -> None:
        """An acknowledgement counts in its own term only (P9)."""
        if term != self._state.term():
            self._elections.on_higher_term(term)
        elif self._state.is_leader():
            self.leading.on_ack(peer_id, next_index, reset, success)

    def _on_forward(self, peer_id: str, batch: bytes) -> None:
        """A peer's batch for the leader. It sends again by itself if this is not the leader.

        In its own name: one in ours, of a later epoch, would have us take ourselves for wiped.
        """
        head = wire.head_of(batch)
        if head is None or head.origin.rpartition(b":")[0] != peer_id.encode():
            raise wire.WireError("a batch in another node's name")
        try:
            if self._state.propose(batch):
                self.leading.await_commit(peer_id, self._journal.last_index)
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
            self._on_vote(peer_id, message[1])
        elif kind == wire.HIGHER_TERM:
            elections.on_higher_term(message[1])
        elif (
            kind == wire.TIMEOUT_NOW
            and message[1] == self._state.term()
            and peer_id == self._state.leader_id()
            and elections.may_stand()
        ):
            self._deliver(peer_id, type="timeout_now", term=message[1])
            self._state.kick()
            elections.begin_transfer()

    def _on_vote(self, peer_id: str, term: int) -> None:
        if self._elections.counts(peer_id, term):
            self._deliver(peer_id, type="response_vote", term=term)

    def deliver_hopeless_vote_request(self, term: int) -> None:
        """Make PySyncObj a follower in a higher term without a vote: no log is worse."""
        self._onMessageReceived(
            Peer(""),
            {"type": "request_vote", "term": term, "last_log_index": 0, "last_log_term": -1},
        )
        self._state.kick()

    def _deliver(self, peer_id: str, **message: Any) -> None:
        self._onMessageReceived(self._nodes[peer_id], message)
        if message["type"] == "append_entries":
            self._watch.observe(message.get("entries", ()))
        self._state.stir()

    # -- durability -------------------------------------------------------------------------

    def on_durable(self) -> None:
        """The journal's sync is done: let go what waited for it."""
        self._elections.release()
        for peer_id, term in self._elections.early_votes():
            self._on_vote(peer_id, term)
        self.on_gate()

    def on_gate(self) -> None:
        """The gate of acknowledgements has moved."""
        if self._state.is_leader():
            self.leading.on_durable()
        else:
            self.following.acknowledge()
