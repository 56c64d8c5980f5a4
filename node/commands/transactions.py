"""MULTI, EXEC, DISCARD, WATCH, UNWATCH: node.transaction does the work.

WATCH notes the revision of each key, which is the index of the batch that last changed it, or 0
where there is none, and the index at which that was so. EXEC compares again where the transaction
is applied, on every replica alike. A key that was absent, was made, and is absent again has been
changed: the state machine remembers which keys went lately (statemachine.removals).

Proved by: tests/node/test_transactions.py
"""

from __future__ import annotations

from typing import Final

from node.commands.spec import Control
from node.connection import MODE, Connection
from node.replies import OK, error_line
from node.resp import Request
from node.transaction import Transaction, revision_of

__all__ = ["discard", "exec_", "multi", "unwatch", "watch"]

_NESTED: Final = error_line("ERR MULTI calls can not be nested")
_NO_EXEC: Final = error_line("ERR EXEC without MULTI")
_NO_DISCARD: Final = error_line("ERR DISCARD without MULTI")
_ABORTED: Final = error_line("EXECABORT Transaction discarded because of previous errors.")


def multi(connection: Connection, _request: Request) -> bytes:
    if connection.transaction is not None:
        return _NESTED
    connection.transaction = Transaction()
    connection.set_mode(MODE.MULTI, on=True)
    return OK


def exec_(connection: Connection, _request: Request) -> bytes | Control:
    watches = connection.watches
    transaction = connection.end_transaction()
    if transaction is None:
        connection.watches = watches
        return _NO_EXEC
    if transaction.is_spoilt:
        return _ABORTED
    return transaction.execute(connection, watches)


def discard(connection: Connection, _request: Request) -> bytes:
    if connection.transaction is None:
        return _NO_DISCARD
    connection.end_transaction()
    return OK


def watch(connection: Connection, request: Request) -> bytes:
    watches = connection.watches
    limits = connection.frontend.config.limits
    if len(watches) + len(request) - 1 > limits.watch_keys_max:
        return error_line(
            f"ERR more watched keys than limits.watch_keys_max ({limits.watch_keys_max})"
        )
    if sum(map(len, watches)) + sum(map(len, request)) > limits.watch_bytes_max:
        return error_line(
            f"ERR watched keys of more than limits.watch_bytes_max ({limits.watch_bytes_max} bytes)"
        )
    for key in request[1:]:
        if key not in watches:  # It stays as it was first seen.
            index = connection.backend.applied_index
            watches[key] = (revision_of(connection.machine, key), index)
    return OK


def unwatch(connection: Connection, _request: Request) -> bytes:
    connection.watches = {}
    return OK
