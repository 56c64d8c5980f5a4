"""A disk whose background work stands still until a test lets it go on, call by call.

    GatedDisk(inner, gate)    passes everything on; before a call that changes something, a thread
                              that is not the owner's waits at the gate
    gate.let(count)           that many calls may pass; returns when they have, or the work ended
    with gate.opened(): ...   everything passes: for what waits for background work to end

So a background checkpoint is cut into steps that a test (or hypothesis) puts between its own,
and a crash between two of them is the same crash at every replay. For that nothing may depend on
how fast a thread is: `let` waits until each job stands at a gate or has ended, and of two that
stand there the first by name goes on.

NB: the owner may wait for a job without the test's knowledge (a full segment waits for the next).
The gate is told so (`Job.wait`, `Job.cancel`) and lets that one thread pass, as the same call of
the owner does at every replay. PATIENCE_S is only there so that nothing hangs.

Proved by: tests/statemachine/test_machine_model.py
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final

from statemachine.fs import FileSystem
from statemachine.job import Job

__all__ = ["Gate", "GatedDisk"]

PATIENCE_S: Final = 5.0
_LOOK_S: Final = 0.001

_CHANGES: Final = frozenset(
    ("open_log", "open_write", "write_new", "rename", "link", "unlink", "sync_dir", "make_dir")
) | {"remove_tree"}

_changed: Final = threading.Condition()
"""One for all gates: guards all that is below and in them."""
_born: Final[set[threading.Thread]] = set()
"""Threads of jobs that have come to no gate yet."""
_awaited: Final[set[threading.Thread]] = set()
"""Threads of jobs for whose end their owner waits."""


def _noted(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(job: Job[Any], *arguments: Any) -> Any:
        if method.__name__ == "__init__":
            method(job, *arguments)
            with _changed:
                if job._thread not in _seen:
                    _born.add(job._thread)
            return None
        thread = job._thread
        with _changed:
            _awaited.add(thread)
            _changed.notify_all()
        try:
            return method(job)
        finally:
            with _changed:
                _awaited.discard(thread)

    return call


_seen: Final[set[threading.Thread]] = set()
"""Threads that have come to a gate. Those that ended are swept by `let`."""
# NB: to look at the owner's stack instead would be unsafe: frames are reused while they are read.
for _name in ("__init__", "wait", "cancel"):
    setattr(Job, _name, _noted(getattr(Job, _name)))


class Gate:
    """See the top of the file. Made by the owner's thread."""

    def __init__(self) -> None:
        self._owner = threading.current_thread()
        self._open = 0
        self._permitted: threading.Thread | None = None
        self._waiting: set[threading.Thread] = set()
        self._mine: set[threading.Thread] = set()

    def pass_through(self) -> None:
        """Called in front of each change, by whichever thread makes it."""
        thread = threading.current_thread()
        if thread is self._owner:
            return
        with _changed:
            _born.discard(thread)
            _seen.add(thread)
            self._mine.add(thread)
            self._waiting.add(thread)
            _changed.notify_all()
            _changed.wait_for(
                lambda: self._open or self._permitted is thread or thread in _awaited, PATIENCE_S
            )
            if self._permitted is thread:
                self._permitted = None
            self._waiting.discard(thread)
            _changed.notify_all()

    def let(self, count: int) -> None:
        """Let `count` changes pass and wait until the work is at the gate again, or at its end."""
        with _changed:
            for _ in range(count):
                self._settle()
                if not self._waiting:
                    return
                self._permitted = min(self._waiting, key=lambda thread: thread.name)
                _changed.notify_all()
                self._settle()
                self._permitted = None

    def _settle(self) -> None:
        """Wait until every job stands at a gate or has ended. A thread says nothing at its end."""
        for _ in range(int(PATIENCE_S / _LOOK_S)):
            for known in (_born, _seen, self._mine):
                known -= {thread for thread in known if not thread.is_alive()}
            if self._permitted not in self._mine:
                self._permitted = None
            if not _born and self._permitted is None and self._mine <= self._waiting:
                return
            _changed.wait(_LOOK_S)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Everything passes meanwhile."""
        with _changed:
            self._open += 1
            _changed.notify_all()
        try:
            yield
        finally:
            with _changed:
                self._open -= 1

    def open_for_good(self) -> None:
        """Nobody waits any more: the test is done with this machine."""
        with _changed:
            self._open += 1
            _changed.notify_all()


class GatedDisk:
    """See the top of the file."""

    def __init__(self, inner: FileSystem, gate: Gate) -> None:
        self._inner = inner
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in _CHANGES:
            return method

        def call(path: Path, *arguments: Any, **options: Any) -> Any:
            self._gate.pass_through()
            result = method(path, *arguments, **options)
            return _GatedFile(self._gate, result) if name.startswith("open_") else result

        return call


class _GatedFile:
    def __init__(self, gate: Gate, inner: Any) -> None:
        self._gate = gate
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, data: bytes | Sequence[bytes]) -> Any:
        self._gate.pass_through()
        return self._inner.write(data)

    def sync(self) -> None:
        self._gate.pass_through()
        self._inner.sync()
