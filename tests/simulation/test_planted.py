"""Bugs that are put in on purpose are found: the oracles can see.

By default those that take a seed or two; in the long suite each that was found within some forty
seeds, with room for three times as many. docs/simulation.md has the table of all of them.
"""

from __future__ import annotations

import pytest

from tests.simulation.campaign import campaign
from tests.simulation.minimise import kind_of, shrink
from tests.simulation.plan import Plan
from tests.simulation.planted import BUGS
from tests.simulation.run import run

QUICK = {
    "gate: follower": "acknowledges",
    "votes leave unsynced": "is not on its platter",
    "no PreVote": "stands in term",
    "a callback raises": "fails without a reason",
    "followers propose": "takes no write",
    "version entries": "within",
    "sent again in flight": "were sent",
    "entries in pieces": "cuts an entry in pieces",
    "leads on without answers": "still leads",
    "stands after a block": "let by [] only",
    "sm: reads delete": "",
    "sm: conditions ignored": "the model",
}
"""Bug -> what the violation says."""
SLOWER = {
    "no stickiness": "has just heard a leader",
    "no ReadIndex": "not linearizable",
    "reads before its own term": "not linearizable",
    "batches not sent again": "takes no write",
    "journal is never synced": "",
    "snapshot acked early": "acknowledges",
    "goes on after a failure": "",
    "strangers admitted": "",
    "leftovers are used": "",
    "matching entries truncated": "",
}


def found_within(name: str, seeds: int) -> str:
    bug = BUGS[name]
    found = campaign(1, seeds, bug.profile, bug=name, stop_at_first=True)
    assert found.failed, f"{name}: not found within {seeds} seeds"
    return next(iter(found.failed.values()))[0]


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found_at_once(name: str) -> None:
    assert QUICK[name] in found_within(name, 25)


@pytest.mark.stress
@pytest.mark.parametrize("name", SLOWER)
def test_a_planted_bug_is_found_soon(name: str) -> None:
    assert SLOWER[name] in found_within(name, 120)


def test_a_failing_plan_is_made_small() -> None:
    """Goal: the fault that matters is left, and few others."""
    bug = BUGS["gate: follower"]
    plan = Plan.of(1, "everything")
    small = shrink(plan, bug)
    with bug.plant():
        before, after = run(plan).violations[0], run(small).violations[0]
    assert len(small.faults) < len(plan.faults)
    assert small.clients < plan.clients
    assert kind_of(before) == kind_of(after)
    with pytest.raises(ValueError, match="is well"):
        shrink(small, None)
