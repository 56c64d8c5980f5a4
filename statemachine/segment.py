"""Segments: how a log file begins, and which of its bytes are to be believed.

The WAL and the Raft journal are runs of segment files with rising sequence numbers.

    0       8         12       13     16         24            32              40     60      64
    +-------+---------+--------+------+----------+-------------+---------------+------+-------+
    | magic | version | policy | 0    | sequence | first index | bytes before  | 0    | crc32c|
    | 8     | u32     | u8     | 3    | u64      | u64         | u64           | 20   | u32   |
    +-------+---------+--------+------+----------+-------------+---------------+------+-------+
    | frames (frame.py), one after the other, to the end of the file                          |
    crc32c covers bytes 0 .. 60, and salts the frames. Integers are little-endian.

`policy` is how the file was synced (0 always, 1 interval, 2 checkpoint); `sequence` counts the
segments of a log, by one; no frame's index lies below `first index`; `bytes before` is the size
of the segment before when this one was begun (0: not said).

What may be missing after a crash (DESIGN "Durability"). Writes that were not synced may be lost
in any order, so a hole with good frames behind it is legal there, and damage below what a frame
calls durable:

    | header | good ... good | bad | ?????? |
                             ^ bad at
    a good frame in ?????? with a mark above it          damage: that byte had been synced
    a later segment vouches for the ones before it       damage: this one had been synced whole
    else                                                 torn: the log ends at `bad at`; the owner
                                                         cuts it there, drops what follows, reports

A segment vouches for all before it when any of its frames carries a mark above 0, or when its
policy is not `checkpoint`: then the one before is synced before the next is made. Under
`checkpoint` nobody waits for that sync, and the first frames of a segment carry 0. A segment that
ends too early without a bad byte shows by `bytes before` of the next one.

No mark in front of the bad frame can tell: a mark is never above its own frame's offset.

A header that is short or bad is torn (at 0: the file holds nothing) unless a good frame behind it
carries a mark: a mark above 0 covers the header.

What is not done here: nothing is cut or removed, no file is opened. An owner that truncates a
segment syncs it before it writes again, and writes no mark above the cut.

Proved by: tests/statemachine/test_segment.py, tests/golden/recovery/
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import google_crc32c

from statemachine.errors import Corrupt, Unsupported
from statemachine.frame import Frame, decode_frame, find_frames

__all__ = [
    "JOURNAL_MAGIC",
    "POLICIES",
    "SEGMENT_HEADER_BYTES",
    "SEGMENT_VERSION",
    "WAL_MAGIC",
    "SegmentContents",
    "read_segment",
    "segment_header",
    "segment_salt",
    "vouches_for_earlier",
]

WAL_MAGIC: Final = b"TRIMWAL\0"
JOURNAL_MAGIC: Final = b"TRIMJNL\0"
SEGMENT_VERSION: Final = 2
POLICIES: Final = ("always", "interval", "checkpoint")
"""Names of the sync policies, by their number in the header."""

_HEADER: Final = struct.Struct("<8sIB3xQQQ20x")
_CRC: Final = struct.Struct("<I")
SEGMENT_HEADER_BYTES: Final = 64
assert _HEADER.size + _CRC.size == SEGMENT_HEADER_BYTES  # the picture above


@dataclass(slots=True)
class SegmentContents:
    """What one segment file holds, as far as it is to be believed.

    `good_bytes` is where the log ends in this file; `torn` says why that is before
    `file_bytes`, None when it is not. `durable_bytes` is the highest mark that was found.
    A segment whose header is torn has good_bytes 0, sequence 0 and no frames.
    `before_bytes`: of the segment before, 0 when it is not said. `salt`: of its frames.
    """

    version: int = 0
    policy: int = 0
    sequence: int = 0
    first_index: int = 0
    before_bytes: int = 0
    salt: int = 0
    frames: list[tuple[int, Frame]] = field(default_factory=list)
    durable_bytes: int = 0
    good_bytes: int = 0
    torn: str | None = None
    file_bytes: int = 0


def segment_header(
    magic: bytes, policy: int, sequence: int, first_index: int, before_bytes: int = 0
) -> bytes:
    """The first 64 bytes of a segment file."""
    rest = _HEADER.pack(magic, SEGMENT_VERSION, policy, sequence, first_index, before_bytes)
    return rest + _CRC.pack(google_crc32c.value(rest))


def segment_salt(header: bytes) -> int:
    """What the checksums of the segment's frames start from."""
    salt: int = _CRC.unpack_from(header, SEGMENT_HEADER_BYTES - _CRC.size)[0]
    return salt


def read_segment(path: Path, data: bytes, magic: bytes, *, newest: bool) -> SegmentContents:
    """Read a whole segment file. `path` is only for what is said.

    Args:
        magic: WAL_MAGIC or JOURNAL_MAGIC.
        newest: no later segment vouches for this one.

    Raises:
        Corrupt: bytes that had been synced are not those that were written.
        Unsupported: a newer version wrote it.
    """
    contents = SegmentContents(file_bytes=len(data))
    reason = _header_problem(path, data, magic)
    if reason is not None:
        if not newest or _has_mark(data):
            raise Corrupt(path, 0, reason)
        contents.torn = reason
        return contents
    (
        _,
        contents.version,
        contents.policy,
        contents.sequence,
        contents.first_index,
        contents.before_bytes,
    ) = _HEADER.unpack_from(data)
    contents.salt = segment_salt(data)
    _read_frames(path, data, contents, newest=newest)
    return contents


def vouches_for_earlier(path: Path, data: bytes, magic: bytes) -> bool:
    """Whether this segment shows that all before it had been synced whole.

    Raises: Unsupported, Corrupt on another kind of file.
    """
    if _header_problem(path, data, magic) is None:
        policy: int = _HEADER.unpack_from(data)[2]
        if POLICIES[policy] != "checkpoint":
            return True
    return _has_mark(data)


def _has_mark(data: bytes) -> bool:
    # The header may be damaged: then the salt as it stands there is right, or, if that is what was
    # damaged, the one that the rest of the header gives.
    if len(data) < SEGMENT_HEADER_BYTES:
        return False
    computed: int = google_crc32c.value(data[: SEGMENT_HEADER_BYTES - _CRC.size])
    return any(
        True
        for salt in {segment_salt(data), computed}
        for _ in find_frames(data, SEGMENT_HEADER_BYTES, 0, salt)
    )


def _header_problem(path: Path, data: bytes, magic: bytes) -> str | None:
    if len(data) < SEGMENT_HEADER_BYTES:
        return f"segment header is cut after {len(data)} bytes"
    (crc,) = _CRC.unpack_from(data, SEGMENT_HEADER_BYTES - _CRC.size)
    if google_crc32c.value(data[: SEGMENT_HEADER_BYTES - _CRC.size]) != crc:
        return "segment header checksum does not match"
    found_magic, version, policy, _, _, _ = _HEADER.unpack_from(data)
    if found_magic != magic:
        raise Corrupt(path, 0, f"magic is {found_magic!r}, not {magic!r}: another kind of file")
    # Every version keeps the first 12 bytes and the checksum in the last 4 of 64.
    if version != SEGMENT_VERSION:
        raise Unsupported(path, version, SEGMENT_VERSION)
    if policy >= len(POLICIES):
        raise Corrupt(path, 0, f"there is no sync policy {policy}")
    return None


def _read_frames(path: Path, data: bytes, contents: SegmentContents, *, newest: bool) -> None:
    offset_bytes = SEGMENT_HEADER_BYTES
    mark_bytes = 0
    reason: str | None = None
    while offset_bytes < len(data):
        decoded = decode_frame(data, offset_bytes, contents.salt)
        if isinstance(decoded, str):
            reason = decoded
            break
        frame, end = decoded
        if frame.durable_bytes > offset_bytes:
            raise Corrupt(path, offset_bytes, f"frame claims {frame.durable_bytes} synced bytes")
        mark_bytes = max(mark_bytes, frame.durable_bytes)
        contents.frames.append((offset_bytes, frame))
        offset_bytes = end
    contents.good_bytes = offset_bytes
    contents.durable_bytes = mark_bytes
    contents.torn = reason
    if reason is None:
        return
    if not newest:
        raise Corrupt(path, offset_bytes, f"{reason}, in a segment that was synced whole")
    for witness_bytes in find_frames(data, offset_bytes + 1, offset_bytes, contents.salt):
        raise Corrupt(
            path,
            offset_bytes,
            f"{reason}; the frame at {witness_bytes} says that this had been synced",
        )
