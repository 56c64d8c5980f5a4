"""Recovery: what each shape of damage or crash leads to, by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from statemachine import Corrupt, Fatal, LogId, Unsupported, WalConfig
from statemachine.frame import encode_frame
from statemachine.segment import SEGMENT_HEADER_BYTES, WAL_MAGIC, segment_header, segment_salt
from tests.statemachine.machines import HOME, applied, digests, entry, machine_on
from tests.support.crash import Crash, MemoryDisk

SEGMENT = HOME / "wal" / "0000000000000001.wal"


def segment_of(disk: MemoryDisk, number: int = -1) -> Path:
    return HOME / "wal" / disk.list_dir(HOME / "wal")[number]


def checkpoint_of(disk: MemoryDisk) -> Path:
    (name,) = disk.list_dir(HOME / "checkpoint")
    return HOME / "checkpoint" / name


def frame_ends(count: int) -> list[int]:
    ends = [SEGMENT_HEADER_BYTES]
    for index in range(1, count + 1):
        ends.append(ends[-1] + 36 + len(entry(index).payload))
    return ends


def test_a_new_directory_is_empty_and_reports_nothing() -> None:
    machine = machine_on(MemoryDisk())
    report = machine.recovery_report
    assert (machine.last_applied, len(machine)) == (LogId(0, 0), 0)
    assert (report.checkpoint, report.torn, report.frames_applied) == (None, None, 0)
    assert list(report.removed) == []


def test_a_wal_cut_at_any_byte_gives_back_exactly_the_whole_entries() -> None:
    disk = MemoryDisk()
    applied(machine_on(disk), 1, 9)
    data, want, ends = disk.content(SEGMENT), digests(9), frame_ends(9)
    assert ends[-1] == len(data)
    for cut in range(len(data) + 1):
        disk = MemoryDisk()
        disk.make_dir(HOME / "wal")
        disk.write_new(SEGMENT, [data[:cut]])
        with machine_on(disk) as machine:
            index = sum(end <= cut for end in ends[1:])
            assert machine.last_applied.index == index, f"{cut=}"
            assert machine.digest() == want[index]
            torn = machine.recovery_report.torn
            if cut in ends:
                assert torn is None
            elif cut > SEGMENT_HEADER_BYTES:
                assert torn is not None
                assert torn.offset_bytes == ends[index]
                assert torn.dropped_bytes == cut - ends[index]
            applied(machine, index + 1, 9)
        with machine_on(disk) as machine:
            assert machine.digest() == want[9]
            assert machine.recovery_report.torn is None


def test_no_flipped_bit_of_a_data_directory_ever_leads_to_a_wrong_answer() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 2)
    machine.generate_snapshot()
    applied(machine, 3, 4)
    machine.close()
    want = digests(4)[4]
    bits = refused = 0
    for path in disk.files():
        for bit in range(len(disk.content(path)) * 8):
            copy = disk.crashed(Crash.ALL)
            copy.flip(path, bit)
            bits += 1
            try:
                again = machine_on(copy)
            except Fatal as error:
                # snapshot.bin is the checkpoint's bytes under a second name.
                refused += str(path) in str(error) or path.name == "snapshot.bin"
                continue
            assert again.digest() == want, (path, bit)
            assert again.last_applied == LogId(4, 1)
            # What still opens is damage to the last mark: proof, not data.
            torn = again.recovery_report.torn
            assert torn is not None, (path, bit)
            assert torn.dropped_bytes == 36
    assert refused == bits - 36 * 8 > 4000


def test_a_flipped_bit_in_a_log_that_was_killed_costs_at_most_its_unproven_end() -> None:
    # Without the mark of an idle log nothing proves that the last chunk had been synced.
    disk = MemoryDisk()
    applied(machine_on(disk), 1, 4)
    want, ends = digests(4), frame_ends(4)
    for bit in range(SEGMENT_HEADER_BYTES * 8, ends[4] * 8):
        copy = disk.crashed(Crash.ALL)
        copy.flip(SEGMENT, bit)
        if bit // 8 < ends[3]:
            with pytest.raises(Corrupt, match=f"{SEGMENT} at byte"):
                machine_on(copy)
        else:
            with machine_on(copy) as machine:
                assert machine.digest() == want[3]
                assert machine.recovery_report.torn is not None


def test_replay_skips_what_the_image_holds_and_never_goes_back() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 6)
    machine.checkpoint()
    machine.close()
    # The same entries again behind the image, as an older program might have left them.
    path = segment_of(disk)
    salt = segment_salt(disk.content(path))
    frames = b"".join(
        b"".join(encode_frame(each.kind, each.index, each.term, 0, each.payload, salt))
        for each in map(entry, range(4, 9))
    )
    disk.overwrite(path, disk.content(path)[:SEGMENT_HEADER_BYTES] + frames)
    with machine_on(disk) as again:
        report = again.recovery_report
        assert (report.frames_skipped, report.frames_applied) == (3, 2)
        assert again.last_applied == LogId(8, 1)
        assert again.digest() == digests(8)[8]


def test_leftovers_are_removed_and_reported() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 3)
    machine.close()
    for name in ("checkpoint/0000000000000009.img.tmp", "wal/x.tmp"):
        disk.write_new(HOME / name, [b"half an image"])
    with machine_on(disk) as again:
        assert list(again.recovery_report.removed) == [
            "wal/x.tmp",
            "checkpoint/0000000000000009.img.tmp",
        ]
        assert again.digest() == digests(3)[3]


def test_what_a_new_checkpoint_replaced_goes_at_boot_when_a_crash_left_it() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 3)
    machine.checkpoint()
    applied(machine, 4, 5)
    saved: list[MemoryDisk] = []
    disk.on_step = lambda name: saved.append(disk.crashed(Crash.ALL))
    machine.checkpoint()
    both = [
        copy
        for copy in saved
        if [name[-4:] for name in copy.list_dir(HOME / "checkpoint")] == [".img", ".img"]
    ]
    assert both
    for copy in both:
        with machine_on(copy) as again:
            assert again.digest() == digests(5)[5]
            assert len(again.recovery_report.removed) >= 1
            assert len(copy.list_dir(HOME / "checkpoint")) == 1
            assert len(copy.list_dir(HOME / "wal")) == 1


@pytest.mark.parametrize("byte", [0, 9, 30, 63, 64, 90, -40, -1])
def test_a_damaged_checkpoint_is_refused_even_when_an_older_one_is_there(byte: int) -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 3)
    machine.checkpoint()
    older, content = checkpoint_of(disk), disk.content(checkpoint_of(disk))
    applied(machine, 4, 5)
    machine.checkpoint()
    newer = checkpoint_of(disk)
    machine.close()
    disk.write_new(older, [content])
    disk.flip(newer, (byte % len(disk.content(newer))) * 8)
    before = {path: disk.content(path) for path in disk.files()}
    with pytest.raises(Fatal, match=str(newer)):
        machine_on(disk)
    assert {path: disk.content(path) for path in disk.files()} == before


def test_a_missing_segment_is_refused_wherever_it_was() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk, wal=WalConfig(segment_bytes_max=300)), 1, 9)
    machine.checkpoint()
    applied(machine, 10, 20)
    machine.close()
    names = disk.list_dir(HOME / "wal")
    assert len(names) >= 3
    for name in names[:-1]:
        copy = disk.crashed(Crash.ALL)
        copy.unlink(HOME / "wal" / name)
        with pytest.raises(Corrupt, match=f"{name} at byte 0: segment is missing"):
            machine_on(copy)


def test_a_checkpoint_without_its_wal_is_refused() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 3)
    machine.checkpoint()
    machine.close()
    disk.unlink(segment_of(disk))
    with pytest.raises(Corrupt, match="segment is missing"):
        machine_on(disk)


def test_a_wal_without_its_checkpoint_is_refused() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk), 1, 3)
    machine.checkpoint()
    applied(machine, 4, 4)
    machine.close()
    disk.unlink(checkpoint_of(disk))
    with pytest.raises(Corrupt, match="no checkpoint is there"):
        machine_on(disk)


def test_a_segment_under_another_name_is_refused() -> None:
    disk = MemoryDisk()
    applied(machine_on(disk), 1, 3).close()
    disk.overwrite(SEGMENT, segment_header(WAL_MAGIC, 0, 2, 1))
    with pytest.raises(Corrupt, match="holds segment 2"):
        machine_on(disk)


def test_a_segment_that_begins_behind_the_image_is_refused() -> None:
    disk = MemoryDisk()
    disk.make_dir(HOME / "wal")
    disk.write_new(SEGMENT, [segment_header(WAL_MAGIC, 0, 1, 5)])
    with pytest.raises(Corrupt, match="begins at index 5"):
        machine_on(disk)


@pytest.mark.parametrize(
    ("kind", "index", "term", "reason"),
    [(9, 3, 1, "kind 9"), (0, 3, 0, "term falls from 1 to 0")],
)
def test_a_sound_frame_that_no_wal_holds_is_refused_with_its_offset(
    kind: int, index: int, term: int, reason: str
) -> None:
    disk = MemoryDisk()
    applied(machine_on(disk), 1, 2)
    data = disk.content(SEGMENT)
    disk.overwrite(
        SEGMENT, data + b"".join(encode_frame(kind, index, term, 0, b"", segment_salt(data)))
    )
    with pytest.raises(Corrupt, match=f"{SEGMENT} at byte {len(data)}: .*{reason}"):
        machine_on(disk)


def test_a_newer_format_is_unsupported_and_nothing_is_touched() -> None:
    disk = MemoryDisk()
    applied(machine_on(disk), 1, 2)
    import struct

    import google_crc32c

    header = disk.content(SEGMENT)[:8] + struct.pack("<I", 3) + disk.content(SEGMENT)[12:60]
    header += struct.pack("<I", google_crc32c.value(header))
    newer = header + disk.content(SEGMENT)[64:]
    disk.overwrite(SEGMENT, newer)
    with pytest.raises(Unsupported, match="newer version"):
        machine_on(disk)
    assert disk.content(SEGMENT) == newer


def test_a_refusal_leaves_every_file_as_it_was() -> None:
    disk = MemoryDisk()
    machine = applied(machine_on(disk, wal=WalConfig(segment_bytes_max=300)), 1, 9)
    machine.close()
    disk.flip(segment_of(disk, 0), 100 * 8)
    disk.overwrite(segment_of(disk), disk.content(segment_of(disk))[:-3])
    before = {path: disk.content(path) for path in disk.files()}
    with pytest.raises(Corrupt):
        machine_on(disk)
    assert {path: disk.content(path) for path in disk.files()} == before


def test_a_log_written_under_another_policy_goes_on_in_a_new_segment() -> None:
    disk = MemoryDisk()
    applied(machine_on(disk, wal=WalConfig(sync="checkpoint")), 1, 3).close()
    with machine_on(disk) as machine:
        applied(machine, 4, 6)
        assert len(disk.list_dir(HOME / "wal")) == 2
    with machine_on(disk) as machine:
        assert machine.digest() == digests(6)[6]
        assert len(disk.list_dir(HOME / "wal")) == 2


def test_what_was_read_is_synced_before_it_is_answered() -> None:
    disk = MemoryDisk()
    applied(machine_on(disk, wal=WalConfig(sync="checkpoint")), 1, 3)
    survivor = disk.crashed(Crash.ALL)
    survivor_steps: list[str] = []
    survivor.on_step = survivor_steps.append
    machine_on(survivor, wal=WalConfig(sync="checkpoint"))
    assert survivor_steps[-3:] == ["sync", "sync_dir", "sync_dir"]  # The log; wal/, snapshot/.
