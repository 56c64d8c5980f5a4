"""The words of the command `trimaran`, and their help.

    build_parser().parse_args(["get", "k"]) -> Namespace(command="get", key="k", connect=[...])

Invariants: every command and every option has a line of help; README.md names every command.
A wrong word ends the process with exit code 2 and says which words there are (argparse).

Does not do: run anything (node.cli).

Proved by: tests/node/test_cli.py, tests/architecture/test_project.py
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from node.cli_keep_words import add_keeping_commands
from node.completion import SHELLS
from node.config_members import Address
from node.lab.words import add_lab_commands
from node.version import TRIMARAN_VERSION

__all__ = ["PASSWORD_VARIABLE", "build_parser"]

CONNECT_DEFAULT: Final = "127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003"
CONNECT_VARIABLE: Final = "TRIMARAN_CONNECT"
PASSWORD_VARIABLE: Final = "TRIMARAN_PASSWORD"

_Command = Callable[[str, str], argparse.ArgumentParser]


def build_parser() -> argparse.ArgumentParser:
    """The whole command line, with its help."""
    parser = argparse.ArgumentParser(
        prog="trimaran",
        description="A replicated key-value store that stays one store while a minority fails.",
        epilog="Exit codes: 0 done, 1 no (absent, not swapped, damaged), 2 usage, "
        "3 unavailable, 4 outcome unknown, 70 fatal.",
    )
    parser.add_argument("--version", action="version", version=f"trimaran {TRIMARAN_VERSION}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary)
        added.set_defaults(command=name)
        return added

    _add_server_commands(command)
    _add_client_commands(command)
    added = command("verify", "Check every file of a stopped node's data directory, or a backup.")
    added.add_argument(
        "data_dir", type=Path, metavar="DATA_DIR|FILE", help="such as data/n1, or a backup"
    )
    added = command(
        "repair",
        "Give a stopped node whose data directory is damaged, wiped or lost a new one, and a new "
        "place in its cluster. Without --from-peers only says what is wrong.",
    )
    added.add_argument("data_dir", type=Path, metavar="DATA_DIR", help="such as data/n1")
    added.add_argument(
        "--from-peers", action="store_true", help="set it aside; the node gets all from the others"
    )
    added.add_argument(
        "--config", type=Path, metavar="FILE", help="the node's (default: DATA_DIR.toml)"
    )
    added.add_argument(
        "--connect", type=_addresses, metavar="HOST:PORT[,...]", help="default: the other members"
    )
    added = command("dump", "Show what is in one file of a data directory, as text.")
    added.add_argument("file", type=Path, metavar="FILE", help="WAL, journal, checkpoint, snapshot")
    _add_certs(command)
    added = command("completion", "Print what makes a shell complete these words.")
    added.add_argument("shell", choices=SHELLS, help="eval it, or put it where the shell looks")
    add_lab_commands(command("lab", "Break a cluster on purpose, judge it, draw what it did."))
    return parser


def _add_server_commands(command: _Command) -> None:
    added = command("cluster", "Run a whole cluster here, until Ctrl-C.")
    added.add_argument("--nodes", type=int, default=3, metavar="N", help="how many (default 3)")
    added.add_argument(
        "--data-dir", type=Path, default=Path("data"), metavar="DIR", help="default: ./data"
    )
    added.add_argument(
        "--base-port",
        type=int,
        default=7_001,
        metavar="PORT",
        help="client port of n1 (default 7001); peers use PORT+1000.., HTTP PORT+2000..",
    )
    added.add_argument("--fresh", action="store_true", help="remove what earlier runs stored")
    added.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="settings for all nodes, such as configs/fast.toml; ids and addresses are filled in",
    )
    added.add_argument("--no-restart", action="store_true", help="leave a dead node dead")
    added.add_argument(
        "--tls", action="store_true", help="peers speak TLS; certificates are made in DIR/certs"
    )

    added.add_argument(
        "--lab",
        action="store_true",
        help="serve a page with buttons that kill, pause and cut off nodes, on PORT+2009",
    )

    added = command(
        "rolling-restart",
        "Restart the nodes of a running `trimaran cluster` one by one, without a failed write.",
    )
    added.add_argument(
        "--data-dir", type=Path, default=Path("data"), metavar="DIR", help="its (default: ./data)"
    )

    added = command("serve", "Run one node, until SIGTERM or Ctrl-C.")
    added.add_argument("--config", type=Path, required=True, metavar="FILE", help="TOML")
    added.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="wins over the file; may be given again",
    )


def _add_certs(command: _Command) -> None:
    added = command(
        "certs",
        "Make certificates for nodes, and an authority if DIR has none: DIR/n1.crt, n1.key, ... "
        "and ca.crt are what [peer] tls_cert, tls_key and tls_ca name. Overwrites nothing.",
    )
    added.add_argument("dir", type=Path, metavar="DIR", help="keep DIR/ca.key off the nodes")
    added.add_argument("--nodes", required=True, metavar="ID[,...]", help="such as n1,n2,n3")
    added.add_argument(
        "--days", type=int, default=365, metavar="N", help="how long they are valid (default 365)"
    )


def _add_client_commands(command: _Command) -> None:
    def connecting(name: str, summary: str) -> argparse.ArgumentParser:
        added = command(name, summary)
        added.add_argument(
            "--connect",
            type=_addresses,
            default=os.environ.get(CONNECT_VARIABLE) or CONNECT_DEFAULT,
            metavar="HOST:PORT[,...]",
            help=f"nodes to try, in order (default: ${CONNECT_VARIABLE}, or else the ports 7001, "
            "7002, 7003 of this machine). "
            f"A password is read from ${PASSWORD_VARIABLE}",
        )
        return added

    add_keeping_commands(command, connecting)
    added = connecting("status", "Show every node: role, progress, size.")
    added.add_argument("--json", action="store_true", help="one JSON object, for programs")
    added.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=1.0,
        metavar="S",
        help="again every S seconds (default 1), until Ctrl-C; with --json one line each time",
    )

    added = connecting("top", "Watch the cluster live: nodes, rates, latencies, events. q ends it.")
    added.add_argument("--once", action="store_true", help="print one picture and end")

    added = connecting("get", "Print the value of a key; exit code 1 when it is absent.")
    added.add_argument("key", metavar="KEY")
    added.add_argument(
        "--consistency",
        choices=("linearizable", "lease", "eventual"),
        help="how fresh (default: as the node is configured, linearizable)",
    )

    added = connecting("set", "Set a key. VALUE - reads it from stdin.")
    added.add_argument("key", metavar="KEY")
    added.add_argument("value", metavar="VALUE")
    added.add_argument("--ttl-ms", type=int, metavar="MS", help="it expires after this time")

    added = connecting("del", "Remove keys; exit code 1 when none was there.")
    added.add_argument("keys", metavar="KEY", nargs="+")

    added = connecting(
        "cas",
        "Set a key if its value is EXPECTED (with --absent: if there is none). "
        "Exit code 1 when it is not. NEW - reads it from stdin.",
    )
    added.add_argument("key", metavar="KEY")
    added.usage = "trimaran cas [OPTION ...] KEY EXPECTED NEW | KEY NEW --absent"
    added.add_argument("values", metavar="VALUE", nargs="+", help="EXPECTED and NEW, or NEW")
    added.add_argument("--absent", action="store_true", help="the key must not exist")
    added.add_argument("--ttl-ms", type=int, metavar="MS", help="it expires after this time")

    _add_steering_commands(connecting)


def _add_steering_commands(connecting: _Command) -> None:
    added = connecting("transfer", "Hand leadership over, to NODE or to the best one.")
    added.add_argument("node", nargs="?", metavar="NODE", help="an id, such as n2")

    added = connecting(
        "member",
        "Change who the members are: add ID HOST:CLIENT:PEER[:HTTP] (ports), remove ID, list. "
        "A new node follows as a learner, and votes once it has caught up.",
    )
    added.usage = "trimaran member [OPTION ...] add ID HOST:CLIENT:PEER | remove ID | list"
    added.add_argument("action", choices=("add", "remove", "list"), help="what to do")
    added.add_argument("words", nargs="*", metavar="WORD", help="ID and HOST:CLIENT:PEER, or ID")
    added.add_argument("--json", action="store_true", help="list: one JSON object")
    added.add_argument("--no-wait", action="store_true", help="add: do not wait until it votes")
    added.add_argument(
        "--timeout-s", type=float, default=60.0, metavar="S", help="how long it may take (60)"
    )

    connecting("snapshot", "Make the node that is connected to write a snapshot.")


def _seconds(text: str) -> float:
    """A --watch word."""
    try:
        seconds = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from error
    if not 0.05 <= seconds <= 3_600:
        raise argparse.ArgumentTypeError(f"{text}: must be 0.05 to 3600 seconds")
    return seconds


def _addresses(text: str) -> list[Address]:
    """A --connect word."""
    try:
        return [Address.parse(part.strip()) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
