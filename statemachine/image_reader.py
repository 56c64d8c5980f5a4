"""Reads an image, front to back, and believes nothing that does not check out.

    header -> META -> LEASES ... -> ENTRIES ... -> FOOTER -> parts      (the bytes: image.py)
      every block by its CRC, every count against the header, the whole by the footer's SHA-256

One million keys of 256 bytes take about a second. Of a large file the SHA-256 is computed in a
thread beside: hashing lets the interpreter go, decoding does not.

Invariants: a body's length is checked before anything is allocated; keys ascend through all blocks;
nothing is handed out before the last byte was checked. May run in any thread.

Proved by: tests/statemachine/test_image.py, tests/statemachine/test_damaged_bytes.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain, islice
from operator import lt
from pathlib import Path
from typing import Any

import google_crc32c
import msgpack

from statemachine.commands import LogId
from statemachine.errors import Corrupt, Unsupported
from statemachine.fs import ReadFile
from statemachine.grants import Grant, GrantParts
from statemachine.hashing import Sha256Beside
from statemachine.image import (
    BLOCK,
    BODY_BYTES_MAX,
    CRC,
    ENTRIES,
    FOOT,
    FOOTER,
    HEADER,
    HEADER_BYTES,
    IMAGE_MAGIC,
    IMAGE_VERSION,
    IMAGE_VERSION_OLDEST,
    LEASES,
    META,
    Image,
)
from statemachine.layer import Columns
from statemachine.removals import RemovalParts
from statemachine.store import StoreParts

__all__ = ["read_image"]

_Meta = tuple[list[tuple[int, int]], dict[bytes, tuple[int, int]], int, RemovalParts]
"""Term runs, origins, the last serial of a lease, removals."""


def read_image(path: Path, file: ReadFile, check: Callable[[], None] = lambda: None) -> Image:
    """Read a whole image, front to back. `path` is only for what is said.

    Args:
        check: called between blocks; what it raises ends the reading.

    Raises:
        Corrupt: anything does not check out.
        Unsupported: a newer version wrote it.
    """
    reader = _ImageReader(path, file)
    try:
        return reader.read(check)
    finally:
        reader.close()


class _ImageReader:
    """One pass over an image file."""

    def __init__(self, path: Path, file: ReadFile) -> None:
        self._path = path
        self._file = file
        self._offset_bytes = 0  # Of the part that is being read: what an error names.
        self._next_bytes = 0
        self._sha256 = Sha256Beside(file.size_bytes)
        self._sha256_before = b""  # Of all before the footer, once that was read.
        self._keys: list[bytes] = []
        self._values: list[bytes] = []
        self._modified: list[int] = []
        self._created: dict[bytes, int] = {}
        self._deadlines: dict[bytes, int] = {}
        self._last_key: bytes | None = None
        self._grants: dict[int, Grant] = {}
        self._last_serial = 0  # Of those that were read.
        self._version = IMAGE_VERSION

    def read(self, check: Callable[[], None]) -> Image:
        last, clock_ms, key_count, lease_count = self._read_header()
        runs, origins, last_serial, removals = self._read_meta()
        while True:
            check()
            kind, count, body = self._read_block()
            if kind == FOOT:
                break
            if kind == LEASES and not self._keys:
                self._add_leases(count, last_serial, self._columns(body, 4))
                continue
            if kind != ENTRIES:
                raise self._corrupt(f"block of kind {kind} among the entries")
            self._add_entries(count, self._columns(body, 6))
        if len(body) != FOOTER.size:
            raise self._corrupt(f"footer of {len(body)} bytes")
        counts = (len(self._keys), len(self._deadlines))
        footer = (*counts, self._sha256_before)
        if FOOTER.unpack(body) != footer or counts != (key_count, lease_count):
            raise self._corrupt("footer does not match what stands before it")
        if self._next_bytes != self._file.size_bytes:
            raise self._corrupt("there are bytes behind the footer")
        columns = self._dicts()
        grants = GrantParts(last_serial, self._grants)
        parts = StoreParts(columns, clock_ms, origins, grants, removals)
        return Image(last, runs, parts, self._next_bytes, self._sha256.digest())

    def close(self) -> None:
        """End the thread, if there is one."""
        self._sha256.close()

    def _dicts(self) -> Columns:
        """The columns by key; the lists are given up."""
        # One dict after the other, so that a cache holds as much of it as it can; and two dicts of
        # the same keys: to copy one and put other values in is faster than to grow the second.
        keys, values, modified = self._keys, self._values, self._modified
        self._keys, self._values, self._modified = [], [], []
        by_revision = dict(zip(keys, modified, strict=True))
        by_value: dict[bytes, Any] = by_revision.copy()
        by_value.update(zip(keys, values, strict=True))
        return Columns.of(by_value, by_revision, self._created, self._deadlines)

    def _read_header(self) -> tuple[LogId, int, int, int]:
        head = self._take(HEADER_BYTES)
        self._sha256.update(head)
        (crc,) = CRC.unpack_from(head, HEADER.size)
        if google_crc32c.value(head[: HEADER.size]) != crc:
            raise self._corrupt("image header checksum does not match")
        magic, version, index, term, clock_ms, keys, leases = HEADER.unpack_from(head)
        if magic != IMAGE_MAGIC:
            raise self._corrupt(f"magic is {magic!r}, not {IMAGE_MAGIC!r}: another kind of file")
        # Every version keeps the first 12 bytes and the checksum in the last 4 of 64.
        if not IMAGE_VERSION_OLDEST <= version <= IMAGE_VERSION:
            raise Unsupported(self._path, version, IMAGE_VERSION)
        self._version = version
        return LogId(index, term), clock_ms, keys, leases

    def _read_meta(self) -> _Meta:
        kind, _, body = self._read_block()
        if kind != META:
            raise self._corrupt(f"first block is of kind {kind}")
        rest: list[list[Any]] = [[0, 0], [], []]
        if self._version == IMAGE_VERSION_OLDEST:
            runs, origins = self._columns(body, 2)
        else:
            runs, origins, *rest = self._columns(body, 5)
        self._check_numbers(chain(*rest), "meta block makes no sense")
        try:
            (last_serial, floor), checksums, revisions = rest
            return (
                [(int(first), int(term)) for first, term in runs],
                {bytes(origin): (int(epoch), int(last)) for origin, epoch, last in origins},
                last_serial,
                RemovalParts(floor, dict(zip(checksums, revisions, strict=True))),
            )
        except (TypeError, ValueError) as error:
            raise self._corrupt("meta block makes no sense") from error

    def _check_numbers(self, numbers: Iterable[object], reason: str) -> None:
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise self._corrupt(reason)

    def _add_leases(self, count: int, last_serial: int, columns: list[Any]) -> None:
        if set(map(len, columns)) != {count}:
            raise self._corrupt("columns of different lengths")
        self._check_numbers(chain(*columns), "a number of a lease is none")
        for serial, lease_id, ttl_ms, deadline_ms in zip(*columns, strict=True):
            if not self._last_serial < serial <= last_serial:
                raise self._corrupt("leases out of order")
            self._last_serial = serial
            self._grants[serial] = Grant(lease_id, ttl_ms, deadline_ms)

    def _add_entries(self, count: int, columns: list[Any]) -> None:
        keys, values, created, modified, positions, deadlines = columns
        # One C loop per column: checking each key by itself would double the time of a load.
        if {len(keys), len(values), len(created), len(modified)} != {count}:
            raise self._corrupt("columns of different lengths")
        if not set(map(type, chain(keys[:1], values))) <= {bytes}:
            raise self._corrupt("a key or value is not bytes")
        # Equal columns: one says it all, and is looked at in place of both.
        made = [] if created == modified else created
        if not set(map(type, chain(made, modified, positions, deadlines))) <= {int}:
            raise self._corrupt("a revision or deadline is not a number")
        placed = not positions or 0 <= min(positions) <= max(positions) < count
        if not placed or len(positions) != len(deadlines):
            raise self._corrupt("a deadline without a key")
        self._check_order(keys)
        self._keys += keys
        self._values += values
        self._modified += modified
        if made:
            rows = zip(keys, made, modified, strict=True)
            self._created.update((key, first) for key, first, last in rows if first != last)
        self._deadlines.update(zip(map(keys.__getitem__, positions), deadlines, strict=True))

    def _check_order(self, keys: list[bytes]) -> None:
        if not keys:
            return
        follows = self._last_key is None or self._last_key < keys[0]
        try:
            follows = follows and all(map(lt, keys, islice(keys, 1, None)))
        except TypeError as error:  # The first one is bytes: so all of them are that can follow it.
            raise self._corrupt("a key or value is not bytes") from error
        if not follows:
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
        head = self._take(BLOCK.size)
        crc, size_bytes, kind, count = BLOCK.unpack(head)
        if size_bytes > BODY_BYTES_MAX:
            raise self._corrupt(f"block length {size_bytes} is over {BODY_BYTES_MAX}")
        body = self._take(size_bytes)
        if google_crc32c.extend(google_crc32c.value(head[4:]), body) != crc:
            raise self._corrupt("block checksum does not match")
        if kind == FOOT:
            self._sha256_before = self._sha256.digest()
        self._sha256.update(head, body)
        return kind, count, body

    def _take(self, size_bytes: int) -> bytes:
        data = self._file.read(size_bytes)
        if len(data) != size_bytes:
            raise self._corrupt("image is cut")
        self._next_bytes += size_bytes
        return data

    def _corrupt(self, reason: str) -> Corrupt:
        return Corrupt(self._path, self._offset_bytes, reason)
