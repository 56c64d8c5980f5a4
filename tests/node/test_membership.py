"""The roster in force: what the log does to it, what a restart finds, who a peer is taken for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node.entry import KIND_CONFIG, Entry, wrap
from node.errors import Corrupt, Fatal
from node.members_file import read_members_file
from node.membership import Membership
from node.roster import LEARNER, Roster
from tests.support.crash import Crash, MemoryDisk
from tests.support.fake_service import members

PATH = Path("/data/n1/members.json")
FOUNDING = Roster.founded_by(members(3))
N1, N2, N3, FOURTH, FIFTH = members(5)


class Room:
    """The membership of n1 with a log of (index -> term) that the test writes."""

    def __init__(
        self,
        disk: MemoryDisk | None = None,
        founding: Roster = FOUNDING,
        *,
        settled_index: int = 0,
        slow: bool = False,
        is_joined: bool = False,
    ) -> None:
        self.saves: list[tuple[Callable[[], None], Callable[[None], None]]] = []
        """With `slow`: file work that is asked for and not done."""
        self.told_saved = 0
        options: dict[str, Any] = {"do": lambda *asked: self.saves.append(asked)} if slow else {}
        self.disk = disk if disk is not None else MemoryDisk()
        self.disk.make_dir(PATH.parent)
        self.log: dict[int, int] = {}
        self.changes = 0
        self.removed: list[str] = []
        self.membership = Membership(
            "n1",
            "aa",
            founding,
            path=PATH,
            disk=self.disk,
            term_at=self.log.get,
            on_change=self._changed,
            on_settled=self._changed,
            on_removed=self.removed.append,
            is_joined=is_joined,
            settled_index=settled_index,
            on_saved=self._told_saved,
            **options,
        )

    def _told_saved(self) -> None:
        self.told_saved += 1

    def save(self) -> None:
        """The oldest file work that waits is done."""
        work, done = self.saves.pop(0)
        work()
        done(None)

    def _changed(self) -> None:
        self.changes += 1

    def append(self, roster: Roster, term: int) -> None:
        self.log[roster.index] = term
        self.membership.observe([entry(roster, term)])

    def again(self, *entries: Entry, settled_index: int = 0) -> Room:
        """After a power failure, with these entries in the journal."""
        room = Room(self.disk.crashed(Crash.SYNCED, 0), settled_index=settled_index)
        room.log.update({index: term for _, index, term in entries})
        room.membership.recall(list(entries))
        return room


def entry(roster: Roster, term: int) -> Entry:
    return wrap(KIND_CONFIG, roster.encode()), roster.index, term


def test_a_roster_is_in_force_once_it_is_logged_and_taken_back_with_its_entry() -> None:
    room = Room()
    room.append(FOUNDING.adding(FOURTH, 7), 2)
    assert room.membership.current.learners == {"n4"}
    assert not room.membership.is_settled
    del room.log[7]
    room.membership.observe([])
    assert room.membership.current == FOUNDING
    assert room.changes == 2


def test_a_new_directory_takes_no_seat_of_an_older_one_for_its_own() -> None:
    """Goal: whoever knows only an old roster has a newcomer believe neither that it counts nor,
    with the next roster, that it was removed. Found by simulation (everything 2291)."""
    newcomer = Roster.founded_by([N2, N3], index=-1)
    room = Room(founding=newcomer, is_joined=True)
    elders = FOUNDING.adding(FOURTH, 7).knowing({"n1": "the lost one"})
    removed = elders.removing("n1", 9)
    for roster in (FOUNDING, elders, removed):
        room.membership.adopt(roster)
        assert room.membership.is_waiting
        assert not room.membership.am_voter
    assert room.removed == []
    room.membership.adopt(seated := removed.adding(N1, 11))
    assert not room.membership.is_waiting
    room.membership.adopt(seated.knowing({"n1": "aa"}).promoting("n1", 12))
    assert room.membership.am_voter
    room.membership.adopt(room.membership.current.removing("n1", 14))
    assert len(room.removed) == 1


def test_another_leaders_roster_at_the_same_index_takes_its_place() -> None:
    room = Room()
    room.append(FOUNDING.adding(FOURTH, 7), 2)
    room.append(FOUNDING.adding(FIFTH, 7), 3)
    assert room.membership.current.learners == {"n5"}


def test_only_what_was_committed_is_found_again_without_the_journal() -> None:
    room = Room()
    added = FOUNDING.adding(FOURTH, 7)
    promoted = added.promoting("n4", 9)
    room.append(added, 2)
    room.append(promoted, 2)
    room.membership.settle(8)
    assert room.membership.committed == added
    assert room.again().membership.current == added
    assert room.again(entry(promoted, 2)).membership.current == promoted
    assert room.again(entry(added, 2), entry(promoted, 2)).membership.current == promoted
    assert not room.again(entry(promoted, 2)).membership.is_settled


def test_a_committed_roster_of_a_peer_is_adopted_when_it_is_newer() -> None:
    room = Room()
    added = FOUNDING.adding(FOURTH, 7)
    room.append(added, 2)
    later = added.promoting("n4", 9)
    room.membership.adopt(later)
    assert (room.membership.current, room.membership.is_settled) == (later, True)
    room.membership.adopt(added)
    assert room.membership.current == later
    room.append(later, 3)  # its entry comes after all
    assert room.membership.is_settled
    assert room.again().membership.current == later


def test_a_member_that_is_removed_is_told_so_once() -> None:
    room = Room()
    roster = FOUNDING.removing("n1", 5)
    room.membership.adopt(roster)
    assert len(room.removed) == 1
    assert "n1 was removed from the cluster (entry 5)" in room.removed[0]
    assert room.membership.is_waiting
    assert not room.membership.am_voter
    again = room.again()
    assert again.membership.is_waiting
    again.membership.adopt(roster.removing("n2", 6))
    assert again.removed == []


@pytest.mark.parametrize(
    ("peers", "is_one"),
    [([], False), (["n4"], False), (["n2"], True), (["n9", "n4"], False), (["n2", "n3"], True)],
)
def test_a_majority_is_of_voters_only(peers: list[str], is_one: bool) -> None:
    room = Room()
    room.append(FOUNDING.adding(FOURTH, 7), 2)
    assert room.membership.current.seat("n4").role == LEARNER  # type: ignore[union-attr]
    assert room.membership.is_majority(peers) is is_one


def test_a_learner_is_no_part_of_its_own_majority() -> None:
    room = Room(founding=Roster.founded_by(members(3)[1:], index=-1))
    assert room.membership.is_waiting
    assert not room.membership.is_majority(["n2"])
    assert room.membership.is_majority(["n2", "n3"])


def test_the_first_directory_that_is_seen_is_the_members_own_for_ever() -> None:
    room = Room()
    assert not room.membership.knows("n2")  # it has not said who it is
    room.membership.introduced("n2", "bb")
    assert room.membership.knows("n2")
    again = room.again()
    again.membership.introduced("n2", "cc")
    assert not again.membership.knows("n2")
    assert again.membership.incarnation_of("n2") == "bb"
    # Removed and seated anew, it may be another one; and then is that one.
    roster = FOUNDING.removing("n2", 5)
    again.membership.adopt(roster.adding(members(3)[1], 6))
    assert again.membership.knows("n2")
    again.membership.introduced("n2", "bb")
    assert not again.membership.knows("n2")


def test_an_incarnation_in_the_roster_binds_those_who_never_saw_it() -> None:
    room = Room()
    added = FOUNDING.adding(FOURTH, 7).knowing({"n4": "dd", "n2": "bb"})
    room.append(added, 2)
    room.membership.introduced("n4", "ee")
    assert not room.membership.knows("n4")
    room.membership.introduced("n4", "dd")
    assert room.membership.knows("n4")


def test_a_newcomer_asks_whom_its_configuration_names_today() -> None:
    room = Room(founding=Roster.founded_by(members(2)[1:], index=-1))
    room.membership.introduced("n2", "bb")
    assert room.membership.knows("n2")  # noted: there is a file now
    other = Roster.founded_by(members(3)[2:], index=-1)
    again = Room(room.disk.crashed(Crash.SYNCED, 0), other)
    assert again.membership.current == other


# -- the file is written by somebody else, who takes his time --------------------------------------


def test_nothing_passes_a_logged_roster_before_the_file_names_it() -> None:
    room = Room(slow=True)
    added = FOUNDING.adding(FOURTH, 7)
    room.append(added, 2)
    assert room.membership.current == added  # in force at once
    assert room.membership.hold_index == 6
    assert room.again(settled_index=7).membership.current == FOUNDING
    room.save()
    assert room.membership.hold_index is None
    assert room.told_saved == 1
    # Committed, and the state goes on past it: the file need not say yet that it is the base.
    room.membership.settle(7)
    assert room.membership.hold_index is None
    assert not room.membership._writer.is_saved
    again = room.again(settled_index=7)
    assert (again.membership.committed, again.membership.is_settled) == (added, True)
    assert room.again(settled_index=6).membership.current == FOUNDING
    assert not room.again(entry(added, 2), settled_index=6).membership.is_settled
    room.save()
    assert room.membership._writer.is_saved
    assert room.again().membership.committed == added


def test_nothing_passes_a_roster_that_was_taken_back_before_the_file_has_forgotten_it() -> None:
    room = Room(slow=True)
    room.append(FOUNDING.adding(FOURTH, 7), 2)
    room.save()
    room.log[7] = 3  # another leader's entry, which is no roster
    room.membership.observe([])
    assert room.membership.current == FOUNDING
    assert room.membership.hold_index == 6
    room.save()
    assert room.membership.hold_index is None
    assert room.again(settled_index=9).membership.current == FOUNDING


def test_a_roster_that_was_lost_with_the_journal_s_end_is_forgotten_at_the_boot() -> None:
    room = Room()
    room.append(FOUNDING.adding(FOURTH, 7), 2)
    again = room.again(settled_index=5)  # the entry was never synced
    assert again.membership.current == FOUNDING
    assert again.again(settled_index=9).membership.current == FOUNDING


def test_a_snapshot_is_not_installed_over_a_pending_roster_that_the_file_still_names() -> None:
    """The state would have passed it, and a boot would take it for committed."""
    room = Room(slow=True)
    room.append(FOUNDING.adding(FOURTH, 7), 2)
    room.append(FOUNDING.adding(FIFTH, 12), 2)
    room.save()
    room.save()
    assert not room.membership.may_install(9)
    assert room.again(settled_index=9).membership.current.learners == {"n4"}  # so it must not yet
    room.save()
    assert room.membership.may_install(9)
    assert room.again(settled_index=9).membership.current == FOUNDING
    assert room.again(settled_index=12).membership.current.learners == {"n5"}


def test_a_roster_of_a_peer_is_in_force_at_once_and_the_state_waits_for_the_file() -> None:
    room = Room(slow=True)
    room.membership.adopt(FOUNDING.adding(FOURTH, 7))
    assert room.membership.current.learners == {"n4"}
    assert room.membership.hold_index == 6
    room.save()
    assert room.membership._writer.is_saved


def test_a_peer_that_is_seen_first_counts_when_that_is_on_the_disk() -> None:
    room = Room(slow=True)
    room.membership.introduced("n2", "bb")
    assert not room.membership.knows("n2")
    assert not room.membership.knows("n2")
    assert room.membership.is_binding("n2")
    assert room.membership.hold_index is None
    assert len(room.saves) == 1
    room.save()
    assert room.told_saved == 1
    assert room.membership.knows("n2")


def test_should_the_gates_let_something_through_the_state_waits_all_the_same() -> None:
    room = Room(slow=True)
    room.append(FOUNDING.adding(FOURTH, 7), 2)
    work, done = room.saves.pop(0)
    thread = threading.Timer(0.05, work)
    thread.start()
    room.membership.settle(7)
    assert room.again(settled_index=7).membership.current.learners == {"n4"}
    done(None)
    thread.join()


def test_a_file_that_cannot_be_replaced_stops_who_waits_for_it() -> None:
    room = Room(slow=True)
    room.append(FOUNDING.adding(FOURTH, 7), 2)
    room.disk.on_step = lambda step: 1 / 0  # type: ignore[assignment, return-value]
    with pytest.raises(ZeroDivisionError):
        room.save()
    with pytest.raises(Fatal, match=r"members\.json"):
        room.membership.settle(7)


def test_every_flipped_bit_of_the_file_is_noticed() -> None:
    room = Room()
    room.append(FOUNDING.adding(FOURTH, 7), 2)
    room.membership.settle(7)
    data = room.disk.read_bytes(PATH)
    wanted = read_members_file(PATH, data)
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        try:
            found = read_members_file(PATH, bytes(flipped))
        except Corrupt:
            continue
        assert found == wanted, place  # white space between the fields
