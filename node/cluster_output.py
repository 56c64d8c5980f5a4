"""The supervisor's stdout, behind a queue and a thread.

    n1, n2, n3 --pass_on--> |                |
    supervisor -----say---> | lines, in order | ---> writer thread ---> stdout

Invariants:
  Nobody who calls here waits: a terminal held by Ctrl-S, or a program that does not read its
  pipe, must not hold up the supervisor, and through full pipes the nodes and so the store.
  When 10,000 lines wait, further lines of nodes are dropped and counted; lines of the
  supervisor's own are few and always kept.
  When the reader is gone, `closed` is called once, from the writer thread.

A crash loses the lines that wait.

Does not do: colours, files.

Proved by: tests/node/test_cluster_supervisor.py
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Final

__all__ = ["Output"]

LINES_WAITING_MAX: Final = 10_000


class Output:
    """Our stdout behind a queue, so that nothing here waits for who reads it."""

    def __init__(self, closed: Callable[[], object]) -> None:
        self._closed = closed
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="output", daemon=True)
        self._thread.start()

    def say(self, line: str) -> None:
        """Print a line of our own, soon. They are few, and never dropped."""
        if self._dropped:
            self._lines.put(f"({self._dropped} lines of nodes were not shown: nobody read them)")
            self._dropped = 0
        self._lines.put(line)

    def pass_on(self, line: str) -> None:
        """Print a line of a node, soon; drop it when too many wait."""
        if self._lines.qsize() >= LINES_WAITING_MAX:
            self._dropped += 1
        else:
            self.say(line)

    def close(self) -> None:
        """Print what waits, for a moment; a reader that does not read is not waited for."""
        self._lines.put(None)
        self._thread.join(0.5)

    def _write(self) -> None:
        # Past Python's own buffer, whose flush at exit would wait, or complain of a closed pipe.
        descriptor = sys.stdout.fileno()
        while (line := self._lines.get()) is not None:
            data = memoryview(line.encode("utf-8", "replace") + b"\n")
            try:
                while data:
                    data = data[os.write(descriptor, data) :]
            except OSError:
                # Our reader is gone (`trimaran cluster | head`, a closed terminal).
                self._closed()
                return
