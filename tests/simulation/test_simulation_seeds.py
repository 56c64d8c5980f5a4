"""Seeds of every profile: no violation. A few by default; five hundred of `everything` in CI.

Each of them is a whole cluster for some seconds of virtual time, with clients and faults, and all
that tests/simulation/oracles.py looks at. scripts/simulate runs more of them.
"""

from __future__ import annotations

import pytest

from tests.simulation import coverage
from tests.simulation.campaign import campaign


@pytest.mark.parametrize(
    ("profile", "count"), [("calm", 4), ("swizzle", 8), ("disk", 8), ("everything", 12)]
)
def test_a_few_seeds_of_each_profile_are_well(profile: str, count: int) -> None:
    found = campaign(1, count, profile)
    assert found.failed == {}
    assert found.seeds == count
    assert found.answers["ok"] > 20 * count


@pytest.mark.stress
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", [1_000_001, 1_000_251])
def test_hundreds_of_seeds_are_well_and_see_the_rare_events(first: int) -> None:
    found = campaign(first, first + 249, "everything")
    assert found.failed == {}
    missing = coverage.missing(found)
    # In 1,000 seeds each of them comes about; in a quarter of them most do.
    assert len(missing) <= len(coverage.RARE) // 3, missing
