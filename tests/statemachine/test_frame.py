"""Frames: the picture, every cut, every flipped bit, and finding them behind a hole."""

from __future__ import annotations

import struct

import google_crc32c
import pytest

from statemachine.frame import (
    FRAME_HEADER_BYTES,
    KIND_BATCH,
    KIND_MARK,
    KIND_NOOP,
    PAYLOAD_BYTES_MAX,
    Frame,
    decode_frame,
    encode_frame,
    find_frames,
)

SALT = 0x5EA1
FRAMES = [
    Frame(KIND_NOOP, 1, 1, 0, b""),
    Frame(KIND_BATCH, 2, 1, 0, b"payload"),
    Frame(KIND_BATCH, 2**64 - 1, 2**64 - 1, 36, bytes(range(256))),
    Frame(KIND_MARK, 0, 0, 79, b""),
    Frame(200, 5, 2, 0, b"\0" * 40),
]


def encoded(frame: Frame) -> bytes:
    return b"".join(
        encode_frame(frame.kind, frame.index, frame.term, frame.durable_bytes, frame.payload, SALT)
    )


def read_all(data: bytes) -> tuple[list[Frame], int]:
    frames, offset = [], 0
    while offset < len(data):
        decoded = decode_frame(data, offset, SALT)
        if isinstance(decoded, str):
            break
        frame, offset = decoded
        frames.append(frame)
    return frames, offset


def test_a_frame_is_laid_out_as_the_picture_says() -> None:
    header, payload = encode_frame(KIND_BATCH, 7, 3, 64, b"abc", SALT)
    assert payload == b"abc"
    rest = struct.pack("<IBBBBQQQ", 3, 1, 0, 0, 0, 7, 3, 64)
    assert header == struct.pack("<I", google_crc32c.extend(SALT, rest + b"abc")) + rest
    assert len(header) == FRAME_HEADER_BYTES == 36


def test_the_payload_is_handed_on_and_never_copied() -> None:
    payload = b"x" * 1000
    assert encode_frame(KIND_BATCH, 1, 1, 0, payload, SALT)[1] is payload


@pytest.mark.parametrize("frame", FRAMES)
def test_what_was_encoded_is_decoded(frame: Frame) -> None:
    assert decode_frame(b"before" + encoded(frame), 6, SALT) == (frame, 6 + frame.size_bytes)


def test_every_cut_keeps_exactly_the_whole_frames() -> None:
    wire = b"".join(map(encoded, FRAMES))
    ends = [sum(frame.size_bytes for frame in FRAMES[: n + 1]) for n in range(len(FRAMES))]
    for cut in range(len(wire) + 1):
        frames, _ = read_all(wire[:cut])
        assert frames == FRAMES[: sum(end <= cut for end in ends)], f"{cut=}"


def test_every_flipped_bit_is_noticed() -> None:
    wire = encoded(FRAMES[1])
    for bit in range(len(wire) * 8):
        damaged = bytearray(wire)
        damaged[bit // 8] ^= 1 << bit % 8
        assert isinstance(decode_frame(bytes(damaged), 0, SALT), str), f"{bit=}"


def test_a_length_over_the_limit_is_refused_before_anything_is_read() -> None:
    header = struct.pack("<IIBBBBQQQ", 0, PAYLOAD_BYTES_MAX + 1, 1, 0, 0, 0, 1, 1, 0)
    assert "is over" in str(decode_frame(header, 0, SALT))
    with pytest.raises(ValueError, match="is over"):
        encode_frame(KIND_BATCH, 1, 1, 0, bytes(PAYLOAD_BYTES_MAX + 1), SALT)


def test_reserved_bits_are_refused_even_under_a_good_checksum() -> None:
    rest = struct.pack("<IBBBBQQQ", 0, 1, 0, 1, 0, 1, 1, 0)
    wire = struct.pack("<I", google_crc32c.extend(SALT, rest)) + rest
    assert "reserved" in str(decode_frame(wire, 0, SALT))


@pytest.mark.parametrize("hole", [b"", b"\0" * 5000, b"\xff" * 50, b"\0\0\0x" * 20, b"x\0\0\0\0"])
@pytest.mark.parametrize("payload", [b"", b"\0" * 300, b"text", b"\0\0\0\0\0\0\0\0\1"])
def test_a_frame_behind_a_hole_is_found_when_its_mark_lies_above_the_limit(
    hole: bytes, payload: bytes
) -> None:
    start = 200
    data = b"\xee" * start + hole
    at = len(data)
    data += encoded(Frame(KIND_BATCH, 9, 9, 150, payload)) + b"\0" * 9
    assert list(find_frames(data, start, 149, SALT)) == [at]
    assert list(find_frames(data, start, 150, SALT)) == []
    assert list(find_frames(data, at + 1, 149, SALT)) == []


def test_a_mark_above_its_own_offset_proves_nothing() -> None:
    data = b"\xee" * 100 + encoded(Frame(KIND_BATCH, 1, 1, 101, b"x"))
    assert list(find_frames(data, 0, 10, SALT)) == []


def test_a_frame_of_another_segment_is_no_frame_here() -> None:
    wire = encoded(FRAMES[1])
    assert decode_frame(wire, 0, SALT) == (FRAMES[1], len(wire))
    assert "checksum" in str(decode_frame(wire, 0, SALT + 1))
    assert list(find_frames(b"\xee" * 200 + wire, 200, 0, SALT + 1)) == []
