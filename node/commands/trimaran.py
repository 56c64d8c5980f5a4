"""TRI.*: what Redis has no command for.

    TRI.STATUS                 this node's line of `trimaran status --json`, as JSON
    TRI.DIGEST                 [applied index, SHA-256 of the whole state]: equal on all replicas
                               at the same index
    TRI.TRANSFER [member]      hand leadership over; the id of the new leader
    TRI.SNAPSHOT               write a snapshot; "index-term" once it is durable
    TRI.MEMBER ADD id HOST:CLIENT:PEER[:HTTP]   seat a learner, which will vote once it has caught
                               up; the index of the entry once it is committed. Leader only.
    TRI.MEMBER REMOVE id       take a member out, likewise; a leader hands over instead
    TRI.MEMBER LIST            who the members are, as JSON
    TRI.CONSISTENCY [level]    how fresh this connection's reads are; without a level: says so
    TRI.GET key                [value, created, modified, deadline in ms or -1, lease or 0], or
                               nothing
    TRI.RANGE start end [LIMIT n] [REV]       start <= key < end ("" as end: to the last)
    TRI.PREFIX prefix [LIMIT n] [AFTER key]   keys that begin with it, behind `key`
                               [revision, 1 if there is more, [[key, value, created, modified] ...]]

Created and modified are revisions: the index of the batch that made the key, and of the one that
last changed it. `SET key value IFREV modified` writes if nobody has changed it since. Inside MULTI,
behind a write, TRI.GET tells the revision of that very write. A page ends
at LIMIT keys (default 100), or with the key with which its values reach PAGE_BYTES_MAX.

Does not do: talk to other nodes (node.client asks each of them).

Proved by: tests/node/test_commands.py
"""

from __future__ import annotations

import json
from typing import Final

from node.commands.spec import NOT_AN_INTEGER, SYNTAX_ERROR, Control, parse_integer
from node.config_members import parse_member
from node.connection import Connection
from node.reads import Level
from node.replies import NIL, OK, bulk, encode, error_line
from node.resp import Request
from statemachine.entries import Scan

__all__ = [
    "consistency",
    "digest",
    "get",
    "member",
    "prefix",
    "range_",
    "snapshot",
    "status",
    "transfer",
]

PAGE_KEYS_MAX: Final = 10_000
PAGE_BYTES_MAX: Final = 4 * 1024 * 1024
_PAGE_KEYS_DEFAULT: Final = 100


def status(connection: Connection, _request: Request) -> bytes:
    return bulk(json.dumps(connection.backend.status()).encode())


def digest(connection: Connection, _request: Request) -> bytes:
    return encode(list(connection.backend.digest()), connection.protocol)


def consistency(connection: Connection, request: Request) -> bytes:
    if len(request) > 2:
        return error_line("ERR wrong number of arguments for 'tri.consistency' command")
    if len(request) == 1:
        return bulk(connection.level.value.encode())
    word = request[1].decode("utf-8", "replace").lower()
    if word not in {level.value for level in Level}:
        return error_line("ERR consistency is one of linearizable, lease, eventual")
    connection.level = Level(word)
    return OK


def transfer(connection: Connection, request: Request) -> bytes | Control:
    if len(request) > 2:
        return error_line("ERR wrong number of arguments for 'tri.transfer' command")
    target = request[1].decode("utf-8", "replace") if len(request) == 2 else None
    backend = connection.backend
    if target is not None and target not in {member.id for member in backend.members()}:
        return error_line(f"ERR no member is called '{target}'")
    return Control(lambda waiter: backend.transfer(target, waiter), _text_reply)


def member(connection: Connection, request: Request) -> bytes | Control:
    words = [word.decode("utf-8", "replace") for word in request[1:]]
    backend = connection.backend
    action = words[0].upper()
    if action == "LIST" and len(words) == 1:
        return bulk(json.dumps(backend.member_list()).encode())
    if action == "ADD" and len(words) == 3:
        try:
            new = parse_member(words[1], words[2])
        except ValueError as error:
            return error_line(f"ERR {error}")
        return Control(lambda waiter: backend.add_member(new, waiter), _text_reply)
    if action == "REMOVE" and len(words) == 2:
        return Control(lambda waiter: backend.remove_member(words[1], waiter), _text_reply)
    return error_line("ERR it is TRI.MEMBER ADD id host:client:peer[:http] | REMOVE id | LIST")


def snapshot(connection: Connection, _request: Request) -> Control:
    frontend = connection.frontend

    def reply(result: object, protocol: int) -> bytes:
        frontend.saved_ms = connection.backend.now_ms()
        return _text_reply(result, protocol)

    return Control(connection.backend.snapshot, reply)


def _text_reply(result: object, protocol: int) -> bytes:
    return encode(result, protocol)


def get(connection: Connection, request: Request) -> bytes:
    facts = connection.machine.facts(request[1])
    if facts is None:
        return NIL[connection.protocol]
    deadline_ms = -1 if facts.deadline_ms is None else facts.deadline_ms
    fields = [facts.value, facts.created, facts.modified, deadline_ms, facts.lease]
    return encode(fields, connection.protocol)


def _limit(word: bytes | None) -> int | bytes:
    """How many keys, or the error reply."""
    if word is None:
        return SYNTAX_ERROR
    number = parse_integer(word)
    if number is None:
        return NOT_AN_INTEGER
    if number < 1:
        return error_line("ERR LIMIT must be positive")
    return min(number, PAGE_KEYS_MAX)


def range_(connection: Connection, request: Request) -> bytes:
    count: int | bytes = _PAGE_KEYS_DEFAULT
    reverse = False
    options = iter(request[3:])
    for word in options:
        option = word.upper()
        if option == b"REV":
            reverse = True
        elif option == b"LIMIT":
            count = _limit(next(options, None))
        else:
            return SYNTAX_ERROR
    if isinstance(count, bytes):
        return count
    start, end = request[1], request[2] or None
    scan = connection.machine.scan_range(start, end, limit=count, reverse=reverse)
    return _page(connection, scan)


def prefix(connection: Connection, request: Request) -> bytes:
    count: int | bytes = _PAGE_KEYS_DEFAULT
    after: bytes | None = None
    options = iter(request[2:])
    for word in options:
        option = word.upper()
        if option == b"AFTER":
            after = next(options, None)
            if after is None:
                return SYNTAX_ERROR
        elif option == b"LIMIT":
            count = _limit(next(options, None))
        else:
            return SYNTAX_ERROR
    if isinstance(count, bytes):
        return count
    return _page(connection, connection.machine.scan_prefix(request[1], limit=count, after=after))


def _page(connection: Connection, scan: Scan) -> bytes:
    machine = connection.machine
    rows: list[list[object]] = []
    bytes_count = 0
    more = scan.more
    for key, value in scan.items:
        if bytes_count >= PAGE_BYTES_MAX:
            more = True
            break
        facts = machine.facts(key)
        assert facts is not None
        rows.append([key, value, facts.created, facts.modified])
        bytes_count += len(key) + len(value)
    return encode([scan.revision, int(more), rows], connection.protocol)
