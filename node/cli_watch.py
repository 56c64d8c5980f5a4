"""The commands that look: status, also again and again, and top; and completion of words.

    status --watch [S]         the table, in place of the last one where a terminal reads it
    status --watch --json      a JSON object a line
    top                        who the members are is asked here; node.cli_top shows them

When nobody answers that is said in the same place, and it is asked again: an outage is what one
watches for. Ctrl-C ends it, with exit code 130 as for any command.

Does not do: draw (node.cli_status, node.cli_top).

Proved by: tests/web/test_top.py
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from node.cli_parser import PASSWORD_VARIABLE, build_parser
from node.config_members import Address
from node.errors import Unavailable

__all__ = ["TOKEN_VARIABLE", "completion", "http_addresses", "status", "top", "watch_status"]

TOKEN_VARIABLE: Final = "TRIMARAN_HTTP_TOKEN"
ASK_S: Final = 2.0
_HOME_AND_CLEAR: Final = "\x1b[H\x1b[2J"


def status(options: argparse.Namespace) -> int:
    """trimaran status."""
    from node import cli_status
    from node.client import statuses

    password = os.environ.get(PASSWORD_VARIABLE, "")
    if options.watch is not None:
        watch_status(options.connect, password, options.watch, as_json=options.json)
    found = statuses(options.connect, password)
    if options.json:
        print(cli_status.as_json(found))
    else:
        cli_status.show(found)
    return 0


def top(options: argparse.Namespace) -> int:
    """trimaran top: ask who the members are, then show them. Unavailable when nobody tells."""
    from node import cli_top

    members = http_addresses(options.connect, os.environ.get(PASSWORD_VARIABLE, ""))
    cli_top.top(members, os.environ.get(TOKEN_VARIABLE, ""), once=options.once)
    return 0


def completion(options: argparse.Namespace) -> int:
    """trimaran completion."""
    from node.completion import script

    print(script(build_parser(), options.shell), end="")
    return 0


def watch_status(
    addresses: Sequence[Address], password: str, every_s: float, *, as_json: bool
) -> NoReturn:
    """Show it again every `every_s` seconds, for ever. Rejected when the password is refused."""
    from node import cli_status, client

    is_terminal = sys.stdout.isatty() and not as_json
    while True:
        try:
            found = client.statuses(addresses, password)
            problem = ""
        except Unavailable as error:
            found, problem = [], str(error)
        if is_terminal:
            print(_HOME_AND_CLEAR, end="")
        if as_json:
            shown = json.loads(cli_status.as_json(found))
            print(json.dumps(shown | ({"problem": problem} if problem else {})), flush=True)
        elif problem:
            print(f"nobody answers: {problem}", flush=True)
        else:
            cli_status.show(found)
            sys.stdout.flush()
        time.sleep(every_s)


def http_addresses(addresses: Sequence[Address], password: str) -> dict[str, Address]:
    """Of everybody, by id, as the first node that answers has them."""
    from node.client import Client

    with Client.connect(addresses, password, ASK_S) as client:
        found: dict[str, Any] = json.loads(client.read("TRI.MEMBER", "LIST"))
    return {str(each["id"]): Address.parse(each["http"]) for each in found["members"]}
