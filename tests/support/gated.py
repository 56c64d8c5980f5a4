"""A disk whose background work stands still until a test lets it go on, call by call.

    GatedDisk(inner, gate)    passes everything on; before a call that changes something, a thread
                              that is not the owner's waits at the gate
    gate.let(count)           that many calls may pass; returns when they have, or the work ended
    with gate.opened(): ...   everything passes: for what waits for background work to end

So a background checkpoint is cut into steps that a test (or hypothesis) puts between its own,
and a crash between two of them is the same crash at every replay.

NB: the owner may wait for a thread without the test's knowledge (a full segment waits for the next
one). The gate sees it in `Job.wait` or `Job.cancel` then, and lets the thread go on, as the same
calls of the owner would at every replay. PATIENCE_S is only there so that nothing hangs.

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

PATIENCE_S: Final = 2.0
_LOOK_S: Final = 0.0002
_OWNER_LOOK_S: Final = 0.001
_standing: set[int] = set()
"""Idents of the threads that are in Job.wait or Job.cancel."""


def _noted(method: Callable[[Job[Any]], Any]) -> Callable[[Job[Any]], Any]:
    @wraps(method)
    def call(job: Job[Any]) -> Any:
        ident = threading.get_ident()
        _standing.add(ident)
        try:
            return method(job)
        finally:
            _standing.discard(ident)

    return call


# NB: looking at the owner's stack instead is unsafe: its frames are reused while they are read.
for _name in ("wait", "cancel"):
    setattr(Job, _name, _noted(getattr(Job, _name)))

_CHANGES: Final = frozenset(
    ("open_log", "open_write", "write_new", "rename", "link", "unlink", "sync_dir", "make_dir")
) | {"remove_tree"}


class Gate:
    """See the top of the file. Made by the owner's thread."""

    def __init__(self) -> None:
        self._owner = threading.current_thread()
        self._changed = threading.Condition()
        self._permits = 0
        self._open = 0
        self._waiting: set[threading.Thread] = set()
        self._seen: set[threading.Thread] = set()

    def pass_through(self) -> None:
        """Called in front of each change, by whichever thread makes it."""
        thread = threading.current_thread()
        if thread is self._owner:
            return
        with self._changed:
            self._seen.add(thread)
            self._waiting.add(thread)
            self._changed.notify_all()
            for _ in range(int(PATIENCE_S / _OWNER_LOOK_S)):
                if self._open or self._permits or self._owner_waits():
                    break
                self._changed.wait(_OWNER_LOOK_S)
            self._permits = max(0, self._permits - 1)
            self._waiting.discard(thread)
            self._changed.notify_all()

    def _owner_waits(self) -> bool:
        """Whether the owner stands still until a background thread has ended."""
        return self._owner.ident in _standing

    def let(self, count: int) -> None:
        """Let `count` changes pass and wait until the work is at the gate again, or at its end."""
        with self._changed:
            for _ in range(count):
                self._seen = {thread for thread in self._seen if thread.is_alive()}
                if not self._seen:
                    return
                self._permits = 1
                self._changed.notify_all()
                for _ in range(int(PATIENCE_S / _LOOK_S)):
                    if not self._permits and (self._waiting or not self._working()):
                        break
                    self._changed.wait(_LOOK_S)
                self._permits = 0

    def _working(self) -> bool:
        return any(thread.is_alive() for thread in self._seen)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Everything passes meanwhile."""
        with self._changed:
            self._open += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._open -= 1

    def open_for_good(self) -> None:
        """Nobody waits any more: the test is done with this machine."""
        with self._changed:
            self._open += 1
            self._changed.notify_all()


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
