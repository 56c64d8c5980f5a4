"""CLIENT: who is connected to this node, and what is done to them.

    CLIENT LIST [TYPE type] [ID id ...]
    CLIENT KILL address | [ID|ADDR|LADDR|TYPE|USER|SKIPME|MAXAGE value] ...
    CLIENT PAUSE ms [WRITE|ALL], UNPAUSE        REPLY ON|OFF|SKIP

All of it is about this node's clients alone, as in Redis. PAUSE holds up what clients ask for; the
commands of this file still go through, so whoever paused can end it.

Does not do: TRACKING and CACHING (node.commands.tracking); nobody blocks, so UNBLOCK finds nobody.

Proved by: tests/node/test_commands_clients.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from node.commands.client import BAD_NAME, is_name
from node.commands.spec import NOT_AN_INTEGER, SYNTAX_ERROR, parse_integer
from node.connection import MODE, Connection
from node.reads import Level
from node.replies import NIL, OK, Text, bulk, encode, error_line, integer
from node.resp import Request

__all__ = [
    "getname",
    "id_",
    "info",
    "kill",
    "list_",
    "no_evict",
    "pause",
    "reply",
    "setinfo",
    "setname",
    "unblock",
    "unpause",
]

_TYPES: Final = (b"normal", b"master", b"replica", b"slave", b"pubsub")
_PAUSE_MS_MAX: Final = 2**62


def id_(connection: Connection, _request: Request) -> bytes:
    return integer(connection.id)


def getname(connection: Connection, _request: Request) -> bytes:
    # NB: Redis answers "no name" with a null bulk string in both protocols' own null.
    return bulk(connection.name) if connection.name else NIL[connection.protocol]


def setname(connection: Connection, request: Request) -> bytes:
    if not is_name(request[2]):
        return BAD_NAME
    connection.name = request[2]
    return OK


def setinfo(connection: Connection, request: Request) -> bytes:
    attribute, value = request[2].lower(), request[3]
    if attribute not in (b"lib-name", b"lib-ver"):
        return error_line(b"ERR Unrecognized option '" + request[2] + b"'")
    if not is_name(value):
        return error_line(
            b"ERR " + attribute + b" cannot contain spaces, newlines or special characters."
        )
    if attribute == b"lib-name":
        connection.library_name = value
    else:
        connection.library_version = value
    return OK


def no_evict(_connection: Connection, request: Request) -> bytes:
    """NO-EVICT and NO-TOUCH: nothing is evicted here and no key knows when it was touched."""
    return OK if request[2].upper() in (b"ON", b"OFF") else SYNTAX_ERROR


# LIST and INFO.


def _flags(connection: Connection) -> bytes:
    flags = b""
    if connection.subscriptions:
        flags += b"P"
    if connection.mode & MODE.MULTI:
        flags += b"x"
    if connection.level is Level.EVENTUAL:
        flags += b"r"
    return flags or b"N"


def _line(connection: Connection, now_ms: int) -> bytes:
    transaction = connection.transaction
    fields = (
        ("id", b"%d" % connection.id),
        ("addr", connection.address.encode()),
        ("laddr", connection.local_address.encode()),
        ("fd", b"-1"),
        ("name", connection.name),
        ("age", b"%d" % max(0, (now_ms - connection.connected_ms) // 1000)),
        ("idle", b"%d" % connection.idle_s),
        ("flags", _flags(connection)),
        ("db", b"0"),
        ("sub", b"%d" % len(connection.channels)),
        ("psub", b"%d" % len(connection.patterns)),
        ("ssub", b"%d" % len(connection.shards)),
        ("multi", b"%d" % (-1 if transaction is None else len(transaction.queued))),
        ("watch", b"%d" % len(connection.watches)),
        ("cmd", connection.last_command.encode()),
        ("user", b"default"),
        ("redir", b"-1"),
        ("resp", b"%d" % connection.protocol),
        ("lib-name", connection.library_name),
        ("lib-ver", connection.library_version),
    )
    return b" ".join(name.encode() + b"=" + value for name, value in fields) + b"\n"


def info(connection: Connection, _request: Request) -> bytes:
    return encode(Text(_line(connection, connection.backend.now_ms())), connection.protocol)


def _is_of_type(connection: Connection, kind: bytes) -> bool:
    if kind == b"pubsub":
        return connection.subscriptions > 0
    return kind == b"normal" and not connection.subscriptions


def list_(connection: Connection, request: Request) -> bytes:
    """CLIENT LIST [TYPE type] [ID id ...]"""
    connections = connection.frontend.connections
    chosen = list(connections.values())
    options = request[2:]
    if options and options[0].upper() == b"TYPE" and len(options) == 2:
        kind = options[1].lower()
        if kind not in _TYPES:
            return error_line(b"ERR Unknown client type '" + options[1] + b"'")
        chosen = [one for one in chosen if _is_of_type(one, kind)]
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


# KILL.

_Filter = Callable[[Connection], bool]


def _filter(option: bytes, value: bytes, now_ms: int) -> _Filter | bytes:
    """Whom an option of CLIENT KILL means, or the error reply."""
    text = value.decode("utf-8", "replace")
    if option == b"ID":
        number = parse_integer(value)
        if number is None or number < 1:
            return error_line("ERR client-id should be greater than 0")
        return lambda one: one.id == number
    if option == b"MAXAGE":
        age_s = parse_integer(value)
        if age_s is None or age_s < 1:
            return error_line("ERR maxage is not an integer or out of range")
        return lambda one: now_ms - one.connected_ms >= age_s * 1000
    if option == b"TYPE":
        kind = value.lower()
        if kind not in _TYPES:
            return error_line(b"ERR Unknown client type '" + value + b"'")
        return lambda one: _is_of_type(one, kind)
    if option == b"USER":
        if value != b"default":
            return error_line(b"ERR No such user '" + value + b"'")
        return lambda one: one.is_authenticated
    if option == b"ADDR":
        return lambda one: one.address == text
    if option == b"LADDR":
        return lambda one: one.local_address == text
    return SYNTAX_ERROR


def kill(connection: Connection, request: Request) -> bytes:
    if len(request) == 3:  # The old form: an address, and itself as well.
        address = request[2].decode("utf-8", "replace")
        found = [one for one in connection.frontend.connections.values() if one.address == address]
        _kill(connection, found)
        return OK if found else error_line("ERR No such client")
    options = request[2:]
    if len(options) % 2:
        return SYNTAX_ERROR
    filters: list[_Filter] = []
    skips_me = True
    now_ms = connection.backend.now_ms()
    for word, value in zip(options[::2], options[1::2], strict=True):
        option = word.upper()
        if option == b"SKIPME":
            if value.lower() not in (b"yes", b"no"):
                return SYNTAX_ERROR
            skips_me = value.lower() == b"yes"
            continue
        one_filter = _filter(option, value, now_ms)
        if isinstance(one_filter, bytes):
            return one_filter
        filters.append(one_filter)
    found = [
        one
        for one in list(connection.frontend.connections.values())
        if not (skips_me and one is connection) and all(fits(one) for fits in filters)
    ]
    _kill(connection, found)
    return integer(len(found))


def _kill(connection: Connection, found: list[Connection]) -> None:
    for one in found:
        if one is connection:
            one.is_closing = True  # Once it has been told.
        else:
            one.kill()


# PAUSE, REPLY.


def pause(connection: Connection, request: Request) -> bytes:
    timeout_ms = parse_integer(request[2])
    if timeout_ms is None or timeout_ms > _PAUSE_MS_MAX:
        return error_line("ERR timeout is not an integer or out of range")
    if timeout_ms < 0:
        return error_line("ERR timeout is negative")
    mode = request[3].upper() if len(request) > 3 else b"ALL"
    if len(request) > 4 or mode not in (b"ALL", b"WRITE"):
        return error_line("ERR CLIENT PAUSE mode must be WRITE or ALL")
    until_ms = connection.backend.now_ms() + timeout_ms
    connection.frontend.pause(until_ms, writes_only=mode == b"WRITE")
    return OK


def unpause(connection: Connection, _request: Request) -> bytes:
    connection.frontend.unpause()
    return OK


def reply(connection: Connection, request: Request) -> bytes:
    mode = request[2].upper()
    if mode == b"ON":
        connection.is_muted = False
        connection.set_mode(MODE.SKIP, on=False)
        return OK
    if mode == b"OFF":
        connection.is_muted = True
    elif mode == b"SKIP":
        connection.set_mode(MODE.SKIP, on=not connection.is_muted)
    else:
        return SYNTAX_ERROR
    return b""


# What there is nothing to say about.


def unblock(_connection: Connection, request: Request) -> bytes:
    if parse_integer(request[2]) is None:
        return NOT_AN_INTEGER
    if len(request) > 4 or (len(request) == 4 and request[3].upper() not in (b"TIMEOUT", b"ERROR")):
        return error_line("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    return integer(0)
