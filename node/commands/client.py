"""Commands of the connection itself: PING, HELLO, AUTH, SELECT, CLIENT and their kin.

All are LOCAL: they touch the Connection and nothing else. There is one database, number 0, and
one user, "default", whose password is client.requirepass.

Does not do: ACL users, CLIENT KILL, PAUSE, REPLY, TRACKING: answered as unknown subcommands.

Proved by: tests/node/test_commands.py, tests/node/test_session.py
"""

from __future__ import annotations

from typing import Final

from node.commands.spec import SYNTAX_ERROR, parse_integer
from node.connection import NAME_BYTES_MAX, Connection
from node.reads import Level
from node.replies import NIL, OK, Text, bulk, encode, error_line, integer
from node.resp import Request
from node.version import REDIS_VERSION

__all__ = [
    "asking",
    "auth",
    "client_getname",
    "client_id",
    "client_info",
    "client_list",
    "client_no_evict",
    "client_setinfo",
    "client_setname",
    "echo",
    "hello",
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
_BAD_NAME: Final = error_line(
    "ERR Client names cannot contain spaces, newlines or special characters."
)


def ping(connection: Connection, request: Request) -> bytes:
    if len(request) > 2:
        return error_line("ERR wrong number of arguments for 'ping' command")
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
            if not _is_name(name):
                return _BAD_NAME
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
    return encode(
        {
            "server": "redis",
            "version": REDIS_VERSION,
            "proto": protocol,
            "id": connection.id,
            "mode": "cluster",
            "role": "master" if connection.backend.is_leader else "replica",
            "modules": [],
        },
        protocol,
    )


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


# CLIENT.


def _is_name(name: bytes) -> bool:
    """Printable and without blanks, as it stands in CLIENT LIST."""
    return len(name) <= NAME_BYTES_MAX and all(33 <= byte <= 126 for byte in name)


def client_id(connection: Connection, _request: Request) -> bytes:
    return integer(connection.id)


def client_getname(connection: Connection, _request: Request) -> bytes:
    # NB: Redis answers "no name" with a null bulk string in both protocols' own null.
    return bulk(connection.name) if connection.name else NIL[connection.protocol]


def client_setname(connection: Connection, request: Request) -> bytes:
    if not _is_name(request[2]):
        return _BAD_NAME
    connection.name = request[2]
    return OK


def client_setinfo(connection: Connection, request: Request) -> bytes:
    attribute, value = request[2].lower(), request[3]
    if attribute not in (b"lib-name", b"lib-ver"):
        return error_line(b"ERR Unrecognized option '" + request[2] + b"'")
    if not _is_name(value):
        return error_line(
            b"ERR " + attribute + b" cannot contain spaces, newlines or special characters."
        )
    if attribute == b"lib-name":
        connection.library_name = value
    else:
        connection.library_version = value
    return OK


def client_no_evict(_connection: Connection, request: Request) -> bytes:
    """NO-EVICT and NO-TOUCH: nothing is evicted here and no key knows when it was touched."""
    return OK if request[2].upper() in (b"ON", b"OFF") else SYNTAX_ERROR


def _line(connection: Connection, now_ms: int) -> bytes:
    fields = (
        ("id", b"%d" % connection.id),
        ("addr", connection.address.encode()),
        ("laddr", connection.local_address.encode()),
        ("name", connection.name),
        ("age", b"%d" % max(0, (now_ms - connection.connected_ms) // 1000)),
        ("flags", b"r" if connection.level is Level.EVENTUAL else b"N"),
        ("db", b"0"),
        ("cmd", connection.last_command.encode()),
        ("user", b"default"),
        ("resp", b"%d" % connection.protocol),
        ("lib-name", connection.library_name),
        ("lib-ver", connection.library_version),
    )
    return b" ".join(name.encode() + b"=" + value for name, value in fields) + b"\n"


def client_info(connection: Connection, _request: Request) -> bytes:
    return encode(Text(_line(connection, connection.backend.now_ms())), connection.protocol)


def client_list(connection: Connection, request: Request) -> bytes:
    """CLIENT LIST [TYPE normal] [ID id ...]"""
    connections = connection.frontend.connections
    chosen = list(connections.values())
    options = request[2:]
    if options and options[0].upper() == b"TYPE" and len(options) == 2:
        kind = options[1].lower()
        if kind not in (b"normal", b"master", b"replica", b"slave", b"pubsub"):
            return error_line(b"ERR Unknown client type '" + options[1] + b"'")
        chosen = chosen if kind == b"normal" else []
    elif options and options[0].upper() == b"ID" and len(options) > 1:
        ids = [parse_integer(word) for word in options[1:]]
        if any(number is None or number < 1 for number in ids):
            return error_line("ERR Invalid client ID")
        chosen = [connections[number] for number in ids if number in connections]
    elif options:
        return SYNTAX_ERROR
    now_ms = connection.backend.now_ms()
    text = b"".join(_line(one, now_ms) for one in chosen)
    return encode(Text(text), connection.protocol)
