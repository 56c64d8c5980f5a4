"""Plans that once ended in a violation, each made small by scripts/simulate --shrink --keep.

What was wrong stands in each file under "found". They must be well from now on.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.simulation.minimise import REGRESSIONS
from tests.simulation.plan import Plan
from tests.simulation.planted import BUGS
from tests.simulation.run import run

PATHS = sorted(REGRESSIONS.glob("*.json"))


def plan_in(path: Path) -> Plan:
    return Plan.loads(json.dumps(json.loads(path.read_text(encoding="utf-8"))["plan"]))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_what_once_failed_is_well(path: Path) -> None:
    assert run(plan_in(path)).violations == []


@pytest.mark.parametrize(
    ("name", "bug", "what"),
    [
        ("lone_voter_leads_a_term_twice", "leads alone unwritten", "has two leaders"),
        (
            "a_newcomer_takes_the_seat_of_the_lost_directory",
            "an elder's seat is taken",
            "takes no write",
        ),
    ],
)
def test_a_plan_still_shows_its_bug(name: str, bug: str, what: str) -> None:
    """The regression would be of no use if the bug no longer showed in its plan."""
    with BUGS[bug].plant():
        found = run(plan_in(REGRESSIONS / f"{name}.json")).violations
    assert found, "the plan does not show the bug any more: make another one"
    assert what in found[0]
