"""The commands that change a cluster: member, rolling-restart, repair. Words to calls.

Each returns the exit code; errors leave as they are (node.cli turns them into lines and codes).

Does not do: anything itself (node.cli_members, node.rolling, node.repair).

Proved by: tests/cluster/test_members.py, tests/cluster/test_repair.py,
tests/cluster/test_rolling.py
"""

from __future__ import annotations

import argparse
import json
import os

from node.cli_parser import PASSWORD_VARIABLE
from node.errors import ConfigError

__all__ = ["member", "repair", "rolling_restart"]


def _say(text: str) -> None:
    print(text, flush=True)


def member(options: argparse.Namespace) -> int:
    from node import cli_members
    from node.config_members import parse_member

    words, action = options.words, options.action
    if len(words) != {"add": 2, "remove": 1, "list": 0}[action]:
        raise ConfigError((("member", "takes add ID HOST:CLIENT:PEER | remove ID | list"),))
    password = os.environ.get(PASSWORD_VARIABLE, "")
    asked = cli_members.Asked(options.connect, password, options.timeout_s)
    if action == "list":
        found = cli_members.list_members(asked)
        lines = [json.dumps(found, indent=2)] if options.json else cli_members.show_members(found)
        print("\n".join(lines))
    elif action == "remove":
        cli_members.remove(asked, words[0], say=_say)
    else:
        try:
            member = parse_member(words[0], words[1])
        except ValueError as error:
            raise ConfigError((("member add", str(error)),)) from error
        cli_members.add(asked, member, wait=not options.no_wait, say=_say)
    return 0


def rolling_restart(options: argparse.Namespace) -> int:
    from node import rolling

    password = os.environ.get(PASSWORD_VARIABLE, "")
    rolling.rolling_restart(options.data_dir.absolute(), password, _say)
    return 0


def repair(options: argparse.Namespace) -> int:
    from node import repair as repairs
    from node.cli_members import Asked
    from node.verify import verify

    data_dir = options.data_dir
    problems = verify(data_dir) if data_dir.is_dir() else [f"{data_dir} is not there"]
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{data_dir}: sound")
    if not options.from_peers:
        print(
            "nothing was done; with --from-peers the directory is set aside, and the node gets "
            "everything from the others"
        )
        return 1 if problems else 0
    config = repairs.config_beside(data_dir, options.config)
    others = [member.client for member in config.others]
    password = os.environ.get(PASSWORD_VARIABLE, config.client.requirepass)
    repairs.repair(data_dir, config, Asked(options.connect or others, password), _say)
    return 0
