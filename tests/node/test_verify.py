"""`trimaran verify` and `dump` on the directory of a real node that was stopped, then damaged."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from node import Node, cli
from node.config import Address, Config, Member, NodeSection
from tests.support.ports import free_base_port


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with some writes in it; beside it `running`, a copy made while it was
    written to."""
    directory = tmp_path_factory.mktemp("verify") / "n1"
    base = free_base_port(1)
    member = Member(
        id="n1",
        client=Address("127.0.0.1", base),
        peer=Address("127.0.0.1", base + 1000),
        http=Address("127.0.0.1", base + 2000),
    )
    config = Config(node=NodeSection(id="n1", data_dir=directory), members=(member,))

    async def write() -> None:
        async with Node(config) as node:
            await node.wait_ready(10)
            for number in range(20):
                await node.set(b"key-%d" % number, b"value")
            copy = asyncio.to_thread(shutil.copytree, directory, directory.parent / "running")
            copying = asyncio.create_task(copy)
            while not copying.done():
                await node.set(b"key", b"value")
            await copying

    asyncio.run(write())
    return directory


@pytest.fixture
def directory(stopped: Path, tmp_path: Path) -> Path:
    """A copy of it, to damage."""
    return Path(shutil.copytree(stopped, tmp_path / "n1"))


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def files(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_the_directory_of_a_stopped_node_is_sound(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["verify", str(directory)]) == 0
    assert capsys.readouterr().out == f"{directory}: sound\n"


def test_a_copy_of_the_directory_of_a_running_node_is_sound_and_can_be_read(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = stopped.parent / "running"
    assert cli.main(["verify", str(copy)]) == 0
    assert capsys.readouterr().out == f"{copy}: sound\n"
    (segment,) = (copy / "wal").glob("*1.wal")
    assert cli.main(["dump", str(segment)]) == 0
    assert "key-19" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["journal/00000001.seg", "journal/term", "identity.json"])
def test_damage_is_named_with_file_and_byte_and_is_exit_code_1(
    directory: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(directory / name, 70 if name.endswith(".seg") else 1)
    assert cli.main(["verify", str(directory)]) == 1
    assert f"{directory / name} at byte " in capsys.readouterr().out


def test_a_torn_tail_of_the_journal_is_sound(directory: Path) -> None:
    with (directory / "journal/00000001.seg").open("ab") as stream:
        stream.write(b"half a frame")
    assert cli.main(["verify", str(directory)]) == 0


def test_verify_changes_nothing(directory: Path) -> None:
    with (directory / "journal/00000001.seg").open("ab") as stream:
        stream.write(b"half a frame")  # What a start would cut.
    before = files(directory)
    cli.main(["verify", str(directory)])
    assert files(directory) == before


def test_dump_shows_entries_and_then_what_is_damaged(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segment = directory / "journal/00000001.seg"
    assert cli.main(["dump", str(segment)]) == 0
    whole = capsys.readouterr().out
    assert whole.startswith("journal segment version=2")
    assert "key-7" in whole
    flip(segment, segment.stat().st_size // 2)
    assert cli.main(["dump", str(segment)]) == 0
    damaged = capsys.readouterr().out
    assert "damaged: " in damaged
    assert whole.startswith(damaged.partition("damaged: ")[0])
