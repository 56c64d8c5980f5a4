"""Commands of keys, whatever they hold: existence, time to live, walking over all of them.

TTLs are told on the service's clock, which runs between two writes; whether a key is there is
told by the state machine's, which moves with the log: so a key with nothing left to live
shows a TTL of 0 until its expiry is applied, and never less.

Walking: keys are in order, SCAN's cursor stands for the last key returned
(node.connection.Cursors). One call looks at SCAN_KEYS_MAX keys at most, whatever COUNT says,
and KEYS refuses above KEYS_MAX: the loop that answers it also sends the heartbeats.

Does not do: take away by condition, move, OBJECT, RANDOMKEY (moving).

Proved by: tests/node/test_commands.py, tests/node/test_differential.py
"""

from __future__ import annotations

import re
from typing import Final

from node.commands.spec import NOT_AN_INTEGER, SYNTAX_ERROR, Plan, parse_integer
from node.commands.strings import number_plan, ok_plan
from node.connection import Connection
from node.glob import compile_glob
from node.replies import encode, error_line, integer
from node.resp import Request
from statemachine.commands import TIME_MS_MAX, ExpireCondition, WriteCommand

__all__ = [
    "dbsize",
    "delete",
    "exists",
    "expire",
    "expireat",
    "expiretime",
    "flush",
    "keys",
    "persist",
    "pexpire",
    "pexpireat",
    "pexpiretime",
    "pttl",
    "scan",
    "scan_place",
    "ttl",
    "type_of",
]

KEYS_MAX: Final = 100_000
SCAN_KEYS_MAX: Final = 10_000
SCAN_BYTES_MAX: Final = 1024 * 1024
"""A page ends after the key with which it reaches this."""
_PAGE_KEYS: Final = 100
"""Asked for at once: with the longest keys that is 6 MiB."""
_SCAN_COUNT_DEFAULT: Final = 10
_CURSOR: Final = re.compile(rb"\d{1,20}")
_CURSOR_MAX: Final = 2**64 - 1

_NO_KEY: Final = b":-2\r\n"
_NO_DEADLINE: Final = b":-1\r\n"


# Reads.


def exists(connection: Connection, request: Request) -> bytes:
    return integer(sum(map(connection.machine.exists, request[1:])))


def type_of(connection: Connection, request: Request) -> bytes:
    return b"+string\r\n" if connection.machine.exists(request[1]) else b"+none\r\n"


def dbsize(connection: Connection, _request: Request) -> bytes:
    return integer(len(connection.machine))


def _deadline_ms(connection: Connection, key: bytes) -> int | bytes:
    """The deadline, or the reply where there is none."""
    machine = connection.machine
    deadline_ms = machine.deadline_ms(key)
    if deadline_ms is None:
        return _NO_DEADLINE if machine.exists(key) else _NO_KEY
    return deadline_ms


def _left_ms(connection: Connection, key: bytes) -> int | bytes:
    deadline_ms = _deadline_ms(connection, key)
    if isinstance(deadline_ms, bytes):
        return deadline_ms
    return max(0, deadline_ms - connection.backend.now_ms())


def _seconds(amount_ms: int | bytes) -> bytes:
    """To the nearest second, as Redis rounds."""
    return amount_ms if isinstance(amount_ms, bytes) else integer((amount_ms + 500) // 1000)


def _milliseconds(amount_ms: int | bytes) -> bytes:
    return amount_ms if isinstance(amount_ms, bytes) else integer(amount_ms)


def ttl(connection: Connection, request: Request) -> bytes:
    return _seconds(_left_ms(connection, request[1]))


def pttl(connection: Connection, request: Request) -> bytes:
    return _milliseconds(_left_ms(connection, request[1]))


def expiretime(connection: Connection, request: Request) -> bytes:
    return _seconds(_deadline_ms(connection, request[1]))


def pexpiretime(connection: Connection, request: Request) -> bytes:
    return _milliseconds(_deadline_ms(connection, request[1]))


def keys(connection: Connection, request: Request) -> bytes:
    machine = connection.machine
    if len(machine) > KEYS_MAX:
        return error_line(f"ERR KEYS is refused above {KEYS_MAX} keys: use SCAN")
    matches = compile_glob(request[1])
    found: list[bytes] = []
    bytes_count = 0
    after: bytes | None = None
    while True:
        page, after = machine.keys_page(after, _PAGE_KEYS)
        for key in page:
            if matches(key):
                found.append(key)
                bytes_count += len(key)
        if bytes_count > connection.frontend.output_bytes_max:
            return error_line("ERR the keys are more than client.output_buffer_bytes_max: use SCAN")
        if after is None:
            return encode(found, connection.protocol)


def _scan_options(request: Request) -> tuple[int, int, bytes, bytes] | bytes:
    """Cursor, count, pattern and type; or the reply for what is none."""
    cursor = int(request[1]) if _CURSOR.fullmatch(request[1]) else -1
    if not 0 <= cursor <= _CURSOR_MAX:
        return error_line("ERR invalid cursor")
    count, pattern, kind = _SCAN_COUNT_DEFAULT, b"*", b"string"
    for at in range(2, len(request), 2):
        option = request[at].upper()
        if at + 1 == len(request) or option not in (b"COUNT", b"MATCH", b"TYPE"):
            return SYNTAX_ERROR
        value = request[at + 1]
        if option == b"COUNT":
            number = parse_integer(value)
            if number is None:
                return NOT_AN_INTEGER
            if number < 1:
                return SYNTAX_ERROR
            count = min(number, SCAN_KEYS_MAX)
        elif option == b"MATCH":
            pattern = value
        else:
            kind = value.lower()
    return cursor, count, pattern, kind


def scan_place(connection: Connection, request: Request) -> tuple[bytes | None, int]:
    """Behind which key a SCAN will look, and at how many."""
    options = _scan_options(request)
    if isinstance(options, bytes):
        return None, 0
    return connection.frontend.cursors.key(options[0]), options[1]


def scan(connection: Connection, request: Request) -> bytes:
    options = _scan_options(request)
    if isinstance(options, bytes):
        return options
    cursor, count, pattern, kind = options
    found, after = _scan_page(connection, cursor, count)
    matches = compile_glob(pattern)
    found = [key for key in found if matches(key)] if kind == b"string" else []
    following = 0 if after is None else connection.frontend.cursors.new(after)
    return encode([str(following), found], connection.protocol)


def _scan_page(connection: Connection, cursor: int, count: int) -> tuple[list[bytes], bytes | None]:
    """Up to `count` keys behind the cursor, and what the next cursor stands for."""
    after = connection.frontend.cursors.key(cursor) if cursor else None
    found: list[bytes] = []
    bytes_count = 0
    while count > 0 and bytes_count < SCAN_BYTES_MAX:
        page, after = connection.machine.keys_page(after, min(count, _PAGE_KEYS))
        found += page
        count -= len(page)
        bytes_count += sum(map(len, page))
        if after is None:
            break
    return found, after


# Writes.


def delete(connection: Connection, request: Request) -> Plan:
    """DEL and UNLINK."""
    operation = WriteCommand.DeleteKeys(keys=request[1:])
    connection.batch.add(WriteCommand(delete_keys=operation))
    return number_plan


def persist(connection: Connection, request: Request) -> Plan:
    connection.batch.add(WriteCommand(persist=WriteCommand.Persist(key=request[1])))
    return number_plan


def flush(connection: Connection, request: Request) -> bytes | Plan:
    """FLUSHALL and FLUSHDB. ASYNC and SYNC mean the same here."""
    if len(request) > 2 or (len(request) == 2 and request[1].upper() not in (b"ASYNC", b"SYNC")):
        return SYNTAX_ERROR
    connection.batch.add(WriteCommand(flush=WriteCommand.Flush()))
    return ok_plan


def _expire(
    connection: Connection, request: Request, name: str, unit_ms: int, *, is_absolute: bool
) -> bytes | Plan:
    condition = _expire_condition(request[3:])
    if isinstance(condition, bytes):
        return condition
    number = parse_integer(request[2])
    if number is None:
        return NOT_AN_INTEGER
    number_ms = number * unit_ms
    if not -TIME_MS_MAX <= number_ms <= TIME_MS_MAX:
        return error_line(f"ERR invalid expire time in '{name}' command")
    operation = WriteCommand.Expire(key=request[1], condition=condition)
    if is_absolute:
        operation.expire_at_ms = number_ms
    else:
        operation.ttl_ms = number_ms
    connection.batch.add(WriteCommand(expire=operation))
    return number_plan


def _expire_condition(options: Request) -> ExpireCondition | bytes:
    """NX, XX, GT, LT. Returns the error reply for words that are none or do not go together."""
    given = set()
    for word in options:
        option = word.upper()
        if option not in (b"NX", b"XX", b"GT", b"LT"):
            return error_line(b"ERR Unsupported option " + word)
        given.add(option)
    if b"NX" in given and len(given) > 1:
        return error_line("ERR NX and XX, GT or LT options at the same time are not compatible")
    if {b"GT", b"LT"} <= given:
        return error_line("ERR GT and LT options at the same time are not compatible")
    if given == {b"XX", b"LT"}:
        return ExpireCondition.EXPIRE_IF_ANY_SOONER
    # GT alone never gives a deadline to a key without one, so XX GT is GT.
    if b"GT" in given:
        return ExpireCondition.EXPIRE_IF_LATER
    if b"LT" in given:
        return ExpireCondition.EXPIRE_IF_SOONER
    if b"XX" in given:
        return ExpireCondition.EXPIRE_IF_ANY
    return ExpireCondition.EXPIRE_IF_NONE if given else ExpireCondition.EXPIRE_ALWAYS


def expire(connection: Connection, request: Request) -> bytes | Plan:
    return _expire(connection, request, "expire", 1000, is_absolute=False)


def pexpire(connection: Connection, request: Request) -> bytes | Plan:
    return _expire(connection, request, "pexpire", 1, is_absolute=False)


def expireat(connection: Connection, request: Request) -> bytes | Plan:
    return _expire(connection, request, "expireat", 1000, is_absolute=True)


def pexpireat(connection: Connection, request: Request) -> bytes | Plan:
    return _expire(connection, request, "pexpireat", 1, is_absolute=True)
