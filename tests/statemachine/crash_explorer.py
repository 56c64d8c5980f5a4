"""Runs a workload on a disk that remembers everything, and judges every state a crash may leave.

    explore      every legal state of every moment, opened and judged; equal states only once

A state is right when it opens without an error and
* is exactly what one prefix of the history leaves, one that the moment allows: nothing that was
  durable is missing, nothing is there that was not begun;
* shows the last snapshot that the moment allows, whole, by its SHA-256;
* loses nothing of that in a second crash at once (recovery answers only from what it has synced);
* takes the next entry, and still has it after a third crash.
`verify` agrees, on every VERIFIED_EVERY-th: it has nothing against what a crash may leave.

The history is that of machines.py, so a state is known by its index alone: DIGESTS[index].
"""

from __future__ import annotations

import hashlib
import random
import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from statemachine import FileStateMachine
from statemachine.dump import verify
from tests.statemachine.crash_recorder import Moment, Opened, Recorder
from tests.statemachine.machines import HOME, applied, digests, machine_on
from tests.support.crash import Crash, MemoryDisk
from tests.support.crash_states import EVERYTHING, crash_states
from tests.support.volume import DiskState

LAST = 60
DIGESTS = digests(LAST + 1)
VERIFIED_EVERY = 7


@dataclass
class Findings:
    """What an exploration saw."""

    words: dict[bytes, str] = field(default_factory=dict)
    """Of each distinct state, by its key: how it was made."""
    made: int = 0
    """States before equal ones were left out."""
    moments: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        self.words = other.words | self.words
        self.made += other.made
        self.moments += other.moments
        self.problems += other.problems

    def __str__(self) -> str:
        ways = Counter(self.words.values()).most_common()
        shown = ", ".join(f"{word} {count:,}" for word, count in ways)
        return (
            f"{len(self.words):,} distinct of {self.made:,} states "
            f"in {self.moments:,} moments ({shown})"
        )


def explore(
    recorder: Recorder,
    options: dict[str, Any],
    *,
    sampled: int = 6,
    every: int = 1,
    moments_every: int = 1,
    again_every: int = 0,
    problems_max: int = 5,
) -> Findings:
    """Open and judge every legal state of every moment.

    Args:
        sampled: how many combinations beyond the systematic ones, per moment.
        every: only each N-th state is opened (a small version); EVERYTHING always is.
        moments_every: only each N-th moment is explored beyond EVERYTHING.
        again_every: of each N-th distinct state the recovery is a workload of its own, and a crash
            at any step of it is explored too; 0: of none.
        problems_max: stop after so many.
    """
    recorder.settle()
    findings = Findings(moments=len(recorder.moments))
    known: dict[bytes, Opened] = {}
    chance = random.Random(len(recorder.moments))
    for number, moment in enumerate(recorder.moments):
        for word, state in crash_states(moment.volume, moment.written, chance, sampled):
            if number % moments_every and word is not EVERYTHING:
                break
            findings.made += 1
            if word is not EVERYTHING and findings.made % every:
                continue
            key = state.key()
            opened = known.get(key)
            if opened is None:
                opened = known[key] = open_state(state, options)
                if not len(known) % VERIFIED_EVERY and not opened.problem:
                    opened = known[key] = verified(state, opened)
                findings.words[key] = word
                if again_every and not len(known) % again_every and not opened.problem:
                    findings.add(explore_recovery(state, opened, options, moment.label, every))
            problem = opened.problem or _outside(recorder, moment, opened, word is EVERYTHING)
            if problem:
                findings.problems.append(f"{moment.label}, {word}: {problem}")
                if len(findings.problems) >= problems_max:
                    return findings
    return findings


def explore_recovery(
    state: DiskState, opened: Opened, options: dict[str, Any], label: str, every: int
) -> Findings:
    """A crash at any step while a crash is mended: nothing less may be left than without it."""
    recorder = Recorder(MemoryDisk.of(state), opened)
    machine = machine_on(recorder.disk, **options)
    recorder.found(judged(machine))
    recorder.applied.begin(opened.index + 1)
    applied(machine, opened.index + 1, opened.index + 1)
    machine.flush()
    recorder.applied.acknowledge(durable=True)
    machine.close()
    findings = explore(recorder, options, every=every)
    findings.words = dict.fromkeys(findings.words, "crashed again")
    findings.problems = [f"{label}, crashed again at {each}" for each in findings.problems]
    return findings


def _outside(recorder: Recorder, moment: Moment, opened: Opened, killed: bool) -> str:
    lows = moment.acknowledged if killed else moment.durable
    for track, low, end, value, name in zip(
        recorder.tracks,
        lows,
        moment.ends,
        opened.values,
        ("last applied", "last snapshot", "last streamed snapshot"),
        strict=True,
    ):
        if value not in track.values[low:end]:
            allowed = sorted(set(track.values[low:end]))
            return f"{name} is {value}, allowed are {allowed}"
    return ""


def open_state(state: DiskState, options: dict[str, Any]) -> Opened:
    """Open it, crash it again at once, write to it, crash it a third time."""
    try:
        return _opened(MemoryDisk.of(state), options)
    except Exception as error:  # noqa: BLE001  # Whatever it is, it is what was to be found.
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename.rpartition('/')[2]}:{last.lineno}"
        return Opened(problem=f"{type(error).__name__}: {error} ({where})")


def verified(state: DiskState, opened: Opened) -> Opened:
    """What the offline check says of a state that opens. A directory is made at the first boot."""
    problems = verify(HOME, disk=MemoryDisk.of(state))
    problems = [each for each in problems if not each.endswith("is not there")]
    return Opened(problem=f"verify says {problems}") if problems else opened


def _opened(disk: MemoryDisk, options: dict[str, Any]) -> Opened:
    machine = machine_on(disk, **options)
    found = judged(machine)
    again = disk.crashed(Crash.SYNCED)
    machine.close()
    machine = machine_on(again, **options)
    if judged(machine) != found:
        raise AssertionError(f"a second crash at once turned {found} into {judged(machine)}")
    index = found.index + 1
    applied(machine, index, index)
    machine.flush()
    again = again.crashed(Crash.SYNCED)
    machine.close()
    machine = machine_on(again, **options)
    if judged(machine).index != index:
        raise AssertionError(f"entry {index} was flushed and is gone: {judged(machine)}")
    machine.close()
    return found


def judged(machine: FileStateMachine) -> Opened:
    """What it answers from.

    Raises: AssertionError when that is the state of no prefix of the history.
    """
    index = machine.last_applied.index
    if machine.digest() != DIGESTS[index]:
        raise AssertionError(f"at index {index} the state is not that of the history")
    metadata, opened = machine.snapshot_metadata, machine.open_snapshot()
    stream = 0
    if opened is not None:
        described, file = opened
        content = file.read(1 << 30)
        file.close()
        stream = described.last_included.index
        if hashlib.sha256(content).digest() != described.checksum:
            raise AssertionError(f"the bytes of snapshot {described.last_included} are others")
    snapshot = metadata.last_included.index if metadata is not None else 0
    if max(snapshot, stream) > index:
        raise AssertionError(f"a snapshot of {max(snapshot, stream)} is ahead of {index}")
    return Opened(index, snapshot, stream)
