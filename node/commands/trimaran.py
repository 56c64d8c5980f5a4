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

Does not do: talk to other nodes (node.client asks each of them).

Proved by: tests/node/test_commands.py
"""

from __future__ import annotations

import json

from node.commands.spec import Control
from node.config_members import parse_member
from node.connection import Connection
from node.reads import Level
from node.replies import OK, bulk, encode, error_line
from node.resp import Request

__all__ = ["consistency", "digest", "member", "snapshot", "status", "transfer"]


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
