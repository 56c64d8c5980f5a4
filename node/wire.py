"""The peer protocol: frames of bytes and the messages in them. Pure, no sockets.

    0        4               4+n
    +--------+---------------+      n <= frame_bytes_max, checked before anything is kept;
    | n u32  | msgpack array |      big-endian length, then one array: [kind, field, ...]
    +--------+---------------+

    kind  message       fields
    1     hello         newest wire version, from, to, epoch, nonce (16 bytes),
                        oldest wire version, newest format, oldest format, ... (node.handshake)
    2     proof         HMAC-SHA256 over both hellos and the side that proves
    3     ping          -
    4     append        term, commit, previous index, previous term, [[term, kind, payload]...]
    5     ack           term, next index, reset, success
    6     vote_request  term, last index, last term, transfer
    7     vote          term
    8     pre_vote      term it would stand in, last index, last term
    9     pre_grant     that term
    10    higher_term   the term of the sender: yours is over (P18)
    11    timeout_now   term (Raft thesis 3.10)
    12    forward       a batch for the leader
    13    read_probe    term, round          14  read_echo    term, round
    15    read_ask      id                   16  read_grant   id, index (0: ask again)
    17    snapshot_begin  term, stream, index, index's term, size, SHA-256
    18    snapshot_chunk  stream, offset, bytes
    19    snapshot_ack    stream, bytes received, done
    30    incarnation   of the sender's data directory: the first message on a link
    31    roster        index, roster: committed, as the sender knows it (node.membership)
    32    stranger      the sender's roster's index, the incarnation that it knows in our place
    33    outcome_ask   origin of the sender, epoch, sequence: a batch whose results it skipped
    34    outcome       epoch, sequence, results (node.results; empty: gone)

Nothing pickled crosses (P11): msgpack gives numbers, bytes, strings, booleans, lists and
no objects. Every field of every message is checked against its shape before the message is
handed on, so none is ever half applied (P21); entries may only be batches, rosters and no-ops
(P3), a batch has a head that reads, and terms of entries do not fall and are none of the future:
what a state machine or a journal would have to stop for never gets as far. Numbers are below 2**63,
so that one more is a number still. A hello may have more fields than these: a newer program's.

Does not do: know peers, order or time (node.transport).

Proved by: tests/node/test_wire.py
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgpack

from node.entry import KIND_BATCH, KIND_CONFIG, KIND_NOOP, Entry, unwrap, wrap
from node.errors import Fatal, Rejected
from node.roster import is_roster
from statemachine.commands import BatchHead, read_head

__all__ = ["FrameReader", "WireError", "decode", "encode", "encode_append"]

LENGTH: Final = struct.Struct(">I")

HELLO, PROOF, PING, APPEND, ACK, VOTE_REQUEST, VOTE = 1, 2, 3, 4, 5, 6, 7
PRE_VOTE, PRE_GRANT, HIGHER_TERM, TIMEOUT_NOW, FORWARD = 8, 9, 10, 11, 12
READ_PROBE, READ_ECHO, READ_ASK, READ_GRANT = 13, 14, 15, 16
SNAPSHOT_BEGIN, SNAPSHOT_CHUNK, SNAPSHOT_ACK = 17, 18, 19
INCARNATION, ROSTER, STRANGER = 30, 31, 32
OUTCOME_ASK, OUTCOME = 33, 34

_COUNT_MAX: Final = (1 << 63) - 1
Message = list[Any]


class WireError(Exception):
    """What a peer sent is not this protocol, or cannot be true.

    Its connection is closed; nothing else happens.
    """


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _COUNT_MAX


def _is_bytes(value: object) -> bool:
    return type(value) is bytes


def _is_bool(value: object) -> bool:
    return type(value) is bool


def _is_id(value: object) -> bool:
    return type(value) is str and 0 < len(value) <= 63


def _is_sha256(value: object) -> bool:
    return type(value) is bytes and len(value) == 32


def _is_nonce(value: object) -> bool:
    return type(value) is bytes and len(value) == 16


def head_of(batch: object) -> BatchHead | None:
    """The head of a batch; None when it has none that this program reads."""
    if type(batch) is not bytes:
        return None
    try:
        return read_head(batch)
    except (Rejected, Fatal):
        return None  # NB: a newer program's batch is no reason to stop either: only to hang up.


def _is_batch(value: object) -> bool:
    return head_of(value) is not None


def _are_entries(value: object) -> bool:
    if type(value) is not list:
        return False
    for entry in value:
        if type(entry) is not list or len(entry) != 3:
            return False
        term, kind, payload = entry
        if not _is_count(term) or type(kind) is not int or type(payload) is not bytes:
            return False
        if kind == KIND_CONFIG:
            if not is_roster(payload):
                return False
        elif kind == KIND_BATCH:
            if not _is_batch(payload):
                return False
        elif kind != KIND_NOOP or payload:
            return False
    return True


def _is_roster(value: object) -> bool:
    return type(value) is bytes and is_roster(value)


def _is_incarnation(value: object) -> bool:
    return type(value) is str and 0 < len(value) <= 63


def _is_origin(value: object) -> bool:
    return type(value) is bytes and 0 < len(value) <= 127


HELLO_FIELDS_MIN: Final = 5
"""Of the first hello there ever was."""
Check = Callable[[object], bool]
_SHAPES: Final[dict[int, tuple[Check, ...]]] = {
    HELLO: (
        *(_is_count, _is_id, _is_id, _is_count, _is_nonce),
        *(_is_count, _is_count, _is_count),
    ),
    PROOF: (_is_bytes,),
    PING: (),
    APPEND: (_is_count, _is_count, _is_count, _is_count, _are_entries),
    ACK: (_is_count, _is_count, _is_bool, _is_bool),
    VOTE_REQUEST: (_is_count, _is_count, _is_count, _is_bool),
    VOTE: (_is_count,),
    PRE_VOTE: (_is_count, _is_count, _is_count),
    PRE_GRANT: (_is_count,),
    HIGHER_TERM: (_is_count,),
    TIMEOUT_NOW: (_is_count,),
    FORWARD: (_is_batch,),
    READ_PROBE: (_is_count, _is_count),
    READ_ECHO: (_is_count, _is_count),
    READ_ASK: (_is_count,),
    READ_GRANT: (_is_count, _is_count),
    SNAPSHOT_BEGIN: (_is_count, _is_count, _is_count, _is_count, _is_count, _is_sha256),
    SNAPSHOT_CHUNK: (_is_count, _is_count, _is_bytes),
    SNAPSHOT_ACK: (_is_count, _is_count, _is_bool),
    INCARNATION: (_is_incarnation,),
    ROSTER: (_is_count, _is_roster),
    STRANGER: (_is_count, _is_incarnation),
    OUTCOME_ASK: (_is_origin, _is_count, _is_count),
    OUTCOME: (_is_count, _is_count, _is_bytes),
}

_pack: Final = msgpack.Packer(use_bin_type=True, autoreset=True).pack


def encode(kind: int, *fields: object) -> bytes:
    """One frame."""
    body: bytes = _pack([kind, *fields])
    return LENGTH.pack(len(body)) + body


def encode_append(
    term: int, commit: int, previous_index: int, previous_term: int, entries: Sequence[Entry]
) -> bytes:
    """An append frame. Entries are numbered from `previous_index` + 1."""
    rows = [(entry_term, *unwrap(command)) for command, _, entry_term in entries]
    return encode(APPEND, term, commit, previous_index, previous_term, rows)


def entries_of(previous_index: int, rows: list[list[Any]]) -> list[Entry]:
    """The entries of a checked append message, as PySyncObj's log holds them."""
    return [
        (wrap(kind, payload), index, term)
        for index, (term, kind, payload) in enumerate(rows, previous_index + 1)
    ]


def decode(body: bytes) -> Message:
    """The message in a frame's body, every field checked.

    Raises:
        WireError: not an array of a known kind with fields of the right shapes.
    """
    try:
        message = msgpack.unpackb(body, raw=False, strict_map_key=True)
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError(f"not msgpack: {error}") from error
    if type(message) is not list or not message or type(message[0]) is not int:
        raise WireError("not a message")
    shape = _SHAPES.get(message[0])
    if shape is None:
        raise WireError(f"unknown message kind {message[0]}")
    if len(message) != len(shape) + 1 and not _is_open_ended(message):
        raise WireError(f"message kind {message[0]} has {len(message) - 1} fields")
    for place, check in enumerate(shape[: len(message) - 1], 1):
        if not check(message[place]):
            raise WireError(f"field {place} of message kind {message[0]} has a wrong shape")
    if message[0] == APPEND:
        _check_terms(message[1], message[4], message[5])
    elif message[0] == SNAPSHOT_BEGIN and not 0 < message[4] <= message[1]:
        raise WireError(f"a snapshot of term {message[4]} in term {message[1]}")
    return message


def _is_open_ended(message: Message) -> bool:
    """A hello has grown, and may grow: who reads it judges its versions first."""
    return message[0] == HELLO and len(message) > HELLO_FIELDS_MIN


def _check_terms(term: int, previous_term: int, rows: list[list[Any]]) -> None:
    """Raft 5.3: terms do not fall along a log, and none is above its leader's."""
    for row in rows:
        if row[0] < previous_term:
            raise WireError(f"an entry of term {row[0]} behind one of term {previous_term}")
        previous_term = row[0]
    if previous_term > term:
        raise WireError(f"an entry of term {previous_term} from a leader of term {term}")


class FrameReader:
    """Cuts a byte stream into frame bodies. Where it is cut on the wire makes no difference.

    Args:
        frame_bytes_max: a longer frame is refused as soon as its length is read.
    """

    def __init__(self, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add bytes; yield the bodies that they complete, oldest first.

        Raises:
            WireError: a frame is longer than allowed.
        """
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= LENGTH.size:
                (size,) = LENGTH.unpack_from(buffer, start)
                if size > self.frame_bytes_max:
                    raise WireError(f"frame of {size} bytes, {self.frame_bytes_max} allowed")
                end = start + LENGTH.size + size
                if len(buffer) < end:
                    break
                body = bytes(memoryview(buffer)[start + LENGTH.size : end])
                start = end
                yield body
        finally:
            del buffer[:start]
