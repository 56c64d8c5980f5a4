"""Whether a history of one register is linearizable: Wing and Gong's search, with Lowe's memory.

    operation   call at 3.1, back at 3.4:  write v | read -> v | cas old new -> done or not
    unknown     call at 3.1, never back:   may have happened at any time after, or not at all

A history is linearizable when its operations can be put in one order such that each lies between
its call and its return, and each was told what a register would have told it then. The search
takes the operations that may come first, one after the other, and goes back when it is stuck;
a (set of operations done, value) that was seen before is not tried again.

Pure values. Proved by: tests/node/test_chaos_parts.py
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["NEVER", "Operation", "is_linearizable"]

NEVER: Final = math.inf

Value = bytes | None


@dataclass(frozen=True, slots=True)
class Operation:
    """One call. `told`: what a read returned, or whether a cas was done."""

    kind: str
    called_s: float
    back_s: float
    value: Value = None
    """What was written, or read."""
    expected: Value = None
    """Of a cas: what it was to replace."""
    told: bool = True


def _after(operation: Operation, state: Value) -> tuple[bool, Value]:
    """(whether that can have happened here, the value after it)."""
    if operation.kind == "write":
        return True, operation.value
    if operation.kind == "read":
        return operation.value == state, state
    done = operation.expected == state
    if operation.back_s == NEVER:
        return True, operation.value if done else state
    return done == operation.told, operation.value if done else state


def is_linearizable(history: Iterable[Operation], initial: Value = None) -> bool:
    """Whether the operations on one register can have happened one after the other.

    Reads that never came back say nothing, and are left out.
    """
    operations = sorted(
        (each for each in history if each.kind != "read" or each.back_s != NEVER),
        key=lambda each: each.called_s,
    )
    needed = sum(1 << at for at, each in enumerate(operations) if each.back_s != NEVER)
    seen: set[tuple[int, Value]] = set()
    stack: list[tuple[int, Value]] = [(0, initial)]
    while stack:
        done, state = stack.pop()
        if done & needed == needed:
            return True
        for at in _candidates(operations, done):
            possible, after = _after(operations[at], state)
            found = (done | 1 << at, after)
            if possible and found not in seen:
                seen.add(found)
                stack.append(found)
    return False


def _candidates(operations: list[Operation], done: int) -> list[int]:
    """What may come next: called before any that is left has come back."""
    first_back_s = NEVER
    found: list[int] = []
    at = _first_zero(done)
    while at < len(operations) and operations[at].called_s <= first_back_s:
        if not done >> at & 1:
            found.append(at)
            first_back_s = min(first_back_s, operations[at].back_s)
        at += 1
    return [at for at in found if operations[at].called_s <= first_back_s]


def _first_zero(bits: int) -> int:
    return (~bits & (bits + 1)).bit_length() - 1
