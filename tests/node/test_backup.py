"""Fetching a backup: FILE is the old one or the whole new one, whatever the nodes do.

Method: clients that answer TRI.BACKUP from memory, and break off, lie or change their mind.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from node import backup
from node.config import Address
from node.errors import Unavailable
from statemachine import BatchBuilder, FileStateMachine, stamp

ADDRESSES = [Address("127.0.0.1", 7001), Address("127.0.0.1", 7002)]


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    """An image of more than one read."""
    with FileStateMachine(tmp_path / "machine") as machine:
        builder = BatchBuilder()
        for number in range(3):
            builder.put(b"k%d" % number, bytes([number]) * 200_000)
        machine.apply(1, 1, stamp(builder.build(), now_ms=1))
        machine.generate_snapshot(tmp_path / "snapshot")
    return (tmp_path / "snapshot" / "snapshot.bin").read_bytes()


class Nodes:
    """Stands for node.client.Client: what each address says, in order of being asked."""

    def __init__(self, *answers: bytes | Exception, promised: bytes) -> None:
        self.answers = list(answers)
        self.promised = promised
        self.levels: list[str] = []

    def connect(self, addresses: list[Address], password: str, timeout_s: float) -> Nodes:
        self.address = addresses[0]
        self.now = self.answers.pop(0)
        return self

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def set_consistency(self, level: str) -> None:
        self.levels.append(level)

    def read(self, *words: Any) -> Any:
        if words[1] == "BEGIN":
            sha256 = hashlib.sha256(self.promised).hexdigest().encode()
            return [9, 2, len(self.promised), sha256]
        _, _, offset, count = words
        if isinstance(self.now, Exception):
            if offset > 0:
                raise self.now
            return self.promised[:count]
        return self.now[offset : offset + count]


def fetch(monkeypatch: pytest.MonkeyPatch, nodes: Nodes, target: Path) -> backup.Backup:
    monkeypatch.setattr(backup, "Client", nodes)
    return backup.fetch(ADDRESSES, "", "lease", target)


def test_a_node_that_breaks_off_is_followed_by_the_next_from_the_start(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "backup.img"
    nodes = Nodes(Unavailable("it broke"), data, promised=data)
    found = fetch(monkeypatch, nodes, target)
    assert target.read_bytes() == data
    assert (found.revision, found.source, found.size_bytes) == (9, ADDRESSES[1], len(data))
    assert nodes.levels == ["lease", "lease"]
    assert backup.check(target).checksum.hex() == found.sha256


@pytest.mark.parametrize("damage", ["flipped", "short", "gone"])
def test_what_is_not_as_promised_never_gets_the_name(
    damage: str, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "backup.img"
    target.write_bytes(b"the one before")
    flipped = data[:300_000] + bytes([data[300_000] ^ 1]) + data[300_001:]
    answer = {"flipped": flipped, "short": data[:-1], "gone": Unavailable("gone")}[damage]
    assert isinstance(answer, (bytes, Exception))
    with pytest.raises(Unavailable):
        fetch(monkeypatch, Nodes(answer, answer, promised=data), target)
    assert target.read_bytes() == b"the one before"
    assert not list(tmp_path.glob("*.tmp"))


def test_an_image_is_fetched_into_memory_too(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "Client", Nodes(data, promised=data))
    image = backup.fetch_image(ADDRESSES, "", "linearizable")
    assert sorted(image.parts.columns.values) == [b"k0", b"k1", b"k2"]
