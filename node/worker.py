"""A thread for file work that the loop must not wait for: asked in the loop, told in the loop.

    loop     do(work, done) ------>  thread: result = work()  ------>  loop: done(result)

Work is done in the order in which it was asked for, one at a time. Whatever it raises is a
failure of the disk or a bug: it goes to `on_failure`, and that work is told nothing more.
The thread is started by the first work and ended by `close`, which waits for the work under
way and forgets the rest.

With `threaded=False` (virtual time) the work is done within `do`, and told in a later turn.

Proved by: tests/node/test_worker.py
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Worker"]

T = TypeVar("T")


class Worker:
    """One thread.

    Args:
        name: of the thread.
        call_soon_threadsafe: runs a function in the loop's thread.
        on_failure: told in the loop's thread of what a work raised.
    """

    def __init__(
        self,
        name: str,
        *,
        call_soon_threadsafe: Callable[..., object],
        on_failure: Callable[[Exception], None],
        threaded: bool = True,
    ) -> None:
        self._name = name
        self._call_soon_threadsafe = call_soon_threadsafe
        self._on_failure = on_failure
        self._threaded = threaded
        self._asked: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any], None]] | None]
        self._asked = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def do(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Have `work` done elsewhere, and its result handed to `done` in the loop."""
        if self._closed:
            return
        if not self._threaded:
            self._run(work, done)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
            self._thread.start()
        self._asked.put((work, done))

    def _loop(self) -> None:
        while (asked := self._asked.get()) is not None and not self._closed:
            self._run(*asked)

    def _run(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - handed to the one door
            self._tell(self._on_failure, error)
        else:
            self._tell(done, result)

    def _tell(self, function: Callable[..., None], argument: object) -> None:
        try:
            self._call_soon_threadsafe(self._hand_over, function, argument)
        except RuntimeError:
            pass  # the loop is closed: nobody is left to be told

    def _hand_over(self, function: Callable[..., None], argument: object) -> None:
        if not self._closed:
            function(argument)

    def close(self) -> None:
        """End the thread; nobody is told anything after this. Closing twice is harmless."""
        self._closed = True
        thread, self._thread = self._thread, None
        if thread is not None:
            self._asked.put(None)
            thread.join()
