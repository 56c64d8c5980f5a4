"""Commands: one table (table.py), what a row is (spec.py), and the handlers by subject.

    strings  keys        the data                     client   the connection
    server  introspect   this node, the table         cluster  trimaran

`find` is the way in: request -> its Command, or the reply that says why there is none.

    dispatch: the spelling as it came, in a dict (GET, get: one lookup); else in lower case

Invariants: `find` returns a Command only if its handler may be called with these arguments. Its
errors are Redis's, to the word.

Proved by: tests/node/test_commands.py
"""

from __future__ import annotations

from typing import Final

from node.commands.spec import Command, Control, Kind, Plan, first_key, key_slot
from node.commands.table import COMMANDS
from node.replies import error_line
from node.resp import Request

__all__ = ["COMMANDS", "Command", "Control", "Kind", "Plan", "find", "first_key", "key_slot"]

_SHOWN_BYTES_MAX: Final = 128

# The usual spellings. Others (Get) take one more step.
_SPELLINGS: Final = COMMANDS | {name.upper(): command for name, command in COMMANDS.items()}


def find(request: Request) -> Command | bytes:
    """The command that a request asks for, or the error reply."""
    name = request[0]
    command = _SPELLINGS.get(name) or COMMANDS.get(name.lower())
    if command is None:
        return _unknown(request)
    if command.subcommands and len(request) > 1:
        subcommand = command.subcommands.get(request[1].lower())
        if subcommand is None:
            shown = request[1][:_SHOWN_BYTES_MAX]
            outer = command.name.upper().encode()
            return error_line(b"ERR unknown subcommand '%b'. Try %b HELP." % (shown, outer))
        command = subcommand
    count = len(request)
    arity = command.arity
    if count == arity or (arity < 0 and count >= -arity):
        return command
    return command.wrong_number


def _unknown(request: Request) -> bytes:
    """The name and the first of the arguments, 128 bytes of each, a NUL ending them as in C."""
    shown = b""
    for argument in request[1:]:
        if len(shown) >= _SHOWN_BYTES_MAX:
            break
        text = argument[: _SHOWN_BYTES_MAX - len(shown)].partition(b"\0")[0]
        shown += b"'%b' " % text
    name = request[0][:_SHOWN_BYTES_MAX].partition(b"\0")[0]
    return error_line(b"ERR unknown command '%b', with args beginning with: %b" % (name, shown))
