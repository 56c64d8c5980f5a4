"""Identity: a data directory belongs to one node of one cluster, to one process at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from node.errors import ConfigError
from node.identity import Identity, prepare_joining
from node.members_file import MEMBERS_FILE
from node.membership import Membership
from node.roster import Roster
from statemachine.errors import Corrupt, DirectoryInUse, DiskFailed, Unsupported
from statemachine.fs import Disk
from tests.support.crash import Crash, FailingDisk, MemoryDisk
from tests.support.fake_service import members

DATA = Path("/data/n1")
FILE = DATA / "identity.json"
MEMBERS = ["n1", "n2", "n3"]


def opened(disk: MemoryDisk, node_id: str = "n1", names: Iterable[str] = MEMBERS) -> int:
    """The epoch of an opening that is over at once."""
    identity = Identity(DATA, node_id, list(names), disk, lambda: "5f0c9e12a4b7d386")
    identity.release()
    return identity.epoch


def test_the_first_opening_makes_the_directory_and_is_epoch_one() -> None:
    disk = MemoryDisk()
    assert opened(disk) == 1
    assert disk.list_dir(DATA) == [
        *("LOCK", "checkpoint", "identity.json", "journal", "snapshot", "wal")
    ]
    assert json.loads(disk.content(FILE)) == {
        "format": 1,
        "node": "n1",
        "members": MEMBERS,
        "joined": False,
        "incarnation": "5f0c9e12a4b7d386",
        "epoch": 1,
    }


def test_the_origin_is_the_same_at_each_opening_and_another_in_each_directory() -> None:
    disk = MemoryDisk()

    def origin(directory: str) -> bytes:
        identity = Identity(Path(directory), "n1", MEMBERS, disk)
        identity.release()
        return identity.origin

    first = origin("/data/first")
    assert first.startswith(b"n1:")
    assert origin("/data/first") == first
    assert origin("/data/second") != first


def test_the_epoch_rises_by_one_at_each_opening_and_is_durable() -> None:
    disk = MemoryDisk()
    for epoch in range(1, 6):
        assert opened(disk) == epoch
        disk = disk.crashed(Crash.SYNCED)


def test_the_data_of_another_node_is_refused() -> None:
    disk = MemoryDisk()
    opened(disk)
    with pytest.raises(ConfigError, match="is the data of node 'n1', not of 'n2'"):
        opened(disk, "n2")
    assert opened(disk) == 2


def test_the_data_of_another_cluster_is_refused_and_the_order_of_members_is_no_matter() -> None:
    disk = MemoryDisk()
    opened(disk)
    for names in (["n1"], ["n1", "n2"], ["n1", "n2", "n4"], ["n1", "n2", "n3", "n4"]):
        with pytest.raises(ConfigError, match="belongs to the cluster n1, n2, n3, not to") as e:
            opened(disk, names=names)
        assert [key for key, _ in e.value.problems] == ["node.data_dir"]
    assert opened(disk, names=["n3", "n1", "n2"]) == 2


def test_a_directory_with_foreign_files_is_left_alone() -> None:
    disk = MemoryDisk()
    disk.make_dir(DATA)
    disk.write_new(DATA / "thesis.txt", [b"three years of work"])
    with pytest.raises(ConfigError, match=r"holds 'thesis\.txt' but no identity\.json"):
        opened(disk)
    assert [path.name for path in disk.files()] == ["LOCK", "thesis.txt"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x80\x81", id="not text"),
        pytest.param(b"[1, 2]", id="a list"),
        pytest.param(b'{"format": 1, "node": "n1", "epoch": 3}', id="no members"),
        pytest.param(b'{"format": 1, "node": "n1", "members": 5, "epoch": 3}', id="members 5"),
        pytest.param(b'{"format": 1, "node": "n1", "members": [], "epoch": "x"}', id="epoch x"),
        pytest.param(b'{"format": 1, "node": "n1", "members": [], "epoch": 1e999}', id="infinite"),
    ],
)
def test_a_damaged_identity_is_corrupt_and_is_not_written_over(content: bytes) -> None:
    disk = MemoryDisk()
    opened(disk)
    disk.overwrite(FILE, content)
    with pytest.raises(Corrupt, match="not an identity file"):
        opened(disk)
    assert disk.content(FILE) == content


def test_an_identity_of_a_newer_version_is_refused_as_such() -> None:
    disk = MemoryDisk()
    opened(disk)
    found = json.loads(disk.content(FILE))
    disk.overwrite(FILE, json.dumps({**found, "format": 2}).encode())
    with pytest.raises(Unsupported):
        opened(disk)


def test_a_second_opening_is_refused_until_the_first_is_released() -> None:
    disk = MemoryDisk()
    first = Identity(DATA, "n1", MEMBERS, disk)
    with pytest.raises(DirectoryInUse):
        opened(disk)
    first.release()
    first.release()
    assert opened(disk) == 2


def test_a_refused_opening_does_not_keep_the_lock() -> None:
    disk = MemoryDisk()
    opened(disk)
    with pytest.raises(ConfigError):
        opened(disk, "n2")
    assert opened(disk) == 2


def test_a_second_process_is_refused_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    """Real processes: the lock is the kernel's, and dies with whoever held it."""
    program = (
        "import sys, pathlib; from node.identity import Identity; from statemachine.fs import Disk;"
        "i = Identity(pathlib.Path(sys.argv[1]), 'n1', ['n1'], Disk());"
        "print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "n1")],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(DirectoryInUse, match=str(process.pid)):
            Identity(tmp_path / "n1", "n1", ["n1"], Disk())
        process.kill()
        process.wait()
    identity = Identity(tmp_path / "n1", "n1", ["n1"], Disk())
    assert identity.epoch == 2
    identity.release()


def test_a_crash_at_any_step_leaves_a_directory_that_opens_under_a_new_epoch() -> None:
    """No epoch that an opening returned is ever given out again."""
    for openings_before in (0, 1):
        disk = MemoryDisk()
        for _ in range(openings_before):
            opened(disk)
        steps = 0

        def on_step(name: str, disk: MemoryDisk = disk, before: int = openings_before) -> None:
            nonlocal steps
            steps += 1
            for crash in Crash:
                for seed in range(4):
                    assert opened(disk.crashed(crash, seed)) in (before + 1, before + 2), name

        disk.on_step = on_step
        assert opened(disk) == openings_before + 1
        disk.on_step = None
        assert steps >= 5
        for crash in Crash:
            assert opened(disk.crashed(crash)) == openings_before + 2


def test_a_failing_disk_is_told_and_the_lock_let_go() -> None:
    fail_at = 1
    while True:
        disk = MemoryDisk()
        failing = FailingDisk(disk, fail_at)
        try:
            Identity(DATA, "n1", MEMBERS, failing).release()
        except DiskFailed:
            assert opened(disk) in (1, 2)
            fail_at += 1
            continue
        break
    assert fail_at > 5


def test_a_directory_that_joins_remembers_it_whatever_is_said_later() -> None:
    disk = MemoryDisk()
    for joined in (True, False):
        identity = Identity(DATA, "n1", MEMBERS, disk, joined=joined)
        identity.release()
        assert identity.joined


def test_a_directory_that_was_prepared_opens_as_its_first_epoch() -> None:
    disk = MemoryDisk()
    prepare_joining(disk, DATA, "n1", MEMBERS)
    identity = Identity(DATA, "n1", MEMBERS, disk.crashed(Crash.SYNCED, 0))
    assert (identity.epoch, identity.joined) == (1, True)


def test_once_members_have_changed_the_configuration_may_name_others() -> None:
    disk = MemoryDisk()
    opened(disk)
    founding = Roster.founded_by(members(2))
    membership = Membership(
        "n1",
        "5f0c9e12a4b7d386",
        founding,
        path=DATA / MEMBERS_FILE,
        disk=disk,
        term_at=lambda index: None,
        on_change=lambda: None,
        on_settled=lambda: None,
        on_removed=lambda reason: None,
    )
    with pytest.raises(ConfigError, match="belongs to the cluster"):
        Identity(DATA, "n1", ["n1", "n2"], disk)
    membership.adopt(founding.adding(members(3)[2], 5))
    Identity(DATA, "n1", ["n1", "n2"], disk).release()
    Identity(DATA, "n1", MEMBERS, disk).release()
