"""The checker of linearizability, checked: against all permutations, by stories, and for speed."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from node.lab.history import FAIL, OK, UNKNOWN, Operation
from node.lab.linear import BROKEN, UNDECIDED, VALID, check, check_key
from node.lab.models import MODELS
from node.lab.shrink import minimal
from tests.lab.oracle import corrupted, is_linearizable, random_history


def op(
    op: str, value: Any, start: int, end: int | None, result: Any = None, key: str = "k"
) -> Operation:
    """An operation; without an end its answer was lost."""
    outcome = UNKNOWN if end is None else OK
    return Operation(
        op=op,
        process=start,
        node="n1",
        key=key,
        value=value,
        start_us=start,
        end_us=start if end is None else end,
        outcome=outcome,
        result=result,
    )


@pytest.mark.parametrize("kind", ["register", "counter", "list", "set"])
@pytest.mark.parametrize("size", [3, 5, 7])
def test_it_agrees_with_all_permutations(kind: str, size: int) -> None:
    """Thousands of small histories, valid by their making or corrupted (which may be either)."""
    rng = random.Random(f"{kind} {size}")
    model = MODELS[kind]
    seen = {VALID: 0, BROKEN: 0}
    for _ in range(500):
        valid = random_history(rng, kind, size)
        assert check_key(valid, model)[0] == VALID, [each.show() for each in valid]
        for _ in range(2):
            changed = corrupted(rng, valid)
            want = VALID if is_linearizable(changed, model) else BROKEN
            seen[want] += 1
            assert check_key(changed, model)[0] == want, [each.show() for each in changed]
    assert min(seen.values()) > 100, f"the histories show nothing: {seen}"


REGISTER = MODELS["register"]


@pytest.mark.parametrize(
    ("story", "want"),
    [
        pytest.param([op("read", None, 0, 1)], VALID, id="an absent key reads as none"),
        pytest.param([op("read", None, 0, 1, "x")], BROKEN, id="a value from nowhere"),
        pytest.param(
            [op("write", "a", 0, 9), op("read", None, 1, 2, "a"), op("read", None, 3, 4)],
            BROKEN,
            id="seen and then unseen while it is being written",
        ),
        pytest.param(
            [op("write", "a", 0, None), op("read", None, 50, 51), op("read", None, 60, 61, "a")],
            VALID,
            id="a lost answer may take effect much later",
        ),
        pytest.param(
            [
                op("write", "a", 0, None),
                op("read", None, 10, 11, "a"),
                op("write", "b", 20, 21),
                op("read", None, 30, 31, "a"),
            ],
            BROKEN,
            id="a lost answer takes effect once",
        ),
        pytest.param(
            [op("write", "a", 0, 1), op("write", "b", 2, 3), op("read", None, 4, 5, "a")],
            BROKEN,
            id="a lost write",
        ),
        pytest.param(
            [op("write", "a", 0, 5), op("write", "b", 5, 8), op("read", None, 9, 10, "a")],
            VALID,
            id="what touches overlaps",
        ),
        pytest.param(
            [op("write", "a", 0, 1), op("cas", ["b", "c"], 2, 3, False)], VALID, id="swap refused"
        ),
        pytest.param(
            [op("write", "a", 0, 1), op("cas", ["a", "c"], 2, 3, False)],
            BROKEN,
            id="swap refused without a reason",
        ),
        pytest.param(
            [
                op("cas", ["b", "c"], 0, None),
                op("cas", ["a", "b"], 1, None),
                op("write", "a", 2, 3),
                op("read", None, 4, 5, "c"),
            ],
            VALID,
            id="a chain of lost answers",
        ),
    ],
)
def test_stories(story: list[Operation], want: str) -> None:
    assert check_key(story, REGISTER)[0] == want
    assert is_linearizable(story, REGISTER) == (want == VALID)


def test_what_certainly_failed_must_not_be_seen() -> None:
    failed = op("write", "a", 0, 1)
    failed.outcome = FAIL
    assert check([failed, op("read", None, 2, 3)], REGISTER).verdict == VALID
    assert check([failed, op("read", None, 2, 3, "a")], REGISTER).verdict == BROKEN


def test_an_answer_names_the_key_and_the_operation() -> None:
    good = [op("write", "a", 0, 1, key="x"), op("read", None, 2, 3, "a", key="x")]
    bad = [op("write", "a", 0, 1, key="y"), op("read", None, 2, 3, "z", key="y")]
    answer = check([*good, *bad], REGISTER)
    assert (answer.verdict, answer.key, answer.culprit) == (BROKEN, "y", bad[1])


def long_history(rng: random.Random, operations: int, keys: int, clients: int) -> list[Operation]:
    """Clients in a closed loop on registers, unique values, half of the answers of some lost."""
    state: dict[str, str | None] = {f"r{number}": None for number in range(keys)}
    free_us = [0.0] * clients
    history = []
    for number in range(operations):
        client = min(range(clients), key=free_us.__getitem__)
        key = f"r{rng.randrange(keys)}"
        start = free_us[client] + 1
        moment, end = start + 300 * rng.random(), start + 310 + rng.random() * 300
        history.append((moment, number, client, key, start, end, rng.random()))
        free_us[client] = end
    done = []
    for moment, number, client, key, start, end, draw in sorted(history):
        each = op("read", None, int(start), int(end) + 1, state[key], key=key)
        each.process = client
        if draw < 0.5:
            each.op, each.value, each.result = "write", str(number), None
            state[key] = str(number)
            if draw < 0.002:
                each.outcome = UNKNOWN
        assert moment < each.end_us
        done.append(each)
    return sorted(done, key=lambda each: each.start_us)


@pytest.mark.parametrize("operations", [10_000, pytest.param(100_000, marks=pytest.mark.stress)])
def test_a_hundred_thousand_operations_take_less_than_a_minute(operations: int) -> None:
    history = long_history(random.Random(1), operations, keys=5, clients=15)
    begun = time.monotonic()
    answer = check(history, REGISTER)
    took = time.monotonic() - begun
    assert (answer.verdict, answer.operations_count) == (VALID, operations)
    assert took < 60 * operations / 100_000, took


def test_the_proof_is_as_small_as_can_be_read() -> None:
    """A lost write in the middle of 4,000 operations: two writes and the read remain."""
    history = long_history(random.Random(2), 4_000, keys=2, clients=6)
    own = [each for each in history if each.key == "r0"]
    reads = [each for each in own if each.op == "read" and each.result is not None]
    reads[len(reads) // 2].result = reads[len(reads) // 2 - 60].result  # as old as that
    verdict, culprit = check_key(own, REGISTER)
    assert verdict == BROKEN
    assert culprit is not None
    proof = minimal(own, REGISTER, culprit)
    assert check_key(proof, REGISTER)[0] == BROKEN
    assert culprit in proof
    assert len(proof) <= 4, [each.show() for each in proof]


def test_too_many_possibilities_are_no_verdict() -> None:
    story = [op("write", str(number), 0, 100) for number in range(16)]
    assert check_key(story, REGISTER, configurations_max=1_000)[0] == UNDECIDED


def test_sixty_lost_answers_on_one_key_are_decided() -> None:
    history = []
    for number in range(60):
        history += [
            op("write", f"lost{number}", 10 * number, None),
            op("write", f"told{number}", 10 * number + 1, 10 * number + 4),
            op(
                "read",
                None,
                10 * number + 5,
                10 * number + 6,
                f"{'lost' if number % 2 else 'told'}{number}",
            ),
        ]
    assert check_key(history, REGISTER)[0] == VALID
