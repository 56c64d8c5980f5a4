"""What the checker is checked against: all orders of a small history, one after the other.

is_linearizable(operations, model)      by the definition alone; small histories only
random_history(rng, kind, ...)          a valid one, from moments chosen at random;
                                        some answers lost
corrupted(rng, operations)              one answer changed, or one moment moved
"""

from __future__ import annotations

import copy
import random
from collections.abc import Hashable
from typing import Any

from node.lab.history import FAIL, OK, UNKNOWN, Operation
from node.lab.models import IMPOSSIBLE, MODELS, Action, Model


def is_linearizable(operations: list[Operation], model: Model) -> bool:
    """Try every order that time allows; unknown operations may be left out."""
    told = [
        (each, action)
        for each in operations
        if each.outcome != FAIL and (action := model.action(each)) is not None
    ]

    def search(left: list[tuple[Operation, Action]], state: Hashable) -> bool:
        if all(each.outcome == UNKNOWN for each, _ in left):
            return True
        first_end = min(each.end_us for each, _ in left if each.outcome == OK)
        for place, (each, action) in enumerate(left):
            if each.start_us > first_end:
                continue
            then = model.step(state, action)
            if then is not IMPOSSIBLE and search(left[:place] + left[place + 1 :], then):
                return True
        return False

    return search(told, model.initial)


def random_history(
    rng: random.Random, kind: str, operations: int, lost: float = 0.2
) -> list[Operation]:
    """A linearizable history of one key: each operation takes effect at a moment of its own."""
    moments = sorted(rng.sample(range(100, 1000), operations))
    state: Any = MODELS[kind].initial
    history = []
    for number, moment in enumerate(moments):
        each = Operation(
            op="read",
            process=number,
            node="n1",
            key="k",
            value=None,
            start_us=moment - rng.randrange(90),
            end_us=moment + rng.randrange(90),
            outcome=OK,
        )
        state = _act(rng, kind, each, state, number)
        if each.op != "read" and rng.random() < lost:
            each.outcome, each.result = UNKNOWN, None
        history.append(each)
    if rng.random() < 0.3:  # An unknown one that never happened.
        history.append(_never(rng, kind))
    return sorted(history, key=lambda each: each.start_us)


def _act(rng: random.Random, kind: str, each: Operation, state: Any, number: int) -> Any:
    """Choose what it does, and what it is answered; the state after it."""
    draw = rng.random()
    if draw < 0.4:
        each.result = list(state) if kind in ("list", "set") else state
        return state
    if kind == "register":
        value = str(rng.randrange(4))
        if draw < 0.7:
            each.op, each.value = "write", value
            return value
        old = state if rng.random() < 0.6 else str(rng.randrange(4))
        each.op, each.value, each.result = "cas", [old, value], old == state
        return value if each.result else state
    if kind == "counter":
        each.op, each.value = "add", rng.randrange(1, 3)
        each.result = state + each.value
        return each.result
    each.op, each.value = ("append" if kind == "list" else "add"), number % 5
    return (*state, each.value) if kind == "list" else state | {each.value}


def _never(rng: random.Random, kind: str) -> Operation:
    op = {"register": "write", "counter": "add", "list": "append", "set": "add"}[kind]
    value: Any = str(rng.randrange(4)) if kind == "register" else rng.randrange(1, 3)
    start = rng.randrange(900)
    return Operation(
        op=op, process=99, node="n1", key="k", value=value, start_us=start, end_us=start + 50
    )


def corrupted(rng: random.Random, operations: list[Operation]) -> list[Operation]:
    """A copy that may be linearizable or not: only the oracle knows."""
    changed = copy.deepcopy(operations)
    each = rng.choice(changed)
    if each.outcome == OK and each.op == "read" and rng.random() < 0.7:
        if isinstance(each.result, list):
            each.result = each.result[:-1] if rng.random() < 0.5 else [*each.result, 3]
        elif isinstance(each.result, int):
            each.result += rng.choice((-2, -1, 1, 2))
        else:
            each.result = rng.choice((None, "0", "1", "2", "3"))
    elif each.outcome == OK and each.op == "add" and isinstance(each.result, int):
        each.result += rng.choice((-1, 1))
    elif each.outcome == OK and each.op == "cas":
        each.result = not each.result
    else:
        shift = rng.randrange(-400, 400)
        each.start_us += shift
        each.end_us += shift
    return sorted(changed, key=lambda each: each.start_us)
