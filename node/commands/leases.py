"""TRI.LEASE: leases that hold many keys. `SET key value LEASE id` hangs a key on one (strings).

    TRI.LEASE GRANT ms [ID id]          the id
    TRI.LEASE KEEPALIVE id              the time to live, in full again; NOLEASE: it has ended
    TRI.LEASE REVOKE id                 1, or 0: there is none; its keys are gone
    TRI.LEASE TTL id [KEYS]             [remaining ms, granted ms, count of keys, [key ...]]
    TRI.LEASE LIST [AFTER id] [LIMIT n] [[id, remaining ms, granted ms, count of keys] ...] by id

The times are those of the replicated clock. What a lease does to its keys says
statemachine.rules_leases.

Proved by: tests/node/test_commands_leases.py
"""

from __future__ import annotations

from typing import Any, Final

from node.commands.spec import NOT_AN_INTEGER, SYNTAX_ERROR, Plan, parse_integer
from node.commands.strings import number_plan
from node.connection import Connection
from node.replies import NIL_ARRAY, encode, error_line
from node.resp import Request
from statemachine.commands import LEASE_ID_MAX, TIME_MS_MAX, WriteCommand
from statemachine.grants import Lease

__all__ = ["grant", "keep_alive", "list_", "revoke", "ttl"]

PAGE_MAX: Final = 10_000
_PAGE_DEFAULT: Final = 1_000

_BAD_ID: Final = error_line("ERR lease id is out of range")
_BAD_TIME: Final = error_line("ERR invalid time to live of a lease")


def lease_id(word: bytes) -> int | bytes:
    """The id, or the error reply."""
    number = parse_integer(word)
    if number is None:
        return NOT_AN_INTEGER
    return number if 0 < number <= LEASE_ID_MAX else _BAD_ID


def grant(connection: Connection, request: Request) -> bytes | Plan:
    ttl_ms = parse_integer(request[2])
    if ttl_ms is None:
        return NOT_AN_INTEGER
    if not 0 < ttl_ms <= TIME_MS_MAX:
        return _BAD_TIME
    operation = WriteCommand.GrantLease(ttl_ms=ttl_ms)
    if len(request) > 3:
        if len(request) != 5 or request[3].upper() != b"ID":
            return SYNTAX_ERROR
        wanted = lease_id(request[4])
        if isinstance(wanted, bytes):
            return wanted
        operation.id = wanted
    connection.batch.add(WriteCommand(grant_lease=operation))
    return number_plan


def keep_alive(connection: Connection, request: Request) -> bytes | Plan:
    number = lease_id(request[2])
    if isinstance(number, bytes):
        return number
    operation = WriteCommand.KeepLeaseAlive(id=number)
    connection.batch.add(WriteCommand(keep_lease_alive=operation))
    return number_plan


def revoke(connection: Connection, request: Request) -> bytes | Plan:
    number = lease_id(request[2])
    if isinstance(number, bytes):
        return number
    connection.batch.add(WriteCommand(revoke_lease=WriteCommand.RevokeLease(id=number)))
    return number_plan


def ttl(connection: Connection, request: Request) -> bytes:
    number = lease_id(request[2])
    if isinstance(number, bytes):
        return number
    if len(request) > 4 or (len(request) == 4 and request[3].upper() != b"KEYS"):
        return SYNTAX_ERROR
    lease = connection.machine.lease(number)
    if lease is None:
        return NIL_ARRAY[connection.protocol]
    row: list[Any] = _row(connection, lease)[1:]
    if len(request) == 4:
        row.append(connection.machine.lease_keys(number, PAGE_MAX))
    return encode(row, connection.protocol)


def list_(connection: Connection, request: Request) -> bytes:
    after, count = 0, _PAGE_DEFAULT
    options = iter(request[2:])
    for word in options:
        option = word.upper()
        if option not in (b"AFTER", b"LIMIT"):
            return SYNTAX_ERROR
        number = parse_integer(next(options, b""))
        if number is None or number < 0:
            return NOT_AN_INTEGER
        if option == b"AFTER":
            after = number
        else:
            count = min(number, PAGE_MAX)
    page = connection.machine.leases_page(after, count)
    return encode([_row(connection, lease) for lease in page], connection.protocol)


def _row(connection: Connection, lease: Lease) -> list[int]:
    remaining_ms = lease.deadline_ms - connection.machine.clock_ms
    return [lease.id, remaining_ms, lease.ttl_ms, lease.keys_count]
