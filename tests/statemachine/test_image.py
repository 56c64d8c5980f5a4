"""Images: what goes in comes out; no cut, no flipped bit and no swapped block goes unnoticed."""

from __future__ import annotations

import hashlib
import random
import struct
from pathlib import Path

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statemachine.commands import LogId
from statemachine.errors import Corrupt, Fatal, Unsupported
from statemachine.grants import Grant, GrantParts
from statemachine.image import BLOCK_BYTES_MAX, Image, ImageWriter
from statemachine.image_reader import read_image
from statemachine.removals import RemovalParts
from statemachine.store import StoreParts
from tests.statemachine.batches import parts_of
from tests.support.crash import MemoryDisk

PATH = Path("/image")


def written(image: Image) -> bytes:
    writer = ImageWriter(image)
    data = b"".join(writer.chunks())
    assert (writer.size_bytes, writer.checksum) == (len(data), hashlib.sha256(data).digest())
    return data


def read(data: bytes) -> Image:
    disk = MemoryDisk()
    disk.make_dir(PATH.parent)
    disk.write_new(PATH, [data])
    return read_image(PATH, disk.open_read(PATH))


def parts(
    values: dict[bytes, bytes], deadlines: dict[bytes, int] | None = None, clock_ms: int = 0
) -> StoreParts:
    return parts_of(values, deadlines, clock_ms, {b"n1": (3, 17), b"": (0, 0)})


SMALL = Image(
    LogId(9, 4),
    [(1, 1), (5, 0), (7, 4)],
    parts_of(
        {b"a": b"", b"": b"x", b"c": b"y"},
        {b"c": 5, b"a": -2},
        7,
        {b"n1": (3, 17), b"": (0, 0)},
        grants=GrantParts(9, {2: Grant(2, 100, 107), 8: Grant(2**63 - 1, 1, 8)}),
        removals=RemovalParts(3, {2**32 - 1: 5, 1: 4}),
    ),
)


def same(found: Image, image: Image) -> bool:
    return (found.last, list(found.runs), found.parts) == (
        image.last,
        list(image.runs),
        image.parts,
    )


def test_an_image_is_read_as_it_was_written() -> None:
    data = written(SMALL)
    found = read(data)
    assert same(found, SMALL)
    assert found.size_bytes == len(data)
    assert found.checksum == hashlib.sha256(data).digest()


def test_the_empty_state_has_an_image() -> None:
    empty = Image(LogId(0, 0), [], parts_of({}))
    assert same(read(written(empty)), empty)


@settings(max_examples=50, deadline=None)
@given(
    data=st.dictionaries(st.binary(max_size=20), st.binary(max_size=50), max_size=30),
    clock_ms=st.integers(0, 2**63 - 1),
    chance=st.randoms(use_true_random=False),
)
def test_any_state_survives_its_image(
    data: dict[bytes, bytes], clock_ms: int, chance: random.Random
) -> None:
    deadlines = {key: chance.randrange(2**63) for key in data if chance.random() < 0.5}
    image = Image(LogId(2**63, 3), [(1, 3)], parts(data, deadlines, clock_ms))
    assert same(read(written(image)), image)


def test_values_larger_than_a_block_and_blocks_of_many_keys_come_back() -> None:
    values = {b"large%d" % n: bytes([n]) * (BLOCK_BYTES_MAX + n) for n in range(3)}
    values |= {b"k%d" % n: b"v" * 300 for n in range(10_000)}
    values |= {b"half%d" % n: b"h" * (BLOCK_BYTES_MAX // 2 + 1) for n in range(3)}
    image = Image(LogId(1, 1), [(1, 1)], parts(values, {b"k9999": 5, b"large1": 6}))
    writer = ImageWriter(image)
    chunks = list(writer.chunks())
    assert same(read(b"".join(chunks)), image)
    # Header, meta, footer; no block of many entries outgrows its bound by more than its lengths.
    assert sum(len(chunk) > BLOCK_BYTES_MAX * 1.1 for chunk in chunks) == 0
    assert len(chunks) > 8


def test_every_cut_is_refused() -> None:
    data = written(SMALL)
    for cut in range(len(data)):
        with pytest.raises(Corrupt):
            read(data[:cut])


def test_every_flipped_bit_is_refused() -> None:
    data = written(SMALL)
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Fatal):
            read(bytes(flipped))


def test_blocks_that_are_missing_doubled_or_swapped_are_refused() -> None:
    values = {b"k%d" % n: b"v" * 600_000 for n in range(4)}
    chunks = list(ImageWriter(Image(LogId(1, 1), [(1, 1)], parts(values))).chunks())
    assert len(chunks) == 3 + 4
    for wrong in (
        [*chunks[:3], *chunks[4:]],
        [*chunks[:3], chunks[2], *chunks[3:]],
        [*chunks[:2], chunks[3], chunks[2], *chunks[4:]],
        [chunks[0], *chunks[2:]],
        [*chunks, b"x"],
        [*chunks[:-1], chunks[2], chunks[-1]],
    ):
        with pytest.raises(Corrupt):
            read(b"".join(wrong))


def test_a_block_length_over_the_limit_is_refused_before_it_is_read() -> None:
    data = written(SMALL)
    huge = data[:64] + struct.pack("<IIB3xI", 0, 2**32 - 1, 1, 0)
    with pytest.raises(Corrupt, match="at byte 64: block length 4294967295 is over"):
        read(huge)


@pytest.mark.parametrize(
    ("version", "sentence"),
    [
        (4, "has format version 4; this program reads version 3: run a newer version"),
        (1, "has format version 1; this program reads version 3: run the version that wrote it"),
    ],
)
def test_another_version_is_unsupported_and_never_damage(version: int, sentence: str) -> None:
    data = bytearray(written(SMALL))
    data[8:12] = struct.pack("<I", version)
    data[60:64] = struct.pack("<I", google_crc32c.value(bytes(data[:60])))
    with pytest.raises(Unsupported, match=sentence):
        read(bytes(data))


def test_an_image_of_version_2_is_read() -> None:
    """It had no leases that hold keys, and its META two columns."""
    data = bytes.fromhex(
        "5452494d494d470002000000000000000800000000000000020000000000000"
        "0e803000000000000020000000000000001000000000000000000000"
        "0bf79063434b43a691200000001000000000000009292920101920502"
        "9193c4046e313a610307"
        "10c87de21a000000020000000200000096"
        "92c4016bc4017492c40176c4009208089208089100"
        "91cd05dcca2593a13000000003000000000000000200000000000000"
        "01000000000000001a340a62b16db185eb398e8d5b32277"
        "3fdd2436cda7015356eb9e1f71fdd298d"
    )
    found = read(data)
    assert found.last == LogId(8, 2)
    want = parts_of({b"k": b"v", b"t": b""}, {b"k": 1_500}, 1_000, {b"n1:a": (3, 7)}, revision=8)
    assert found.parts == want


def test_many_leases_take_several_blocks() -> None:
    rows = {serial: Grant(serial, 1, serial + 5) for serial in range(1, 20_001)}
    image = Image(
        LogId(1, 1), [(1, 1)], parts_of({b"k": b""}, {b"k": -7}, grants=GrantParts(20_000, rows))
    )
    chunks = list(ImageWriter(image).chunks())
    assert len(chunks) == 3 + 3 + 1
    assert same(read(b"".join(chunks)), image)
    chunks[2], chunks[3] = chunks[3], chunks[2]
    with pytest.raises(Corrupt, match="leases out of order"):
        read(b"".join(chunks))


@pytest.mark.parametrize(
    ("grants", "removals"),
    [
        (GrantParts(1, {2: Grant(1, 1, 1)}), RemovalParts()),
        (GrantParts(1, {1: Grant(-1, 1, 1)}), RemovalParts()),
        (GrantParts(-1), RemovalParts()),
        (GrantParts(), RemovalParts(0, {1: -1})),
    ],
)
def test_numbers_that_make_no_sense_are_refused(grants: GrantParts, removals: RemovalParts) -> None:
    image = Image(LogId(1, 1), [(1, 1)], parts_of({}, grants=grants, removals=removals))
    with pytest.raises(Corrupt):
        read(written(image))


def test_one_state_has_one_image_whatever_made_it() -> None:
    values = {b"k%d" % n: b"v" for n in range(500)}
    backwards = dict(reversed(values.items()))
    origins = [{b"a": (1, 1), b"b": (2, 2)}, {b"b": (2, 2), b"a": (1, 1)}]
    images = [
        Image(LogId(1, 1), [(1, 1)], parts_of(each, {b"k7": 9}, 3, origin))
        for each, origin in zip((values, backwards), origins, strict=True)
    ]
    assert written(images[0]) == written(images[1])


def test_keys_out_of_order_are_refused() -> None:
    image = Image(LogId(1, 1), [(1, 1)], parts({b"a": b"1", b"b": b"2"}))
    image.parts.columns.order = [b"b", b"a"]
    with pytest.raises(Corrupt, match="keys out of order"):
        read(written(image))


def test_a_refusal_names_the_block_that_is_bad() -> None:
    data = bytearray(written(SMALL))
    at = 64
    at += 16 + struct.unpack_from("<I", data, at + 4)[0]  # Behind META.
    data[at + 20] ^= 1
    with pytest.raises(Corrupt, match=f"/image at byte {at}: block checksum"):
        read(bytes(data))
