"""Commands that take keys away or put them elsewhere: DELEX, RENAME, COPY; and OBJECT, RANDOMKEY.

    DELEX key [IFEQ value | IFNE value]     Redis 8.4       DELIFEQ key value     Valkey 9.0

RANDOMKEY: uniform below SCAN_KEYS_MAX keys; above, one of so many behind a place between the
first key and the last, chosen evenly over their first bytes. Its randomness is handed in, and
nothing of it gets into the log.

Proved by: tests/node/test_commands_strings.py, tests/node/test_differential.py
"""

from __future__ import annotations

from typing import Final

from node.commands.keys import SCAN_KEYS_MAX
from node.commands.spec import NOT_AN_INTEGER, SYNTAX_ERROR, Plan, parse_integer
from node.commands.strings import number_plan, ok_plan, too_large
from node.connection import Connection
from node.replies import NIL, bulk, encode, error_line, integer
from node.resp import Request
from statemachine.commands import Condition, WriteCommand

__all__ = [
    "copy",
    "delex",
    "delifeq",
    "object_encoding",
    "object_freq",
    "object_idletime",
    "object_refcount",
    "randomkey",
    "rename",
    "renamenx",
]

_CONDITIONS: Final = {b"IFEQ": Condition.IF_EQUAL, b"IFNE": Condition.IF_DIFFERENT}
_EMBSTR_BYTES_MAX: Final = 44
_PLACE_BYTES: Final = 8
_NO_FREQUENCY: Final = error_line(
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that "
    "when switching between policies at runtime LRU and LFU data will take some time to adjust."
)


def _remove(connection: Connection, **fields: object) -> Plan:
    operation = WriteCommand.Remove(**fields)  # type: ignore[arg-type]
    connection.batch.add(WriteCommand(remove=operation))
    return number_plan


def delex(connection: Connection, request: Request) -> bytes | Plan:
    if len(request) == 2:
        return _remove(connection, key=request[1])
    if len(request) != 4:
        return error_line("ERR wrong number of arguments for 'delex' command")
    condition = _CONDITIONS.get(request[2].upper())
    if condition is None:
        return error_line("ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE")
    return _remove(connection, key=request[1], condition=condition, expected=request[3])


def delifeq(connection: Connection, request: Request) -> Plan:
    return _remove(connection, key=request[1], condition=Condition.IF_EQUAL, expected=request[2])


def _move(connection: Connection, request: Request, plan: Plan, **how: bool) -> bytes | Plan:
    refused = too_large(connection, request[2])
    if refused is not None:
        return refused
    operation = WriteCommand.Move(source=request[1], destination=request[2], **how)
    connection.batch.add(WriteCommand(move=operation))
    return plan


def rename(connection: Connection, request: Request) -> bytes | Plan:
    return _move(connection, request, ok_plan)


def renamenx(connection: Connection, request: Request) -> bytes | Plan:
    return _move(connection, request, number_plan, if_absent=True)


def copy(connection: Connection, request: Request) -> bytes | Plan:
    """COPY source destination [DB 0] [REPLACE]"""
    if_absent = True
    options = iter(request[3:])
    for word in options:
        option = word.upper()
        if option == b"REPLACE":
            if_absent = False
        elif option == b"DB":
            argument = next(options, None)
            if argument is None:
                return SYNTAX_ERROR
            number = parse_integer(argument)
            if number is None:
                return NOT_AN_INTEGER
            if number != 0:
                return error_line("ERR DB index is out of range")
        else:
            return SYNTAX_ERROR
    if request[1] == request[2]:
        return error_line("ERR source and destination objects are the same")
    return _move(connection, request, number_plan, keep_source=True, if_absent=if_absent)


# OBJECT: what Redis would say of such a value.


def object_encoding(connection: Connection, request: Request) -> bytes:
    value = connection.machine.get(request[2])
    if value is None:
        return NIL[connection.protocol]
    if parse_integer(value) is not None:
        return bulk(b"int")
    return bulk(b"embstr" if len(value) <= _EMBSTR_BYTES_MAX else b"raw")


def object_refcount(connection: Connection, request: Request) -> bytes:
    is_there = connection.machine.exists(request[2])
    return integer(1) if is_there else NIL[connection.protocol]


def object_idletime(connection: Connection, request: Request) -> bytes:
    """No access times are kept: 0."""
    is_there = connection.machine.exists(request[2])
    return integer(0) if is_there else NIL[connection.protocol]


def object_freq(connection: Connection, request: Request) -> bytes:
    is_there = connection.machine.exists(request[2])
    return _NO_FREQUENCY if is_there else NIL[connection.protocol]


# RANDOMKEY.


def randomkey(connection: Connection, _request: Request) -> bytes:
    machine, rng = connection.machine, connection.frontend.rng
    count = len(machine)
    after = None
    if count > SCAN_KEYS_MAX:
        after = _place(connection)
    page, _ = machine.keys_page(
        after, rng.randrange(1, min(count, SCAN_KEYS_MAX) + 1) if count else 1
    )
    if not page:
        page, _ = machine.keys_page(None, 1)
    return encode(page[-1] if page else None, connection.protocol)


def _place(connection: Connection) -> bytes:
    """Somewhere between the first key and the last key there may be."""
    first = connection.machine.keys_page(None, 1)[0][0]
    low = int.from_bytes(first[:_PLACE_BYTES].ljust(_PLACE_BYTES, b"\0"))
    high = 2 ** (8 * _PLACE_BYTES)
    while high - low > 1:
        middle = (low + high) // 2
        if connection.machine.keys_page(middle.to_bytes(_PLACE_BYTES), 1)[0]:
            low = middle
        else:
            high = middle
    first_place = int.from_bytes(first[:_PLACE_BYTES].ljust(_PLACE_BYTES, b"\0"))
    return connection.frontend.rng.randrange(first_place, low + 1).to_bytes(_PLACE_BYTES)
