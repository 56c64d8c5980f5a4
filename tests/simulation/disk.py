"""The disk of a simulated machine: tests/support/memory_disk.py, and everything that goes wrong.

    die_at(steps, crash, seed)   the machine loses power within the steps-th change from now: left
                                 is what `crashed` says of that very moment; the process ends in the
                                 middle of that call (loop.Died)
    fail_at(steps, done, sticky) that change fails with EIO, done all the same or not at all
    full                         every write fails with ENOSPC; none is free
    flip_vouched(rng)            turn a bit that the node has vouched for: it must notice at boot

Once `dead`, nothing is written any more and every call ends the process anew: whoever still runs is
in a process that is gone.

Proved by: tests/simulation/test_simulation_parts.py
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from pathlib import Path

from statemachine.errors import Fatal
from statemachine.segment import JOURNAL_MAGIC, read_segment
from tests.simulation.loop import Died
from tests.support.memory_disk import Crash, MemoryDisk
from tests.support.memory_files import failed
from tests.support.volume import FileNode

__all__ = ["SimDisk"]

FREE_BYTES = 1 << 40


class SimDisk(MemoryDisk):
    """See the top of the file. One process uses it; the next one gets `survivor`."""

    def __init__(self) -> None:
        super().__init__()
        self.dead = False
        self.survivor: SimDisk | None = None
        self.on_death: Callable[[str], None] = lambda step: None
        self.on_failure: Callable[[str], None] = lambda step: None
        self.steps = 0
        self._die_in = 0
        self._crash: tuple[Crash, int] = (Crash.ALL, 0)
        self._fail_in = 0
        self._fail_done = False
        self._sticky = False
        self.broken = False
        self.full = False

    # -- faults -----------------------------------------------------------------------------

    def die_at(self, steps: int, crash: Crash, seed: int) -> None:
        """Lose power within the steps-th change from now."""
        self._die_in, self._crash = steps, (crash, seed)

    def fail_at(self, steps: int, *, done: bool, sticky: bool) -> None:
        """Fail that change; and every later one, if it is sticky."""
        self._fail_in, self._fail_done, self._sticky = steps, done, sticky

    def calm(self) -> None:
        """No fault is waiting any more."""
        self._die_in = self._fail_in = 0
        self.broken = self.full = False

    def lose_power(self, crash: Crash, seed: int) -> SimDisk:
        """It is dead from now on; what the next process finds."""
        if self.survivor is None:
            self.survivor = _as_sim(self.crashed(crash, seed))
            self.dead = True
        return self.survivor

    def free_bytes(self, path: Path) -> int:
        return 0 if self.full else FREE_BYTES

    # -- every change -----------------------------------------------------------------------

    def _begin(self) -> None:
        if self.dead:
            raise Died
        self.steps += 1
        if self._fail_in > 0:
            self._fail_in -= 1
            if not self._fail_in:
                if not self._fail_done:
                    self.broken = self._sticky
                    self._fail("before a change")
                self._fail_in = -1  # in `step`, once it is done
        if self.broken:
            self._fail("after a failure")
        if self.full:
            self._fail("without room", errno.ENOSPC)

    def _fail(self, when: str, number: int = errno.EIO) -> None:
        self.on_failure(when)
        raise failed(Path("disk"), when, number)

    def change(self, name: str, change: Callable[[], None], node: FileNode) -> None:
        if self.full and name != "write":  # what was written fits; it can be synced, and cut
            self.full = False
            try:
                super().change(name, change, node)
            finally:
                self.full = True
            return
        super().change(name, change, node)

    def unlink(self, path: Path) -> None:
        full, self.full = self.full, False
        try:
            super().unlink(path)
        finally:
            self.full = full

    def step(self, name: str) -> None:
        super().step(name)
        if self._fail_in < 0:
            self._fail_in = 0
            self.broken = self._sticky
            self._fail(f"after a {name}")
        if self._die_in:
            self._die_in -= 1
            if not self._die_in:
                self.lose_power(*self._crash)
                self.on_death(name)
                raise Died

    # -- bits -------------------------------------------------------------------------------

    def flip_vouched(self, data_dir: Path, chance: random.Random) -> str:
        """Turn one bit around that was promised to be there; what it hit, "" if there is none."""
        spots = [spot for path in self.files() for spot in self._vouched(data_dir, path)]
        if not spots:
            return ""
        path, low, high = chance.choice(spots)
        self.flip(path, chance.randrange(low * 8, high * 8))
        return f"{path.parent.name}/{path.name}"

    def _vouched(self, data_dir: Path, path: Path) -> list[tuple[Path, int, int]]:
        """(path, first byte, end) of what no crash may have damaged."""
        kind, content = path.parent.name, self.content(path)
        if path.suffix == ".tmp" or not path.is_relative_to(data_dir) or not content:
            return []
        if kind == "checkpoint" and path.suffix == ".img":
            newest = max(
                each
                for each in self.files()
                if each.parent == path.parent and each.suffix == ".img"
            )
            return [(path, 0, len(content))] if path == newest else []
        if path.suffix != ".seg":
            return []
        try:
            contents = read_segment(path, content, JOURNAL_MAGIC, newest=True)
        except Fatal:
            return []
        # NB: not the header: of a segment without one that checks out nothing was promised, unless
        # a later one says so.
        first = contents.frames[0][0] if contents.frames else 0
        return [(path, first, contents.durable_bytes)] if contents.durable_bytes > first > 0 else []


def _as_sim(disk: MemoryDisk) -> SimDisk:
    found = SimDisk()
    found._directories = disk._directories
    return found
