"""dump: the same bytes, the same lines. verify: every problem, and none where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from statemachine import KIND_BATCH, Entry
from statemachine.dump import dump, verify
from statemachine.frame import encode_frame
from statemachine.segment import JOURNAL_MAGIC, segment_header, segment_salt
from tests.statemachine.batches import add, batch_of, delete, insert, put, swap
from tests.statemachine.machines import HOME, applied, machine_on
from tests.support.crash import Crash, MemoryDisk

SEGMENT = HOME / "wal" / "0000000000000001.wal"


def lines(disk: MemoryDisk, path: Path) -> list[str]:
    return list(dump(path, disk=disk))


def test_a_segment_shows_every_frame_behind_its_offset() -> None:
    disk = MemoryDisk()
    machine = machine_on(disk)
    machine.apply_chunk(
        [
            Entry.noop(1, 1),
            Entry.batch(
                2,
                1,
                batch_of(
                    put((b"a", b"1"), (b"sp ace", b"\xff")),
                    insert(b"t", b"v", ttl_ms=5),
                    swap(b"a", b"1", b"2"),
                    delete(b"x"),
                    add(b"n", -3),
                    now_ms=9,
                    origin=b"n1",
                    epoch=2,
                    sequence=1,
                ),
            ),
            Entry.config(3, 2, b"+n4"),
            Entry.batch(4, 2, b"nonsense"),
        ]
    )
    machine.close()
    found = lines(disk, SEGMENT)
    assert found == [
        "wal segment version=2 policy=always sequence=1 first_index=1 before_bytes=0",
        "64 noop 1@1 durable=64",
        "100 batch 2@1 durable=64 now_ms=9 origin=n1 epoch=2 sequence=1"
        " | put a=1 sp\\x20ace=\\xff | insert key=t value=v ttl_ms=5"
        " | compare_and_swap key=a expected_value=1 new_value=2"
        " | delete key=x | add key=n delta=-3",
        f"{found[3].split()[0]} config 3@2 durable=64 +n4",
        f"{found[4].split()[0]} batch 4@2 durable=64 unreadable: batch of 8 bytes: "
        "shorter than its header",
        f"{found[5].split()[0]} mark durable={found[5].split()[0]}",
    ]


def test_a_journal_segment_is_shown_the_same_way() -> None:
    disk = MemoryDisk()
    disk.make_dir(HOME)
    header = segment_header(JOURNAL_MAGIC, 0, 3, 7)
    salt = segment_salt(header)
    frames = encode_frame(KIND_BATCH, 7, 2, 64, batch_of(), salt)
    frames += encode_frame(9, 8, 2, 64, b"own", salt)
    disk.write_new(HOME / "journal", [header, *frames])
    assert lines(disk, HOME / "journal") == [
        "journal segment version=2 policy=always sequence=3 first_index=7 before_bytes=0",
        "64 batch 7@2 durable=64 now_ms=0",
        "128 kind-9 8@2 durable=64 own",
    ]


def test_an_image_and_its_metadata_are_shown_in_key_order() -> None:
    disk = MemoryDisk()
    machine = machine_on(disk)
    machine.apply(2, 3, batch_of(put((b"b", b"2" * 100), (b"a", b"1")), insert(b"c", ttl_ms=7)))
    metadata = machine.generate_snapshot()
    (name,) = disk.list_dir(HOME / "checkpoint")
    assert lines(disk, HOME / "checkpoint" / name) == [
        "image last=2@3 clock_ms=0 keys=3 leases=1",
        "terms 1@0 2@3",
        "a=1 created=2 modified=2",
        "b=" + "2" * 64 + "...(100 bytes) created=2 modified=2",
        "c=v created=2 modified=2 deadline_ms=7",
        f"sha256={metadata.checksum.hex()} size_bytes={metadata.size_bytes}",
    ]
    assert lines(disk, HOME / "snapshot" / "metadata.bin") == [
        f"snapshot last=2@3 size_bytes={metadata.size_bytes} sha256={metadata.checksum.hex()}"
    ]


def test_damage_is_a_line_at_the_end_and_never_an_error() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 4)
    machine.generate_snapshot()
    applied(machine, 5, 6)
    machine.close()
    for path in disk.files():
        content = disk.content(path)
        whole = lines(disk, path) if content else []
        for offset in range(len(content)):
            disk.overwrite(path, content[:offset] + b"\xa5" + content[offset + 1 :])
            assert content[offset] == 0xA5 or lines(disk, path) != whole
            disk.overwrite(path, content[:offset])
            assert lines(disk, path) != whole
        disk.overwrite(path, content)
        assert (lines(disk, path) if content else []) == whole


def test_a_torn_tail_is_shown_with_its_place_and_length() -> None:
    disk = MemoryDisk()
    applied(machine_on(disk), 1, 2)
    whole = lines(disk, SEGMENT)
    disk.overwrite(SEGMENT, disk.content(SEGMENT) + b"x" * 10)
    size = disk.size_bytes(SEGMENT) - 10
    assert lines(disk, SEGMENT) == [
        *whole,
        f"{size} torn: frame header is cut after 10 bytes (10 bytes)",
    ]


def test_a_file_of_another_kind_is_named_as_such() -> None:
    disk = MemoryDisk()
    disk.make_dir(HOME)
    disk.write_new(HOME / "x", [b"PNG and more"])
    assert lines(disk, HOME / "x") == ["not a file of ours: it begins with PNG\\x20and\\x20"]
    with pytest.raises(FileNotFoundError):
        lines(disk, HOME / "none")


def test_a_sound_directory_has_no_problems_and_is_not_touched() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 4)
    machine.generate_snapshot()
    applied(machine, 5, 6)
    before = {path: disk.content(path) for path in disk.files()}
    assert verify(HOME, disk=disk) == []
    assert {path: disk.content(path) for path in disk.files()} == before


def test_what_a_running_machine_was_just_writing_is_no_problem() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 9)
    machine.checkpoint()
    applied(machine, 10, 12)
    (image,) = disk.list_dir(HOME / "checkpoint")
    half = disk.content(HOME / "checkpoint" / image)[:99]
    # The next checkpoint, as a copy of a running node's directory catches it.
    disk.write_new(HOME / "checkpoint" / f"{int(image[:16]) + 1:016d}.img.tmp", [half])
    assert verify(HOME, disk=disk) == []


def test_every_damaged_file_is_named() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 4)
    machine.generate_snapshot()
    applied(machine, 5, 6)
    machine.close()
    for path in disk.files():
        if path.name == "LOCK":
            continue
        copy = disk.crashed(Crash.ALL)
        copy.flip(path, 70 * 8 if path.suffix == ".wal" else 40 * 8)
        problems = verify(HOME, disk=copy)
        assert any(str(path) in problem for problem in problems), (path, problems)


def test_a_directory_that_is_none_is_a_problem(tmp_path: Path) -> None:
    assert verify(tmp_path / "none") == [
        f"{tmp_path / 'none' / name} is not there" for name in ("wal", "checkpoint", "snapshot")
    ]
