"""scripts/mutants: that its bugs fit the sources, that it sees one that nobody catches, and, under
`stress`, that every one is caught."""

from __future__ import annotations

import dataclasses

import pytest

from tests.mutants import MUTANTS, Mutant, misfit
from tests.scripts.load import script

HARMLESS = Mutant(
    "a comment that says nothing",
    "statemachine/terms.py",
    "from __future__ import annotations\n",
    "from __future__ import annotations  # Indeed.\n",
    "tests/statemachine/test_frame.py::test_the_payload_is_handed_on_and_never_copied",
)


def test_every_bug_still_fits_the_sources_and_names_a_test() -> None:
    assert [text for each in MUTANTS if (text := misfit(each)) is not None] == []


def test_there_are_many_and_each_has_a_name_of_its_own() -> None:
    assert len({each.name for each in MUTANTS}) == len(MUTANTS) >= 25


def test_a_bug_that_its_test_does_not_see_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    assert script("mutants").main([HARMLESS], ["--jobs", "1"]) == 1
    printed = capsys.readouterr().out
    assert "MISSED" in printed
    assert "0 of 1 bugs caught" in printed


def test_a_bug_that_breaks_the_test_file_is_not_taken_for_caught(
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = dataclasses.replace(HARMLESS, new="from __future__ import anotations\n")
    assert script("mutants").main([broken], ["--jobs", "1"]) == 1
    assert "BROKEN" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"old": "nowhere to be found"}, "occurs 0 times"),
        ({"old": "import"}, "times in"),
        ({"test": "tests/statemachine/test_frame.py::test_none"}, "there is no test test_none"),
        ({"new": HARMLESS.old}, "nothing is changed"),
    ],
    ids=["gone", "twice", "no test", "no change"],
)
def test_a_bug_that_does_not_fit_is_a_usage_error(
    change: dict[str, str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script("mutants").main([dataclasses.replace(HARMLESS, **change)], []) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_every_bug_is_caught_by_the_test_that_it_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert script("mutants").main(words=[]) == 0, capsys.readouterr().out
