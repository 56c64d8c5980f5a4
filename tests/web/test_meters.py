"""What is counted: histograms, commands by name, batches; and the watch on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.metered_disk import metered
from node.meters import SECONDS, BatchMeter, CommandMeter, Histogram, quantile
from statemachine.errors import DiskFailed
from statemachine.fs import Disk


def test_what_equals_a_bound_is_below_it_and_what_is_beyond_all_is_counted() -> None:
    row = Histogram((1, 2))
    for value in (1, 1.5, 2, 99):
        row.observe(value)
    row.observe(0.5, count=10)
    assert row.counts == [11, 2, 1]
    assert (row.sum, row.count) == (108.5, 14)


@pytest.mark.parametrize(
    ("counts", "share", "want"),
    [([0, 0, 0], 0.5, None), ([4, 0, 0], 0.5, 0.5), ([2, 2, 0], 0.75, 1.5), ([0, 0, 5], 0.5, 2.0)],
)
def test_quantiles_lie_between_the_bounds(
    counts: list[int], share: float, want: float | None
) -> None:
    assert quantile((1, 2), counts, share) == want


def test_commands_are_counted_under_their_names_however_they_alternate() -> None:
    now_s = 10.0
    meter = CommandMeter(lambda: now_s)
    begun_s = meter.now()
    now_s = 10.002
    for name, count in (("get", 3), ("set", 1), ("get", 2), ("get", 1)):
        meter.note(name, count, begun_s)
    meter.note_each(["get", "set", "get"], begun_s)
    meter.note_each(["get"], begun_s)
    meter.note_each([], begun_s)
    assert {name: row.count for name, row in meter.rows.items()} == {"get": 9, "set": 2}
    assert meter.rows["get"].counts[SECONDS.index(0.0025)] == 9
    assert meter.rows["set"].sum == pytest.approx(0.004)


def test_a_batch_is_one_observation_of_its_size_and_its_time() -> None:
    meter = BatchMeter()
    meter.applied(100, 2_000, 0.003)
    meter.applied(1, 60, 0.02)
    assert (meter.commands.count, meter.commands.sum, meter.bytes) == (2, 101, 2_060)
    assert meter.seconds.sum == pytest.approx(0.023)


def test_the_disk_is_watched_and_left_as_it_is(tmp_path: Path) -> None:
    ticks = iter(float(each) for each in range(1_000))
    disk, meter = metered(Disk(), lambda: next(ticks))
    for place in ("journal", "wal", "checkpoint", "snapshot"):
        disk.make_dir(tmp_path / place)
    for place in ("journal", "wal"):
        log = disk.open_log(tmp_path / place / "1", create=True)
        assert log.write([b"ab", b"c"]) == 3
        log.sync()
        assert log.size_bytes == 3
        log.close()
        assert (meter.fsync[place].count, meter.fsync[place].sum) == (1, 1.0)
    disk.write_new(tmp_path / "checkpoint" / "1.img", [b"abcd", b"e"])
    file = disk.open_write(tmp_path / "snapshot" / "s")
    file.write(b"abc")
    file.sync()
    file.close()
    disk.write_new(tmp_path / "elsewhere", [b"not counted"])
    assert {place: row.count for place, row in meter.image.items()} == {
        "checkpoint": 1,
        "snapshot": 1,
    }
    assert meter.written_bytes == {"journal": 3, "wal": 3, "checkpoint": 5, "snapshot": 3}
    assert disk.read_bytes(tmp_path / "checkpoint" / "1.img") == b"abcde"
    assert (tmp_path / "elsewhere").read_bytes() == b"not counted"


def test_what_fails_leaves_as_it_came_and_is_not_counted(tmp_path: Path) -> None:
    disk, meter = metered(Disk(), lambda: 0.0)
    with pytest.raises(DiskFailed):
        disk.write_new(tmp_path / "checkpoint" / "1", [b"no such directory"])
    assert meter.image["checkpoint"].count == 0
