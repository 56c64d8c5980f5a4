"""A new cluster from a state: one founder, behind a gap, never over data, whole or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from node import Config, Node, founding
from node.cli import main
from node.config import Address, Member
from node.errors import ConfigError, Corrupt, Fatal
from node.identity import Identity
from node.image_bytes import empty
from node.members_file import read_members_file
from statemachine import BatchBuilder, FileStateMachine, WalConfig, stamp
from statemachine.fs import Disk
from tests.support.ports import free_base_port

MEMBER = Member(
    id="n1",
    peer=Address("127.0.0.1", 8001),
    client=Address("127.0.0.1", 7001),
    http=Address("127.0.0.1", 9001),
)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """The image of a state of three keys at entry 5@2."""
    with FileStateMachine(tmp_path / "old") as machine:
        builder = BatchBuilder()
        for key in (b"a", b"b", b"c"):
            builder.put(key, key * 2)
        machine.apply(5, 2, stamp(builder.build(), now_ms=1_000))
        machine.generate_snapshot(tmp_path / "snapshot")
    return tmp_path / "snapshot" / "snapshot.bin"


def filler(backup: Path) -> Callable[[FileStateMachine], int]:
    return lambda machine: founding.install(machine, backup, Disk()).last_included.term


def test_the_founder_has_the_state_and_is_the_only_member_behind_the_gap(
    backup: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "new" / "n1"
    directory.parent.mkdir()
    begin = founding.found(Disk(), directory, MEMBER, filler(backup))
    assert (begin.index, begin.term) == (5 + founding.INDEX_GAP, 2 + founding.TERM_GAP)
    with FileStateMachine(directory, wal=WalConfig(sync="checkpoint")) as machine:
        assert machine.last_applied == begin
        assert [machine.get(key) for key in (b"a", b"b", b"c")] == [b"aa", b"bb", b"cc"]
    path = directory / "members.json"
    found = read_members_file(path, path.read_bytes())
    roster, seen = found.roster, found.seen
    identity = json.loads((directory / "identity.json").read_text())
    assert (roster.index, roster.voters, seen) == (begin.index, {"n1"}, {})
    assert roster.seats[0].incarnation == identity["incarnation"]
    assert (identity["members"], identity["joined"], identity["epoch"]) == (["n1"], False, 0)
    assert sorted(each.name for each in directory.parent.iterdir()) == ["n1"]


def test_the_backup_of_an_empty_store_founds_an_empty_one(tmp_path: Path) -> None:
    metadata, file = empty()
    backup = tmp_path / "backup.img"
    backup.write_bytes(file.read(metadata.size_bytes))
    directory = tmp_path / "n1"
    begin = founding.found(Disk(), directory, MEMBER, filler(backup))
    assert (begin.index, begin.term) == (founding.INDEX_GAP, founding.TERM_GAP)
    with FileStateMachine(directory, wal=WalConfig(sync="checkpoint")) as machine:
        assert machine.last_applied == begin
        assert len(machine) == 0


def test_each_restore_is_another_incarnation(backup: Path, tmp_path: Path) -> None:
    names = set()
    for number in range(2):
        directory = tmp_path / f"new{number}"
        founding.found(Disk(), directory, MEMBER, filler(backup))
        names.add(json.loads((directory / "identity.json").read_text())["incarnation"])
    assert len(names) == 2


async def _answer(config: Config) -> tuple[bytes | None, int]:
    async with Node(config) as node:
        await node.wait_ready(20)
        await node.set(b"d", b"dd")
        assert node._core is not None
        return await node.get(b"a"), node._core.machine.last_applied.index


def test_the_founder_leads_at_once_and_goes_on_behind_the_gap(backup: Path, tmp_path: Path) -> None:
    """PySyncObj counts commit indexes up one by one: from 1 it would never come to a billion."""
    ports = free_base_port()
    config = Config.from_document(
        {
            "node": {"id": "n1", "data_dir": str(tmp_path / "n1")},
            "cluster": {
                "members": [
                    {
                        "id": "n1",
                        "client": f"127.0.0.1:{ports}",
                        "peer": f"127.0.0.1:{ports + 1000}",
                        "http": f"127.0.0.1:{ports + 2000}",
                    }
                ]
            },
        }
    )
    path = tmp_path / "n1.toml"
    path.write_text(config.render())
    assert main(["restore", str(backup), "--config", str(path)]) == 0
    assert main(["restore", str(backup), "--config", str(path)]) == 2, "never over data"
    value, index = asyncio.run(_answer(config))
    assert value == b"aa"
    assert 5 + founding.INDEX_GAP < index < 5 + founding.INDEX_GAP + 100


@pytest.mark.parametrize("name", ["identity.json", "LOCK", "anything"])
def test_nothing_is_ever_restored_over_what_is_there(
    name: str, backup: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "n1"
    directory.mkdir()
    (directory / name).write_text("x")
    with pytest.raises(ConfigError, match="is not empty"):
        founding.found(Disk(), directory, MEMBER, filler(backup))
    assert [each.name for each in directory.iterdir()] == [name]


def test_a_damaged_backup_leaves_nothing_behind(backup: Path, tmp_path: Path) -> None:
    whole = backup.read_bytes()
    for place in range(0, len(whole), 17):
        backup.write_bytes(whole[:place] + bytes([whole[place] ^ 0x20]) + whole[place + 1 :])
        with pytest.raises(Corrupt):
            founding.found(Disk(), tmp_path / "n1", MEMBER, filler(backup))
    backup.write_bytes(whole[:-1])
    with pytest.raises(Corrupt):
        founding.found(Disk(), tmp_path / "n1", MEMBER, filler(backup))
    assert not [each.name for each in tmp_path.iterdir() if each.name.startswith("n1")]


class Crash(BaseException):
    """The machine loses power: nothing after it happens."""


class CrashingDisk(Disk):
    """The real disk until the n-th rename, sync of a directory or replacement; then nothing."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def _count(self) -> None:
        if self.left == 0:
            raise Crash
        self.left -= 1

    def rename(self, old: Path, new: Path) -> None:
        self._count()
        super().rename(old, new)

    def sync_dir(self, path: Path) -> None:
        self._count()
        super().sync_dir(path)

    def remove_tree(self, path: Path) -> None:
        if self.left:  # what is done on the way out of a crash is not done at all
            super().remove_tree(path)


def test_a_crash_at_any_step_leaves_no_directory_or_a_whole_one_and_the_next_try_succeeds(
    backup: Path, tmp_path: Path
) -> None:
    whole = CrashingDisk(10_000)
    founding.found(whole, tmp_path / "whole", MEMBER, filler(backup))
    steps = 10_000 - whole.left
    outcomes = set()
    for calls in sorted({*range(0, steps, 5), *range(steps - 5, steps)}):
        directory = tmp_path / f"try{calls}" / "n1"
        directory.parent.mkdir()
        try:
            founding.found(CrashingDisk(calls), directory, MEMBER, filler(backup))
        except (Crash, Fatal):  # a thread that dies of it is told of as Fatal
            outcomes.add(directory.exists())
        else:  # the thread that makes segments ready may need a call fewer than it did above
            assert calls >= steps - 5
        building = directory.with_name("n1.founding")
        if (building / "checkpoint").exists() and not (building / "identity.json").exists():
            with pytest.raises(ConfigError, match="not a data directory"):
                _open(building)
        if not directory.exists():
            founding.found(Disk(), directory, MEMBER, filler(backup))
        _open(directory)
    assert outcomes == {False, True}, "before the rename, and behind it"


def _open(directory: Path) -> None:
    """As a start does: the identity is whole and ours, and the state with it."""
    identity = Identity(directory, "n1", ["n1"], Disk())
    try:
        with FileStateMachine(directory, wal=WalConfig(sync="checkpoint"), lock=False) as machine:
            assert machine.get(b"a") == b"aa"
    finally:
        identity.release()
