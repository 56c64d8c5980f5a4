"""TRI.WATCH and TRI.UNWATCH: node.watches does the work, and says what is told.

    TRI.WATCH <PREFIX prefix|KEY key> [FROM revision] [PREV]   [id, revision]: all behind it is told
    TRI.UNWATCH [id ...]                                       how many have ended

TRI.WATCH is a read: it is granted when this node knows everything that was acknowledged, so a watch
without FROM begins there. FROM must be in the history (COMPACTED says where that begins).

Proved by: tests/node/test_watches.py
"""

from __future__ import annotations

from typing import Final

from node.commands.spec import NOT_AN_INTEGER, SYNTAX_ERROR, parse_integer
from node.connection import Connection
from node.replies import encode, error_line, integer
from node.resp import Request

__all__ = ["unwatch", "watch"]

WATCHES_MAX: Final = 1_000
"""Of one client."""


def watch(connection: Connection, request: Request) -> bytes:
    kind, name = request[1].upper(), request[2]
    if kind not in (b"PREFIX", b"KEY"):
        return SYNTAX_ERROR
    after, previous = -1, False
    options = iter(request[3:])
    for word in options:
        option = word.upper()
        if option == b"PREV":
            previous = True
        elif option == b"FROM":
            revision = parse_integer(next(options, b""))
            if revision is None or revision < 1:
                return NOT_AN_INTEGER
            after = revision - 1
        else:
            return SYNTAX_ERROR
    frontend = connection.frontend
    if len(name) > frontend.key_bytes_max:
        return error_line("ERR key or prefix is longer than limits.key_bytes_max")
    if len(connection.watches_open) >= WATCHES_MAX:
        return error_line(f"ERR more than {WATCHES_MAX} watches")
    opened = frontend.watches.open(
        connection, name, is_prefix=kind == b"PREFIX", previous=previous, after=after
    )
    if opened is None:
        first = connection.backend.history.first
        return error_line(f"COMPACTED history begins at revision {first}")
    return encode([opened.id, opened.told], connection.protocol)


def unwatch(connection: Connection, request: Request) -> bytes:
    ids = list(connection.watches_open)
    if len(request) > 1:
        given = list(map(parse_integer, request[1:]))
        if None in given:
            return NOT_AN_INTEGER
        ids = [one for one in ids if one in given]
    for one in ids:
        connection.frontend.watches.close(connection.watches_open[one])
    return integer(len(ids))
