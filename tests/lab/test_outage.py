"""An outage is cut at the right places, also when something did not happen."""

from __future__ import annotations

import pytest

from node.lab.history import OK, UNKNOWN, Operation
from node.lab.outage import find


def write(process: int, start_ms: int, end_ms: int, outcome: str = OK) -> Operation:
    return Operation("write", process, "n1", "k", "v", start_ms * 1000, end_ms * 1000, outcome)


def event(at_ms: int, what: str, **fields: object) -> dict[str, object]:
    return {"at_us": at_ms * 1000, "node": "n2", "event": what, **fields}


WRITES = [
    *(write(place % 2, 10 * place, 10 * place + 5) for place in range(10)),
    write(0, 96, 97),
    write(1, 98, 350, UNKNOWN),
    write(0, 99, 330),
    write(1, 340, 360),
    *(write(place % 2, 400 + 10 * place, 405 + 10 * place) for place in range(10)),
]
EVENTS = [
    event(0, "role", role="follower", term=1),
    event(280, "role", role="candidate", term=2),
    event(310, "role", role="leader", term=2),
    event(315, "leader ready", term=2),
]
KILL = {"kind": "kill", "nodes": ["n1"], "start_us": 100_000}


def test_each_segment_has_its_length() -> None:
    (outage,) = find(WRITES, EVENTS, [KILL], 600_000)
    assert outage.segments() == [
        ("last ok to fault", 3.0),
        ("detection", 180.0),
        ("election", 30.0),
        ("getting ready", 5.0),
        ("first answer", 15.0),
        ("stragglers", 30.0),
    ]
    assert outage.unavailable_ms == pytest.approx(233.0)
    assert outage.leaderless_ms == pytest.approx(210.0)
    assert outage.clients == {0: 230.0, 1: 260.0}
    assert (outage.leader, outage.term) == ("n2", 2)


def test_where_nobody_had_to_be_elected_nothing_is_made_up() -> None:
    (outage,) = find(WRITES, [], [KILL], 600_000)
    assert outage.leaderless_ms is None
    assert [name for name, _ in outage.segments()] == [
        "last ok to fault",
        "no answer",
        "stragglers",
    ]


def test_an_election_after_writes_went_on_is_not_what_they_waited_for() -> None:
    late = [event(450, "role", role="candidate", term=2), event(460, "role", role="leader", term=2)]
    (outage,) = find(WRITES, late, [KILL], 600_000)
    assert "election" not in dict(outage.segments())


def test_while_the_old_leader_leads_on_nobody_is_without_one() -> None:
    """A rolling restart begins with a follower: its time is not the leader's."""
    early = {"kind": "rolling_restart", "nodes": ["n1", "n2"], "start_us": 20_000}
    (outage,) = find(WRITES, EVENTS, [early], 600_000)
    assert outage.leaderless_ms == pytest.approx(310.0 - 97.0)
    assert outage.as_json()["led_until_us"] == 97_000


def test_the_next_fault_ends_the_window_of_the_one_before() -> None:
    second = KILL | {"start_us": 405_000}
    outages = find(WRITES, EVENTS, [KILL, second], 600_000)
    assert [each.unavailable_ms for each in outages] == [pytest.approx(233.0), pytest.approx(10.0)]


def test_without_writes_there_is_no_figure() -> None:
    (outage,) = find([], EVENTS, [KILL], 600_000)
    assert outage.unavailable_ms is None
    assert outage.segments() == []


def test_an_answer_that_was_under_way_may_come_after_the_fault() -> None:
    (outage,) = find([*WRITES, write(0, 98, 104)], EVENTS, [KILL], 600_000)
    assert outage.segments()[:2] == [("last ok to fault", 0.0), ("detection", 176.0)]


def test_the_gap_that_the_next_fault_makes_is_the_next_ones() -> None:
    transfer = {"kind": "transfer", "nodes": ["n1"], "start_us": 41_000}
    outages = find(WRITES, EVENTS, [transfer, KILL], 600_000)
    assert [each.unavailable_ms for each in outages] == [pytest.approx(10.0), pytest.approx(233.0)]


def test_a_stall_after_the_election_is_not_the_outage_but_is_kept() -> None:
    before = [each for each in WRITES if each.end_us < 420_000]
    stalled = [*before, *(write(place % 2, 990, 1_000 + place) for place in range(4))]
    (outage,) = find(stalled, EVENTS, [KILL], 2_000_000)
    assert outage.unavailable_ms == pytest.approx(233.0)
    assert outage.longest_gap_ms == pytest.approx(585.0)
