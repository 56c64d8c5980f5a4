"""One piece of background work: a thread that can be asked, awaited and stopped.

    owner                         thread
    Job(name, work)  ------->     work(check)      check() now and then, raises Stopped
    .running / .wait()            result or error, kept for the owner
    .stop()          ------->     ends at its next check

Invariants: `wait` and `stop` return only when the thread has ended, so nothing is written after
them; a job that is forgotten is stopped and waited for. Whatever goes wrong reaches the owner as
Fatal: a background job that failed has left the disk in a state nobody checked.

A crash ends the thread with the process. What is not done: no pool, no queue; one job at a time
is what the machine needs.

Proved by: tests/statemachine/test_checkpoint.py
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from statemachine.errors import Fatal

__all__ = ["Check", "Job", "Stopped"]

T = TypeVar("T")
Check = Callable[[], None]
"""Called by the work between steps; raises Stopped when its owner gave up on it."""


class Stopped(Exception):  # Not an error: the owner asked for it.
    """Raised inside a job whose owner does not want its result any more."""


class Job(Generic[T]):
    """Work in a thread of its own. Its methods are called by one thread, the owner's."""

    def __init__(self, name: str, work: Callable[[Check], T]) -> None:
        self._stopping = threading.Event()
        self._results: list[T] = []
        self._errors: list[Fatal] = []
        # The thread must not hold the job itself, or a forgotten job would never be stopped.
        self._thread = threading.Thread(
            target=_run,
            args=(work, self._stopping, self._results, self._errors),
            name=name,
            daemon=True,
        )
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the thread is still at work."""
        return self._thread.is_alive()

    def wait(self) -> T | None:
        """Wait for the end; the result, or None when the work was stopped before it.

        Raises: Fatal, whatever went wrong.
        """
        self._thread.join()
        if self._errors:
            raise self._errors[0]
        return self._results[0] if self._results else None

    def stop(self) -> T | None:
        """Ask it to end and wait. A result that was there by then is returned, as by `wait`."""
        self._stopping.set()
        return self.wait()

    def cancel(self) -> None:
        """Ask it to end and wait, without asking what came of it."""
        self._stopping.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def __del__(self) -> None:
        self.cancel()


def _run(
    work: Callable[[Check], T],
    stopping: threading.Event,
    results: list[T],
    errors: list[Fatal],
) -> None:
    def check() -> None:
        if stopping.is_set():
            raise Stopped

    try:
        results.append(work(check))
    except Stopped:
        return
    except Fatal as error:
        errors.append(error)
    except BaseException as error:  # noqa: BLE001  # A thread has nobody above it to raise to.
        fatal = Fatal(f"a background job died: {error!r}")
        fatal.__cause__ = error
        errors.append(fatal)
