"""What a command is: a row of the table, and the four ways in which a command is carried out.

    kind      handler(connection, arguments) ->                       when
    LOCAL     reply bytes                                             at once, in its turn
    READ      reply bytes, from service.machine                       once a read was granted
    WRITE     a Plan (it has put its writes into the batch)           the batch is applied
              or reply bytes (a mistake was found: nothing is in the batch)
    CONTROL   a Control (what to start)                               it has come about
              or reply bytes

Arguments are the whole request, the name first; their number has been checked against the arity.
A handler does not wait and does not raise for anything that a client can send.

    arity > 0: exactly so many arguments, the name counted; < 0: at least -arity of them.
    keys = (first, last, step): where keys stand; last < 0 counts from the end; (0, 0, 0): none.
    numkeys = where it says how many keys follow it, `step` words apart; 0: it does not.

Invariants: one Command for each name; a subcommand is named "client|setname" and belongs to
the command before the bar, which has no handler of its own.

Proved by: tests/node/test_commands.py
"""

from __future__ import annotations

import binascii
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from node.backend import Waiter
from node.connection import Connection
from node.replies import error_line
from node.resp import Request

__all__ = [
    "NOT_AN_INTEGER",
    "SLOTS_COUNT",
    "SYNTAX_ERROR",
    "Command",
    "Control",
    "Handler",
    "Kind",
    "Plan",
    "first_key",
    "key_slot",
    "keys_of",
    "parse_integer",
]

SLOTS_COUNT: Final = 16384

SYNTAX_ERROR: Final = error_line("ERR syntax error")
NOT_AN_INTEGER: Final = error_line("ERR value is not an integer or out of range")


class Kind(enum.Enum):
    """How a command is carried out."""

    LOCAL = "local"
    READ = "read"
    WRITE = "write"
    CONTROL = "control"


Plan = Callable[[Any, int], bytes]
"""(result of the command's first slot, protocol version) -> reply. Refusals never get here."""


@dataclass(frozen=True, slots=True)
class Control:
    """Something that takes its time and is not a write."""

    start: Callable[[Waiter], None]
    reply: Plan
    key: bytes | None = None
    """Which says where it belongs, should it have to go elsewhere (MOVED)."""


Handler = Callable[[Connection, Request], "bytes | Plan | Control"]


@dataclass(frozen=True, slots=True, eq=False)
class Command:
    """One row."""

    name: str
    """In lower case, as Redis shows it."""
    arity: int
    kind: Kind
    flags: tuple[str, ...]
    keys: tuple[int, int, int]
    since: str
    group: str
    summary: str
    syntax: str
    """What stands behind the name, as the documentation of Redis shows it."""
    numkeys: int
    numkeys_step: int
    handler: Handler | None
    """None: a command that is only its subcommands."""
    subcommands: Mapping[bytes, Command] = field(default_factory=dict)
    """By the name behind the bar, in lower case."""

    @property
    def needs_no_auth(self) -> bool:
        """Whether it is answered before AUTH."""
        return "no_auth" in self.flags

    def accepts(self, count: int) -> bool:
        """Whether so many arguments, the name counted, may be given."""
        return count == self.arity if self.arity >= 0 else count >= -self.arity

    @property
    def wrong_number(self) -> bytes:
        """The reply where `accepts` says no."""
        return error_line(f"ERR wrong number of arguments for '{self.name}' command")


def keys_of(command: Command, request: Request) -> list[bytes]:
    """The keys that a request names."""
    first, last, step = command.keys
    if command.numkeys:
        count = parse_integer(request[command.numkeys]) or 0
        first, step = command.numkeys + 1, command.numkeys_step
        return request[first : first + max(0, count) * step : step]
    if first == 0:
        return []
    end = len(request) + last if last < 0 else last
    return request[first : end + 1 : step]


def first_key(command: Command, request: Request) -> bytes | None:
    """The key that says where a request belongs."""
    first = command.numkeys + 1 if command.numkeys else command.keys[0]
    return request[first] if 0 < first < len(request) else None


def key_slot(key: bytes) -> int:
    """Redis Cluster's hash slot: CRC16 (XMODEM) of the key, or of what is in its first {}."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS_COUNT


def parse_integer(text: bytes) -> int | None:
    """A 64-bit number as Redis reads it: no blanks, no plus, no leading zeros. None: it is none."""
    if len(text) > 20:  # NB: int() of a long text takes time that grows with its square.
        return None
    try:
        number = int(text)
    except ValueError:
        return None
    if b"%d" % number != text or not -(2**63) <= number < 2**63:
        return None
    return number
