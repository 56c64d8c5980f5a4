"""The words of backup, restore, export, import and recover (node.cli_keep runs them).

Proved by: tests/node/test_cli.py, tests/architecture/test_project.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

__all__ = ["add_keeping_commands"]

_Command = Callable[[str, str], argparse.ArgumentParser]


def add_keeping_commands(command: _Command, connecting: _Command) -> None:
    """`command` adds one, `connecting` one that has --connect."""
    added = connecting("backup", "Write the whole state at one revision to FILE, durably.")
    added.add_argument("file", type=Path, metavar="FILE", help="replaced once the new one is whole")
    _add_consistency(added)

    added = command(
        "restore",
        "Make a new cluster of a backup: one founder, whom the others join empty. Never over data.",
    )
    added.add_argument("file", type=Path, metavar="FILE", help="of `trimaran backup`")
    added.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="for `trimaran cluster`: makes DIR/n1"
    )
    added.add_argument(
        "--base-port", type=int, default=7_001, metavar="PORT", help="as `trimaran cluster` has it"
    )
    added.add_argument(
        "--config", type=Path, metavar="FILE", help="for `trimaran serve`: the founder's own"
    )

    added = connecting("export", "Write all keys at one revision as lines of JSON.")
    added.add_argument("file", type=Path, metavar="FILE", help="`-` is stdout")
    added.add_argument("--prefix", default="", help="only keys that begin with it")
    added.add_argument(
        "--from", dest="source", type=Path, metavar="BACKUP", help="a backup, not a node"
    )
    _add_consistency(added)

    added = connecting("import", "Write the keys of an export; again does no harm.")
    added.add_argument("file", type=Path, metavar="FILE", help="`-` is stdin")
    added.add_argument("--keep", action="store_true", help="leave keys that are there as they are")

    added = command(
        "recover",
        "The majority is lost for good: say what a stopped node still has, and with --new-cluster "
        "make it the only member of a new cluster. Writes that only the lost nodes had are gone.",
    )
    added.add_argument("data_dir", type=Path, metavar="DATA_DIR", help="such as data/n1")
    added.add_argument("--new-cluster", action="store_true", help="do it; there is no way back")
    added.add_argument(
        "--config", type=Path, metavar="FILE", help="the node's (default: DATA_DIR.toml)"
    )


def _add_consistency(added: argparse.ArgumentParser) -> None:
    added.add_argument(
        "--consistency",
        choices=("linearizable", "lease", "eventual"),
        default="linearizable",
        help="eventual: what the node has, also without a majority (default linearizable)",
    )
