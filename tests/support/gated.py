"""A disk whose background work stands still until a test lets it go on, call by call.

    patch threading in statemachine.job by HandDriven (hand_driven.py), then
    GatedDisk(inner, gate)    passes everything on; before a call that changes something, a thread
                              of a job is held at the gate
    gate.let(count)           that many calls may pass; returns when they have, or the work ended
    gate.finish()             all of it, to its end

So a background checkpoint is cut into steps that a test (or hypothesis) puts between its own,
and a crash between two of them is the same crash at every replay: a thread runs only while its
owner waits for it, from one gate to the next, or to its end if the owner waits for that. Nothing
depends on how fast a thread is, and no clock is asked.

Beside hand_driven alone: any FileSystem, and one call of it is one step.

Proved by: tests/statemachine/test_gated.py, tests/statemachine/test_machine_model.py
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from statemachine.fs import FileSystem
from tests.support.hand_driven import HeldThread

__all__ = ["Gate", "GatedDisk"]

_CHANGES: Final = frozenset(
    ("open_log", "open_write", "write_new", "rename", "link", "unlink", "sync_dir", "make_dir")
) | {"remove_tree"}


class Gate:
    """See the top of the file. One for each machine."""

    def __init__(self) -> None:
        self._threads: list[HeldThread] = []

    def pass_through(self) -> None:
        """Called in front of each change, by whichever thread makes it."""
        thread = threading.current_thread()
        if isinstance(thread, HeldThread):
            if thread not in self._threads:
                self._threads.append(thread)
            thread.hold()

    def let(self, count: int) -> None:
        """Let `count` changes pass, by turns when several threads are at it."""
        for number in range(count):
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            if not self._threads:
                return
            self._threads[number % len(self._threads)].go(1)

    def finish(self) -> None:
        """Let all of it run to its end, and wait."""
        for thread in self._threads:
            thread.join()


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
