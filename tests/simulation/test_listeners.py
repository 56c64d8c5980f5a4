"""Listeners see what they are there to see: a bug that is put in on purpose, for each of them.

Method: plans of `swizzle` with one kind of listener each; without the bug they are well, with it
one of the first few is not. The bugs: a change that a watch is not told of, one told twice, an
invalidation that is forgotten, a WATCH that looks at nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from node import watches
from node.commands.transactions import Transaction
from node.tracking import Tracker
from tests.simulation.plan import Plan
from tests.simulation.run import run

SEEDS = range(1, 13)


def violations(listener: str) -> list[str]:
    """What the first plan that is not well says."""
    for seed in SEEDS:
        plan = dataclasses.replace(Plan.of(seed, "swizzle", for_s=1.5), listeners=(listener,) * 2)
        if found := run(plan).violations:
            return found
    return []


@pytest.mark.parametrize("listener", ["watch", "cache", "optimist"])
def test_what_is_told_is_true(listener: str) -> None:
    assert violations(listener) == []


def _every_ninth(frame: Callable[..., bytes], times: int) -> Callable[..., bytes]:
    """Every ninth frame with events is made `times` times."""
    made = [0]

    def make(watch: Any, revision: int, events: list[Any]) -> bytes:
        made[0] += bool(events)
        count = times if events and made[0] % 9 == 0 else 1
        return frame(watch, revision, events) * count

    return make


@pytest.mark.parametrize(("times", "said"), [(0, "was not told of"), (2, "behind")])
def test_a_watch_that_leaves_out_or_repeats_is_found(times: int, said: str) -> None:
    with mock.patch.object(watches, "frame", _every_ninth(watches.frame, times)):
        assert said in violations("watch")[0]


def test_a_cache_that_is_not_told_is_found() -> None:
    with mock.patch.object(Tracker, "_invalidate", return_value=None):
        assert "a cache still has" in violations("cache")[0]


def test_a_transaction_that_looks_at_nothing_is_found() -> None:
    execute = Transaction.execute
    with mock.patch.object(Transaction, "execute", lambda self, at, _: execute(self, at, {})):
        assert "EXEC although" in violations("optimist")[0]
