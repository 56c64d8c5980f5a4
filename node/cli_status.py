"""`trimaran status`: the cluster at a glance, for a person and for a program.

     term 7 · n2 leads · 2 of 3 nodes answer

      node   role       term   commit   applied   lag   durable   journal   keys   address
      n1     down          -        -         -     -         -         -      -   127.0.0.1:7001
      n2     leader        7   41,230    41,230     0    41,230   1.2 MiB    312   127.0.0.1:7002

Lag is how many entries a node has not applied of those that the leader has committed.

A crash leaves nothing behind: nothing is written here.

Does not do: ask anybody (node.client.statuses).

Proved by: tests/node/test_cli.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, Final, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from node.client import NodeStatus, find_leader

__all__ = ["as_json", "show"]

FIELDS: Final = (
    "id",
    "role",
    "term",
    "leader",
    "commit_index",
    "applied_index",
    "durable_index",
    "journal_bytes",
    "keys",
    "alive",
)
"""The Contract's, in its order."""

LAG_ALARMING: Final = 10_000
_ROLE_STYLES: Final = {"leader": "bold green", "follower": "cyan", "candidate": "yellow"}


def as_json(found: Sequence[NodeStatus]) -> str:
    """One JSON object; what a silent node cannot say is null."""
    nodes = [{name: status.fields.get(name) for name in FIELDS} for status in found]
    return json.dumps({"nodes": nodes}, indent=2)


def show(found: Sequence[NodeStatus], stream: TextIO | None = None) -> None:
    """Print the table, coloured when a terminal reads it."""
    stream = stream if stream is not None else sys.stdout
    console = Console(file=stream, width=None if stream.isatty() else 120, highlight=False)
    leader = find_leader(found)
    console.print(_headline(found, leader))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("node", "role"):
        table.add_column(name)
    for name in ("term", "commit", "applied", "lag", "durable", "journal", "keys"):
        table.add_column(name, justify="right")
    table.add_column("address")
    committed = leader.fields.get("commit_index") if leader is not None else None
    for status in found:
        table.add_row(*_row(status, committed))
    console.print(table)
    for status in found:
        if not status.alive:
            console.print(Text(f"{status.id} does not answer: {status.problem}", style="red"))


def _headline(found: Sequence[NodeStatus], leader: NodeStatus | None) -> Text:
    answering = sum(status.alive for status in found)
    line = Text()
    if leader is None:
        term = max(int(status.fields.get("term") or 0) for status in found)
        line.append(f"term {term} · ").append("no leader", style="bold red")
    else:
        line.append(f"term {leader.fields.get('term')} · ")
        line.append(f"{leader.id} leads", style=_ROLE_STYLES["leader"])
    line.append(" · ")
    few = answering * 2 <= len(found)
    line.append(f"{answering} of {len(found)} nodes answer", style="bold red" if few else "")
    if few:
        line.append(" · no majority: writes wait, then fail", style="red")
    return line


def _row(status: NodeStatus, committed: Any) -> list[Text]:
    fields = status.fields
    if not status.alive:
        silent = [Text("-", style="dim") for _ in range(7)]
        return [Text(status.id), Text("down", style="bold red"), *silent, Text(str(status.address))]
    role = str(fields.get("role"))
    applied = fields.get("applied_index")
    lag = Text("-", style="dim")
    if isinstance(committed, int) and isinstance(applied, int):
        behind = max(committed - applied, 0)
        style = "dim" if behind == 0 else "yellow" if behind < LAG_ALARMING else "bold red"
        lag = Text(_count(behind), style=style)
    return [
        Text(status.id, style="bold"),
        Text(role, style=_ROLE_STYLES.get(role, "")),
        Text(_count(fields.get("term"))),
        Text(_count(fields.get("commit_index"))),
        Text(_count(applied)),
        lag,
        Text(_count(fields.get("durable_index"))),
        Text(_size(fields.get("journal_bytes"))),
        Text(_count(fields.get("keys"))),
        Text(str(status.address)),
    ]


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "-"


def _size(value: Any) -> str:
    """Bytes as a person reads them."""
    if not isinstance(value, int):
        return "-"
    size = float(value)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
