"""Who the members are now: the roster in force, and what of it a restart has to find again.

    log     ... [roster@41] ... [roster@57] ...        KIND_CONFIG entries, node.roster
    base    the newest roster known to be committed    members.json
    pending those behind it in our log                 found again in the journal at boot
    current the last of both: it is in force from the moment its entry is in our log

A roster is in force as soon as it is logged, committed or not, and is taken back when its
entry is truncated (Raft thesis 4.1). It is why one change at a time suffices: node.changes
appends the next one only when the last is committed, and none before an entry of its own
term is; so two rosters that are in force anywhere differ by one voter at most, and any
majorities of them share a node. A committed roster that a peer names (`adopt`: with a
snapshot, or when a link opens) is in force at once too: whoever lacks its entry can win no
election against the majority that has it.

    members.json   {"format": 1, "index": 57, "roster": [...], "seen": {"n2": [0, "5f0c..."]},
                    "sha256": "..."}      replaced as a whole, durable before it is relied on

Invariants:
  The state machine never gets past a roster that members.json does not hold (`settle` before
  `apply`), and a snapshot's roster is adopted before the snapshot is installed. So what the
  state, or the journal cut below it, stands for is never ahead of the members we know.
  A peer is who its seat says: the incarnation of the seat, or else the first one that was
  seen since it was seated. A directory that was wiped is told so, and none of its messages
  counts: it may have forgotten a vote or an acknowledgement (P20).

A crash before a replacement leaves the old file; the entry is still in the journal then.

Does not do: change members (node.changes), links, PySyncObj (node.core carries it over).

Proved by: tests/node/test_membership.py, tests/node/test_simulation_members.py
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from node.entry import Entry, config_payload
from node.errors import Corrupt, Fatal, Unsupported
from node.roster import REMOVED, Roster
from statemachine.fs import FileSystem, replace_file

__all__ = ["MEMBERS_FILE", "Membership", "Removed", "read_members_file", "write_members_file"]

MEMBERS_FILE: Final = "members.json"
_FORMAT: Final = 1


class Removed(Fatal):
    """This node is a member no more. It holds nothing that the others lack."""


class Membership:
    """The roster in force on one node.

    Args:
        founding: the roster of the configuration, for as long as no other one is known.
        incarnation: of our own data directory.
        term_at: the term of an entry of our journal, None where there is none.
        on_change: called after `current` has become another roster.
        on_settled: called when the roster in force, or one before it, is known to be committed;
            perhaps from within a tick of PySyncObj.
        on_removed: told why, once a committed roster says that we are a member no more.

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
    ) -> None:
        self.node_id = node_id
        self.incarnation = incarnation
        self._path = path
        self._disk = disk
        self._term_at = term_at
        self._on_change = on_change
        self._on_settled = on_settled
        self._on_removed = on_removed
        self._base, self._seen = founding, dict[str, tuple[int, str]]()
        if disk.exists(path):
            known, self._seen = read_members_file(path, disk.read_bytes(path))
            if known.index > 0:  # until the first change the configuration says who they are
                self._base = known
        self._pending: list[tuple[int, Roster]] = []
        """(term, roster) of the entries behind the base, oldest first."""
        self._linked: dict[str, str] = {}
        """The incarnation that each peer showed on its present link."""
        self.current: Roster = self._base
        self._voters = self.current.voters

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
        return self.node_id in self._voters

    @property
    def is_waiting(self) -> bool:
        """Whether this node is no member yet, or no more."""
        return not self.current.has(self.node_id)

    def votes(self, peer_id: str) -> bool:
        """Whether this member counts."""
        return peer_id in self._voters

    def is_majority(self, peers: Collection[str]) -> bool:
        """Whether this node and these peers are one, counting voters only."""
        voters = self._voters
        return 2 * len(voters & {*peers, self.node_id}) > len(voters)

    # -- the log ------------------------------------------------------------------------------

    def recall(self, entries: Sequence[Entry]) -> None:
        """At boot: the rosters that the journal holds behind the base."""
        self.observe(entries)

    def observe(self, entries: Sequence[Entry]) -> None:
        """Our log may have been truncated, and these entries may have been appended to it."""
        changed = False
        while self._pending and self._is_gone(*self._pending[-1]):
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
            self._on_change()

    def _is_gone(self, term: int, roster: Roster) -> bool:
        return self._term_at(roster.index) != term

    def settle(self, index: int) -> None:
        """All up to `index` is committed: what of it is a roster is durable when this returns."""
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
        was_member = self._base.has(self.node_id)
        self._base = roster
        self._pending = [each for each in self._pending if each[1].index > roster.index]
        self._save()
        self._refresh()
        if was_member and self.is_waiting:
            self._on_removed(
                f"{self.node_id} was removed from the cluster (entry {roster.index}); "
                f"it serves no more. The members are {', '.join(sorted(roster.voters))}"
            )

    def _refresh(self) -> None:
        self.current = self._pending[-1][1] if self._pending else self._base
        self._voters = self.current.voters  # asked for at each echo of a read

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
            self._save()
            return True
        return shown == known

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

    def _save(self) -> None:
        write_members_file(self._disk, self._path, self._base, self._seen)


def _digest(fields: dict[str, Any]) -> str:
    kept = {name: fields[name] for name in ("format", "index", "roster", "seen")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def write_members_file(
    disk: FileSystem, path: Path, roster: Roster, seen: Mapping[str, tuple[int, str]]
) -> None:
    """Replace it, durably: a committed roster, and who was seen, as (since, incarnation) by id."""
    fields: dict[str, Any] = {
        "format": _FORMAT,
        "index": roster.index,
        "roster": json.loads(roster.encode()),
        "seen": {name: list(each) for name, each in sorted(seen.items())},
    }
    fields["sha256"] = _digest(fields)
    replace_file(disk, path, [json.dumps(fields, indent=1).encode() + b"\n"])


def read_members_file(path: Path, data: bytes) -> tuple[Roster, dict[str, tuple[int, str]]]:
    """The committed roster, and who was seen, as (since, incarnation) by id.

    Raises:
        Corrupt, Unsupported: it is not what was written.
    """
    try:
        fields = json.loads(data)
        if int(fields["format"]) > _FORMAT:
            raise Unsupported(path, int(fields["format"]), _FORMAT)
        if fields["sha256"] != _digest(fields):
            raise ValueError("checksum does not match")
        payload = json.dumps(fields["roster"], separators=(",", ":")).encode()
        roster = Roster.decode(payload, int(fields["index"]))
        seen = {str(name): (int(row[0]), str(row[1])) for name, row in fields["seen"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(path, 0, f"not a members file: {error}") from error
    return roster, seen
