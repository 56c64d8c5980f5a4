"""The words behind `trimaran lab`, and their help. Imports nothing that costs time.

Proved by: tests/lab/test_cli.py
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

__all__ = ["add_lab_commands"]

_EXPERIMENTS: Final = Path("configs/lab")


def add_lab_commands(parser: argparse.ArgumentParser) -> None:
    """The words behind `trimaran lab`."""
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="lab")

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=summary, description=summary)

    for name, summary in (
        ("run", "Run an experiment, judge it, report it."),
        ("sweep", "Run an experiment for each value of one setting."),
    ):
        added = command(name, summary)
        added.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="a TOML file")
        added.add_argument("--runs", type=int, metavar="N", help="how often; wins over the file")
        added.add_argument("--seed", type=int, default=1, help="of everything random (default 1)")
        added.add_argument("--out", type=Path, metavar="DIR", help="default: lab-results/NAME-...")
        added.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="workload.clients=3, times.run_s=1.5 ...: wins over the file",
        )
        added.add_argument(
            "--against",
            type=_addresses,
            default=(),
            metavar="HOST:PORT[,...]",
            help="use this RESP server instead of starting nodes; nothing is broken there",
        )
        added.add_argument(
            "--resume",
            action="store_true",
            help="keep the runs that are in DIR already (--out), and do the others",
        )
        if name == "sweep":
            added.add_argument("--key", help="such as workload.clients; else the file's [sweep]")
            added.add_argument("--values", help="TOML values, separated by commas")
    added = command("list", "Show the experiments in a directory.")
    added.add_argument("directory", type=Path, nargs="?", default=_EXPERIMENTS, metavar="DIR")
    added = command("check", "Judge a history again.")
    added.add_argument("history", type=Path, metavar="HISTORY", help="a history.jsonl")
    added = command("report", "Write the report of a result again.")
    added.add_argument("directory", type=Path, metavar="DIR")
    added = command("compare", "Show two results side by side.")
    added.add_argument("first", type=Path, metavar="DIR")
    added.add_argument("second", type=Path, metavar="DIR")


def _addresses(text: str) -> tuple[str, ...]:
    found = tuple(each.strip() for each in text.split(","))
    for each in found:
        host, _, port = each.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise argparse.ArgumentTypeError(f"{each!r} is not host:port")
    return found
