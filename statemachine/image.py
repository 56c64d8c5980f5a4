"""Images: a whole state as checksummed bytes. Checkpoints and snapshots are images.

    0       8         12   16           24          32         40     48       56   60      64
    +-------+---------+----+------------+-----------+----------+------+--------+----+-------+
    | magic | version | 0  | last index | last term | clock ms | keys | leases | 0  | crc32c|
    | 8     | u32     | u32| u64        | u64       | u64      | u64  | u64    | u32| u32   |
    +-------+---------+----+------------+-----------+----------+------+--------+----+-------+
    | block META | block LEASES | ... | block ENTRIES | block ENTRIES | ... | block FOOTER |

    block   0        4        8      9    12      16       16+n
            +--------+--------+------+----+-------+- - - - -+    crc32c covers 4 .. 16+n
            | crc32c | n      | kind | 0  | count | body    |
            | u32    | u32    | u8   | 3  | u32   | n bytes |
            +--------+--------+------+----+-------+- - - - -+

    META 1      msgpack [[[first index, term] ...], [[origin, epoch, last sequence] ...],
                [last serial, floor], checksums, revisions]: the last serial of a lease that holds
                keys (grants.py); and the keys that went lately, oldest first (removals.py)
    LEASES 4    msgpack [serials, ids, ttls, deadlines]: columns; `count` leases, serials ascending
                through all blocks
    ENTRIES 2   msgpack [keys, values, created, modified, positions, deadlines]: columns; the key
                at positions[i] has the deadline deadlines[i], or hangs on the lease with the
                serial -deadlines[i]; `count` keys, in ascending order, all behind those of the
                block before
    FOOTER 3    u64 keys | u64 leases | SHA-256 of every byte before this block

Integers outside msgpack are little-endian. Columns: one call then makes a thousand objects. In
key order, origins too, so that one state has one image, byte for byte, on every replica.

Invariants: a block of entries is closed before it outgrows 1 MiB (one larger entry has a block of
its own); a body is at most BODY_BYTES_MAX, checked before anything is allocated; the footer is
the last byte of the file; the counts of header, blocks and footer agree.

Nothing here may be missing: an image is written to a temporary name and synced before it is
renamed, so anything that does not check out is Corrupt. A newer version is Unsupported; version 2
is read.

What it does not do: open or name files, or judge the values: Store.restore and LogTerms do.

Proved by: tests/statemachine/test_image.py
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from operator import add
from typing import Final

import google_crc32c
import msgpack

from statemachine.commands import LogId
from statemachine.frame import PAYLOAD_BYTES_MAX
from statemachine.grants import GrantParts
from statemachine.layer import Columns
from statemachine.store import StoreParts

__all__ = ["BLOCK_BYTES_MAX", "IMAGE_MAGIC", "IMAGE_VERSION", "Image", "ImageWriter"]

IMAGE_MAGIC: Final = b"TRIMIMG\0"
IMAGE_VERSION: Final = 3
IMAGE_VERSION_OLDEST: Final = 2
"""It had no leases that hold keys, and did not know what went lately."""
BLOCK_BYTES_MAX: Final = 1024 * 1024
BODY_BYTES_MAX: Final = 2 * PAYLOAD_BYTES_MAX
"""No key and value together come near: both travelled in one payload."""

HEADER: Final = struct.Struct("<8sI4xQQQQQ4x")
CRC: Final = struct.Struct("<I")
HEADER_BYTES: Final = 64
assert HEADER.size + CRC.size == HEADER_BYTES  # the first picture
BLOCK: Final = struct.Struct("<IIB3xI")
BLOCK_REST: Final = struct.Struct("<IB3xI")
assert BLOCK.size == CRC.size + BLOCK_REST.size == 16  # the second picture
FOOTER: Final = struct.Struct("<QQ32s")

META: Final = 1
ENTRIES: Final = 2
FOOT: Final = 3
LEASES: Final = 4

STEP_KEYS: Final = 1024
"""Keys taken at once: another thread waits well under a millisecond for its turn."""
_LEASES_MAX: Final = 8 * 1024
"""In one block."""


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
        head = HEADER.pack(
            IMAGE_MAGIC, IMAGE_VERSION, image.last.index, image.last.term, parts.clock_ms, *counts
        )
        yield head + CRC.pack(google_crc32c.value(head))
        origins = [[origin, *place] for origin, place in sorted(parts.origins.items())]
        runs = [list(run) for run in image.runs]
        grants, removals = parts.grants, parts.removals
        numbers = [grants.last_serial, removals.floor]
        checksums, revisions = list(removals.revisions), list(removals.revisions.values())
        meta = [runs, origins, numbers, checksums, revisions]
        yield _block(META, 0, msgpack.packb(meta))
        yield from _lease_blocks(grants)
        yield from _entry_blocks(parts.columns)
        # The digest so far covers exactly what was yielded: `chunks` counts before it asks on.
        yield _block(FOOT, 0, FOOTER.pack(*counts, self._sha256.digest()))


def _lease_blocks(grants: GrantParts) -> Iterator[bytes]:
    left = iter(grants.by_serial.items())
    while step := list(islice(left, _LEASES_MAX)):
        rows = [(serial, each.id, each.ttl_ms, each.deadline_ms) for serial, each in step]
        yield _block(LEASES, len(step), msgpack.packb(list(map(list, zip(*rows, strict=True)))))


def _entry_blocks(columns: Columns) -> Iterator[bytes]:
    keys_left = iter(columns.order)
    while keys := list(islice(keys_left, STEP_KEYS)):
        values = list(map(columns.values.__getitem__, keys))
        # ends[i]: bytes of the entries 0..i. Cut before the one that would outgrow the block.
        ends = list(accumulate(map(add, map(len, keys), map(len, values))))
        start, before = 0, 0
        while start < len(keys):
            stop = max(bisect_right(ends, before + BLOCK_BYTES_MAX), start + 1)
            yield _entry_block(columns, keys[start:stop], values[start:stop])
            start, before = stop, ends[stop - 1]


def _entry_block(columns: Columns, keys: list[bytes], values: list[bytes]) -> bytes:
    modified = list(map(columns.modified.__getitem__, keys))
    created = list(map(columns.created.get, keys, modified))
    deadlines = columns.deadlines
    positions = [at for at, key in enumerate(keys) if key in deadlines] if deadlines else []
    leased = [deadlines[keys[at]] for at in positions]
    body = msgpack.packb([keys, values, created, modified, positions, leased])
    return _block(ENTRIES, len(keys), body)


def _block(kind: int, count: int, body: bytes) -> bytes:
    rest = BLOCK_REST.pack(len(body), kind, count)
    crc = google_crc32c.extend(google_crc32c.value(rest), body)
    return b"".join((CRC.pack(crc), rest, body))
