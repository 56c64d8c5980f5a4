"""The worker: file work in order, elsewhere, told in the loop; its failures go to the one door."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from node.worker import Worker
from tests.support.turns import Turns

Setup = tuple[Turns, Worker, list[Exception]]


@pytest.fixture(params=[True, False], ids=["thread", "virtual time"])
def setup(request: pytest.FixtureRequest) -> Iterator[Setup]:
    turns = Turns()
    failures: list[Exception] = []
    worker = Worker(
        "test", call_soon_threadsafe=turns.soon, on_failure=failures.append, threaded=request.param
    )
    yield turns, worker, failures
    worker.close()


def test_results_come_in_order_and_in_the_loop(setup: Setup) -> None:
    turns, worker, _ = setup
    told: list[tuple[int, int]] = []
    for number in range(20):
        worker.do(lambda n=number: n * n, lambda n: told.append((n, threading.get_ident())))
    assert told == []
    turns.run_until(lambda: len(told) == 20)
    assert told == [(number * number, threading.get_ident()) for number in range(20)]


def test_what_a_work_raises_goes_to_the_door_and_the_next_work_is_done(setup: Setup) -> None:
    turns, worker, failures = setup
    told: list[int] = []
    worker.do(lambda: 1 // 0, told.append)
    worker.do(lambda: 7, told.append)
    turns.run_until(lambda: bool(told))
    assert told == [7]
    assert [type(each) for each in failures] == [ZeroDivisionError]


def test_after_it_is_closed_nobody_is_told_anything(setup: Setup) -> None:
    turns, worker, failures = setup
    told: list[int] = []
    worker.do(lambda: 1, told.append)
    worker.close()
    worker.close()
    worker.do(lambda: 2, told.append)
    turns.run()
    assert (told, failures) == ([], [])


def test_closing_waits_for_the_work_under_way() -> None:
    turns = Turns()
    worker = Worker("test", call_soon_threadsafe=turns.soon, on_failure=print)
    began, end = threading.Event(), threading.Event()
    ended: list[bool] = []

    def work() -> None:
        began.set()
        assert end.wait(10)
        ended.append(True)

    worker.do(work, lambda _: None)
    assert began.wait(10)
    threading.Timer(0.05, end.set).start()
    worker.close()
    assert ended == [True]
