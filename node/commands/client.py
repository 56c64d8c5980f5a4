"""Commands of the connection itself: PING, HELLO, AUTH, SELECT, READONLY and their kin.

All are LOCAL: they touch the Connection and nothing else. There is one database, number 0, and
one user, "default", whose password is client.requirepass.

Does not do: ACL users; CLIENT (clients).

Proved by: tests/node/test_commands.py, tests/node/test_session.py
"""

from __future__ import annotations

from typing import Final

from node.commands.spec import SYNTAX_ERROR, parse_integer
from node.connection import MODE, NAME_BYTES_MAX, Connection
from node.reads import Level
from node.replies import OK, bulk, encode, error_line
from node.resp import Request
from node.version import REDIS_VERSION

__all__ = [
    "BAD_NAME",
    "acl_whoami",
    "asking",
    "auth",
    "echo",
    "hello",
    "is_name",
    "ping",
    "quit_",
    "readonly",
    "readwrite",
    "reset",
    "select",
]

_NO_PASSWORD_SET: Final = error_line(
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)
_WRONG_PASSWORD: Final = error_line("WRONGPASS invalid username-password pair or user is disabled.")
_HELLO_NEEDS_AUTH: Final = error_line(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the "
    "HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and "
    "select the RESP protocol version at the same time"
)
BAD_NAME: Final = error_line(
    "ERR Client names cannot contain spaces, newlines or special characters."
)


def ping(connection: Connection, request: Request) -> bytes:
    if len(request) > 2:
        return error_line("ERR wrong number of arguments for 'ping' command")
    if connection.mode & MODE.SUBSCRIBED:
        return b"*2\r\n$4\r\npong\r\n" + bulk(request[1] if len(request) == 2 else b"")
    return bulk(request[1]) if len(request) == 2 else b"+PONG\r\n"


def echo(_connection: Connection, request: Request) -> bytes:
    return bulk(request[1])


def quit_(connection: Connection, _request: Request) -> bytes:
    connection.is_closing = True
    return OK


def reset(connection: Connection, _request: Request) -> bytes:
    connection.reset()
    return b"+RESET\r\n"


def select(_connection: Connection, request: Request) -> bytes:
    number = parse_integer(request[1])
    if number is None:
        return error_line("ERR value is not an integer or out of range")
    return OK if number == 0 else error_line("ERR DB index is out of range")


# Who is there.


def _log_in(connection: Connection, user: bytes, password: bytes) -> bool:
    """Whether the pair is right; then the connection may do everything."""
    is_asked = bool(connection.frontend.config.client.requirepass)
    # Without a password the default user takes any, as Redis's "nopass" does.
    is_right = not is_asked or connection.frontend.password_is(password)
    if user != b"default" or not is_right:
        return False
    connection.is_authenticated = True
    return True


def auth(connection: Connection, request: Request) -> bytes:
    if len(request) > 3:
        return SYNTAX_ERROR
    if len(request) == 2 and not connection.frontend.config.client.requirepass:
        return _NO_PASSWORD_SET
    user = request[1] if len(request) == 3 else b"default"
    return OK if _log_in(connection, user, request[-1]) else _WRONG_PASSWORD


def is_name(name: bytes) -> bool:
    """Printable and without blanks, as it stands in CLIENT LIST."""
    return len(name) <= NAME_BYTES_MAX and all(33 <= byte <= 126 for byte in name)


def hello(connection: Connection, request: Request) -> bytes:
    """HELLO [protocol [AUTH user password] [SETNAME name]]: all of it, or nothing."""
    protocol = connection.protocol
    if len(request) > 1:
        number = parse_integer(request[1])
        if number is None:
            return error_line("ERR Protocol version is not an integer or out of range")
        if number not in (2, 3):
            return error_line("NOPROTO unsupported protocol version")
        protocol = number
    name: bytes | None = None
    credentials: tuple[bytes, bytes] | None = None
    at = 2
    while at < len(request):
        option = request[at].upper()
        if option == b"AUTH" and at + 2 < len(request):
            credentials = (request[at + 1], request[at + 2])
            at += 3
        elif option == b"SETNAME" and at + 1 < len(request):
            name = request[at + 1]
            if not is_name(name):
                return BAD_NAME
            at += 2
        else:
            return error_line(b"ERR Syntax error in HELLO option '" + request[at] + b"'")
    if credentials is not None and not _log_in(connection, *credentials):
        return _WRONG_PASSWORD
    if not connection.is_authenticated:
        return _HELLO_NEEDS_AUTH
    if name is not None:
        connection.name = name
    connection.protocol = protocol
    connection.note_subscriptions()
    mode = connection.frontend.config.client.announce
    return encode(
        {
            "server": "redis",
            "version": REDIS_VERSION,
            "proto": protocol,
            "id": connection.id,
            "mode": mode,
            "role": "master" if connection.backend.is_leader else "replica",
            "modules": [],
        },
        protocol,
    )


def acl_whoami(_connection: Connection, _request: Request) -> bytes:
    return bulk(b"default")


# How fresh reads are.


def readonly(connection: Connection, _request: Request) -> bytes:
    connection.level = Level.EVENTUAL
    return OK


def readwrite(connection: Connection, _request: Request) -> bytes:
    connection.level = connection.frontend.default_level
    return OK


def asking(_connection: Connection, _request: Request) -> bytes:
    """There is one shard and nothing migrates: nobody is ever sent to ask."""
    return OK
