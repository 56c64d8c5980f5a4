"""Commands of numbers: INCR and its kin. The sum is made when the batch is applied.

INCRBYFLOAT adds as Redis does, 80-bit floats, but by whole numbers (statemachine.longdouble):
the same on every replica, and the same text as Redis's.

Proved by: tests/node/test_differential.py
"""

from __future__ import annotations

from typing import Final

from node.commands.spec import NOT_AN_INTEGER, Plan, parse_integer
from node.commands.strings import number_plan, too_large, value_plan
from node.connection import Connection
from node.replies import error_line
from node.resp import Request
from statemachine.commands import WriteCommand

__all__ = ["decr", "decrby", "incr", "incrby", "incrbyfloat"]

INT64_MIN: Final = -(2**63)


def _add(connection: Connection, key: bytes, delta: int) -> bytes | Plan:
    refused = too_large(connection, key)
    if refused is not None:
        return refused
    connection.batch.add(WriteCommand(add=WriteCommand.Add(key=key, delta=delta)))
    return number_plan


def incr(connection: Connection, request: Request) -> bytes | Plan:
    return _add(connection, request[1], 1)


def decr(connection: Connection, request: Request) -> bytes | Plan:
    return _add(connection, request[1], -1)


def incrby(connection: Connection, request: Request) -> bytes | Plan:
    delta = parse_integer(request[2])
    return NOT_AN_INTEGER if delta is None else _add(connection, request[1], delta)


def decrby(connection: Connection, request: Request) -> bytes | Plan:
    delta = parse_integer(request[2])
    if delta is None:
        return NOT_AN_INTEGER
    if delta == INT64_MIN:
        return error_line("ERR decrement would overflow")
    return _add(connection, request[1], -delta)


def incrbyfloat(connection: Connection, request: Request) -> bytes | Plan:
    refused = too_large(connection, request[1])
    if refused is not None:
        return refused
    operation = WriteCommand.AddFloat(key=request[1], increment=request[2])
    connection.batch.add(WriteCommand(add_float=operation))
    return value_plan
