"""CONFIG: what stock clients and tools ask a Redis for, under Redis's names.

    can be set while it runs   notify-keyspace-events, maxclients, timeout: of this node, until
                               it is restarted (the file says what holds then)
    all others                 read once, at start: CONFIG SET takes what they are already

No parameter holds a password, names a file or makes one.

Does not do: REWRITE.

Proved by: tests/node/test_commands.py, tests/node/test_pubsub.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from node.commands.information import own_port
from node.commands.spec import parse_integer
from node.connection import Connection, Frontend
from node.glob import compile_glob
from node.pubsub import event_flags, shown_flags
from node.replies import OK, encode, error_line
from node.resp import Request

__all__ = ["config_get", "config_resetstat", "config_set"]


def _parameters(connection: Connection) -> dict[str, str]:
    frontend = connection.frontend
    is_cluster = frontend.config.client.announce == "cluster"
    return {
        "appendfsync": "always",
        "appendonly": "yes",
        "bind": frontend.config.member.client.host,
        "cluster-enabled": "yes" if is_cluster else "no",
        "databases": "1",
        "maxclients": str(frontend.max_clients),
        "maxmemory": "0",
        "maxmemory-policy": "noeviction",
        "notify-keyspace-events": shown_flags(frontend.pubsub.flags),
        "port": str(own_port(connection)),
        "proto-max-bulk-len": str(frontend.value_bytes_max),
        "save": "",
        "timeout": str(frontend.idle_timeout_s),
    }


def _set_notify(frontend: Frontend, value: str) -> str | None:
    flags = event_flags(value)
    if flags is None:
        return "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."
    frontend.pubsub.flags = flags
    return None


def _set_max_clients(frontend: Frontend, value: str) -> str | None:
    number = parse_integer(value.encode())
    if number is None:
        return "argument couldn't be parsed into an integer"
    if not 1 <= number <= 1_000_000:
        return "argument must be between 1 and 1000000 inclusive"
    frontend.max_clients = number
    return None


def _set_timeout(frontend: Frontend, value: str) -> str | None:
    number = parse_integer(value.encode())
    if number is None:
        return "argument couldn't be parsed into an integer"
    if not 0 <= number < 2**31:
        return "argument must be between 0 and 2147483647 inclusive"
    frontend.idle_timeout_s = number
    return None


_SETTERS: Final[dict[str, Callable[[Frontend, str], str | None]]] = {
    "notify-keyspace-events": _set_notify,
    "maxclients": _set_max_clients,
    "timeout": _set_timeout,
}
"""Each returns why it did not, or None."""


def config_get(connection: Connection, request: Request) -> bytes:
    matchers = [compile_glob(pattern.lower()) for pattern in request[2:]]
    found = {
        name: value
        for name, value in _parameters(connection).items()
        if any(matches(name.encode()) for matches in matchers)
    }
    return encode(found, connection.protocol)


def config_set(connection: Connection, request: Request) -> bytes:
    """All of them, or none."""
    if len(request) % 2:
        return error_line("ERR wrong number of arguments for 'config|set' command")
    frontend = connection.frontend
    parameters = _parameters(connection)
    before = dict(parameters)
    changed: list[str] = []
    for word, value in zip(request[2::2], request[3::2], strict=True):
        name = word.decode("utf-8", "replace").lower()
        problem: str | None = None
        if name not in parameters:
            problem = ""
        elif value.decode("utf-8", "replace") != parameters[name]:
            problem = "can't set immutable config"
            if name in _SETTERS:
                changed.append(name)
                problem = _SETTERS[name](frontend, value.decode("utf-8", "replace"))
        if problem is None:
            continue
        for done in changed:
            _SETTERS[done](frontend, before[done])
        if not problem:
            return error_line(
                b"ERR Unknown option or number of arguments for CONFIG SET - '" + word + b"'"
            )
        return error_line(
            f"ERR CONFIG SET failed (possibly related to argument '{name}') - {problem}"
        )
    return OK


def config_resetstat(connection: Connection, _request: Request) -> bytes:
    frontend = connection.frontend
    frontend.connections_total = 0
    frontend.commands_total = 0
    frontend.rejected_total = 0
    return OK
