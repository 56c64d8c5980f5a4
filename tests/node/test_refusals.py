"""What is said of refused connections: once for each pair, and never much."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

from node.logs import EventLog
from node.refusals import AGAIN_S, LINES_PER_MINUTE, PAIRS_MAX, Refusals


class Said:
    """Refusals, with their time and lines in the test's hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.log = mock.create_autospec(EventLog, instance=True)
        self.refusals = Refusals(self.log, lambda: self.now_s)

    def lines(self) -> list[dict[str, Any]]:
        found = [call.kwargs for call in self.log.warning.call_args_list]
        self.log.warning.reset_mock()
        return found


@pytest.fixture
def said() -> Said:
    return Said()


def test_a_reason_is_said_once_for_each_address(said: Said) -> None:
    for _ in range(1000):
        said.refusals.say("10.0.0.1", "wrong proof")
        said.refusals.say("10.0.0.2", "wrong proof")
        said.refusals.say("10.0.0.1", "no handshake")
    assert said.lines() == [
        {"peer": "10.0.0.1", "reason": "wrong proof"},
        {"peer": "10.0.0.2", "reason": "wrong proof"},
        {"peer": "10.0.0.1", "reason": "no handshake"},
    ]
    assert said.refusals.count == 3000


def test_it_is_said_again_after_an_hour_with_how_often_it_was(said: Said) -> None:
    for _ in range(3):
        said.refusals.say("10.0.0.1", "wrong proof")
    said.lines()
    said.now_s += AGAIN_S - 1
    said.refusals.say("10.0.0.1", "wrong proof")
    assert said.lines() == []
    said.now_s += 1
    said.refusals.say("10.0.0.1", "wrong proof")
    assert said.lines() == [{"peer": "10.0.0.1", "reason": "wrong proof", "times": 4}]


def test_new_reasons_without_end_are_counted_and_not_said(said: Said) -> None:
    for number in range(10_000):
        said.refusals.say("10.0.0.1", f"reason {number}")
    assert len(said.lines()) == LINES_PER_MINUTE
    assert len(said.refusals._pairs) == PAIRS_MAX
    said.now_s += 60
    said.refusals.say("10.0.0.2", "wrong proof")
    unsaid = 10_000 - LINES_PER_MINUTE
    assert said.lines() == [
        {"peer": "10.0.0.2", "reason": "wrong proof", "others_not_said": unsaid}
    ]


def test_what_was_not_said_for_the_rate_is_said_when_there_is_room(said: Said) -> None:
    for number in range(LINES_PER_MINUTE + 1):
        said.refusals.say("10.0.0.1", f"reason {number}")
    said.lines()
    said.now_s += 60
    said.refusals.say("10.0.0.1", f"reason {LINES_PER_MINUTE}")
    (line,) = said.lines()
    assert line["times"] == 2
