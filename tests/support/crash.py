"""Disks for crash tests: one that remembers what was synced, others that fail when told to.

    memory_disk    MemoryDisk, a FileSystem in memory; Crash, what a crash leaves of it
    memory_files   the files that it opens
    failing_disk   FailingDisk fails the N-th call of another FileSystem that changes something
    faulty_disk    FaultyDisk fails any call: once or from then on, done or not, half or whole
    volume         what was synced and what was not, frozen
    crash_states   every legal state of a frozen disk after a crash
    hand_driven    background threads that take one step when they are told to

This file only re-exports what most tests need.
"""

from __future__ import annotations

from tests.support.failing_disk import FailingDisk
from tests.support.memory_disk import Crash, MemoryDisk

__all__ = ["Crash", "FailingDisk", "MemoryDisk"]
