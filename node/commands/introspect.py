"""COMMAND and the HELP of commands: the table, told to clients.

RedisCluster refuses to send what is not in COMMAND's reply, and takes the places of keys from
it; redis-cli's hints come from COMMAND DOCS. All of it is made from node.commands.table: there is
no second list.

Does not do: key specs and tips in INFO (empty lists: clients take that).

Proved by: tests/node/test_commands.py
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from node.commands.arguments import arguments_of
from node.commands.spec import SYNTAX_ERROR, Command, keys_of
from node.connection import Connection
from node.glob import compile_glob
from node.replies import Names, Status, encode, error_line, integer
from node.resp import Request

__all__ = ["command", "count", "docs", "getkeys", "help_", "info", "list_"]


def _categories(one: Command) -> Names:
    names = [f"@{one.group.replace('generic', 'keyspace')}"]
    names += [f"@{kind}" for kind in ("write", "fast", "admin") if kind in one.flags]
    names += ["@read"] if "readonly" in one.flags else []
    names += [] if "fast" in one.flags else ["@slow"]
    return Names(names)


def _entry(one: Command) -> list[Any]:
    """The ten elements of COMMAND INFO."""
    first, last, step = one.keys
    subcommands = [_entry(sub) for sub in one.subcommands.values()]
    names = (one.name, one.arity, Names(one.flags), first, last, step)
    return [*names, _categories(one), [], [], subcommands]


def _doc(one: Command) -> dict[str, Any]:
    doc: dict[str, Any] = {"summary": one.summary, "since": one.since, "group": one.group}
    if one.syntax:
        doc["arguments"] = arguments_of(one.syntax)
    if one.subcommands:
        doc["subcommands"] = {sub.name: _doc(sub) for sub in one.subcommands.values()}
    return doc


def _find(connection: Connection, name: bytes) -> Command | None:
    """A command by "get", or a subcommand by "client|id"."""
    outer, _, inner = name.lower().partition(b"|")
    found = connection.frontend.commands.get(outer)
    return found.subcommands.get(inner) if found is not None and inner else found


def command(connection: Connection, _request: Request) -> bytes:
    rows = connection.frontend.commands.values()
    return encode([_entry(one) for one in rows], connection.protocol)


def count(connection: Connection, _request: Request) -> bytes:
    return integer(len(connection.frontend.commands))


def info(connection: Connection, request: Request) -> bytes:
    if len(request) == 2:
        return command(connection, request)
    found = [_find(connection, name) for name in request[2:]]
    return encode([None if one is None else _entry(one) for one in found], connection.protocol)


def docs(connection: Connection, request: Request) -> bytes:
    rows: Iterable[Command | None] = connection.frontend.commands.values()
    if len(request) > 2:
        rows = [_find(connection, name) for name in request[2:]]
    return encode({one.name: _doc(one) for one in rows if one is not None}, connection.protocol)


def list_(connection: Connection, request: Request) -> bytes:
    """COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]"""
    rows = [
        inner
        for outer in connection.frontend.commands.values()
        for inner in (outer, *outer.subcommands.values())
    ]
    if len(request) == 2:
        names = [one.name for one in rows if "|" not in one.name]
        return encode(names, connection.protocol)
    if len(request) != 5 or request[2].upper() != b"FILTERBY":
        return SYNTAX_ERROR
    kind, argument = request[3].upper(), request[4]
    if kind == b"PATTERN":
        matches = compile_glob(argument.lower())
        names = [one.name for one in rows if matches(one.name.encode())]
    elif kind == b"ACLCAT":
        category = "@" + argument.decode("utf-8", "replace").lower()
        names = [one.name for one in rows if category in _categories(one)]
    elif kind == b"MODULE":
        names = []
    else:
        return SYNTAX_ERROR
    return encode(names, connection.protocol)


def getkeys(connection: Connection, request: Request) -> bytes:
    whole = request[2:]
    found = connection.frontend.commands.get(whole[0].lower())
    if found is not None and found.subcommands and len(whole) > 1:
        found = found.subcommands.get(whole[1].lower())
    if found is None:
        return error_line("ERR Invalid command specified")
    if found.keys[0] == 0 and not found.numkeys:
        return error_line("ERR The command has no key arguments")
    if not found.accepts(len(whole)):
        return error_line("ERR Invalid number of arguments specified for command")
    return encode(keys_of(found, whole), connection.protocol)


def help_(connection: Connection, request: Request) -> bytes:
    """CLIENT HELP and the like: one line for each subcommand of the table."""
    outer = connection.frontend.commands[request[0].lower()]
    lines = [f"{outer.name.upper()} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    for name, one in outer.subcommands.items():
        lines += [name.decode().upper(), f"    {one.summary}"]
    return encode([Status(line) for line in lines], connection.protocol)
