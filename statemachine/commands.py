"""Batches of write commands: bytes <-> values, no rules and no files.

A batch is the payload of one Raft entry (and of one WAL frame of kind BATCH).
Integers are little-endian.

    0     1      2     4            12          20             28        28+o
    +-----+------+-----+------------+-----------+--------------+- - - - -+- - - - - -+
    | ver | o    | 0 0 | now_ms     | epoch     | sequence     | origin  | commands  |
    | u8  | u8   | u16 | u64        | u64       | u64          | o bytes | protobuf  |
    +-----+------+-----+------------+-----------+--------------+- - - - -+- - - - - -+

`commands` is a CommandList (proto/trimaran.proto). `origin` names for ever who made
the batch (a node: its id and its data directory's incarnation); o = 0 is an anonymous
batch: it is never taken for a duplicate, and its epoch and sequence are 0.

Invariants: a batch is built with now_ms = 0 and gets its time by `stamp`, a fixed
field, so the leader never has to look into a batch that another node made.
0 <= now_ms <= TIME_MS_MAX. Every command owns result slots in order: one each,
except that a Put owns one per key. The same batch decodes to the same commands
on every replica; one that decodes on none is Rejected on all.

A version above BATCH_VERSION is Fatal, not Rejected: a newer program wrote it and
other replicas can read it, so refusing it here would let the replicas part. For
the same reason a new operation or field needs a new batch version.

Does not: judge the commands (store.py does), limit sizes (the node does, before
it proposes), or know the Raft index.

Proved by: tests/statemachine/test_commands.py
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from statemachine.columns import command_parts, put_parts
from statemachine.errors import Fatal, Rejected
from statemachine.proto import trimaran_pb2 as pb

__all__ = [
    "BATCH_HEADER",
    "BATCH_VERSION",
    "LEASE_ID_MAX",
    "ORIGIN_BYTES_MAX",
    "TIME_MS_MAX",
    "BatchBuilder",
    "BatchHead",
    "CommandList",
    "Condition",
    "ExpireCondition",
    "LogId",
    "SnapshotMetadata",
    "WriteCommand",
    "decode_snapshot_metadata",
    "encode_snapshot_metadata",
    "read_commands",
    "read_head",
    "slots_of",
    "stamp",
    "wrap_command",
]

# The messages that others build and read. They come from here and from nowhere else.
CommandList = pb.CommandList
WriteCommand = pb.WriteCommand
Condition = pb.Condition
ExpireCondition = pb.ExpireCondition

BATCH_VERSION: Final = 3
"""2: transactions, and the operations from InsertMany on. 3: leases of many keys, Watch.seen."""
BATCH_HEADER: Final = struct.Struct("<BBHQQQ")
assert BATCH_HEADER.size == 28  # the picture above
_NOW_MS: Final = struct.Struct("<Q")
_NOW_MS_OFFSET: Final = 4

ORIGIN_BYTES_MAX: Final = 255
TIME_MS_MAX: Final = 2**63 - 1
"""The last moment there is, for the clock and for deadlines: a signed 64-bit count, as in Redis."""
LEASE_ID_MAX: Final = 2**63 - 1
"""A signed 64-bit number, as RESP has it."""


@dataclass(frozen=True, slots=True, order=True)
class LogId:
    """A place in the Raft log. Index 0 is before the first entry."""

    index: int
    term: int


@dataclass(frozen=True, slots=True)
class SnapshotMetadata:
    """What a snapshot says of itself (metadata.bin, and the seed's message of that name)."""

    last_included: LogId
    checksum: bytes
    """SHA-256 of snapshot.bin."""
    size_bytes: int
    """Size of snapshot.bin."""


@dataclass(frozen=True, slots=True)
class BatchHead:
    """The fixed part of a batch, in front of its commands."""

    now_ms: int
    """The leader's clock when it appended the batch; 0 until it is stamped."""
    epoch: int
    """How often the origin's data directory had been opened."""
    sequence: int
    """Counts the batches of (origin, epoch) from 1."""
    origin: bytes
    """Who made it, or b"" for an anonymous batch."""


# What a batch costs beside keys and values, at most: lengths take up to 5 bytes each.
_PAIR_BYTES: Final = 2 * (1 + 5)
_COMMAND_BYTES: Final = 1 + 5
_PUT_BYTES: Final = _COMMAND_BYTES + 2 + 5
_EMPTY_BYTES: Final = BATCH_HEADER.size + ORIGIN_BYTES_MAX + _PUT_BYTES


class BatchBuilder:
    """Gathers commands into one batch. Plain puts are kept in columns.

    Neighbouring puts travel as ONE Put command: reading a message costs ten times
    what one more element of a repeated field costs. Order is kept: a put never
    moves past another command.
    """

    __slots__ = ("_bytes_count", "_done", "_done_width", "_keys", "_values")

    def __init__(self) -> None:
        self._done: list[bytes] = []  # CommandList.commands as encoded so far, in parts.
        self._done_width = 0
        self._keys: list[bytes] = []  # The open columns: they come after all of _done.
        self._values: list[bytes] = []
        self._bytes_count = _EMPTY_BYTES

    def put(self, key: bytes, value: bytes) -> None:
        """SET without options. Owns one slot."""
        self._keys.append(key)
        self._values.append(value)
        self._bytes_count += len(key) + len(value) + _PAIR_BYTES

    def put_many(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """MSET: one slot per pair. Raises: Rejected when the columns differ in length."""
        if len(keys) != len(values):
            raise Rejected(f"{len(keys)} keys and {len(values)} values")
        self._keys.extend(keys)
        self._values.extend(values)
        self._bytes_count += sum(map(len, keys)) + sum(map(len, values)) + len(keys) * _PAIR_BYTES

    def add(self, command: pb.WriteCommand) -> None:
        """Any command; it is encoded at once. Owns slots_of(command) slots."""
        encoded = command.SerializeToString()
        if self._keys:
            self._close_columns()
        self._done += command_parts(encoded)
        self._done_width += slots_of(command)
        self._bytes_count += len(encoded) + _COMMAND_BYTES + _PUT_BYTES

    @property
    def width(self) -> int:
        """Result slots so far."""
        return self._done_width + len(self._keys)

    @property
    def bytes_count(self) -> int:
        """What the batch will take at most: never less than `build` returns, and not far above
        it (300 bytes, and 20 for each command or pair)."""
        return self._bytes_count

    def build(self, origin: bytes = b"", epoch: int = 0, sequence: int = 0) -> bytes:
        """The batch, with now_ms = 0. The builder stays as it is and may be filled on.

        Raises: Rejected when the origin is too long, or anonymous with an epoch or sequence.
        """
        if len(origin) > ORIGIN_BYTES_MAX:
            raise Rejected(f"origin of {len(origin)} bytes: at most {ORIGIN_BYTES_MAX}")
        if not origin and (epoch or sequence):
            raise Rejected("an anonymous batch has no epoch and no sequence")
        if self._keys:
            self._close_columns()
        head = BATCH_HEADER.pack(BATCH_VERSION, len(origin), 0, 0, epoch, sequence)
        return b"".join((head, origin, *self._done))

    def command_list(self) -> pb.CommandList:
        """The commands alone: what a Transaction is made of."""
        if self._keys:
            self._close_columns()
        return pb.CommandList.FromString(b"".join(self._done))

    def _close_columns(self) -> None:
        self._done += put_parts(self._keys, self._values)
        self._done_width += len(self._keys)
        self._keys.clear()
        self._values.clear()


def stamp(batch: bytes, now_ms: int) -> bytes:
    """The same batch with its time set. The leader does it when it appends.

    Raises: Rejected on nonsense, as read_head does, or on a time out of range.
    """
    read_head(batch)
    if not 0 <= now_ms <= TIME_MS_MAX:
        raise Rejected(f"time of {now_ms} ms is out of range")
    rest = memoryview(batch)[_NOW_MS_OFFSET + _NOW_MS.size :]
    return b"".join((batch[:_NOW_MS_OFFSET], _NOW_MS.pack(now_ms), rest))


def read_head(batch: bytes) -> BatchHead:
    """The head alone; the commands are not looked at.

    Raises: Rejected on nonsense, Fatal on a batch of a newer program.
    """
    if len(batch) < BATCH_HEADER.size:
        raise Rejected(f"batch of {len(batch)} bytes: shorter than its header")
    version, origin_bytes, zero, now_ms, epoch, sequence = BATCH_HEADER.unpack_from(batch)
    if version == 0 or zero != 0 or now_ms > TIME_MS_MAX:
        raise Rejected("these bytes are no batch")
    if version > BATCH_VERSION:
        raise Fatal(
            f"a batch of version {version}, and this program reads up to {BATCH_VERSION}: "
            f"run the newer version on all nodes"
        )
    origin = batch[BATCH_HEADER.size : BATCH_HEADER.size + origin_bytes]
    if len(origin) < origin_bytes:
        raise Rejected("batch ends inside its origin")
    if not origin and (epoch or sequence):
        raise Rejected("an anonymous batch has no epoch and no sequence")
    return BatchHead(now_ms, epoch, sequence, origin)


def read_commands(batch: bytes) -> pb.CommandList:
    """The commands of a batch whose head was read. Raises: Rejected on nonsense."""
    try:
        return pb.CommandList.FromString(batch[BATCH_HEADER.size + batch[1] :])
    except DecodeError as error:
        raise Rejected("the commands of the batch do not decode") from error


def slots_of(command: pb.WriteCommand) -> int:
    """How many results the command yields: one per key for a Put, else one."""
    return len(command.put.keys) if command.HasField("put") else 1


def wrap_command(command: bytes, now_ms: int = 0) -> bytes:
    """An anonymous batch of one WriteCommand that is already bytes (the seed's payload).

    The bytes are not looked at here: nonsense is refused when the batch is applied.
    """
    head = BATCH_HEADER.pack(BATCH_VERSION, 0, 0, now_ms, 0, 0)
    return b"".join((head, *command_parts(command)))


def encode_snapshot_metadata(metadata: SnapshotMetadata) -> bytes:
    """The protobuf message SnapshotMetadata."""
    last = metadata.last_included
    return pb.SnapshotMetadata(
        last_included=pb.LogId(index=last.index, term=last.term),
        checksum=metadata.checksum,
        size_bytes=metadata.size_bytes,
    ).SerializeToString()


def decode_snapshot_metadata(data: bytes) -> SnapshotMetadata:
    """Raises: Rejected when the bytes are no SnapshotMetadata."""
    try:
        message = pb.SnapshotMetadata.FromString(data)
    except DecodeError as error:
        raise Rejected("the snapshot metadata does not decode") from error
    last = LogId(index=message.last_included.index, term=message.last_included.term)
    return SnapshotMetadata(last, message.checksum, message.size_bytes)
