"""Commands about this node: TIME, ROLE, WAIT, SAVE, SHUTDOWN, MEMORY USAGE.

WAIT answers with what is certain, at once: every write that this connection was told is done
has been fsynced by a majority, so by half of the other members (rounded down) at the least.
LASTSAVE is when a snapshot last succeeded through this node's port; its start, before that.
SHUTDOWN ends this node's process in good order, as SIGTERM does; a supervisor may start it again.

Does not do: INFO (information), CONFIG (configuration).

Proved by: tests/node/test_commands.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from node.commands.cluster import certain_replicas
from node.commands.spec import NOT_AN_INTEGER, SYNTAX_ERROR, Control, parse_integer
from node.connection import Connection, Frontend
from node.replies import NIL, OK, encode, error_line, integer
from node.resp import Request

__all__ = [
    "bgsave",
    "lastsave",
    "memory_usage",
    "role",
    "save",
    "shutdown",
    "time_",
    "wait",
    "waitaof",
]


def time_(connection: Connection, _request: Request) -> bytes:
    """On the cluster's clock, which counts milliseconds: the last three digits are 0."""
    now_ms = connection.backend.now_ms()
    return encode([str(now_ms // 1000), str(now_ms % 1000 * 1000)], connection.protocol)


def lastsave(connection: Connection, _request: Request) -> bytes:
    return integer(connection.frontend.saved_ms // 1000)


def role(connection: Connection, _request: Request) -> bytes:
    backend = connection.backend
    offset = int(backend.status().get("applied_index") or 0)
    others = [one for one in backend.members() if one.id != backend.node_id]
    if backend.is_leader:
        replicas = [
            [one.client.host, str(one.client.port), str(offset)]
            for one in others
            if backend.alive(one.id)
        ]
        return encode(["master", offset, replicas], connection.protocol)
    leader = next((one for one in others if one.id == backend.leader_id), None)
    state = "connected" if leader is not None and backend.alive(leader.id) else "connect"
    host, port = (leader.client.host, leader.client.port) if leader else ("", 0)
    return encode(["slave", host, port, state, offset], connection.protocol)


def wait(connection: Connection, request: Request) -> bytes:
    replicas, timeout_ms = parse_integer(request[1]), parse_integer(request[2])
    if replicas is None:
        return NOT_AN_INTEGER
    if timeout_ms is None:
        return error_line("ERR timeout is not an integer or out of range")
    if timeout_ms < 0:
        return error_line("ERR timeout is negative")
    return integer(certain_replicas(connection))


def waitaof(connection: Connection, request: Request) -> bytes:
    """[this node has it on disk, how many others have]: as certain as WAIT's answer."""
    numbers = [parse_integer(word) for word in request[1:]]
    if numbers[0] is None or numbers[1] is None:
        return NOT_AN_INTEGER
    if not 0 <= numbers[0] <= 1 or numbers[1] < 0:
        return error_line("ERR value is out of range, must be positive")
    if numbers[2] is None:
        return error_line("ERR timeout is not an integer or out of range")
    if numbers[2] < 0:
        return error_line("ERR timeout is negative")
    return encode([1, certain_replicas(connection)], connection.protocol)


def save(connection: Connection, _request: Request) -> Control:
    """Answered when the snapshot is durable."""
    frontend = connection.frontend

    def reply(_result: object, _protocol: int) -> bytes:
        frontend.saved_ms = connection.backend.now_ms()
        return OK

    return Control(connection.backend.snapshot, reply)


class _Saved:
    """Waits for a snapshot that nobody else waits for."""

    def __init__(self, frontend: Frontend) -> None:
        self._frontend = frontend

    def resolve(self, _results: Sequence[Any], _start: int, _stop: int) -> None:
        self._frontend.saved_ms = self._frontend.backend.now_ms()

    def ready(self) -> None:
        """No read was asked for."""

    def fail(self, error: Exception) -> None:
        """LASTSAVE stays what it was: that is how whoever asks learns of it."""


def bgsave(connection: Connection, request: Request) -> bytes:
    """BGSAVE [SCHEDULE]: the snapshot is begun; LASTSAVE says when it is durable."""
    if len(request) > 2 or (len(request) == 2 and request[1].upper() != b"SCHEDULE"):
        return SYNTAX_ERROR
    connection.backend.snapshot(_Saved(connection.frontend))
    return b"+Background saving started\r\n"


def shutdown(connection: Connection, request: Request) -> bytes:
    """SHUTDOWN [NOSAVE|SAVE] [NOW] [FORCE] [ABORT]: nothing depends on saving, all is logged."""
    words = [word.upper() for word in request[1:]]
    if not {b"NOSAVE", b"SAVE", b"NOW", b"FORCE", b"ABORT"}.issuperset(words) or (
        b"SAVE" in words and b"NOSAVE" in words
    ):
        return SYNTAX_ERROR
    if b"ABORT" in words:
        return SYNTAX_ERROR if len(words) > 1 else error_line("ERR No shutdown in progress.")
    stop = connection.frontend.shutdown
    if stop is None:
        return error_line("ERR this node lives in a process that is not its own")
    connection.is_closing = True
    stop()
    return b""


# What a dict of bytes costs: the two objects, their place in the dict, an entry in the order.
_ENTRY_BYTES: Final = 33 + 33 + 104 + 16


def memory_usage(connection: Connection, request: Request) -> bytes:
    """MEMORY USAGE key [SAMPLES n]: about so many bytes on this node."""
    if len(request) not in (3, 5) or (len(request) == 5 and request[3].upper() != b"SAMPLES"):
        return SYNTAX_ERROR
    if len(request) == 5 and parse_integer(request[4]) is None:
        return NOT_AN_INTEGER
    value = connection.machine.get(request[2])
    if value is None:
        return NIL[connection.protocol]
    return integer(len(request[2]) + len(value) + _ENTRY_BYTES)
