"""Commands of parts of values: ranges of bytes, and bits.

Places count from 0, and from the end when negative; Redis's rules for what lies outside, word for
word. What grows a value is refused past limits.value_bytes_max with the words that Redis has
for its own limit (CONFIG GET proto-max-bulk-len says what it is here).

Does not do: BITPOS, BITOP, BITFIELD.

Proved by: tests/node/test_commands_strings.py, tests/node/test_differential.py
"""

from __future__ import annotations

from typing import Final

from node.commands.spec import NOT_AN_INTEGER, SYNTAX_ERROR, Plan, parse_integer
from node.commands.strings import number_plan, too_large
from node.connection import Connection
from node.replies import bulk, error_line, integer
from node.resp import Request
from statemachine.commands import WriteCommand

__all__ = ["append", "bitcount", "getbit", "getrange", "setbit", "setrange"]

TOO_LONG: Final = error_line("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
_BAD_OFFSET: Final = error_line("ERR bit offset is not an integer or out of range")
_BAD_BIT: Final = error_line("ERR bit is not an integer or out of range")


def append(connection: Connection, request: Request) -> bytes | Plan:
    refused = too_large(connection, request[1])
    if refused is not None:
        return refused
    operation = WriteCommand.Append(
        key=request[1], value=request[2], bytes_max=connection.frontend.value_bytes_max
    )
    connection.batch.add(WriteCommand(append=operation))
    return number_plan


def setrange(connection: Connection, request: Request) -> bytes | Plan:
    offset = parse_integer(request[2])
    if offset is None:
        return NOT_AN_INTEGER
    if offset < 0:
        return error_line("ERR offset is out of range")
    refused = too_large(connection, request[1])
    if refused is not None:
        return refused
    part = request[3]
    if part and offset + len(part) > connection.frontend.value_bytes_max:
        return TOO_LONG
    operation = WriteCommand.SetRange(key=request[1], offset=offset, value=part)
    connection.batch.add(WriteCommand(set_range=operation))
    return number_plan


def _span(length: int, start: int, end: int) -> tuple[int, int]:
    """[start, end] as Redis reads it: the first place, and the one behind the last."""
    if start < 0 and end < 0 and start > end:
        return 0, 0
    start = max(0, start + length if start < 0 else start)
    end = max(0, end + length if end < 0 else end)
    end = min(end, length - 1)
    return (start, end + 1) if start <= end and length else (0, 0)


def getrange(connection: Connection, request: Request) -> bytes:
    """GETRANGE and SUBSTR."""
    start, end = parse_integer(request[2]), parse_integer(request[3])
    if start is None or end is None:
        return NOT_AN_INTEGER
    value = connection.machine.get(request[1]) or b""
    first, stop = _span(len(value), start, end)
    return bulk(value[first:stop])


# Bits: the highest of a byte comes first.


def _bit_offset(connection: Connection, text: bytes) -> int | None:
    """None: it is none, or lies where no value may reach."""
    offset = parse_integer(text)
    # Redis's own limit is 2**32 - 1, and its proto-max-bulk-len.
    if offset is None or not 0 <= offset < 2**32:
        return None
    return offset if offset >> 3 < connection.frontend.value_bytes_max else None


def setbit(connection: Connection, request: Request) -> bytes | Plan:
    offset = _bit_offset(connection, request[2])
    if offset is None:
        return _BAD_OFFSET
    if request[3] not in (b"0", b"1"):
        return _BAD_BIT
    refused = too_large(connection, request[1])
    if refused is not None:
        return refused
    operation = WriteCommand.SetBit(key=request[1], offset=offset, bit=request[3] == b"1")
    connection.batch.add(WriteCommand(set_bit=operation))
    return number_plan


def getbit(connection: Connection, request: Request) -> bytes:
    offset = _bit_offset(connection, request[2])
    if offset is None:
        return _BAD_OFFSET
    value = connection.machine.get(request[1]) or b""
    place = offset >> 3
    if place >= len(value):
        return integer(0)
    return integer(value[place] >> (7 - (offset & 7)) & 1)


def bitcount(connection: Connection, request: Request) -> bytes:
    """BITCOUNT key [start end [BYTE | BIT]]"""
    value = connection.machine.get(request[1])
    if value is None:
        return integer(0)  # Redis 7.0 looks for the key before it reads the rest.
    if len(request) == 2:
        return integer(int.from_bytes(value).bit_count())
    if len(request) not in (4, 5):
        return SYNTAX_ERROR
    start, end = parse_integer(request[2]), parse_integer(request[3])
    if start is None or end is None:
        return NOT_AN_INTEGER
    if start < 0 and end < 0 and start > end:
        return integer(0)
    unit = request[4].upper() if len(request) == 5 else b"BYTE"
    if unit not in (b"BYTE", b"BIT"):
        return SYNTAX_ERROR
    if unit == b"BYTE":
        first, stop = _span(len(value), start, end)
        return integer(int.from_bytes(value[first:stop]).bit_count())
    length = 8 * len(value)
    first, stop = _span(length, start, end)
    number = int.from_bytes(value) >> (length - stop)
    return integer((number & ((1 << (stop - first)) - 1)).bit_count())
