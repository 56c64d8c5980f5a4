"""What one key may do, as a sequential machine: register, counter, list, set.

    step(state, action) -> the state after it, or IMPOSSIBLE: that answer cannot be had there

An action is an operation and its answer, as a tuple. An unknown one has no answer, so it says
only what it would do; one that can neither be seen nor change anything is None and left out.

    register   ("r", v)  ("w", v)  ("c", old, new)  ("f", old): a swap refused, state != old
    counter    ("r", n)  ("i", delta, n)            n None: not told
    list       ("r", (a, b))  ("a", x)
    set        ("r", {a, b})  ("a", x)

For the checker, what keeps its search small:
    reads(action)      changes nothing, wherever it is possible
    needs(action)      the one state that it is possible in; NOTHING: any; SOME: hard to say
    makes(action)      the state that it leaves behind; SOME: depends on the one before

Proved by: tests/lab/test_linear.py
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from node.lab.history import UNKNOWN, Operation

__all__ = ["IMPOSSIBLE", "MODELS", "NOTHING", "SOME", "Action", "Model"]

Action = tuple[Hashable, ...]


class _Word:
    """A value that is no state."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


IMPOSSIBLE: Final = _Word("IMPOSSIBLE")
NOTHING: Final = _Word("NOTHING")
SOME: Final = _Word("SOME")


class Model:
    """A sequential machine; the base class is what list and set share."""

    initial: Hashable = None

    def action(self, operation: Operation) -> Action | None:
        """The action of an operation, None when it says nothing."""
        raise NotImplementedError

    def step(self, state: Hashable, action: Action) -> Hashable:
        """The state after it, or IMPOSSIBLE."""
        raise NotImplementedError

    def reads(self, action: Action) -> bool:
        """Whether it only looks."""
        return action[0] == "r"

    def needs(self, action: Action) -> Hashable:
        """The state without which it is impossible."""
        return action[1] if action[0] == "r" else NOTHING

    def makes(self, action: Action) -> Hashable:
        """The state that it leaves."""
        return SOME


class Register(Model):
    """One value; None is an absent key."""

    def action(self, operation: Operation) -> Action | None:
        op, value = operation.op, operation.value
        if op == "read":
            return None if operation.outcome == UNKNOWN else ("r", operation.result)
        if op == "write":
            return ("w", value)
        if op == "cas":
            old, new = value
            if operation.outcome == UNKNOWN or operation.result:
                return ("c", old, new)
            return ("f", old)
        raise ValueError(f"a register knows no {op!r}")

    def step(self, state: Hashable, action: Action) -> Hashable:
        kind = action[0]
        if kind == "r":
            return state if state == action[1] else IMPOSSIBLE
        if kind == "w":
            return action[1]
        if kind == "c":
            return action[2] if state == action[1] else IMPOSSIBLE
        return state if state != action[1] else IMPOSSIBLE

    def reads(self, action: Action) -> bool:
        return action[0] in ("r", "f")

    def needs(self, action: Action) -> Hashable:
        kind = action[0]
        if kind in ("r", "c"):
            return action[1]
        return SOME if kind == "f" else NOTHING

    def makes(self, action: Action) -> Hashable:
        return action[1] if action[0] == "w" else action[2]


class Counter(Model):
    """A number that is added to; 0 at first."""

    initial: Hashable = 0

    def action(self, operation: Operation) -> Action | None:
        unknown = operation.outcome == UNKNOWN
        if operation.op == "read":
            return None if unknown else ("r", operation.result or 0)
        if operation.op == "add":
            return ("i", operation.value, None if unknown else operation.result)
        raise ValueError(f"a counter knows no {operation.op!r}")

    def step(self, state: Hashable, action: Action) -> Hashable:
        if action[0] == "r":
            return state if state == action[1] else IMPOSSIBLE
        after: int = state + action[1]  # type: ignore[operator]  # both are numbers
        return after if action[2] is None or action[2] == after else IMPOSSIBLE

    def needs(self, action: Action) -> Hashable:
        if action[0] == "r":
            return action[1]
        if action[2] is None:
            return NOTHING
        return action[2] - action[1]  # type: ignore[operator, no-any-return]  # both are numbers


class List(Model):
    """What was appended, in order."""

    initial: Hashable = ()

    def action(self, operation: Operation) -> Action | None:
        if operation.op == "read":
            return None if operation.outcome == UNKNOWN else ("r", tuple(operation.result or ()))
        if operation.op == "append":
            return ("a", operation.value)
        raise ValueError(f"a list knows no {operation.op!r}")

    def step(self, state: Hashable, action: Action) -> Hashable:
        assert isinstance(state, tuple)
        if action[0] == "r":
            return state if state == action[1] else IMPOSSIBLE
        return (*state, action[1])


class Set(Model):
    """What was added."""

    initial: Hashable = frozenset()

    def action(self, operation: Operation) -> Action | None:
        if operation.op == "read":
            if operation.outcome == UNKNOWN:
                return None
            return ("r", frozenset(operation.result or ()))
        if operation.op == "add":
            return ("a", operation.value)
        raise ValueError(f"a set knows no {operation.op!r}")

    def step(self, state: Hashable, action: Action) -> Hashable:
        assert isinstance(state, frozenset)
        if action[0] == "r":
            return state if state == action[1] else IMPOSSIBLE
        return state | {action[1]}


MODELS: Final[dict[str, Model]] = {
    "register": Register(),
    "counter": Counter(),
    "list": List(),
    "set": Set(),
}
