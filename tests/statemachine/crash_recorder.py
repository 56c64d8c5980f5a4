"""What a workload did to its disk, and what a crash may leave of it: must be, may be.

    Recorder     the disk, and after each of its steps a Moment: the frozen disk, and what must and
                 what may be there if the machine dies now
    Track        one thing that moves on: last applied, the last snapshot, the one that is streamed

What is durable: under `always` what `apply` returned for; else what came before the last flush,
checkpoint, snapshot, install or reset that returned. After kill -9 (everything that was written is
there) it is what was acknowledged, under every policy. The workload says so (crash_run.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.crash import MemoryDisk
from tests.support.volume import Volume

__all__ = ["Killed", "Moment", "Opened", "Recorder", "Track"]

SNAPSHOTS_ARE_SYNCED = False
"""Whether a machine that finds a snapshot at boot syncs its names before it shows it."""


class Track:
    """Values that come one after the other, and how far along them a crash may find the disk."""

    def __init__(self, value: int) -> None:
        self.values = [value]
        self.acknowledged = 0
        self.durable = 0

    def begin(self, value: int) -> None:
        """From now on it may be there."""
        self.values.append(value)

    def acknowledge(self, *, durable: bool) -> None:
        """All that was begun is there after a kill, and after power loss if it is durable."""
        self.acknowledged = len(self.values) - 1
        if durable:
            self.durable = self.acknowledged

    def found(self, value: int, *, durable: bool = True) -> int:
        """After a kill: what the machine that was opened answers from; synced, if it is durable.

        Returns: which of the values before that was. What was acknowledged is among them.
        """
        allowed = self.values[self.acknowledged :]
        assert value in allowed, f"killed, and {value} was found, allowed are {allowed}"
        place = self.acknowledged + allowed.index(value)
        self.values.append(value)
        self.acknowledge(durable=durable)
        return place


@dataclass(frozen=True, slots=True)
class Opened:
    """What came of opening one state."""

    index: int = 0
    """Last applied."""
    snapshot: int = 0
    """The last entry in the last snapshot, as its metadata say."""
    stream: int = 0
    """The last entry in the newest snapshot that can be streamed."""
    problem: str = ""

    @property
    def values(self) -> tuple[int, int, int]:
        """For each track."""
        return self.index, self.snapshot, self.stream


@dataclass(slots=True)
class Moment:
    """A crash after one step. The lower ends are those just before the next step."""

    label: str
    volume: Volume
    written: int | None
    ends: tuple[int, ...]
    """How many values of each track were begun."""
    durable: tuple[int, ...] = ()
    acknowledged: tuple[int, ...] = ()
    settled: bool = False


class Recorder:
    """The disk of a workload, what came of its steps, and what it may count on."""

    def __init__(self, disk: MemoryDisk | None = None, found: Opened = Opened()) -> None:
        self.disk = disk or MemoryDisk()
        self.disk.on_step = self._step
        self.moments: list[Moment] = []
        self.applied, self.snapshots, self.streams = map(Track, found.values)
        self.kill_at = 0
        """At this step the process is killed (Killed is raised); 0: at none."""
        self.dead = False
        self.steps = 0

    @property
    def tracks(self) -> tuple[Track, ...]:
        return self.applied, self.snapshots, self.streams

    def begin_snapshot(self, index: int) -> None:
        """It may be the last one from now on, and be streamed to others."""
        self.snapshots.begin(index)
        self.streams.begin(index)

    def acknowledge_snapshot(self) -> None:
        """It is durable."""
        self.snapshots.acknowledge(durable=True)
        self.streams.acknowledge(durable=True)

    def _step(self, name: str) -> None:
        self.steps += 1
        self.settle()
        self.note(f"step {self.steps}, after {name}")
        if self.steps == self.kill_at:
            self.dead = True
        self.check_alive()

    def check_alive(self) -> None:
        """A killed process does nothing more, in none of its threads.

        Raises: Killed.
        """
        if self.dead:
            raise Killed

    def buried(self) -> None:
        """All threads of the killed process have ended: another one may begin."""
        self.dead = False
        self.kill_at = 0

    def note(self, label: str) -> None:
        """It may die now."""
        ends = tuple(len(track.values) for track in self.tracks)
        self.moments.append(Moment(label, self.disk.volume(), self.disk.written, ends))

    def found(self, opened: Opened) -> None:
        """A machine was opened and answers from this: so nothing less may be left from now on."""
        durable = (True, SNAPSHOTS_ARE_SYNCED, SNAPSHOTS_ARE_SYNCED)
        before = tuple(track.durable for track in self.tracks)
        places = tuple(
            track.found(value, durable=synced)
            for track, value, synced in zip(self.tracks, opened.values, durable, strict=True)
        )
        if self.moments:
            moment = self.moments[-1]
            moment.acknowledged = places
            moment.durable = (places[0], *(places if SNAPSHOTS_ARE_SYNCED else before)[1:])
            moment.settled = True

    def forget(self, index: int) -> None:
        """The disk was changed behind everybody's back: begin anew, and count on nothing."""
        self.moments.clear()
        self.applied = Track(0)
        for each in range(1, index + 1):
            self.applied.begin(each)

    def settle(self) -> None:
        """What was acknowledged up to now counts for the last moment as well."""
        if self.moments and not self.moments[-1].settled:
            moment = self.moments[-1]
            moment.durable = tuple(track.durable for track in self.tracks)
            moment.acknowledged = tuple(track.acknowledged for track in self.tracks)


class Killed(BaseException):  # Nobody may catch it: the process ends here, the test goes on.
    """Raised by the disk at `kill_at`."""
