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

    members.json   {"format": 2, "index": 57, "roster": [...], "seen": {"n2": [0, "5f0c..."]},
                    "pending": [[2, 61, [...]]], "sha256": "..."}
                   replaced as a whole, in a thread; durable before it is relied on

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

A crash before a replacement leaves the old file; the entry is in the journal then, or was never
acknowledged.

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
_FORMAT: Final = 2
_SAVE_WITHIN_S: Final = 60.0
Pending = tuple[int, Roster]
"""(term of the entry, roster)."""


class Removed(Fatal):
    """This node is a member no more. It holds nothing that the others lack."""


@dataclass(frozen=True, slots=True)
class MembersFile:
    """What members.json holds."""

    roster: Roster
    """Committed."""
    seen: dict[str, tuple[int, str]]
    """(since, incarnation) by id."""
    pending: tuple[Pending, ...] = ()
    """Logged behind it, perhaps taken back since."""


class _Save:
    """One replacement of the file."""

    __slots__ = ("done", "failed", "index", "peer_id")

    def __init__(self, index: int | None, peer_id: str | None) -> None:
        self.index = index
        """The lowest index whose roster it changes; None: none."""
        self.peer_id = peer_id
        """Whose incarnation it binds."""
        self.done = threading.Event()
        self.failed = False


def _at_once(work: Callable[[], None], done: Callable[[None], None]) -> None:
    work()
    done(None)


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
        settled_index: what the state holds at boot: all of it was committed.
        do: has file work done elsewhere, in order, and tells when it is (node.worker).
        on_saved: told when something that waited for the file may go on.

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
        settled_index: int = 0,
        do: Callable[[Callable[[], None], Callable[[None], None]], None] = _at_once,
        on_saved: Callable[[], None] = lambda: None,
    ) -> None:
        self.node_id = node_id
        self.incarnation = incarnation
        self._path = path
        self._disk = disk
        self._term_at = term_at
        self._on_change = on_change
        self._on_settled = on_settled
        self._on_removed = on_removed
        self._do = do
        self._on_saved = on_saved
        self._saves: list[_Save] = []
        """Not durable yet, oldest first."""
        self._base, self._seen = founding, dict[str, tuple[int, str]]()
        self._saved_pending: tuple[Pending, ...] = ()
        if disk.exists(path):
            known = read_members_file(path, disk.read_bytes(path))
            self._seen, self._saved_pending = known.seen, known.pending
            passed = [each for _, each in known.pending if each.index <= settled_index]
            newest = passed[-1] if passed else known.roster
            if newest.index > 0:  # until the first change the configuration says who they are
                self._base = newest
        self._pending: list[Pending] = []
        """Of the entries behind the base, oldest first."""
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
        """At boot: the rosters that the journal holds behind the base. The file says the same when
        this returns."""
        self.observe(entries)
        if self._saved_pending != tuple(self._pending) and not self._saves:
            self._save(self._base.index + 1)
        self._wait(None)

    def observe(self, entries: Sequence[Entry]) -> None:
        """Our log may have been truncated, and these entries may have been appended to it."""
        changed, before = False, tuple(self._pending)
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
            touched = {each.index for _, each in set(before) ^ set(self._pending)}
            if touched:
                self._save(min(touched))
            self._refresh()
            self._on_change()

    def _is_gone(self, term: int, roster: Roster) -> bool:
        return self._term_at(roster.index) != term

    def settle(self, index: int) -> None:
        """All up to `index` is committed: what of it is a roster is durable when this returns."""
        if self._saves:
            self._wait(index)
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
        was_pending = roster.index in {each.index for _, each in self._pending}
        self._pending = [each for each in self._pending if each[1].index > roster.index]
        # A pending one is in the file already: the state need not wait until it is there as base.
        self._save(None if was_pending else roster.index)
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
            self._save(None, peer_id)
            return not self.is_binding(peer_id)
        return shown == known and not self.is_binding(peer_id)

    def is_binding(self, peer_id: str) -> bool:
        """Whether it was seen for the first time, and that is not durable yet."""
        return any(save.peer_id == peer_id for save in self._saves)

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
        waiting = [save.index for save in self._saves if save.index is not None]
        return min(waiting) - 1 if waiting else None

    @property
    def is_saved(self) -> bool:
        """Whether the file says all that is known."""
        return not self._saves

    def _save(self, index: int | None, peer_id: str | None = None) -> None:
        save, content = _Save(index, peer_id), self._content()
        self._saved_pending = tuple(self._pending)
        self._saves.append(save)

        def work() -> None:
            try:
                replace_file(self._disk, self._path, [content])
            except BaseException:
                save.failed = True
                raise
            finally:
                save.done.set()

        self._do(work, lambda _: self._saved(save))

    def _saved(self, save: _Save) -> None:
        if save in self._saves:  # nobody has waited for it
            self._saves.remove(save)
            self._on_saved()

    def _wait(self, index: int | None) -> None:
        """Until no change up to this index waits for the file; None: no change at all."""
        while due := [s for s in self._saves if index is None or (s.index or index + 1) <= index]:
            # NB: in the loop. The gates see to it that it does not come to that.
            if not due[-1].done.wait(_SAVE_WITHIN_S) or due[-1].failed:
                raise Fatal(f"{self._path} could not be replaced")
            place = self._saves.index(due[-1])
            del self._saves[: place + 1]

    def _content(self) -> bytes:
        fields: dict[str, Any] = {
            "format": _FORMAT,
            "index": self._base.index,
            "roster": json.loads(self._base.encode()),
            "seen": {name: list(seen) for name, seen in sorted(self._seen.items())},
            "pending": [
                [term, each.index, json.loads(each.encode())] for term, each in self._pending
            ],
        }
        fields["sha256"] = _digest(fields)
        return json.dumps(fields, indent=1).encode() + b"\n"


def _digest(fields: dict[str, Any]) -> str:
    kept = {name: each for name, each in fields.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def read_members_file(path: Path, data: bytes) -> MembersFile:
    """What the file says. Format 1 had no pending rosters.

    Raises:
        Corrupt, Unsupported: it is not what was written.
    """
    try:
        fields = json.loads(data)
        if int(fields["format"]) > _FORMAT:
            raise Unsupported(path, int(fields["format"]), _FORMAT)
        if fields["sha256"] != _digest(fields):
            raise ValueError("checksum does not match")
        roster = _roster(fields["roster"], fields["index"])
        seen = {str(name): (int(row[0]), str(row[1])) for name, row in fields["seen"].items()}
        pending = tuple(
            (int(term), _roster(rows, index)) for term, index, rows in fields.get("pending", ())
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(path, 0, f"not a members file: {error}") from error
    return MembersFile(roster, seen, pending)


def _roster(rows: object, index: object) -> Roster:
    return Roster.decode(json.dumps(rows, separators=(",", ":")).encode(), int(str(index)))
