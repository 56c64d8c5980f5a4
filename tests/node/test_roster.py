"""The roster as a value: its changes, its refusals, its bytes."""

from __future__ import annotations

import itertools
import json

import pytest

from node.config_members import member_text, parse_member
from node.errors import Rejected
from node.roster import LEARNER, REMOVED, REMOVED_MAX, VOTER, Roster, is_roster
from tests.support.fake_service import members

ALL = members(9)
FOUNDING = Roster.founded_by(members(3))


def test_a_member_comes_as_a_learner_votes_later_and_goes() -> None:
    added = FOUNDING.adding(ALL[3], 5)
    assert (added.voters, added.learners) == ({"n1", "n2", "n3"}, {"n4"})
    promoted = added.promoting("n4", 8)
    assert promoted.voters == {"n1", "n2", "n3", "n4"}
    removed = promoted.removing("n4", 9)
    assert removed.voters == {"n1", "n2", "n3"}
    assert not removed.has("n4")
    seat = removed.seat("n4")
    assert seat is not None
    assert (seat.role, seat.since) == (REMOVED, 9)
    assert removed.adding(ALL[3], 11).seat("n4").since == 11  # type: ignore[union-attr]


def test_one_change_moves_one_voter_at_most() -> None:
    rosters = [FOUNDING]
    rosters.append(rosters[-1].adding(ALL[3], 5))
    rosters.append(rosters[-1].promoting("n4", 6))
    rosters.append(rosters[-1].removing("n1", 7))
    rosters.append(rosters[-1].adding(ALL[0], 8))
    rosters.append(rosters[-1].promoting("n1", 9))
    for older, newer in itertools.pairwise(rosters):
        assert len(older.voters ^ newer.voters) <= 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param(lambda: FOUNDING.adding(ALL[0], 5), "n1 is a member already", id="twice"),
        pytest.param(lambda: FOUNDING.promoting("n1", 5), "n1 is no learner", id="voter"),
        pytest.param(lambda: FOUNDING.promoting("n9", 5), "n9 is no learner", id="nobody"),
        pytest.param(lambda: FOUNDING.removing("n9", 5), "no member 'n9'", id="unknown"),
        pytest.param(
            lambda: Roster.founded_by(ALL[:1]).removing("n1", 5), "the only voter", id="last"
        ),
        pytest.param(
            lambda: Roster.founded_by(ALL).adding(members(10)[9], 5), "must be 1 to 9", id="many"
        ),
        pytest.param(
            lambda: FOUNDING.adding(parse_member("n7", member_text(ALL[1])), 5),
            "already",
            id="address",
        ),
    ],
)
def test_what_cannot_be_is_refused(change: object, text: str) -> None:
    with pytest.raises(Rejected, match=text):
        change()  # type: ignore[operator]


def test_only_the_last_removed_members_are_kept_in_mind() -> None:
    roster = Roster.founded_by(ALL)
    for index, name in enumerate(["n3", "n1", "n9", "n2", "n5", "n4"], 10):
        roster = roster.removing(name, index)
    gone = [seat.member.id for seat in roster.seats if seat.role == REMOVED]
    assert gone == ["n2", "n4", "n5", "n9"]
    assert len(gone) == REMOVED_MAX


def test_the_bytes_are_the_same_for_the_same_roster_and_give_it_back() -> None:
    one = FOUNDING.adding(ALL[3], 5).knowing({"n4": "ab", "n1": "cd"})
    other = Roster.decode(one.encode(), 5)
    assert other == one
    assert other.encode() == one.encode()
    assert [seat.role for seat in other.seats] == [VOTER, VOTER, VOTER, LEARNER]


def _changed(**fields: object) -> bytes:
    rows = json.loads(FOUNDING.encode())
    rows[1] |= fields
    return json.dumps(rows).encode()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[]",
        b"[1]",
        b"\xff",
        b"[" * 9000,
        b" " * 20_000,
        _changed(role="king"),
        _changed(since=-1),
        _changed(since=1 << 64),
        _changed(since=True),
        _changed(id="n1"),
        _changed(id="../n2"),
        _changed(id=2),
        _changed(peer="127.0.0.1"),
        _changed(peer=None),
        _changed(incarnation=None),
        _changed(incarnation="a" * 65),
        _changed(more=1),
        json.dumps(list(reversed(json.loads(FOUNDING.encode())))).encode(),
        FOUNDING.encode().replace(b'"voter"', b'"learner"'),
    ],
)
def test_bytes_that_are_no_roster_are_refused(payload: bytes) -> None:
    assert not is_roster(payload)


@pytest.mark.parametrize(
    ("text", "client", "peer", "http"),
    [
        ("127.0.0.1:7004:8004", "127.0.0.1:7004", "127.0.0.1:8004", "127.0.0.1:9004"),
        ("db4:7004:8004:80", "db4:7004", "db4:8004", "db4:80"),
        ("[::1]:7004:8004", "[::1]:7004", "[::1]:8004", "[::1]:9004"),
    ],
)
def test_a_member_in_one_word(text: str, client: str, peer: str, http: str) -> None:
    member = parse_member("n4", text)
    assert (str(member.client), str(member.peer), str(member.http)) == (client, peer, http)
    assert parse_member("n4", member_text(member)) == member


@pytest.mark.parametrize(
    "text", ["", "7004", "127.0.0.1", "127.0.0.1:7004", "a:1:2:3:4", "a:x:8004", ":1:2", "[::1]"]
)
def test_words_that_name_no_member(text: str) -> None:
    with pytest.raises(ValueError, match=r"must look like|a port is"):
        parse_member("n4", text)
