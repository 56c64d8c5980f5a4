"""Images: a whole state as checksummed bytes. Checkpoints and snapshots are images.

    0       8         12   16           24          32         40     48       56   60      64
    +-------+---------+----+------------+-----------+----------+------+--------+----+-------+
    | magic | version | 0  | last index | last term | clock ms | keys | leases | 0  | crc32c|
    | 8     | u32     | u32| u64        | u64       | u64      | u64  | u64    | u32| u32   |
    +-------+---------+----+------------+-----------+----------+------+--------+----+-------+
    | block META | block ENTRIES | block ENTRIES | ... | block FOOTER                       |

    block   0        4        8      9    12      16       16+n
            +--------+--------+------+----+-------+- - - - -+    crc32c covers 4 .. 16+n
            | crc32c | n      | kind | 0  | count | body    |
            | u32    | u32    | u8   | 3  | u32   | n bytes |
            +--------+--------+------+----+-------+- - - - -+

    META 1      msgpack [[[first index, term] ...], [[origin, epoch, last sequence] ...]]
    ENTRIES 2   msgpack [keys, values, created, modified, positions, deadlines]: columns; the key
                at positions[i] has the deadline deadlines[i]; `count` keys, in ascending order,
                all behind those of the block before
    FOOTER 3    u64 keys | u64 leases | SHA-256 of every byte before this block

Integers outside msgpack are little-endian. Columns: one call then makes a thousand objects. In
key order, origins too, so that one state has one image, byte for byte, on every replica.

Invariants: a block of entries is closed before it outgrows 1 MiB (one larger entry has a block of
its own); a body is at most BODY_BYTES_MAX, checked before anything is allocated; the footer is
the last byte of the file; the counts of header, blocks and footer agree.

Nothing here may be missing: an image is written to a temporary name and synced before it is
renamed, so anything that does not check out is Corrupt. A newer version is Unsupported.

What it does not do: open or name files, or judge the values: Store.restore and LogTerms do.

Proved by: tests/statemachine/test_image.py
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice
from operator import add, lt
from pathlib import Path
from typing import Any, Final

import google_crc32c
import msgpack

from statemachine.commands import LogId
from statemachine.errors import Corrupt, Unsupported
from statemachine.frame import PAYLOAD_BYTES_MAX
from statemachine.fs import ReadFile
from statemachine.layer import Columns
from statemachine.store import StoreParts

__all__ = ["BLOCK_BYTES_MAX", "IMAGE_MAGIC", "IMAGE_VERSION", "Image", "ImageWriter", "read_image"]

IMAGE_MAGIC: Final = b"TRIMIMG\0"
IMAGE_VERSION: Final = 2
BLOCK_BYTES_MAX: Final = 1024 * 1024
BODY_BYTES_MAX: Final = 2 * PAYLOAD_BYTES_MAX
"""No key and value together come near: both travelled in one payload."""

_HEADER: Final = struct.Struct("<8sI4xQQQQQ4x")
_CRC: Final = struct.Struct("<I")
HEADER_BYTES: Final = 64
assert _HEADER.size + _CRC.size == HEADER_BYTES  # the first picture
_BLOCK: Final = struct.Struct("<IIB3xI")
_BLOCK_REST: Final = struct.Struct("<IB3xI")
assert _BLOCK.size == _CRC.size + _BLOCK_REST.size == 16  # the second picture
_FOOTER: Final = struct.Struct("<QQ32s")

_META: Final = 1
_ENTRIES: Final = 2
_FOOT: Final = 3

_STEP_KEYS: Final = 1024
"""Keys taken at once: another thread waits well under a millisecond for its turn."""


@dataclass(frozen=True, slots=True)
class Image:
    """A state and the log entry it is the state of. `size_bytes` and `checksum` are the file's."""

    last: LogId
    runs: Sequence[tuple[int, int]]
    parts: StoreParts
    size_bytes: int = 0
    checksum: bytes = b""


class ImageWriter:
    """Turns an image into bytes, block by block; afterwards knows their size and SHA-256.

    Any thread, as long as nobody changes the parts.
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    @property
    def checksum(self) -> bytes:
        """SHA-256 of all bytes given out so far: in the end, of the file."""
        return self._sha256.digest()

    def chunks(self) -> Iterator[bytes]:
        """The file's bytes, in pieces of about a block."""
        for chunk in self._blocks():
            self._sha256.update(chunk)
            self.size_bytes += len(chunk)
            yield chunk

    def _blocks(self) -> Iterator[bytes]:
        image, parts = self._image, self._image.parts
        counts = (len(parts.columns.values), len(parts.columns.deadlines))
        head = _HEADER.pack(
            IMAGE_MAGIC, IMAGE_VERSION, image.last.index, image.last.term, parts.clock_ms, *counts
        )
        yield head + _CRC.pack(google_crc32c.value(head))
        origins = [[origin, *place] for origin, place in sorted(parts.origins.items())]
        runs = [list(run) for run in image.runs]
        yield _block(_META, 0, msgpack.packb([runs, origins]))
        yield from _entry_blocks(parts.columns)
        # The digest so far covers exactly what was yielded: `chunks` counts before it asks on.
        yield _block(_FOOT, 0, _FOOTER.pack(*counts, self._sha256.digest()))


def _entry_blocks(columns: Columns) -> Iterator[bytes]:
    keys_left = iter(columns.order)
    while keys := list(islice(keys_left, _STEP_KEYS)):
        values = list(map(columns.values.__getitem__, keys))
        # ends[i]: bytes of the entries 0..i. Cut before the one that would outgrow the block.
        ends = list(accumulate(map(add, map(len, keys), map(len, values))))
        start, before = 0, 0
        while start < len(keys):
            stop = max(bisect_right(ends, before + BLOCK_BYTES_MAX), start + 1)
            yield _entry_block(columns, keys[start:stop], values[start:stop])
            start, before = stop, ends[stop - 1]


def _entry_block(columns: Columns, keys: list[bytes], values: list[bytes]) -> bytes:
    created = list(map(columns.created.__getitem__, keys))
    modified = list(map(columns.modified.__getitem__, keys))
    deadlines = columns.deadlines
    positions = [at for at, key in enumerate(keys) if key in deadlines] if deadlines else []
    leased = [deadlines[keys[at]] for at in positions]
    body = msgpack.packb([keys, values, created, modified, positions, leased])
    return _block(_ENTRIES, len(keys), body)


def _block(kind: int, count: int, body: bytes) -> bytes:
    rest = _BLOCK_REST.pack(len(body), kind, count)
    crc = google_crc32c.extend(google_crc32c.value(rest), body)
    return b"".join((_CRC.pack(crc), rest, body))


def read_image(path: Path, file: ReadFile, check: Callable[[], None] = lambda: None) -> Image:
    """Read a whole image, front to back. `path` is only for what is said.

    Args:
        check: called between blocks; what it raises ends the reading.

    Raises:
        Corrupt: anything does not check out.
        Unsupported: a newer version wrote it.
    """
    return _ImageReader(path, file).read(check)


class _ImageReader:
    """One pass over an image file."""

    def __init__(self, path: Path, file: ReadFile) -> None:
        self._path = path
        self._file = file
        self._offset_bytes = 0  # Of the part that is being read: what an error names.
        self._next_bytes = 0
        self._sha256 = hashlib.sha256()
        self._values: dict[bytes, bytes] = {}
        self._created: dict[bytes, int] = {}
        self._modified: dict[bytes, int] = {}
        self._deadlines: dict[bytes, int] = {}
        self._last_key: bytes | None = None

    def read(self, check: Callable[[], None]) -> Image:
        last, clock_ms, key_count, lease_count = self._read_header()
        runs, origins = self._read_meta()
        sha256_before = b""
        while True:
            check()
            sha256_before = self._sha256.digest()
            kind, count, body = self._read_block()
            if kind == _FOOT:
                break
            if kind != _ENTRIES:
                raise self._corrupt(f"block of kind {kind} among the entries")
            self._add_entries(count, self._columns(body, 6))
        if len(body) != _FOOTER.size:
            raise self._corrupt(f"footer of {len(body)} bytes")
        counts = (len(self._values), len(self._deadlines))
        if _FOOTER.unpack(body) != (*counts, sha256_before) or counts != (key_count, lease_count):
            raise self._corrupt("footer does not match what stands before it")
        if self._next_bytes != self._file.size_bytes:
            raise self._corrupt("there are bytes behind the footer")
        facts = (self._created, self._modified, self._deadlines)
        parts = StoreParts(Columns.of(self._values, *facts), clock_ms, origins)
        return Image(last, runs, parts, self._next_bytes, self._sha256.digest())

    def _read_header(self) -> tuple[LogId, int, int, int]:
        head = self._take(HEADER_BYTES)
        (crc,) = _CRC.unpack_from(head, _HEADER.size)
        if google_crc32c.value(head[: _HEADER.size]) != crc:
            raise self._corrupt("image header checksum does not match")
        magic, version, index, term, clock_ms, keys, leases = _HEADER.unpack_from(head)
        if magic != IMAGE_MAGIC:
            raise self._corrupt(f"magic is {magic!r}, not {IMAGE_MAGIC!r}: another kind of file")
        # Every version keeps the first 12 bytes and the checksum in the last 4 of 64.
        if version != IMAGE_VERSION:
            raise Unsupported(self._path, version, IMAGE_VERSION)
        return LogId(index, term), clock_ms, keys, leases

    def _read_meta(self) -> tuple[list[tuple[int, int]], dict[bytes, tuple[int, int]]]:
        kind, _, body = self._read_block()
        if kind != _META:
            raise self._corrupt(f"first block is of kind {kind}")
        runs, origins = self._columns(body, 2)
        try:
            return (
                [(int(first), int(term)) for first, term in runs],
                {bytes(origin): (int(epoch), int(last)) for origin, epoch, last in origins},
            )
        except (TypeError, ValueError) as error:
            raise self._corrupt("meta block makes no sense") from error

    def _add_entries(self, count: int, columns: list[Any]) -> None:
        keys, values, created, modified, positions, deadlines = columns
        # One C loop per column: checking each key by itself would double the time of a load.
        if {len(keys), len(values), len(created), len(modified)} != {count}:
            raise self._corrupt("columns of different lengths")
        if not set(map(type, chain(keys, values))) <= {bytes}:
            raise self._corrupt("a key or value is not bytes")
        if not set(map(type, chain(created, modified, positions, deadlines))) <= {int}:
            raise self._corrupt("a revision or deadline is not a number")
        placed = not positions or 0 <= min(positions) <= max(positions) < count
        if not placed or len(positions) != len(deadlines):
            raise self._corrupt("a deadline without a key")
        self._check_order(keys)
        self._values.update(zip(keys, values, strict=True))
        self._created.update(zip(keys, created, strict=True))
        self._modified.update(zip(keys, modified, strict=True))
        self._deadlines.update(zip(map(keys.__getitem__, positions), deadlines, strict=True))

    def _check_order(self, keys: list[bytes]) -> None:
        if not keys:
            return
        follows = self._last_key is None or self._last_key < keys[0]
        if not (follows and all(map(lt, keys, islice(keys, 1, None)))):
            raise self._corrupt("keys out of order")
        self._last_key = keys[-1]

    def _columns(self, body: bytes, count: int) -> list[Any]:
        try:
            columns = msgpack.unpackb(body)
        # msgpack raises ValueError and its subclasses on bytes that are no message.
        except (ValueError, TypeError) as error:
            raise self._corrupt("block body does not unpack") from error
        if (
            not isinstance(columns, list)
            or len(columns) != count
            or not all(isinstance(column, list) for column in columns)
        ):
            raise self._corrupt("block body makes no sense")
        return columns

    def _read_block(self) -> tuple[int, int, bytes]:
        self._offset_bytes = self._next_bytes
        head = self._take(_BLOCK.size)
        crc, size_bytes, kind, count = _BLOCK.unpack(head)
        if size_bytes > BODY_BYTES_MAX:
            raise self._corrupt(f"block length {size_bytes} is over {BODY_BYTES_MAX}")
        body = self._take(size_bytes)
        if google_crc32c.extend(google_crc32c.value(head[4:]), body) != crc:
            raise self._corrupt("block checksum does not match")
        return kind, count, body

    def _take(self, size_bytes: int) -> bytes:
        data = self._file.read(size_bytes)
        if len(data) != size_bytes:
            raise self._corrupt("image is cut")
        self._next_bytes += size_bytes
        self._sha256.update(data)
        return data

    def _corrupt(self, reason: str) -> Corrupt:
        return Corrupt(self._path, self._offset_bytes, reason)
