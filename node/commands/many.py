"""Commands of many keys at once: MGET, MSET and those that set all or none.

    MSETEX numkeys key value [key value ...] [NX|XX] [EX s|PX ms|EXAT s|PXAT ms|KEEPTTL]

Each is one operation of the log, so all of its keys change at one moment. The whole has to fit an
entry (limits.entry_bytes_max), which the parser has seen to.

Proved by: tests/node/test_commands_strings.py, tests/node/test_differential.py
"""

from __future__ import annotations

from typing import Final

from node.commands.spec import SYNTAX_ERROR, Plan, parse_integer
from node.commands.strings import number_plan, ok_plan, time_ms, too_large
from node.connection import Connection
from node.replies import NIL, bulk, error_line
from node.resp import Request
from statemachine.commands import Condition, WriteCommand

__all__ = ["mget", "mset", "msetex", "msetnx"]

_TIMES: Final = (b"EX", b"PX", b"EXAT", b"PXAT")


def mget(connection: Connection, request: Request) -> bytes:
    values = connection.machine.get_many(request[1:])
    bytes_count = sum(len(value) for value in values if value is not None)
    if bytes_count > connection.frontend.output_bytes_max:
        return error_line(
            f"ERR reply of {bytes_count} bytes: client.output_buffer_bytes_max is "
            f"{connection.frontend.output_bytes_max}"
        )
    nil = NIL[connection.protocol]
    parts = [nil if value is None else bulk(value) for value in values]
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def _pairs(connection: Connection, pairs: Request) -> tuple[Request, Request] | bytes:
    """Keys and values, or the reply for one that is too large."""
    keys, values = pairs[::2], pairs[1::2]
    for key, value in zip(keys, values, strict=True):
        refused = too_large(connection, key, value)
        if refused is not None:
            return refused
    return keys, values


def mset(connection: Connection, request: Request) -> bytes | Plan:
    if len(request) % 2 == 0:
        return error_line("ERR wrong number of arguments for 'mset' command")
    columns = _pairs(connection, request[1:])
    if isinstance(columns, bytes):
        return columns
    connection.batch.put_many(*columns)
    return ok_plan


def msetnx(connection: Connection, request: Request) -> bytes | Plan:
    if len(request) % 2 == 0:
        return error_line("ERR wrong number of arguments for 'msetnx' command")
    columns = _pairs(connection, request[1:])
    if isinstance(columns, bytes):
        return columns
    operation = WriteCommand.InsertMany(
        keys=columns[0], values=columns[1], condition=Condition.IF_ABSENT
    )
    connection.batch.add(WriteCommand(insert_many=operation))
    return number_plan


def msetex(connection: Connection, request: Request) -> bytes | Plan:
    count = parse_integer(request[1])
    if count is None or not 0 < count < 2**31:
        return error_line("ERR invalid numkeys value")
    end = 2 + 2 * count
    if end > len(request):
        return error_line("ERR wrong number of key-value pairs")
    columns = _pairs(connection, request[2:end])
    if isinstance(columns, bytes):
        return columns
    operation = WriteCommand.InsertMany(keys=columns[0], values=columns[1])
    mistake = _read_options(operation, request[end:])
    if mistake is not None:
        return mistake
    connection.batch.add(WriteCommand(insert_many=operation))
    return number_plan


def _read_options(operation: WriteCommand.InsertMany, words: Request) -> bytes | None:
    """Fill in what stands behind the pairs. Returns an error reply, or None."""
    has_time = False
    options = iter(words)
    for word in options:
        option = word.upper()
        if option in (b"NX", b"XX") and not operation.condition:
            operation.condition = Condition.IF_ABSENT if option == b"NX" else Condition.IF_PRESENT
        elif option == b"KEEPTTL" and not has_time:
            operation.keep_ttl = has_time = True
        elif option in _TIMES and not has_time:
            argument = next(options, None)
            if argument is None:
                return SYNTAX_ERROR
            number_ms = time_ms(option, argument, "msetex")
            if isinstance(number_ms, bytes):
                return number_ms
            has_time = True
            if option.endswith(b"AT"):
                operation.expire_at_ms = number_ms
            else:
                operation.ttl_ms = number_ms
        else:
            return SYNTAX_ERROR
    return None
