"""The order of revisions: small histories, kept and broken; large ones, and a slip anywhere."""

from __future__ import annotations

import dataclasses
import random
import time
from typing import Any

import pytest

from node.lab.checks import Observed
from node.lab.config import Bounds, WorkloadConfig
from node.lab.history import FAIL, OK, UNKNOWN, Operation
from node.lab.linear import BROKEN, VALID
from node.lab.revisions import judge_revisions


def op(
    op: str,
    value: Any,
    start: int,
    end: int,
    revision: int | None,
    result: Any = None,
    *,
    key: str = "k",
    outcome: str = OK,
    level: str = "",
) -> Operation:
    each = Operation(op, 1, "n1", key, value, start, end, outcome, result, level=level)
    each.revision = revision
    return each


def read(value: str | None, start: int, end: int, revision: int | None, **more: Any) -> Operation:
    return op("read", None, start, end, revision, value, **more)


def judged(*operations: Operation) -> tuple[str, list[str]]:
    observed = Observed(WorkloadConfig(), Bounds(), list(operations))
    (found,) = judge_revisions(observed)
    return found.verdict, found.evidence


A = op("write", "a", 0, 10, 7)
B = op("write", "b", 20, 30, 9)


@pytest.mark.parametrize(
    "operations",
    [
        pytest.param([A, B, read("b", 40, 50, 9)], id="as it should be"),
        pytest.param([A, op("write", "b", 5, 30, 7)], id="one batch"),
        pytest.param([A, B, read("a", 25, 50, 7)], id="a read beside the write"),
        pytest.param([A, B, read("a", 40, 50, 7, level="eventual")], id="an old read, allowed"),
        pytest.param([A, B, read("x", 40, 50, 8, key="j")], id="another key is older"),
        pytest.param([A, B, read(None, 40, 50, None)], id="the key is gone"),
        pytest.param([A, op("cas", ["x", "c"], 20, 30, 7, False)], id="a swap that was refused"),
        pytest.param([A, op("write", "b", 20, 30, 3, outcome=FAIL)], id="never done"),
        pytest.param(
            [A, op("write", "b", 20, 30, None, outcome=UNKNOWN), read("b", 90, 95, 12)],
            id="of unknown outcome, and done late",
        ),
    ],
)
def test_what_is_sound(operations: list[Operation]) -> None:
    assert judged(*operations) == (VALID, [])


@pytest.mark.parametrize(
    ("operations", "said"),
    [
        pytest.param([A, op("write", "b", 20, 30, 6)], "@6 is not above @7", id="a write falls"),
        pytest.param([A, op("write", "b", 20, 30, 7)], "@7 is not above @7", id="a write repeats"),
        pytest.param(
            [A, op("write", "b", 20, 30, 7, key="j")], "@7 is not above @7", id="over two keys"
        ),
        pytest.param([A, B, read("a", 40, 50, 7)], "@7 is below @9", id="a stale read"),
        pytest.param(
            [A, B, read("a", 40, 50, 7, level="lease")], "@7 is below @9", id="stale in a lease"
        ),
        pytest.param(
            [A, B, op("cas", ["x", "c"], 40, 50, 7, False)], "@7 is below @9", id="a stale refusal"
        ),
        pytest.param([A, read("a", 40, 50, 8)], "one value, two revisions", id="not its own"),
        pytest.param(
            [A, read("a", 40, 50, 8, level="eventual")], "one value, two revisions", id="nor here"
        ),
        pytest.param(
            [read("a", 0, 9, 7), read("b", 5, 9, 7)], "one revision, two values", id="two at one"
        ),
        pytest.param(
            [A, read("b", 12, 15, 9), op("write", "c", 20, 30, 8)],
            "@8 is not above @9",
            id="below what was read",
        ),
        pytest.param(
            [A, op("write", "b", 20, 30, None), read("b", 5, 50, 6)],
            "@6 is not above @7",
            id="a write that told none, by its read",
        ),
        pytest.param(
            [A, op("write", "b", 20, 30, None, outcome=UNKNOWN), read("b", 5, 50, 6)],
            "@6 is not above @7",
            id="one of unknown outcome, done before it was asked for",
        ),
        pytest.param(
            [op("add", 1, 0, 10, 7, 1), op("add", 1, 20, 30, 7, 2)], "is not above", id="counters"
        ),
        pytest.param(
            [op("move", ["a", "b", 1], 0, 9, 7), op("move", ["a", "b", 1], 10, 19, 6)],
            "is not above",
            id="transactions",
        ),
    ],
)
def test_what_is_not(operations: list[Operation], said: str) -> None:
    verdict, evidence = judged(*operations)
    assert verdict == BROKEN
    assert said in evidence[0]
    assert "client 1 at n1" in evidence[0]


def test_without_any_revision_there_is_nothing_to_say() -> None:
    silent = [op("write", "a", 0, 10, None), read("a", 20, 30, None)]
    assert judge_revisions(Observed(WorkloadConfig(), Bounds(), silent)) == []


def sound(rng: random.Random, count: int) -> list[Operation]:
    """What a sound server answers: each operation takes effect at a moment within its time."""
    log, held, found = 0, dict[str, tuple[str, int]](), list[Operation]()
    first_end = 0  # of the batch of now
    for number in range(count):
        # Moments of effect are 10 apart; how far an operation reaches around its own is drawn.
        moment, key = 10 * number, f"r{rng.randrange(4)}"
        start, end = moment - rng.randrange(60), moment + rng.randrange(60)
        if rng.random() < 0.5:
            if rng.random() < 0.8 or first_end < start:
                log, first_end = log + 1, end
            first_end = min(first_end, end)
            held[key] = (f"v{number}", log)
            shown = None if rng.random() < 0.25 else log
            found.append(op("write", f"v{number}", start, end, shown, key=key))
        else:
            first_end = -1_000_000  # no batch reaches over a read
            value, revision = held.get(key, (None, None))
            found.append(read(value, start, end, revision, key=key))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_a_sound_history_is_sound_and_a_slip_anywhere_is_found(seed: int) -> None:
    rng = random.Random(seed)
    operations = sound(rng, 400)
    assert judged(*operations) == (VALID, [])
    for _ in range(10):
        told = [place for place, each in enumerate(operations) if each.revision is not None]
        place = rng.choice(told[len(told) // 2 :])
        slipped = dataclasses.replace(operations[place])
        assert slipped.revision is not None
        slipped.revision = max(slipped.revision - 60, 0)
        verdict, evidence = judged(*operations[:place], slipped, *operations[place + 1 :])
        assert verdict == BROKEN
        assert any(slipped.show() in line for line in evidence)


def test_a_hundred_thousand_operations_take_no_time() -> None:
    operations = sound(random.Random(1), 100_000)
    begun = time.process_time()
    assert judged(*operations) == (VALID, [])
    assert time.process_time() - begun < 20
