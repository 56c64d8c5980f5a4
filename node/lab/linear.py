"""Is a history linearizable? Each key by itself, and the smallest proof when it is not.

    check(operations, model) -> Answer      valid | broken (and where) | unknown (gave up)

Linearizable means: every operation took effect at one moment between its start and its end, and
the answers are those of the sequential machine (models) in the order of these moments. It is a
local property (Herlihy and Wing), so each key is judged alone.

Method: Wing and Gong's search as Lowe made it ("Testing for linearizability", 2017): just in
time. The history is read once, in order of time, with the set of all configurations that
it allows so far:

    configuration = (state, which pending operations have taken effect, unknown ones used)

    start    the operation is pending
    end      it has to have taken effect by now: each configuration in which it has not is
             extended by pending operations, in every order, until it has; none left = broken

Nothing needs to take effect before some end forces it to, so this finds every order. Two ways
to the same configuration are one (Lowe's memo). What keeps the set small, and why it may:
  reads     take effect as soon as they can: they change nothing, so it costs no possibility
  unknown   never has to take effect, so of two configurations that differ only in the
            unknown operations used, the one that used fewer can do all that the other can;
            of equal ones the oldest is used first; and one is only used when what it makes is
            what a pending operation needs: otherwise whatever came next hides it, and the
            same order without it is as good

Time: one pass; space: the configurations, few unless many operations of one key overlap. Above
`configurations_max` the answer is "unknown", never a guess.

Proved by: tests/lab/test_linear.py (against all permutations, on thousands of histories)
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final

from node.lab.history import FAIL, OK, UNKNOWN, Operation
from node.lab.models import IMPOSSIBLE, NOTHING, SOME, Action, Model

__all__ = ["BROKEN", "UNDECIDED", "VALID", "Answer", "by_key", "check", "check_key"]

VALID: Final = "valid"
BROKEN: Final = "broken"
UNDECIDED: Final = "unknown"
CONFIGURATIONS_MAX: Final = 100_000

_Ids = frozenset[int]
_Configurations = dict[tuple[Hashable, _Ids], list[_Ids]]
"""(state, pending that took effect) -> the smallest sets of unknown ones used for it."""


@dataclass
class Answer:
    """What came out; of a broken history the key and the operation that cannot have been."""

    verdict: str
    operations_count: int = 0
    keys_count: int = 0
    key: str = ""
    culprit: Operation | None = None
    proof: list[Operation] = field(default_factory=list)
    """A part of the history that is broken by itself, as small as could be found."""
    undecided: list[str] = field(default_factory=list)
    """Keys for which the search was given up."""


class _TooMany(Exception):
    """More configurations than allowed."""


def by_key(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    """The operations of each key, without those that certainly did not happen."""
    keys: dict[str, list[Operation]] = {}
    for operation in operations:
        if operation.outcome != FAIL:
            keys.setdefault(operation.key, []).append(operation)
    return keys


def check(
    operations: Iterable[Operation],
    model: Model,
    *,
    configurations_max: int = CONFIGURATIONS_MAX,
) -> Answer:
    """Judge every key; stops at the first that is broken."""
    answer = Answer(VALID)
    for key, own in by_key(operations).items():
        answer.operations_count += len(own)
        answer.keys_count += 1
        verdict, culprit = check_key(own, model, configurations_max=configurations_max)
        if verdict == BROKEN:
            answer.verdict, answer.key, answer.culprit = BROKEN, key, culprit
            return answer
        if verdict == UNDECIDED:
            answer.verdict = UNDECIDED
            answer.undecided.append(key)
    return answer


def check_key(
    operations: list[Operation],
    model: Model,
    *,
    initial: Hashable = NOTHING,
    configurations_max: int = CONFIGURATIONS_MAX,
) -> tuple[str, Operation | None]:
    """Judge the operations of one key.

    Args:
        initial: the state at the beginning; the model's own when left out.

    Returns: the verdict, and the first operation whose answer is impossible.
    """
    search = _Search(model, model.initial if initial is NOTHING else initial, configurations_max)
    events: list[tuple[int, int, int]] = []
    for number, operation in enumerate(operations):
        action = model.action(operation)
        if operation.outcome == FAIL or action is None:
            continue
        # At one microsecond starts come before ends: what touches counts as overlapping.
        events.append((operation.start_us, 0, number))
        if operation.outcome == OK:
            events.append((operation.end_us, 1, number))
        search.actions[number] = action
    events.sort()
    try:
        for _, is_end, number in events:
            if not is_end:
                search.begin(number, operations[number].outcome == UNKNOWN)
            elif not search.end(number):
                return BROKEN, operations[number]
    except _TooMany:
        return UNDECIDED, None
    return VALID, None


class _Search:
    """The configurations of one key, as far as the history has been read."""

    def __init__(self, model: Model, initial: Hashable, configurations_max: int) -> None:
        self.actions: dict[int, Action] = {}
        self._model = model
        self._max = configurations_max
        self._reads: dict[int, Action] = {}
        self._changes: dict[int, Action] = {}
        self._unknown: dict[Action, list[int]] = {}
        """Unknown ones that do the same, oldest first."""
        self._now: _Configurations = {(initial, frozenset()): [frozenset()]}

    def begin(self, number: int, unknown: bool) -> None:
        """An operation has started."""
        action = self.actions[number]
        if unknown:
            if not self._model.reads(action):
                self._unknown.setdefault(action, []).append(number)
        elif not self._model.reads(action):
            self._changes[number] = action
        else:
            self._reads[number] = action
            step = self._model.step
            self._now = {
                (state, done if step(state, action) is IMPOSSIBLE else done | {number}): used
                for (state, done), used in self._now.items()
            }

    def end(self, number: int) -> bool:
        """It was answered; whether any configuration is left."""
        after: _Configurations = {}
        late: list[tuple[Hashable, _Ids, _Ids]] = []
        for (state, done), used_sets in self._now.items():
            if number in done:
                for used in used_sets:
                    _keep(after, state, done - {number}, used)
            else:
                late += [(state, done, used) for used in used_sets]
        if late:
            self._extend(number, late, after)
        self._reads.pop(number, None)
        self._changes.pop(number, None)
        self._now = after
        return bool(after)

    def _extend(
        self, number: int, stack: list[tuple[Hashable, _Ids, _Ids]], after: _Configurations
    ) -> None:
        """Let pending operations take effect, in every order, until `number` has."""
        model, last = self._model, self.actions[number]
        is_read = number in self._reads
        seen = set(stack)
        while stack:
            state, done, used = stack.pop()
            if is_read and number in done:
                _keep(after, state, done - {number}, used)
                continue
            if not is_read:
                then = model.step(state, last)
                if then is not IMPOSSIBLE:
                    _keep(after, then, self._look(then, done), used)
            for other, action in self._changes.items():
                if other != number and other not in done:
                    self._push(stack, seen, model.step(state, action), done | {other}, used)
            for action, other in self._worth(done, used):
                self._push(stack, seen, model.step(state, action), done, used | {other})
            if len(seen) > self._max or len(after) > self._max:
                raise _TooMany

    def _push(
        self,
        stack: list[tuple[Hashable, _Ids, _Ids]],
        seen: set[tuple[Hashable, _Ids, _Ids]],
        state: Hashable,
        done: _Ids,
        used: _Ids,
    ) -> None:
        if state is IMPOSSIBLE:
            return
        configuration = (state, self._look(state, done), used)
        if configuration not in seen:
            seen.add(configuration)
            stack.append(configuration)

    def _look(self, state: Hashable, done: _Ids) -> _Ids:
        """Every pending read that can take effect in this state does."""
        step = self._model.step
        seen = [
            number
            for number, action in self._reads.items()
            if number not in done and step(state, action) is not IMPOSSIBLE
        ]
        return done.union(seen) if seen else done

    def _worth(self, done: _Ids, used: _Ids) -> list[tuple[Action, int]]:
        """Unknown operations that may take effect now with any use."""
        if not self._unknown:
            return []
        ready = [
            (action, number)
            for action, numbers in self._unknown.items()
            if (number := next((each for each in numbers if each not in used), -1)) >= 0
        ]
        needs, makes = self._model.needs, self._model.makes
        wanted = {
            needs(action)
            for pending in (self._reads, self._changes)
            for number, action in pending.items()
            if number not in done
        }
        if SOME in wanted:
            return ready
        while True:
            worth = [each for each in ready if (made := makes(each[0])) is SOME or made in wanted]
            more = {needs(action) for action, _ in worth} - wanted
            if not more:
                return worth
            if SOME in more:
                return ready
            wanted |= more


def _keep(configurations: _Configurations, state: Hashable, done: _Ids, used: _Ids) -> None:
    """Add one, unless one that used less is there; drop those that used more."""
    sets = configurations.setdefault((state, done), [])
    if any(other <= used for other in sets):
        return
    sets[:] = [other for other in sets if not used <= other]
    sets.append(used)
