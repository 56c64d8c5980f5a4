"""The table of commands: the only list of what this node answers to.

    table_data   strings, keys, transactions, scripts, messages  \\
    table_node   connection, server, cluster, trimaran            >  COMMANDS, by name
    syntax       what stands behind each name                    /

COMMAND, COMMAND DOCS, HELP, the dispatch, docs/commands.md and the tests are made from it. Names,
arities, flags, places of keys, groups and `since` are Redis's (a test compares them with
redis-server); `since` of TRI.* is Trimaran's. What is not here is answered as an unknown command.

Proved by: tests/node/test_commands.py
"""

from __future__ import annotations

from typing import Final

from node.commands import table_data, table_node
from node.commands.cluster import only_in_cluster_mode
from node.commands.spec import Command
from node.commands.syntax import SYNTAX

__all__ = ["COMMANDS"]


def _build() -> dict[bytes, Command]:
    """The rows as commands, subcommands inside their commands."""
    outer: dict[bytes, Command] = {}
    inner: dict[str, dict[bytes, Command]] = {}
    for row in (*table_data.ROWS, *table_node.ROWS):
        name, arity, kind, flags, places, since, group, handler, summary = row
        container, bar, subcommand = name.partition("|")
        subcommands = {} if bar else inner.setdefault(name, {})
        if group == "cluster" and handler is not None and subcommand != "help":
            handler = only_in_cluster_mode(handler)
        has_numkeys = len(places) == 2
        command = Command(
            name=name,
            arity=arity,
            kind=kind,
            flags=tuple(flags.split()),
            keys=(0, 0, 0) if has_numkeys else (places[0], places[1], places[2]),
            numkeys=places[0] if has_numkeys else 0,
            numkeys_step=places[1] if has_numkeys else 0,
            since=since,
            group=group,
            summary=summary,
            syntax=SYNTAX.get(name, ""),
            handler=handler,
            subcommands=subcommands,
        )
        known = inner[container] if bar else outer
        key = (subcommand if bar else name).encode()
        assert key not in known, name
        known[key] = command
    return outer


COMMANDS: Final = _build()
"""By name, in lower case and in the order of the table."""
