"""The examples of FORMAT.md: the code makes the very bytes, and reads them as the page says."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import google_crc32c
import pytest

import statemachine
from statemachine import LogId, SnapshotMetadata, WriteCommand, read_commands, read_head
from statemachine.frame import KIND_BATCH, KIND_MARK, decode_frame, encode_frame
from statemachine.grants import Grant, GrantParts
from statemachine.image import Image, ImageWriter
from statemachine.image_reader import read_image
from statemachine.removals import RemovalParts
from statemachine.segment import WAL_MAGIC, read_segment, segment_header, segment_salt
from statemachine.snapshot import read_metadata, write_metadata
from tests.statemachine.batches import batch_of, insert, parts_of
from tests.support.crash import MemoryDisk

PAGE = (Path(statemachine.__file__).parent / "FORMAT.md").read_text(encoding="utf-8")
EXAMPLES = {
    name: bytes.fromhex(re.sub(r"#.*", "", body))
    for name, body in re.findall(r"```hex (\w+)\n(.*?)```", PAGE, re.DOTALL)
}
BATCH = batch_of(insert(b"k", b"v", ttl_ms=500), now_ms=1_000, origin=b"n1:a", epoch=3, sequence=7)
IMAGE = Image(
    LogId(8, 2),
    [(1, 1), (5, 2)],
    parts_of(
        {b"k": b"v", b"t": b"", b"u": b"w"},
        {b"k": 1_500, b"u": -1},
        1_000,
        {b"n1:a": (3, 7)},
        revision=8,
        grants=GrantParts(1, {1: Grant(1, 60_000, 61_000)}),
        removals=RemovalParts(0, {google_crc32c.value(b"a"): 6}),
    ),
)


def test_the_page_has_these_examples_and_no_others() -> None:
    assert sorted(EXAMPLES) == ["batch", "frame", "image", "mark", "metadata", "segment"]


def test_the_segment_and_its_frames() -> None:
    header, frame, mark = (EXAMPLES[name] for name in ("segment", "frame", "mark"))
    assert header == segment_header(WAL_MAGIC, 0, 2, 8, 1_234)
    salt = segment_salt(header)
    assert frame == b"".join(encode_frame(KIND_BATCH, 8, 2, 64, BATCH, salt))
    assert mark == b"".join(encode_frame(KIND_MARK, 0, 0, len(header) + len(frame), b"", salt))
    contents = read_segment(Path("/it"), header + frame + mark, WAL_MAGIC, newest=True)
    assert (contents.sequence, contents.first_index, contents.before_bytes) == (2, 8, 1_234)
    assert [(at, each.index, each.durable_bytes) for at, each in contents.frames] == [
        (64, 8, 64),
        (146, 0, 146),
    ]
    assert contents.torn is None


def test_the_batch() -> None:
    assert EXAMPLES["batch"] == BATCH
    head = read_head(BATCH)
    assert (head.now_ms, head.epoch, head.sequence, head.origin) == (1_000, 3, 7, b"n1:a")
    (command,) = read_commands(BATCH).commands
    assert command == WriteCommand(insert=WriteCommand.Insert(key=b"k", value=b"v", ttl_ms=500))
    decoded = decode_frame(EXAMPLES["frame"], 0, segment_salt(EXAMPLES["segment"]))
    assert not isinstance(decoded, str)
    assert decoded[0].payload == BATCH


@pytest.fixture
def disk() -> MemoryDisk:
    disk = MemoryDisk()
    disk.make_dir(Path("/s"))
    return disk


def test_the_image_and_its_metadata(disk: MemoryDisk) -> None:
    writer = ImageWriter(IMAGE)
    assert EXAMPLES["image"] == b"".join(writer.chunks())
    disk.write_new(Path("/s/snapshot.bin"), [EXAMPLES["image"]])
    found = read_image(Path("/it"), disk.open_read(Path("/s/snapshot.bin")))
    assert (found.last, found.parts) == (IMAGE.last, IMAGE.parts)
    metadata = SnapshotMetadata(LogId(8, 2), writer.checksum, writer.size_bytes)
    assert metadata.checksum == hashlib.sha256(EXAMPLES["image"]).digest()
    write_metadata(disk, Path("/s/metadata.bin"), metadata)
    assert disk.content(Path("/s/metadata.bin")) == EXAMPLES["metadata"]
    assert read_metadata(disk, Path("/s/metadata.bin")) == metadata
