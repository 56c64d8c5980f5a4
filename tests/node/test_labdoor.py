"""The laboratory's door: what it orders happens to disk and clock; without it there is none."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from node.labdoor import LabDoor
from statemachine.errors import DiskFailed


async def tell(path: Path, *orders: object) -> list[str]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    for order in orders:
        writer.write((order if isinstance(order, bytes) else json.dumps(order).encode()) + b"\n")
    answers = [(await reader.readline()).decode().strip() for _ in orders]
    writer.close()
    return answers


def test_a_disk_is_slow_full_broken_and_sound_again(tmp_path: Path) -> None:
    door = LabDoor(tmp_path / "door")
    log = door.disk.open_log(tmp_path / "log", create=True)
    log.write([b"abc"])
    door.obey({"sync_delay_ms": 60})
    begun = time.monotonic()
    log.sync()
    assert time.monotonic() - begun >= 0.06
    door.obey({"sync_delay_ms": 0, "disk": "full"})
    assert door.disk.free_bytes(tmp_path) == 0
    log.write([b"what is kept back"])
    door.obey({"disk": "broken"})
    for attempt in (
        lambda: log.write([b"x"]),
        log.sync,
        lambda: log.truncate(0),
        lambda: door.disk.open_write(tmp_path / "new"),
        lambda: door.disk.write_new(tmp_path / "new", [b"x"]),
        lambda: door.disk.sync_dir(tmp_path),
    ):
        with pytest.raises(DiskFailed, match="Input/output error"):
            attempt()
    door.obey({"disk": "sound"})
    log.sync()
    assert door.disk.free_bytes(tmp_path) > 0
    log.close()
    assert (tmp_path / "log").read_bytes() == b"abcwhat is kept back"


def test_the_wall_clock_is_off_and_the_monotonic_one_is_not(tmp_path: Path) -> None:
    door = LabDoor(tmp_path / "door")
    wall, monotonic = door.clock.wall_ms(), door.clock.monotonic()
    door.obey({"clock_offset_ms": -60_000})
    assert -61_000 < door.clock.wall_ms() - wall < -59_000
    assert door.clock.monotonic() - monotonic < 1


def test_orders_come_in_at_a_socket_of_ones_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        door = LabDoor(tmp_path / "door")
        (tmp_path / "door").touch()  # what a crash left behind is replaced
        await door.open()
        assert (tmp_path / "door").stat().st_mode & 0o777 == 0o600
        answers = await tell(
            tmp_path / "door",
            {"disk": "full", "sync_delay_ms": 5},
            {"disk": "odd"},
            {"sync_delay_ms": "5"},
            {"dance": 1},
            [1],
            b"{",
        )
        assert answers[0] == "ok"
        assert "must be one of" in answers[1]
        assert "whole number" in answers[2]
        assert "no such order" in answers[3]
        assert "one JSON object" in answers[4]
        assert answers[5] != "ok"
        assert (door.disk.state, door.disk.sync_delay_ms) == ("full", 5)
        door.close()
        await asyncio.sleep(0.01)
        assert not (tmp_path / "door").exists()

    asyncio.run(scenario())


def test_an_order_is_carried_out_whole_or_not_at_all(tmp_path: Path) -> None:
    door = LabDoor(tmp_path / "door")
    with pytest.raises(ValueError, match="no such order"):
        door.obey({"sync_delay_ms": 9, "dance": 1})
    assert door.disk.sync_delay_ms == 0
