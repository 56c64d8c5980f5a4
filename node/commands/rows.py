"""Rows of the table of commands: short words for what they hold.

    name, arity, kind, flags, places of keys, since, group, handler, one line

Places are (first, last, step), or (numkeys, step) where the request says how many keys there are.

Proved by: tests/node/test_commands.py
"""

from __future__ import annotations

from typing import Final

from node.commands.spec import Handler, Kind

__all__ = ["Row"]

LOCAL, READ, WRITE, CONTROL = Kind.LOCAL, Kind.READ, Kind.WRITE, Kind.CONTROL

NONE: Final = (0, 0, 0)
ONE: Final = (1, 1, 1)
SECOND: Final = (2, 2, 1)
ALL: Final = (1, -1, 1)
PAIRS: Final = (1, -1, 2)

Row = tuple[str, int, Kind, str, tuple[int, ...], str, str, Handler | None, str]
