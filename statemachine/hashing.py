"""SHA-256 of a large file beside the work on it: hashing lets the interpreter go.

    owner                       thread
    update(bytes)   ------->    hashed, in order
    digest()        <-------    all of it is hashed; the thread has ended

Invariants: `digest` is that of all bytes handed over before, in their order; no thread is left
behind `digest` or `close`; at most WAITING_MAX pieces wait to be hashed, or their owner waits.
Below a MiB there is no thread: it would cost more than it saves.

A crash: nothing is kept. What it does not do: read.

Proved by: tests/statemachine/test_hashing.py
"""

from __future__ import annotations

import hashlib
import threading
from queue import SimpleQueue
from typing import Final

__all__ = ["WAITING_MAX", "Sha256Beside"]

WAITING_MAX: Final = 64
_THREAD_BYTES_MIN: Final = 1024 * 1024


class Sha256Beside:
    """A running SHA-256.

    Args:
        size_bytes: of all that will come; of much, in a thread of its own.
    """

    def __init__(self, size_bytes: int) -> None:
        self._sha256 = hashlib.sha256()
        self._queue: SimpleQueue[tuple[bytes, ...] | None] = SimpleQueue()
        self._room = threading.Semaphore(WAITING_MAX)
        self._thread: threading.Thread | None = None
        if size_bytes >= _THREAD_BYTES_MIN:
            self._thread = threading.Thread(target=self._work, name="trimaran-sha256", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while (parts := self._queue.get()) is not None:
            self._hash(parts)
            self._room.release()

    def _hash(self, parts: tuple[bytes, ...]) -> None:
        for part in parts:
            self._sha256.update(part)

    def update(self, *parts: bytes) -> None:
        """More bytes."""
        if self._thread is not None:
            self._room.acquire()
            self._queue.put(parts)
        else:
            self._hash(parts)

    def digest(self) -> bytes:
        """Of all so far. The thread ends: what little follows is hashed by the caller's."""
        self.close()
        return self._sha256.digest()

    def close(self) -> None:
        """End the thread. Closing twice is harmless."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
