"""The roster: who the members of a cluster are, as one replicated value. Pure, no files.

    Roster(index, seats)      the payload of the Raft entry at `index` (KIND_CONFIG), as JSON
    Seat                      one member: id, addresses, role, incarnation, since

    role      voter     counts in every majority
              learner   receives the log, counts nowhere, becomes a voter when it has caught up
              removed   out; kept for its address, so that it can be told when it comes back

    founded (index 0) -> add: learner -> promote: voter -> remove: removed -> add again ...

Each change moves at most one seat into or out of the voters, so any majority of one roster
shares a node with any majority of the next (Raft thesis 4.1). `since` is the index of the
entry that seated the member (0: a founder); with it a member that was removed and taken back
is told from its earlier self. `incarnation` is the data directory's (node.identity), once known.

Invariants: seats are sorted by id, ids and addresses of members stand once, there is at least
one voter; the same roster is the same bytes; bytes that are no roster are refused whole.

Does not do: decide when (node.changes), remember (node.membership).

Proved by: tests/node/test_roster.py
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from node.config_members import Address, Member, member_problems
from node.errors import Rejected

__all__ = ["LEARNER", "REMOVED", "ROSTER_BYTES_MAX", "VOTER", "Roster", "Seat", "is_roster"]

VOTER: Final = "voter"
LEARNER: Final = "learner"
REMOVED: Final = "removed"
ROSTER_BYTES_MAX: Final = 16 * 1024
REMOVED_MAX: Final = 4
"""Members that were removed are kept in mind up to this many, the latest ones."""

_ROLES: Final = frozenset((VOTER, LEARNER, REMOVED))
_KEYS: Final = ("id", "peer", "client", "http", "role", "incarnation", "since")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """One member's place in a roster."""

    member: Member
    role: str
    since: int = 0
    """Index of the entry that seated it, or that removed it; 0 for a founder."""
    incarnation: str = ""
    """Its data directory's, as far as the leader knew; "" before that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """All seats as of the entry at `index`; 0: founders, -1: only whom a newcomer may ask."""

    index: int
    seats: tuple[Seat, ...]

    @classmethod
    def founded_by(cls, members: Iterable[Member], *, index: int = 0) -> Roster:
        """Everybody votes: the roster of a configuration file."""
        return cls(index=index, seats=_sorted(Seat(member=each, role=VOTER) for each in members))

    @property
    def voters(self) -> frozenset[str]:
        """Who counts."""
        return self._ids(VOTER)

    @property
    def learners(self) -> frozenset[str]:
        """Who only follows."""
        return self._ids(LEARNER)

    def _ids(self, role: str) -> frozenset[str]:
        return frozenset(seat.member.id for seat in self.seats if seat.role == role)

    @property
    def members(self) -> tuple[Member, ...]:
        """Voters and learners, by id."""
        return tuple(seat.member for seat in self.seats if seat.role != REMOVED)

    def seat(self, member_id: str) -> Seat | None:
        """The seat of a member, also of a removed one."""
        return next((seat for seat in self.seats if seat.member.id == member_id), None)

    def has(self, member_id: str) -> bool:
        """Whether it is a voter or a learner."""
        seat = self.seat(member_id)
        return seat is not None and seat.role != REMOVED

    def is_elder(self, member_id: str, incarnation: str) -> bool:
        """Whether this seat is older than a directory that was made to be seated anew.

        An old roster, told by whoever knows no newer one, may still seat the directory that was
        lost. Who takes that seat for its own believes next that it was removed.
        """
        seat = self.seat(member_id)
        return seat is not None and (seat.since == 0 or seat.incarnation not in ("", incarnation))

    # -- changes: each gives the roster of the entry at `index` -----------------------------

    def adding(self, member: Member, index: int) -> Roster:
        """With a new learner. Raises: Rejected."""
        if self.has(member.id):
            raise Rejected(f"{member.id} is a member already")
        found = member_problems([*self.members, member])
        if found:
            raise Rejected("; ".join(f"{key} {problem}" for key, problem in found))
        return self._with(Seat(member=member, role=LEARNER, since=index), index)

    def promoting(self, member_id: str, index: int) -> Roster:
        """With a learner made a voter. Raises: Rejected."""
        seat = self.seat(member_id)
        if seat is None or seat.role != LEARNER:
            raise Rejected(f"{member_id} is no learner")
        return self._with(dataclasses.replace(seat, role=VOTER), index)

    def removing(self, member_id: str, index: int) -> Roster:
        """Without a member. Raises: Rejected."""
        seat = self.seat(member_id)
        if seat is None or seat.role == REMOVED:
            raise Rejected(f"no member {member_id!r}")
        if self.voters == {member_id}:
            raise Rejected(f"{member_id} is the only voter: nobody would be left")
        return self._with(dataclasses.replace(seat, role=REMOVED, since=index), index)

    def knowing(self, incarnations: dict[str, str]) -> Roster:
        """With the incarnations of those members of whom none is noted yet."""
        seats = (
            dataclasses.replace(seat, incarnation=incarnations.get(seat.member.id, ""))
            if seat.role != REMOVED and not seat.incarnation
            else seat
            for seat in self.seats
        )
        return Roster(index=self.index, seats=tuple(seats))

    def _with(self, changed: Seat, index: int) -> Roster:
        seats = [seat for seat in self.seats if seat.member.id != changed.member.id] + [changed]
        gone = sorted((s for s in seats if s.role == REMOVED), key=lambda s: s.since)
        for forgotten in gone[:-REMOVED_MAX]:
            seats.remove(forgotten)
        return Roster(index=index, seats=_sorted(seats))

    # -- bytes ------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """The payload of its entry."""
        rows = [
            {
                "id": seat.member.id,
                "peer": str(seat.member.peer),
                "client": str(seat.member.client),
                "http": str(seat.member.http),
                "role": seat.role,
                "incarnation": seat.incarnation,
                "since": seat.since,
            }
            for seat in self.seats
        ]
        return json.dumps(rows, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, payload: bytes, index: int) -> Roster:
        """Read a payload. Raises ValueError that says what is wrong with it."""
        if len(payload) > ROSTER_BYTES_MAX:
            raise ValueError(f"a roster of {len(payload)} bytes")
        rows = json.loads(payload)
        if not isinstance(rows, list):
            raise ValueError("not a list of seats")
        seats = tuple(_seat(row) for row in rows)
        roster = cls(index=index, seats=seats)
        ids = [seat.member.id for seat in seats]
        if ids != sorted(set(ids)):
            raise ValueError("seats are not in order")
        problems = member_problems(roster.members)
        if problems:
            raise ValueError(f"{problems[0][0]} {problems[0][1]}")
        if not roster.voters:
            raise ValueError("nobody votes")
        return roster


def is_roster(payload: bytes) -> bool:
    """Whether these bytes are a roster's."""
    try:
        Roster.decode(payload, 0)
    except (ValueError, RecursionError):
        return False
    return True


def _sorted(seats: Iterable[Seat]) -> tuple[Seat, ...]:
    return tuple(sorted(seats, key=lambda seat: seat.member.id))


def _seat(row: object) -> Seat:
    if not isinstance(row, dict) or tuple(row) != _KEYS:
        raise ValueError(f"a seat has the keys {', '.join(_KEYS)}")
    if row["role"] not in _ROLES:
        raise ValueError(f"{row['role']!r} is no role")
    texts = (row["id"], row["incarnation"])
    if not all(type(text) is str for text in texts) or type(row["since"]) is not int:
        raise ValueError("a field of a seat has a wrong type")
    if not 0 <= row["since"] < 1 << 64 or len(row["incarnation"]) > 63:
        raise ValueError("a field of a seat is out of range")
    peer, client, http = (Address.parse(row[key]) for key in ("peer", "client", "http"))
    member = Member(id=row["id"], peer=peer, client=client, http=http)
    return Seat(member=member, role=row["role"], since=row["since"], incarnation=row["incarnation"])
