"""Frames of the WAL and of the Raft journal: pure bytes, no files.

A segment file is a header and a run of frames (segment.py). One frame is one log
entry. Integers are little-endian.

    0        4        8      9        12         20         28           36        36+n
    +--------+--------+------+--------+----------+----------+------------+-- - - --+
    | crc32c | n      | kind | 0 0 0  | index    | term     | durable    | payload |
    | u32    | u32    | u8   |        | u64      | u64      | u64        | n bytes |
    +--------+--------+------+--------+----------+----------+------------+-- - - --+
    crc32c goes on from the segment's salt over bytes 4 .. 36+n: a torn length fails it too.

The salt is the checksum of the segment's own header. So what the blocks of a file held before they
were its own, most likely another segment of the same log, is no frame of this one, byte for byte
good as it may be.

`durable` is how many bytes of this segment file, and with them all segments before it, were known
to be synced when the frame was written; 0: not even those before. It is how recovery tells a torn
tail from damage, so it never says too much: it is at most the frame's own offset.

Invariants: n <= PAYLOAD_BYTES_MAX, checked before anything is allocated; the three zero bytes
are zero (their place is kept for flags, and they make frames quick to find after a hole).

What is not done here: a kind that is not known is returned as it is. What it means for a log to
hold one, its owner says.

Proved by: tests/statemachine/test_frame.py
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import google_crc32c

__all__ = [
    "FRAME_HEADER_BYTES",
    "KIND_BATCH",
    "KIND_CONFIG",
    "KIND_MARK",
    "KIND_NOOP",
    "PAYLOAD_BYTES_MAX",
    "Frame",
    "decode_frame",
    "encode_frame",
    "find_frames",
]

KIND_NOOP: Final = 0
"""A Raft entry that changes nothing but the last applied index."""
KIND_BATCH: Final = 1
"""The payload is a batch (commands.py)."""
KIND_CONFIG: Final = 2
"""A Raft membership entry; the payload is its owner's."""
KIND_MARK: Final = 3
"""No entry: written when the log falls idle after a sync, to carry `durable`. index = term = 0."""

PAYLOAD_BYTES_MAX: Final = 64 * 1024 * 1024

_HEADER: Final = struct.Struct("<IIB3xQQQ")
_HEADER_REST: Final = struct.Struct("<IB3xQQQ")
_CRC: Final = struct.Struct("<I")
FRAME_HEADER_BYTES: Final = 36
assert _HEADER.size == FRAME_HEADER_BYTES  # the picture above
assert _CRC.size + _HEADER_REST.size == FRAME_HEADER_BYTES

_ZEROS_AT: Final = 9
_ZEROS: Final = re.compile(rb"\0{3,}")

_crc32c_extend = google_crc32c.extend


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame. `durable_bytes` is the mark it carries, not its own size."""

    kind: int
    index: int
    term: int
    durable_bytes: int
    payload: bytes

    @property
    def size_bytes(self) -> int:
        """How many bytes the frame takes in its segment."""
        return FRAME_HEADER_BYTES + len(self.payload)


def encode_frame(
    kind: int, index: int, term: int, durable_bytes: int, payload: bytes, salt: int
) -> tuple[bytes, bytes]:
    """Header and payload, apart: for writev, so that the payload is never copied.

    Raises:
        ValueError: the payload is over PAYLOAD_BYTES_MAX. Owners check it earlier, in their words.
    """
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise ValueError(f"a payload of {len(payload)} bytes is over {PAYLOAD_BYTES_MAX}")
    rest = _HEADER_REST.pack(len(payload), kind, index, term, durable_bytes)
    crc = _crc32c_extend(_crc32c_extend(salt, rest), payload)
    return _CRC.pack(crc) + rest, payload


def decode_frame(data: bytes, offset_bytes: int, salt: int) -> tuple[Frame, int] | str:
    """The frame at an offset and the offset after it, or the reason why there is none.

    Never raises on what `data` holds. At the very end of `data` the reason is that it is cut;
    the caller stops before that.
    """
    payload_at = offset_bytes + FRAME_HEADER_BYTES
    if payload_at > len(data):
        return f"frame header is cut after {len(data) - offset_bytes} bytes"
    crc, size_bytes, kind, index, term, durable_bytes = _HEADER.unpack_from(data, offset_bytes)
    if size_bytes > PAYLOAD_BYTES_MAX:
        return f"frame length {size_bytes} is over {PAYLOAD_BYTES_MAX}"
    end = payload_at + size_bytes
    if end > len(data):
        return f"frame of {size_bytes} payload bytes is cut after {len(data) - payload_at}"
    payload = data[payload_at:end]
    if _crc32c_extend(_crc32c_extend(salt, data[offset_bytes + 4 : payload_at]), payload) != crc:
        return "frame checksum does not match"
    # The checksum vouches for the zeros too, but only as its writer left them.
    if data[offset_bytes + _ZEROS_AT : offset_bytes + 12] != b"\0\0\0":
        return "frame has reserved bits set"
    return Frame(kind, index, term, durable_bytes, payload), end


def find_frames(
    data: bytes, start_bytes: int, durable_above_bytes: int, salt: int
) -> Iterator[int]:
    """Offsets at or after `start_bytes` of good frames whose mark lies above a limit.

    It is asked once, after a bad frame: a good frame behind it whose mark lies above the bad
    place proves that the bad bytes had been synced. Only headers that can be one are checked:
    three zero bytes at their place, a mark between the limit and the frame's own offset.
    """
    for run in _ZEROS.finditer(data, start_bytes + _ZEROS_AT):
        # In a long run of zeros only the first few places can be a header's: further in, its
        # checksum would be zero as well, as it is in one of 2**32 frames.
        last = min(run.end() - 3, run.start() + _ZEROS_AT - 1)
        for zeros_at in range(run.start(), last + 1):
            offset_bytes = zeros_at - _ZEROS_AT
            if offset_bytes + FRAME_HEADER_BYTES > len(data):
                return
            durable_bytes = _HEADER.unpack_from(data, offset_bytes)[5]
            if not durable_above_bytes < durable_bytes <= offset_bytes:
                continue
            if not isinstance(decode_frame(data, offset_bytes, salt), str):
                yield offset_bytes
