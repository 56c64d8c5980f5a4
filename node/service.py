"""The service: one replica as its clients see it. The RESP port and class Node call the same.

    writes   batch, submit            node.batches
    reads    read(level, waiter)      node.reads
    orders   transfer, snapshot       node.transfer, node.upkeep
             add_member, remove_member   node.changes
    facts    status, info, members, member_list, alive, digest, now_ms

A facade without state of its own; nothing here awaits, and everything is called from the
loop's thread. It is a node.backend.Backend.

Proved by: tests/node/test_node.py, tests/cluster
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from node.batches import Batches
from node.changes import Changes
from node.config import Address, Config, Member
from node.errors import NotLeader
from node.links import Links
from node.membership import Membership
from node.raft import Raft
from node.reads import Level, Reads
from node.roster import REMOVED
from node.transfer import Transfer
from node.upkeep import Upkeep
from statemachine import FileStateMachine
from statemachine.commands import BatchBuilder, SnapshotMetadata
from statemachine.fs import ReadFile
from statemachine.history import History
from statemachine.keyspace import Change

if TYPE_CHECKING:
    from node.backend import Waiter

__all__ = ["Service"]


class Service:
    """What a session or a caller in this process may ask of the node."""

    def __init__(
        self,
        config: Config,
        *,
        raft: Raft,
        links: Links,
        machine: FileStateMachine,
        batches: Batches,
        reads: Reads,
        transfer: Transfer,
        upkeep: Upkeep,
        membership: Membership,
        changes: Changes,
        members: Callable[[], tuple[Member, ...]],
    ) -> None:
        self._config = config
        self._raft = raft
        self._links = links
        self._batches = batches
        self._reads = reads
        self._transfer = transfer
        self._upkeep = upkeep
        self._membership = membership
        self._changes = changes
        self.members = members
        """Everybody, this node included, also while it waits to be one."""
        self.machine = machine
        self.submit = batches.submit
        self.now_ms = raft.now_ms
        self._told: Callable[[Sequence[Change]], None] | None = None
        self._followers: dict[Callable[[], None], None] = {}
        self.reads_total = dict.fromkeys(Level, 0)
        """Runs of reads that were asked for, by level."""

    def read(self, level: Level, waiter: Waiter) -> None:
        """Grant a read, or send the client to the leader."""
        self.reads_total[level] += 1
        moved = self.redirect() if level is not Level.EVENTUAL else None
        if moved is not None:
            waiter.fail(moved)
        else:
            self._reads.read(level, waiter)

    def listen(self, told: Callable[[Sequence[Change]], None] | None) -> None:
        """Call `told` with what applying changed, from now on; None: nobody listens."""
        self._told = told
        if (told is None) != (self.machine.changes is None):
            self.listen_again()

    def listen_again(self) -> None:
        """The machine has another state (a snapshot): what lies between is told to nobody."""
        self.machine.changes = None if self._told is None else []

    def tell_changes(self) -> None:
        """After a tick, before the waiters: tell what was applied in it."""
        changes = self.machine.changes
        if changes and self._told is not None:
            self.machine.changes = []
            self._told(changes)
        for follower in list(self._followers):
            follower()

    def watch(self, told: Callable[[], None], *, on: bool) -> None:
        """Call `told` after each tick that may have applied something, or no more."""
        if on:
            self._followers[told] = None
        else:
            self._followers.pop(told, None)

    @property
    def history(self) -> History:
        """What was done lately."""
        return self.machine.history

    @property
    def applied_index(self) -> int:
        """Of the last entry that this node has applied."""
        return self.machine.last_applied.index

    def redirect(self) -> NotLeader | None:
        """With client.on_follower = "redirect": where clients are to go, if not here."""
        if self._config.client.on_follower != "redirect" or self._raft.is_leader():
            return None
        address = self._address_of(self._raft.leader_id())
        return NotLeader(f"{address.host}:{address.port}") if address is not None else None

    def _address_of(self, member_id: str | None) -> Address | None:
        """Where its clients reach a member."""
        found = (each.client for each in self.members() if each.id == member_id)
        return next(found, None)

    @property
    def batch(self) -> BatchBuilder:
        """The batch of this loop turn. Fetch it anew for each run of writes."""
        return self._batches.batch

    @property
    def node_id(self) -> str:
        """This member."""
        return self._config.node.id

    @property
    def leader_id(self) -> str | None:
        """The leader, if it is known and connected."""
        return self._raft.leader_id()

    @property
    def is_leader(self) -> bool:
        """Whether this node leads."""
        return self._raft.is_leader()

    @property
    def term(self) -> int:
        """The current term."""
        return self._raft.term()

    def add_member(self, member: Member, waiter: Waiter) -> None:
        """Seat a learner; the waiter gets [index of the entry] when that is committed."""
        self._changes.add(member, waiter)

    def remove_member(self, member_id: str, waiter: Waiter) -> None:
        """Take a member out; the waiter gets [index of the entry] when that is committed."""
        self._changes.remove(member_id, waiter)

    def member_list(self) -> dict[str, Any]:
        """The roster in force, as JSON has it."""
        membership, raft = self._membership, self._raft
        addresses = {each.id: each for each in self.members()}
        return {
            "index": max(membership.current.index, 0),
            "committed": membership.is_settled,
            "members": [
                {
                    "id": seat.member.id,
                    "role": seat.role,
                    "client": str(addresses[seat.member.id].client),
                    "peer": str(addresses[seat.member.id].peer),
                    "http": str(addresses[seat.member.id].http),
                    "connected": self.alive(seat.member.id),
                    "incarnation": membership.incarnation_of(seat.member.id),
                    "acked_index": raft.transport.leading.acked_index(seat.member.id)
                    if raft.is_leader() and seat.member.id != self.node_id
                    else None,
                }
                for seat in membership.current.seats
                if seat.role != REMOVED
            ],
        }

    def alive(self, member_id: str) -> bool:
        """Whether the link to this member is open; this node itself is."""
        return member_id == self.node_id or self._links.is_up(member_id)

    def transfer(self, node_id: str | None, waiter: Waiter) -> None:
        """Hand leadership over; the waiter gets [id of the new leader]."""
        self._transfer.begin(node_id, waiter)

    def snapshot(self, waiter: Waiter) -> None:
        """Make a snapshot; the waiter gets [b"index-term"]."""
        self._upkeep.snapshot(waiter)

    def open_snapshot(self) -> tuple[SnapshotMetadata, ReadFile] | None:
        """The newest snapshot in its own place, to be read; the caller closes it."""
        return self.machine.open_snapshot()

    def digest(self) -> tuple[int, str]:
        """Index of the last batch applied, and SHA-256 (hex) of the whole state."""
        return self.machine.last_applied.index, self.machine.digest().hex()

    def status(self) -> dict[str, Any]:
        """The fields of `trimaran status --json` for this node."""
        raft = self._raft
        return {
            "id": self.node_id,
            "role": raft.role(),
            "term": raft.term(),
            "leader": raft.leader_id(),
            "commit_index": raft.commit_index(),
            "applied_index": raft.applied_index(),
            "durable_index": raft.journal.durable_index,
            "journal_bytes": raft.journal.size_bytes,
            "keys": len(self.machine),
            "alive": True,
        }

    def info(self) -> dict[str, object]:
        """The fields of INFO's `# Raft` section."""
        raft = self._raft
        leader_id = raft.leader_id()
        address = self._address_of(leader_id)
        return {
            "raft_id": self.node_id,
            "raft_role": raft.role(),
            "raft_term": raft.term(),
            "raft_leader": leader_id or "",
            "raft_leader_addr": f"{address.host}:{address.port}" if address else "",
            "raft_commit_index": raft.commit_index(),
            "raft_applied_index": raft.applied_index(),
            "raft_durable_index": raft.journal.durable_index,
            "raft_peers_connected": sum(
                self._links.is_up(each.id) for each in self.members() if each.id != self.node_id
            ),
        }
