"""What a connection does differently while it is in the middle of something.

    MULTI        commands are queued until EXEC; a few are carried out at once
    SUBSCRIBED   RESP2 with subscriptions or watches: only (UN)SUBSCRIBE, TRI.(UN)WATCH, PING, QUIT
                 and RESET

`intercept` is asked only while connection.mode is not 0: nearly never.

Invariants: a request that is intercepted gets exactly one reply here and is not carried out; what
is refused while a transaction is queued spoils it, as in Redis.

Proved by: tests/node/test_transactions.py, tests/node/test_pubsub.py
"""

from __future__ import annotations

from typing import Final

from node.commands.spec import Command, Kind
from node.connection import MODE, Connection
from node.replies import error_line
from node.resp import Request

__all__ = ["intercept"]

_QUEUED: Final = b"+QUEUED\r\n"
# These are carried out inside MULTI rather than queued.
_AT_ONCE: Final = frozenset({"exec", "discard", "multi", "quit", "reset"})
_WHILE_SUBSCRIBED: Final = frozenset(
    {"subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe"}
    | {"ping", "quit", "reset", "tri.watch", "tri.unwatch"}
)
_WATCH_INSIDE: Final = error_line("ERR WATCH inside MULTI is not allowed")
_NOT_INSIDE: Final = error_line("ERR Command not allowed inside a transaction")


def intercept(connection: Connection, command: Command | bytes, request: Request) -> bytes | None:
    """The reply of a request that is not carried out now. None: it is."""
    mode = connection.mode
    if mode & MODE.SUBSCRIBED and not isinstance(command, bytes):
        if command.name not in _WHILE_SUBSCRIBED:
            return error_line(
                f"ERR Can't execute '{command.name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / "
                f"PING / QUIT / RESET are allowed in this context"
            )
        return None
    if mode & MODE.MULTI:
        return _queue(connection, command, request)
    return None


def _queue(connection: Connection, command: Command | bytes, request: Request) -> bytes | None:
    transaction = connection.transaction
    assert transaction is not None
    if isinstance(command, bytes):
        transaction.is_spoilt = True
        return command
    if command.name in _AT_ONCE:
        return None
    if command.name == "watch":
        return _WATCH_INSIDE
    if "no_multi" in command.flags or command.kind is Kind.CONTROL:
        transaction.is_spoilt = True
        return _NOT_INSIDE
    refused = transaction.queue(command, request, connection.frontend.config.limits)
    return _QUEUED if refused is None else refused
