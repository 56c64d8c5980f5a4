"""TRI.BACKUP at a session: a snapshot that is opened once, read in pieces, and let go.

Method: one session over the fake service, which hands out the snapshots that a test put there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hiredis
import pytest

from node.commands.backup import READ_BYTES_MAX
from node.errors import Unavailable
from node.image_bytes import BytesFile
from statemachine import LogId, SnapshotMetadata
from statemachine.fs import Disk
from statemachine.image_reader import read_image
from tests.support.fake_service import Client, FakeService

DATA = bytes(range(256)) * 2048


class Opened:
    """A snapshot file that counts how often it is closed."""

    def __init__(self, path: Path) -> None:
        self.file = Disk().open_read(path)
        self.closed = 0
        self.size_bytes = self.file.size_bytes
        self.read, self.pread = self.file.read, self.file.pread

    def close(self) -> None:
        self.closed += 1
        self.file.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "snapshot.bin"
    found.write_bytes(DATA)
    return found


def offer(service: FakeService, path: Path, index: int) -> Opened:
    opened = Opened(path)
    metadata = SnapshotMetadata(LogId(index=index, term=7), b"\xab" * 32, len(DATA))
    service.snapshots.append((metadata, opened))
    return opened


def ask(client: Client, *words: bytes | str | int) -> Any:
    reader = hiredis.Reader()
    reader.feed(client.run(*words))
    return reader.gets()


def written_to() -> tuple[FakeService, Client]:
    """A node and its client, behind one write."""
    service = FakeService()
    client = Client(service)
    client.run("SET", "k", "v")
    return service, client


def test_begin_tells_what_there_is_and_read_gives_every_byte_of_it(path: Path) -> None:
    service, client = written_to()
    opened = offer(service, path, 1)
    assert ask(client, "TRI.BACKUP", "BEGIN") == [1, 7, len(DATA), b"ab" * 32]
    path.unlink()  # a newer snapshot pushes it out: what is open stays readable
    pieces = [
        ask(client, "TRI.BACKUP", "READ", offset, READ_BYTES_MAX)
        for offset in range(0, len(DATA) + 1, READ_BYTES_MAX)
    ]
    assert b"".join(pieces) == DATA
    assert pieces[-1] == b""
    assert ask(client, "TRI.BACKUP", "END") == b"OK"
    assert opened.closed == 1


def test_begin_waits_for_a_read_first_at_the_level_of_the_connection(path: Path) -> None:
    service, client = written_to()
    offer(service, path, 1)
    ask(client, "TRI.CONSISTENCY", "lease")
    ask(client, "TRI.BACKUP", "BEGIN")
    assert [level.value for level in service.levels] == ["lease"]


@pytest.mark.parametrize("failures", [[Unavailable("alone")], [None, Unavailable("alone")]])
def test_no_leader_or_no_snapshot_is_unavailable(
    failures: list[Exception | None], path: Path
) -> None:
    service, client = written_to()
    offer(service, path, 1)
    service.next_failures.extend(failures)
    answer = ask(client, "TRI.BACKUP", "BEGIN")
    assert str(answer) == "CLUSTERDOWN alone"


def test_a_snapshot_older_than_what_was_applied_is_not_given_out(path: Path) -> None:
    service, client = written_to()
    opened = offer(service, path, 0)
    assert str(ask(client, "TRI.BACKUP", "BEGIN")).startswith("CLUSTERDOWN the snapshot is not")
    assert opened.closed == 1


def test_the_file_is_let_go_by_the_next_begin_by_reset_and_with_the_connection(path: Path) -> None:
    service, client = written_to()
    files = [offer(service, path, 1) for _ in range(3)]
    ask(client, "TRI.BACKUP", "BEGIN")
    ask(client, "TRI.BACKUP", "BEGIN")
    assert [each.closed for each in files] == [1, 0, 0]
    ask(client, "RESET")
    assert [each.closed for each in files] == [1, 1, 0]
    ask(client, "TRI.BACKUP", "BEGIN")
    client.frontend.disconnect(client.session.connection)
    assert [each.closed for each in files] == [1, 1, 1]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        pytest.param(["READ", 0, 1], "no backup was begun", id="nothing begun"),
        pytest.param(["READ", -1, 1], "offset is from 0 on", id="before the start"),
        pytest.param(["READ", 0, READ_BYTES_MAX + 1], "count from 1 to", id="too much at once"),
        pytest.param(["READ", 0, 0], "count from 1 to", id="nothing"),
        pytest.param(["READ", "x", 1], "not an integer", id="no number"),
        pytest.param(["READ", 0], "it is TRI.BACKUP", id="too few words"),
        pytest.param(["BEGIN", "now"], "it is TRI.BACKUP", id="too many words"),
        pytest.param(["FILE"], "it is TRI.BACKUP", id="an unknown word"),
    ],
)
def test_what_cannot_be_asked_is_said(words: list[str | int], error: str) -> None:
    assert error in str(ask(Client(FakeService()), "TRI.BACKUP", *words))


def test_a_store_that_was_never_written_to_is_an_image_of_nothing() -> None:
    client = Client(FakeService())
    index, term, size_bytes, sha256 = ask(client, "TRI.BACKUP", "BEGIN")
    data = ask(client, "TRI.BACKUP", "READ", 0, size_bytes)
    assert (index, term, len(data)) == (0, 0, size_bytes)
    image = read_image(Path("empty"), BytesFile(data))
    assert image.last == LogId(index=0, term=0)
    assert not image.parts.columns.values
    assert image.checksum.hex().encode() == sha256
