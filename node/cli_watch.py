"""`trimaran status --watch` and the start of `trimaran top`: what is looked at again and again.

    status --watch [S]         the table, in place of the last one where a terminal reads it
    status --watch --json      a JSON object a line
    top                        who the members are is asked here; node.cli_top shows them

When nobody answers that is said in the same place, and it is asked again: an outage is what one
watches for. Ctrl-C ends it, with exit code 130 as for any command.

Does not do: draw (node.cli_status, node.cli_top).

Proved by: tests/web/test_top.py
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from node import cli_status
from node.client import Client, statuses
from node.config_members import Address
from node.errors import Unavailable

__all__ = ["TOKEN_VARIABLE", "watch_status", "watch_top"]

TOKEN_VARIABLE: Final = "TRIMARAN_HTTP_TOKEN"
ASK_S: Final = 2.0
_HOME_AND_CLEAR: Final = "\x1b[H\x1b[2J"


def watch_status(
    addresses: Sequence[Address], password: str, every_s: float, *, as_json: bool
) -> None:
    """Show it again every `every_s` seconds, for ever. Rejected when the password is refused."""
    is_terminal = sys.stdout.isatty() and not as_json
    while True:
        try:
            found = statuses(addresses, password)
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


def watch_top(addresses: Sequence[Address], password: str, *, once: bool) -> None:
    """Ask who the members are, then show them. Unavailable when nobody tells."""
    from node.cli_top import top

    top(_http_addresses(addresses, password), os.environ.get(TOKEN_VARIABLE, ""), once=once)


def _http_addresses(addresses: Sequence[Address], password: str) -> dict[str, Address]:
    """Of everybody, by id, as the first node that answers has them."""
    with Client.connect(addresses, password, ASK_S) as client:
        found: dict[str, Any] = json.loads(client.read("TRI.MEMBER", "LIST"))
    return {str(each["id"]): Address.parse(each["http"]) for each in found["members"]}
