"""Commands of strings: GET, SET and their kin.

Reads answer from the machine; writes become WriteCommands (statemachine/proto) in the batch.
The syntax is judged here, in Redis's order and words, before anything is in the batch; what
depends on the stored value is judged by the state machine when the batch is applied.

SET without options has no handler call on its hot path: node.session puts whole runs of it
into the batch by column. `set_value` is the same for one of them.

Does not do: parts of values and bits (ranges), numbers (counters), many at once (many).

Proved by: tests/node/test_commands.py, tests/node/test_differential.py
"""

from __future__ import annotations

from typing import Any, Final

from node.commands.spec import NOT_AN_INTEGER, SYNTAX_ERROR, Plan, parse_integer
from node.connection import Connection
from node.replies import NIL, OK, bulk, error_line, integer
from node.resp import Request
from statemachine.commands import TIME_MS_MAX, Condition, WriteCommand

__all__ = [
    "get",
    "getdel",
    "getex",
    "getset",
    "psetex",
    "set_value",
    "setex",
    "setnx",
    "strlen",
]

_CONDITIONS: Final = {
    b"NX": Condition.IF_ABSENT,
    b"XX": Condition.IF_PRESENT,
    b"IFEQ": Condition.IF_EQUAL,
    b"IFNE": Condition.IF_DIFFERENT,
    b"IFREV": Condition.IF_REVISION,
}
_UNITS_MS: Final = {b"EX": 1000, b"PX": 1, b"EXAT": 1000, b"PXAT": 1}


def too_large(connection: Connection, key: bytes, value: bytes = b"") -> bytes | None:
    """The reply for a key or value over the limit; None: both are within it."""
    frontend = connection.frontend
    if len(key) > frontend.key_bytes_max:
        return error_line(
            f"ERR key of {len(key)} bytes: limits.key_bytes_max is {frontend.key_bytes_max}"
        )
    if len(value) > frontend.value_bytes_max:
        return error_line(
            f"ERR value of {len(value)} bytes: limits.value_bytes_max is {frontend.value_bytes_max}"
        )
    return None


# Plans: what the result of a write is as a reply.


def ok_plan(_result: Any, _protocol: int) -> bytes:
    """Whatever came of it was fine."""
    return OK


def ok_or_nil_plan(result: Any, protocol: int) -> bytes:
    """OK if the condition held."""
    return OK if result else NIL[protocol]


def number_plan(result: Any, _protocol: int) -> bytes:
    """A number, or a truth value as 1 and 0."""
    return integer(int(result))


def value_plan(result: Any, protocol: int) -> bytes:
    """A value, or nothing."""
    return bulk(result) if isinstance(result, bytes) else NIL[protocol]


# Reads.


def get(connection: Connection, request: Request) -> bytes:
    value = connection.machine.get(request[1])
    return NIL[connection.protocol] if value is None else bulk(value)


def strlen(connection: Connection, request: Request) -> bytes:
    return integer(len(connection.machine.get(request[1]) or b""))


# Writes.


def set_value(connection: Connection, request: Request) -> bytes | Plan:
    """SET, with or without options."""
    refused = too_large(connection, request[1], request[2])
    if refused is not None:
        return refused
    if len(request) == 3:
        connection.batch.put(request[1], request[2])
        return ok_plan
    insert = WriteCommand.Insert(key=request[1], value=request[2])
    mistake = _read_options(insert, request)
    if mistake is not None:
        return mistake
    connection.batch.add(WriteCommand(insert=insert))
    return value_plan if insert.return_old else ok_or_nil_plan


def _read_options(insert: WriteCommand.Insert, request: Request) -> bytes | None:
    """Fill in what stands behind key and value. Returns an error reply, or None."""
    unit = b""
    amount = b""
    options = iter(request[3:])
    for word in options:
        option = word.upper()
        if option == b"GET":
            insert.return_old = True
        elif option == b"KEEPTTL" and not unit and not insert.lease:
            insert.keep_ttl = True
        elif option == b"LEASE" and not (unit or insert.keep_ttl or insert.lease):
            number = parse_integer(next(options, b""))
            if number is None or number < 1:
                return NOT_AN_INTEGER
            insert.lease = number
        elif option in _CONDITIONS and insert.condition in (Condition.ALWAYS, _CONDITIONS[option]):
            if option.startswith(b"IF"):
                expected = next(options, None)
                if expected is None or insert.condition:
                    return SYNTAX_ERROR
                if option == b"IFREV":
                    revision = parse_integer(expected)
                    if revision is None or revision < 0:
                        return NOT_AN_INTEGER
                    insert.revision = revision
                else:
                    insert.expected = expected
            insert.condition = _CONDITIONS[option]
        elif (
            option in _UNITS_MS and not (insert.keep_ttl or insert.lease) and unit in (b"", option)
        ):
            argument = next(options, None)
            if argument is None:
                return SYNTAX_ERROR
            unit, amount = option, argument
        else:
            return SYNTAX_ERROR
    return _set_deadline(insert, unit, amount, "set") if unit else None


def _set_deadline(
    insert: WriteCommand.Insert, unit: bytes, amount: bytes, name: str
) -> bytes | None:
    """Fill in when the key falls due. Returns an error reply, or None."""
    number_ms = time_ms(unit, amount, name)
    if isinstance(number_ms, bytes):
        return number_ms
    if unit.endswith(b"AT"):
        insert.expire_at_ms = number_ms
    else:
        insert.ttl_ms = number_ms
    return None


def time_ms(unit: bytes, amount: bytes, name: str) -> int | bytes:
    """The amount in milliseconds, or the error reply."""
    number = parse_integer(amount)
    if number is None:
        return NOT_AN_INTEGER
    number_ms = number * _UNITS_MS[unit]
    if not 0 < number_ms <= TIME_MS_MAX:
        return error_line(f"ERR invalid expire time in '{name}' command")
    return number_ms


def _set_with_ttl(connection: Connection, request: Request, unit: bytes, name: str) -> bytes | Plan:
    refused = too_large(connection, request[1], request[3])
    if refused is not None:
        return refused
    insert = WriteCommand.Insert(key=request[1], value=request[3])
    mistake = _set_deadline(insert, unit, request[2], name)
    if mistake is not None:
        return mistake
    connection.batch.add(WriteCommand(insert=insert))
    return ok_plan


def setex(connection: Connection, request: Request) -> bytes | Plan:
    return _set_with_ttl(connection, request, b"EX", "setex")


def psetex(connection: Connection, request: Request) -> bytes | Plan:
    return _set_with_ttl(connection, request, b"PX", "psetex")


def setnx(connection: Connection, request: Request) -> bytes | Plan:
    refused = too_large(connection, request[1], request[2])
    if refused is not None:
        return refused
    insert = WriteCommand.Insert(key=request[1], value=request[2], condition=Condition.IF_ABSENT)
    connection.batch.add(WriteCommand(insert=insert))
    return number_plan


def getset(connection: Connection, request: Request) -> bytes | Plan:
    refused = too_large(connection, request[1], request[2])
    if refused is not None:
        return refused
    insert = WriteCommand.Insert(key=request[1], value=request[2], return_old=True)
    connection.batch.add(WriteCommand(insert=insert))
    return value_plan


def getdel(connection: Connection, request: Request) -> Plan:
    remove = WriteCommand.Remove(key=request[1], return_old=True)
    connection.batch.add(WriteCommand(remove=remove))
    return value_plan


def getex(connection: Connection, request: Request) -> bytes | Plan:
    """GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]"""
    operation = WriteCommand.GetAndExpire(key=request[1])
    unit = amount = b""
    options = iter(request[2:])
    for word in options:
        option = word.upper()
        if option == b"PERSIST" and not unit:
            operation.persist = True
        elif option in _UNITS_MS and not operation.persist and unit in (b"", option):
            argument = next(options, None)
            if argument is None:
                return SYNTAX_ERROR
            unit, amount = option, argument
        else:
            return SYNTAX_ERROR
    if unit:
        number_ms = time_ms(unit, amount, "getex")
        if isinstance(number_ms, bytes):
            # Redis looks for the key first: without one, no time is wrong.
            mistake = number_ms
            connection.batch.add(WriteCommand(get_and_expire=operation))
            return lambda value, protocol: NIL[protocol] if value is None else mistake
        if unit.endswith(b"AT"):
            operation.expire_at_ms = number_ms
        else:
            operation.ttl_ms = number_ms
    connection.batch.add(WriteCommand(get_and_expire=operation))
    return value_plan
