"""Segments: what is torn, what is damage. The table of segment.py, row by row."""

from __future__ import annotations

import struct
from pathlib import Path

import google_crc32c
import pytest

from statemachine.errors import Corrupt, Fatal, Unsupported
from statemachine.frame import KIND_BATCH, encode_frame
from statemachine.segment import (
    JOURNAL_MAGIC,
    SEGMENT_HEADER_BYTES,
    WAL_MAGIC,
    SegmentContents,
    read_segment,
    segment_header,
    segment_salt,
    vouches_for_earlier,
)

PATH = Path("/data/wal/0000000000000003.wal")
HEADER = segment_header(WAL_MAGIC, 2, 3, 11)
SALT = segment_salt(HEADER)


def segment(*marks: int, header: bytes = HEADER) -> bytes:
    """A segment with one frame of 46 bytes for each mark."""
    frames = [
        b"".join(encode_frame(KIND_BATCH, 11 + number, 1, mark, b"0123456789", SALT))
        for number, mark in enumerate(marks)
    ]
    return header + b"".join(frames)


def at(number: int) -> int:
    return SEGMENT_HEADER_BYTES + 46 * number


def read(data: bytes, *, newest: bool = True, magic: bytes = WAL_MAGIC) -> SegmentContents:
    return read_segment(PATH, data, magic, newest=newest)


def damaged(data: bytes, offset: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ 0x10]) + data[offset + 1 :]


def test_the_header_is_laid_out_as_the_picture_says() -> None:
    rest = struct.pack("<8sIB3xQQQ20x", b"TRIMWAL\0", 2, 2, 3, 11, 0)
    assert struct.pack("<I", google_crc32c.value(rest)) == HEADER[60:]
    assert rest == HEADER[:60]


@pytest.mark.parametrize("newest", [True, False])
def test_a_whole_segment_is_read_whole(newest: bool) -> None:
    data = segment(0, at(0), at(1))
    found = read(data, newest=newest)
    assert [offset for offset, _ in found.frames] == [at(0), at(1), at(2)]
    assert [frame.index for _, frame in found.frames] == [11, 12, 13]
    assert (found.version, found.policy, found.sequence, found.first_index) == (2, 2, 3, 11)
    assert (found.good_bytes, found.file_bytes, found.durable_bytes) == (at(3), at(3), at(1))
    assert found.torn is None


def test_every_cut_of_the_newest_segment_is_torn_and_of_an_older_one_damage() -> None:
    data = segment(0, 0, 0)
    for cut in range(SEGMENT_HEADER_BYTES, len(data)):
        found = read(data[:cut])
        whole = (cut - SEGMENT_HEADER_BYTES) // 46
        assert len(found.frames) == whole, f"{cut=}"
        assert found.good_bytes == at(whole)
        assert (found.torn is None) == (cut == at(whole))
        if cut != at(whole):
            with pytest.raises(Corrupt, match="synced whole"):
                read(data[:cut], newest=False)


def test_a_bad_frame_above_the_mark_is_torn_even_with_good_ones_behind_it() -> None:
    # A hole: writes that were not synced are lost in any order.
    found = read(damaged(segment(at(0), at(0), at(0), at(0)), at(2) + 3))
    assert len(found.frames) == 2
    assert found.good_bytes == at(2)
    assert found.torn is not None


def test_a_good_frame_behind_the_bad_one_proves_damage_when_its_mark_lies_above() -> None:
    data = segment(0, 0, 0, at(2))
    for offset in range(at(1), at(2)):
        with pytest.raises(Corrupt) as caught:
            read(damaged(data, offset))
        assert caught.value.offset_bytes == at(1)
        assert str(at(3)) in caught.value.reason
        assert caught.value.path == PATH


def test_a_mark_exactly_at_the_bad_place_proves_nothing() -> None:
    data = segment(0, 0, 0, at(1))
    assert read(damaged(data, at(1))).good_bytes == at(1)


def test_every_flipped_bit_below_the_mark_is_refused() -> None:
    data = segment(0, 0) + b"".join(encode_frame(3, 0, 0, at(2), b"", SALT))
    for bit in range(at(2) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Fatal):
            read(bytes(flipped))


def test_a_frame_that_claims_more_synced_bytes_than_there_were_is_damage() -> None:
    with pytest.raises(Corrupt, match="claims"):
        read(segment(0, at(1) + 1))


@pytest.mark.parametrize("length", [0, 1, 12, 63, 64])
def test_a_torn_header_with_nothing_behind_it_is_torn_at_zero_in_the_newest(length: int) -> None:
    data = (HEADER[:20] + bytes(44))[:length]
    found = read(data)
    assert (found.good_bytes, found.frames, found.file_bytes) == (0, [], length)
    assert found.torn is not None
    with pytest.raises(Corrupt):
        read(data, newest=False)


def test_a_bad_header_is_damage_when_a_frame_says_that_it_was_synced() -> None:
    with pytest.raises(Corrupt, match="at byte 0: segment header checksum"):
        read(damaged(segment(SEGMENT_HEADER_BYTES), 30))


def test_a_bad_header_is_torn_when_nobody_said_that_it_was_synced() -> None:
    """Under `checkpoint` header and frames of a new segment reach the disk in any order."""
    assert read(damaged(segment(0, 0), 30)).good_bytes == 0


@pytest.mark.parametrize(
    ("policy", "mark", "vouches"),
    [(0, 0, True), (1, 0, True), (2, 0, False), (2, SEGMENT_HEADER_BYTES, True)],
)
def test_a_segment_vouches_for_earlier_ones_by_policy_or_mark(
    policy: int, mark: int, vouches: bool
) -> None:
    header = segment_header(WAL_MAGIC, policy, 3, 11, 500)
    salt = segment_salt(header)
    data = header + b"".join(encode_frame(1, 11, 1, mark, b"0123456789", salt))
    assert vouches_for_earlier(PATH, data, WAL_MAGIC) == vouches
    hole = bytearray(data + b"".join(encode_frame(1, 12, 1, mark, b"0123456789", salt)))
    hole[70] ^= 1
    assert vouches_for_earlier(PATH, bytes(hole), WAL_MAGIC) == vouches
    assert not vouches_for_earlier(PATH, b"", WAL_MAGIC)


@pytest.mark.parametrize("version", [1, 3])
def test_another_version_is_unsupported_and_never_damage(version: int) -> None:
    rest = struct.pack("<8sIB3xQQ28x", WAL_MAGIC, version, 77, 3, 11)
    header = rest + struct.pack("<I", google_crc32c.value(rest))
    for data in (header, header + b"a format of another time"):
        with pytest.raises(Unsupported, match=f"version {version}"):
            read(data)


def test_a_header_whose_checksum_alone_is_damaged_is_damage_too() -> None:
    """The salt of the frames is that checksum: they must still be known for what they are."""
    for offset in range(60, 64):
        with pytest.raises(Corrupt, match="at byte 0: segment header checksum"):
            read(damaged(segment(SEGMENT_HEADER_BYTES), offset))


def test_a_segment_of_the_other_log_is_refused() -> None:
    with pytest.raises(Corrupt, match="another kind of file"):
        read(segment(0), magic=JOURNAL_MAGIC)
