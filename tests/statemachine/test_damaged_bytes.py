"""Every bit of every file flipped, every file cut at every byte: never a wrong answer.

Goal: a damaged directory is either refused, with a sentence that names file, byte and reason and
with all evidence left as it was, or it opens with the right answer.

The one exception that no log can do without: the end of the newest segment. A sync is only proved
by what was written after it, so damage to what is behind the last recorded sync looks like a crash.
It costs the entries of the last chunk when the machine was killed, none once the log was idle for a
turn or closed (only the mark itself is lost then), and it is reported as a torn tail. A newest
segment that lost its end at the border of a frame looks as if the rest had never been written.

Damage that booting does not read (the bytes of a snapshot that is no checkpoint any more) is
refused by whoever receives it, and `verify` finds it.

Method: one small directory with all kinds of files: sealed segments, the newest one, an image,
two snapshots, their metadata. `make test` flips one bit of each byte, the stress test all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from statemachine import Corrupt, Fatal, FileStateMachine, Rejected, Unsupported, WalConfig
from statemachine.dump import verify
from statemachine.segment import WAL_MAGIC, read_segment
from tests.statemachine.machines import HOME, applied, digests, machine_on
from tests.support.crash import Crash, MemoryDisk

LAST = 16
DIGESTS = digests(LAST)
WAL = WalConfig(segment_bytes_max=300)


@dataclass(frozen=True, slots=True)
class World:
    """An undamaged directory."""

    disk: MemoryDisk
    newest: Path
    """The segment that grows."""
    unproved: int
    """How many of its last entries nothing proves to have been synced."""


@pytest.fixture(params=["closed", "killed"])
def world(request: pytest.FixtureRequest) -> World:
    disk = MemoryDisk()
    machine = machine_on(disk, wal=WAL)
    for last in (3, 5):
        applied(machine, machine.last_applied.index + 1, last)
        machine.generate_snapshot()
    applied(machine, 6, LAST)
    if request.param == "closed":
        machine.close()
    disk = disk.crashed(Crash.ALL)
    segments = [path for path in disk.files() if path.suffix == ".wal"]
    kinds = {path.suffix for path in disk.files()}
    assert len(segments) >= 3
    assert kinds == {".wal", ".img", ".bin", ""}
    return World(disk, max(segments), 1 if request.param == "killed" else 0)


def flipped(world: World, path: Path, bit: int) -> MemoryDisk:
    disk = world.disk.crashed(Crash.ALL)
    disk.flip(path, bit)
    return disk


def names_of(disk: MemoryDisk, path: Path) -> set[Path]:
    """All names of a file: hard links are damaged together."""
    content = disk.content(path)
    return {other for other in disk.files() if other.suffix and disk.content(other) == content}


def judge(world: World, path: Path, disk: MemoryDisk, at: int) -> str:
    """What came of it, in a word; every wrong one raises.

    Args:
        at: the first byte that is not what it was.
    """
    before = {each: disk.content(each) for each in disk.files()}
    problems = "\n".join(verify(HOME, disk=disk))
    machine = refusal = None
    try:
        machine = machine_on(disk, wal=WAL)
    except Fatal as error:
        refusal = error
    if machine is None:
        assert {each: disk.content(each) for each in disk.files()} == before, "evidence is gone"
        assert str(refusal) in problems, "verify did not say so"
        assert isinstance(refusal, Corrupt | Unsupported), refusal
        _has_its_sentence(refusal, names_of(disk, path), at)
        return "refused"
    index = machine.last_applied.index
    assert machine.digest() == DIGESTS[index]
    assert machine.get(b"last") == (b"%d" % max(i for i in range(1, index + 1) if i % 7))
    torn = machine.recovery_report.torn
    if index < LAST or torn is not None or path == world.newest:
        return _unproved(world, path, machine, at)
    if path.name == "snapshot.bin":
        assert any(str(name) in problems for name in names_of(disk, path)), problems
        _refused_by_its_receiver(machine, path)
        return "refused by its receiver"
    assert path.name == "LOCK", "damage that nobody saw"
    return "unused"


def _has_its_sentence(refusal: Corrupt | Unsupported, damaged: set[Path], at: int) -> None:
    # A segment that is too short is missed by the next one, which then names it.
    missed = {f"segment {int(path.stem)} has " for path in damaged if path.suffix == ".wal"}
    assert refusal.path in damaged or any(each in str(refusal) for each in missed), refusal
    assert str(refusal).startswith(str(refusal.path))
    if isinstance(refusal, Corrupt):
        assert f"at byte {refusal.offset_bytes}: {refusal.reason}" in str(refusal)
        assert 0 <= refusal.offset_bytes <= at


def _unproved(world: World, path: Path, machine: FileStateMachine, at: int) -> str:
    assert path == world.newest, "entries are gone, and not at the end of the log"
    torn = machine.recovery_report.torn
    if torn is not None:
        assert torn.path == path
        assert torn.offset_bytes <= at
    return "unproved"


def _refused_by_its_receiver(machine: FileStateMachine, path: Path) -> None:
    opened = machine.open_snapshot()
    assert opened is not None
    metadata, file = opened
    receiver = machine_on(MemoryDisk()).snapshot_receiver()
    receiver.begin(metadata)
    damaged = f"{metadata.last_included.index:020d}@" in path.parent.name
    try:
        while chunk := file.read(97):
            receiver.write(chunk)
        receiver.finish()
    except Rejected:
        assert damaged, "a good snapshot was refused"
        return
    assert not damaged, "a damaged snapshot was received"


def flip(world: World, bits_of: int) -> dict[str, int]:
    """Flip bits of every byte; how often each verdict came."""
    verdicts: dict[str, int] = {}
    for path in world.disk.files():
        for at in range(world.disk.size_bytes(path)):
            for bit in range(8) if bits_of == 8 else [(at * 5 + at // 8) % 8]:
                disk = flipped(world, path, at * 8 + bit)
                verdict = judge(world, path, disk, at)
                if verdict == "unproved":
                    verdict += _lost(disk)
                verdicts[verdict] = verdicts.get(verdict, 0) + 1
    return verdicts


def _lost(disk: MemoryDisk) -> str:
    with machine_on(disk.crashed(Crash.ALL), wal=WAL) as machine:
        return f" {LAST - machine.last_applied.index}"


def check_flips(world: World, bits_of: int) -> None:
    verdicts = flip(world, bits_of)
    size_bytes = sum(map(world.disk.size_bytes, world.disk.files()))
    assert sum(verdicts.values()) == size_bytes * bits_of
    assert set(verdicts) == {
        "refused",
        "refused by its receiver",
        f"unproved {world.unproved}",
    }
    assert verdicts["refused"] > 0.7 * size_bytes * bits_of


def test_a_flipped_bit_of_any_byte_is_never_a_wrong_answer(world: World) -> None:
    check_flips(world, 1)


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_every_flipped_bit_is_never_a_wrong_answer(world: World) -> None:
    check_flips(world, 8)


def cut(world: World, path: Path, size_bytes: int) -> str:
    disk = world.disk.crashed(Crash.ALL)
    disk.overwrite(path, disk.content(path)[:size_bytes])
    return judge(world, path, disk, size_bytes)


def frame_ends(world: World, path: Path) -> set[int]:
    """Where a segment may be cut so that only whole frames are left."""
    data = world.disk.content(path)
    contents = read_segment(path, data, WAL_MAGIC, newest=True)
    return {offset_bytes for offset_bytes, _ in contents.frames}


def test_a_file_that_is_cut_anywhere_is_never_a_wrong_answer(world: World) -> None:
    for path in world.disk.files():
        borders = frame_ends(world, path) if path.suffix == ".wal" else set()
        sizes = set(range(world.disk.size_bytes(path)))
        if path == world.newest:
            assert {cut(world, path, size) for size in sizes} == {"unproved"}
        elif path.name == "snapshot.bin":
            verdicts = {cut(world, path, size) for size in sizes}
            assert verdicts <= {"refused", "refused by its receiver"}
        else:
            # Between two frames: the next test.
            assert {cut(world, path, size) for size in sizes - borders} <= {"refused"}


def test_a_sealed_segment_that_is_cut_between_two_frames_is_refused(world: World) -> None:
    for path in world.disk.files():
        if path.suffix == ".wal" and path != world.newest:
            for size_bytes in frame_ends(world, path):
                assert cut(world, path, size_bytes) == "refused"
