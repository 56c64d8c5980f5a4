"""Revisions: the order that the server says things happened in, against the order of time.

    judge_revisions(observed) -> [Verdict], or nothing where no revision was told

A revision is the place in the log of the change that made what was seen (node.lab.history). So

    order    of two operations of which one ended before the other began, on any keys:
             a change is above all that was seen or done before it        strictly
             a look at a key is not below what was seen or done to it     (levels that promise it)
    values   what a key held at one revision is one value, and a value that is unique was made at
             one revision: who wrote it and all who read it say the same

    time ->   |write a @7|   |write b @9|   |read b @9|       kept
                                            |read a @7|       order: it is below @9
                                            |read a @9|       values: a was made at @7

Two changes of one revision are two of one batch: sound where they overlap. A change that told
none has that of whoever read its value, if anybody did. Linearizability is judged without any of
this (node.lab.linear): the two find the same faults by different ways, and revisions name two
operations where a search can only say that there is no order.

Does not do: look at eventual reads beyond what they say of values, or at MGET and SCAN, which
tell no revision.

Proved by: tests/lab/test_revisions.py
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from node.lab.checks import Observed, Verdict, level_of, verdict
from node.lab.history import FAIL, Operation
from node.lab.linear import VALID

__all__ = ["judge_revisions"]

_ALWAYS: Final = ("write", "add", "lease", "move", "fence")
_IF_DONE: Final = ("cas", "acquire", "release")

_Floor = tuple[int, Operation] | None
"""The highest revision that was told by then, and by whom."""


def judge_revisions(observed: Observed) -> list[Verdict]:
    """One verdict over all operations, if any of them told a revision."""
    operations = [each for each in observed.operations if each.outcome != FAIL]
    told = sum(each.revision is not None for each in operations)
    if not told:
        return []
    problems, learned = _values(operations)
    problems += _order(observed, operations, learned)
    count = len(learned)
    text = f"{told} of {len(operations)} operations told one, {count} more are known by reads"
    if not problems:
        return [Verdict("revisions", VALID, f"{text}; all in the order of time")]
    return [verdict("revisions", problems, text)]


def _is_change(operation: Operation) -> bool:
    return operation.op in _ALWAYS or (operation.op in _IF_DONE and bool(operation.result))


def _value(operation: Operation) -> Any:
    """What the key held after it, if that is told and nobody else can have written the same."""
    op, value = operation.op, operation.value
    if op == "write":
        return value
    if op == "cas":
        return value[1] if operation.result or not operation.is_ok else None
    if op == "add":
        return operation.result if isinstance(value, int) else value
    return operation.result if op == "read" else None


def _values(operations: Sequence[Operation]) -> tuple[list[str], dict[int, int]]:
    """Where key, value and revision contradict each other; by id what changes did not tell."""
    problems: list[str] = []
    made: dict[tuple[str, Any], Operation] = {}
    held: dict[tuple[str, int | None], Operation] = {}
    silent: list[tuple[Operation, tuple[str, Any]]] = []
    for each in operations:
        value = _value(each)
        if value is None:
            continue
        place = (each.key, value)
        if each.revision is None:
            if each.op != "read":
                silent.append((each, place))
            continue
        other = made.setdefault(place, each)
        if other.revision != each.revision:
            problems.append(f"one value, two revisions: {other.show()}; {each.show()}")
        if each.op == "read":
            other = held.setdefault((each.key, each.revision), each)
            if _value(other) != value:
                problems.append(f"one revision, two values: {other.show()}; {each.show()}")
    learned = {
        id(each): found.revision
        for each, place in silent
        if (found := made.get(place)) is not None and found.revision is not None
    }
    return problems, learned


def _order(
    observed: Observed, operations: Sequence[Operation], learned: dict[int, int]
) -> list[str]:
    problems = []
    for each, revision, anywhere, here in _swept(operations, learned):
        if _is_change(each) or not each.is_ok:
            if anywhere is not None and revision <= anywhere[0]:
                problems.append(_pair(each, revision, "is not above", anywhere))
        elif each.op == "read" and level_of(each, observed.workload) == "eventual":
            continue
        elif here is not None and revision < here[0]:
            problems.append(_pair(each, revision, "is below", here))
    return problems


def _pair(each: Operation, revision: int, how: str, floor: tuple[int, Operation]) -> str:
    return f"@{revision} {how} @{floor[0]}, of what had ended: {floor[1].show()}; {each.show()}"


def _swept(
    operations: Sequence[Operation], learned: dict[int, int]
) -> Iterator[tuple[Operation, int, _Floor, _Floor]]:
    """Each operation with its revision, and the floors at its start: of all keys, of its own."""
    known = [
        (each, revision)
        for each in operations
        if (revision := learned.get(id(each), each.revision)) is not None
    ]
    # At one microsecond starts come before ends: what touches counts as overlapping.
    moments = [(each.start_us, 0, number) for number, (each, _) in enumerate(known)]
    moments += [(each.end_us, 1, number) for number, (each, _) in enumerate(known) if each.is_ok]
    anywhere: _Floor = None
    here: dict[str, tuple[int, Operation]] = {}
    for _, is_end, number in sorted(moments):
        each, revision = known[number]
        if not is_end:
            yield each, revision, anywhere, here.get(each.key)
            continue
        if anywhere is None or revision > anywhere[0]:
            anywhere = (revision, each)
        if each.key not in here or revision > here[each.key][0]:
            here[each.key] = (revision, each)
