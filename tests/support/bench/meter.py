"""What the machine spends while something is measured. Reads /proc; where there is none, nothing.

    meter = Meter(pids); meter.begin(); ...; meter.told() -> {"cpu_per_node", "cpu_generator",
                                                              "cpu_others", "flushes_s"}

    cpu_per_node    cores that each process used: user and system time of all its threads
    cpu_generator   the same of this process, and of those that it started and saw end
    cpu_others      what else the machine was busy with, the kernel's own threads included
    flushes_s       flushes that the machine's disks have done: fsyncs, of whoever else too

Proved by: tests/scripts/test_bench.py
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["Meter"]

_NAMES: Final = ("cpu_generator", "cpu_others", "flushes_s")


class Meter:
    """Between `begin` and `told`."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = list(pids)
        self._begun_s: float | None = None
        self._before: list[float] = []

    @property
    def runs(self) -> bool:
        """Whether it has begun."""
        return self._begun_s is not None

    def begin(self) -> None:
        """From now on."""
        self._begun_s = time.perf_counter()
        self._before = self._read()

    def _read(self) -> list[float]:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        generator_s = time.process_time() + used.ru_utime + used.ru_stime
        return [*map(_cpu_s, self._pids), generator_s, _busy_s(), _flushes()]

    def told(self) -> dict[str, Any]:
        """Each per second since it began."""
        if self._begun_s is None:
            return {"cpu_per_node": [], **dict.fromkeys(_NAMES)}
        seconds = max(time.perf_counter() - self._begun_s, 1e-9)
        used = [
            (after - before) / seconds
            for after, before in zip(self._read(), self._before, strict=True)
        ]
        *nodes, generator, busy, flushes = (round(each, 3) for each in used)
        others = round(max(busy - sum(nodes) - generator, 0.0), 3)
        found = dict(zip(_NAMES, (generator, others, flushes), strict=True))
        return {"cpu_per_node": nodes, **found}


def _cpu_s(pid: int) -> float:
    """User and system time of a process so far; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _busy_s() -> float:
    """Time that all cores have not been idle, or waiting for a disk; not time stolen."""
    try:
        words = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()
    except OSError:
        return 0.0
    user, nice, system, _idle, _waiting, irq, softirq = map(int, words[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _flushes() -> float:
    """Flush requests that all disks have completed (the kernel's iostats, field 16)."""
    try:
        text = Path("/proc/diskstats").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return float(sum(int(row[18]) for row in map(str.split, text.splitlines()) if len(row) > 18))
