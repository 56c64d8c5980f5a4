"""Background threads that take one step when they are told to: the same interleaving in every run.

    with hand_driven(disk) as hands:      statemachine.job starts its threads through here
        machine.maybe_checkpoint(0.0)     the thread begins, and is held before its first change of
        hands.step()                      the disk; one step is one change
        hands.finish()                    to its end

A thread that somebody waits for (join) runs to its end at once, or the owner would wait for ever.
`hands.eager = N` lets each new thread take its first N steps when it starts.

What it does not do: hold a thread anywhere but before a change of the disk.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import statemachine.job
from tests.support.memory_disk import MemoryDisk

__all__ = ["HandDriven", "HeldThread", "hand_driven"]


class HandDriven:
    """Stands where `statemachine.job` looks for the module `threading`."""

    def __init__(self) -> None:
        self.eager = 0
        self._threads: list[HeldThread] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)

    def Thread(self, **options: Any) -> HeldThread:  # The name in `threading`.
        thread = HeldThread(**options)
        thread.eager = self.eager
        self._threads.append(thread)
        return thread

    def before_step(self) -> None:
        """To be called by whoever is about to change the disk."""
        thread = threading.current_thread()
        if isinstance(thread, HeldThread):
            thread.hold()

    @property
    def busy(self) -> bool:
        """Whether a thread is under way."""
        return any(thread.is_alive() for thread in self._threads)

    def step(self, count: int = 1) -> None:
        """Let the oldest thread change the disk so many times; less when it ends before."""
        for thread in self._threads:
            if thread.is_alive():
                thread.go(count)
                return

    def finish(self) -> None:
        """Let all threads run to their end."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()


class HeldThread(threading.Thread):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.eager = 0
        self._allowed = 0
        self._freed = False
        self._held = False
        self._change = threading.Condition()

    def run(self) -> None:
        try:
            super().run()
        finally:
            with self._change:
                self._held = True
                self._freed = True
                self._change.notify_all()

    def start(self) -> None:
        super().start()
        self.go(self.eager)

    def hold(self) -> None:
        """In the thread: wait until it may take one more step."""
        with self._change:
            while not self._freed and not self._allowed:
                self._held = True
                self._change.notify_all()
                self._change.wait()
            self._held = False
            self._allowed -= 1

    def go(self, count: int) -> None:
        """Not in the thread: let it take so many steps, and wait until it has."""
        with self._change:
            self._allowed = count
            self._held = False
            self._change.notify_all()
            while not (self._held and self._allowed <= 0) and not self._freed:
                self._change.wait()

    def join(self, timeout: float | None = None) -> None:
        with self._change:
            self._freed = True
            self._change.notify_all()
        super().join(timeout)

    def is_alive(self) -> bool:
        # Between its last word and its end a thread is a moment alive: nobody should see that.
        if self._freed and super().is_alive():
            super().join()
        return super().is_alive()


@contextlib.contextmanager
def hand_driven(*disks: MemoryDisk) -> Iterator[HandDriven]:
    """Hold the threads that statemachine.job starts at these disks' doors."""
    hands = HandDriven()
    for disk in disks:
        disk.before_step = hands.before_step
    module: Any = statemachine.job
    module.threading = hands
    try:
        yield hands
    finally:
        module.threading = threading
        for disk in disks:
            disk.before_step = None
        hands.finish()
