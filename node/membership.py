"""Who the members are now: the roster in force, and what of it a restart has to find again.

    log     ... [roster@41] ... [roster@57] ...        KIND_CONFIG entries, node.roster
    base    the newest roster known to be committed    members.json
    pending those behind it in our log                 there too; in force again at boot when they
                                                       are in the journal
    current the last of both: it is in force from the moment its entry is in our log

A roster is in force as soon as it is logged, committed or not, and is taken back when its
entry is truncated (Raft thesis 4.1). It is why one change at a time suffices: node.changes
appends the next one only when the last is committed, and none before an entry of its own
term is; so two rosters that are in force anywhere differ by one voter at most, and any
majorities of them share a node. A committed roster that a peer names (`adopt`: with a
snapshot, or when a link opens) is in force at once too: whoever lacks its entry can win no
election against the majority that has it.

    logged 61 ---> saved as pending ---> committed ---> saved as the base
               |   hold_index is 60      |
               +-- until then: nothing   +-- the state may pass 61 at once: a boot whose state is
                   is acknowledged, or       past 61 finds it among the pending ones, and takes
                   applied, from 61 on       it for committed, which it then is

Invariants:
  The state machine never gets past a roster that members.json does not hold (`settle` before
  `apply`: it waits in the loop should the gates ever have let something through), and a
  snapshot's roster is adopted and saved before the snapshot is installed. So what the state, or the
  journal cut below it, stands for is never ahead of the members we know.
  What is taken back is saved as well before the state gets to its index: so a pending roster of
  the file that the state has passed is the one that was committed there.
  A peer is who its seat says: the incarnation of the seat, or else the first one that was
  seen since it was seated. A directory that was wiped is told so, and none of its messages
  counts: it may have forgotten a vote or an acknowledgement (P20).

A crash before a replacement leaves the old file; the entry was never acknowledged then.

Does not do: change members (node.changes), links, PySyncObj (node.core carries it over).

Proved by: tests/node/test_membership.py, tests/node/test_simulation_members.py
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from node.entry import Entry, config_payload
from node.errors import Fatal
from node.members_file import MembersFile, MembersWriter, Pending
from node.roster import REMOVED, Roster
from statemachine.fs import FileSystem

__all__ = ["Membership", "Removed"]


class Removed(Fatal):
    """This node is a member no more. It holds nothing that the others lack."""


class Membership:
    """The roster in force on one node.

    Args:
        founding: the roster of the configuration, for as long as no other one is known.
        incarnation: of our own data directory.
        term_at: the term of an entry of our journal, None where there is none.
        is_joined: our directory was made for a place in a running cluster (node.identity).
        on_change: called after `current` has become another roster.
        on_settled: called when the roster in force, or one before it, is known to be committed;
            perhaps from within a tick of PySyncObj.
        on_removed: told why, once a committed roster says that we are a member no more.
        settled_index: what the state holds at boot: all of it was committed.
        do, on_saved: those of node.members_file.

    Raises:
        Corrupt, Unsupported: members.json.
    """

    def __init__(
        self,
        node_id: str,
        incarnation: str,
        founding: Roster,
        *,
        path: Path,
        disk: FileSystem,
        term_at: Callable[[int], int | None],
        on_change: Callable[[], None],
        on_settled: Callable[[], None],
        on_removed: Callable[[str], None],
        is_joined: bool = False,
        settled_index: int = 0,
        do: Callable[[Callable[[], None], Callable[[None], None]], None] | None = None,
        on_saved: Callable[[], None] = lambda: None,
    ) -> None:
        self.node_id = node_id
        self.incarnation = incarnation
        self._is_joined = is_joined
        self._term_at = term_at
        self._on_change = on_change
        self._on_settled = on_settled
        self._on_removed = on_removed
        self._writer = MembersWriter(path, disk, do=do, on_saved=on_saved)
        self._base, self._seen = founding, dict[str, tuple[int, str]]()
        self._saved_pending: tuple[Pending, ...] = ()
        known = self._writer.read()
        if known is not None:
            self._seen, self._saved_pending = known.seen, known.pending
            passed = [each for _, each in known.pending if each.index <= settled_index]
            newest = passed[-1] if passed else known.roster
            if newest.index > 0:  # until the first change the configuration says who they are
                self._base = newest
        self._pending: list[Pending] = []
        """Of the entries behind the base, oldest first."""
        self._floor = 0
        """A snapshot that reaches up to here is being installed: see `may_install`."""
        self._linked: dict[str, str] = {}
        """The incarnation that each peer showed on its present link."""
        self.current: Roster
        self._refresh()

    # -- in force -----------------------------------------------------------------------------

    @property
    def committed(self) -> Roster:
        """The newest roster that is known to be committed."""
        return self._base

    @property
    def is_settled(self) -> bool:
        """Whether the roster in force is committed."""
        return not self._pending

    @property
    def am_voter(self) -> bool:
        """Whether this node counts, as far as it knows."""
        return self._is_seated and self.node_id in self._voters

    @property
    def is_waiting(self) -> bool:
        """Whether this node is no member yet, or no more."""
        return not self._is_seated

    def _has_us(self, roster: Roster) -> bool:
        is_elder = self._is_joined and roster.is_elder(self.node_id, self.incarnation)
        return roster.has(self.node_id) and not is_elder

    def votes(self, peer_id: str) -> bool:
        """Whether this member counts."""
        return peer_id in self._voters

    def is_majority(self, peers: Collection[str]) -> bool:
        """Whether this node and these peers are one, counting voters only."""
        voters = self._voters
        return 2 * len(voters & {*peers, self.node_id}) > len(voters)

    # -- the log ------------------------------------------------------------------------------

    def recall(self, entries: Sequence[Entry]) -> None:
        """At boot: the rosters that the journal holds behind the base. The file says the same."""
        if self._take_up(entries):
            self._on_change()
        if self._saved_pending != tuple(self._pending):
            self._writer.save_now(self._file())

    def observe(self, entries: Sequence[Entry]) -> None:
        """Our log may have been truncated, and these entries may have been appended to it."""
        before = set(self._pending)
        if self._take_up(entries):
            changed = before ^ set(self._pending)
            touched = {each.index for _, each in changed if each.index > self._floor}
            if touched:
                self._writer.save(self._file(), min(touched))
            self._on_change()

    def _take_up(self, entries: Sequence[Entry]) -> bool:
        changed = False
        while self._pending and self._term_at(self._pending[-1][1].index) != self._pending[-1][0]:
            self._pending.pop()
            self._refresh()  # what takes its place may stand at the same index
            changed = True
        for command, index, term in entries:
            payload = config_payload(command)
            if payload is not None and index > self.current.index and self._term_at(index) == term:
                try:
                    roster = Roster.decode(payload, index)
                except ValueError as error:
                    raise Fatal(f"entry {index} holds no roster: {error}") from error
                self._pending.append((term, roster))
                self.current = roster
                changed = True
        if changed:
            self._refresh()
        return changed

    def settle(self, index: int) -> None:
        """All up to `index` is committed: what of it is a roster is durable when this returns."""
        if not self._writer.is_saved:
            self._writer.wait(index)
        if not self._pending or self._pending[0][1].index > index:
            return
        self._believe([each[1] for each in self._pending if each[1].index <= index][-1])
        self._on_settled()

    def adopt(self, roster: Roster) -> None:
        """A peer, or a snapshot, names a committed roster."""
        if roster.index > self._base.index:
            self._believe(roster)
            self._on_change()

    def _believe(self, roster: Roster) -> None:
        """A newer roster is committed."""
        was_member = self._has_us(self._base)
        self._base = roster
        was_pending = roster in [each for _, each in self._pending if each.index > self._floor]
        self._pending = [each for each in self._pending if each[1].index > roster.index]
        # A pending one is in the file already: the state need not wait until it is there as base.
        self._writer.save(self._file(), None if was_pending else roster.index)
        self._refresh()
        if was_member and self.is_waiting:
            who, others = self.node_id, ", ".join(sorted(roster.voters))
            where = f"was removed from the cluster (entry {roster.index})"
            self._on_removed(f"{who} {where}; it serves no more. The members are {others}")

    def _refresh(self) -> None:
        self.current = self._pending[-1][1] if self._pending else self._base
        self._voters = self.current.voters  # asked for at each echo of a read
        self._is_seated = self._has_us(self.current)

    # -- who is who ---------------------------------------------------------------------------

    def introduced(self, peer_id: str, incarnation: str) -> None:
        """A peer says, on a new link, which data directory it runs on."""
        self._linked[peer_id] = incarnation

    def is_introduced(self, peer_id: str) -> bool:
        """Whether it has said who it is."""
        return peer_id in self._linked

    def link_lost(self, peer_id: str) -> None:
        """What it said counted for that link."""
        self._linked.pop(peer_id, None)

    def knows(self, peer_id: str) -> bool:
        """Whether the peer on the present link is the member of that name.

        Takes the first incarnation that is seen since it was seated for its own, durably.
        """
        shown, seat = self._linked.get(peer_id), self.current.seat(peer_id)
        if shown is None or seat is None:
            return False
        if seat.incarnation or seat.role == REMOVED:
            return shown == seat.incarnation or not seat.incarnation
        since, known = self._seen.get(peer_id, (-1, ""))
        if since != seat.since:
            self._seen[peer_id] = (seat.since, shown)
            self._writer.save(self._file(), None, peer_id)
            return not self.is_binding(peer_id)
        return shown == known and not self.is_binding(peer_id)

    def is_binding(self, peer_id: str) -> bool:
        """Whether it was seen for the first time, and that is not durable yet."""
        return self._writer.is_binding(peer_id)

    def incarnation_of(self, peer_id: str) -> str:
        """Whom the cluster takes for that member; "" when nobody knows yet."""
        seat = self.current.seat(peer_id)
        if peer_id == self.node_id:
            return self.incarnation
        if seat is None:
            return ""
        since, known = self._seen.get(peer_id, (-1, ""))
        return seat.incarnation or (known if since == seat.since else "")

    def incarnations(self) -> dict[str, str]:
        """Of all members, as far as they are known."""
        return {each.id: self.incarnation_of(each.id) for each in self.current.members}

    # -- disk ---------------------------------------------------------------------------------

    @property
    def hold_index(self) -> int | None:
        """Nothing behind this index may be acknowledged or applied yet; None: all may."""
        return self._writer.hold_index

    def may_install(self, index: int) -> bool:
        """Whether a snapshot up to `index` may be installed; ask again until it may.

        Its leader has named the newest roster that is committed up to there. So what is pending
        here up to there was never committed, though the state will have passed it: the file has
        to forget it first.
        """
        if self._floor < index:
            self._floor = index
            if self._pending and self._pending[0][1].index <= index:
                self._writer.save(self._file(), None)
        return self._writer.is_saved

    def _file(self) -> MembersFile:
        pending = tuple(each for each in self._pending if each[1].index > self._floor)
        return MembersFile(self._base, self._seen, pending)
