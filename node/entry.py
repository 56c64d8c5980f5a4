"""Entries: what PySyncObj calls a command, and what disk and wire carry instead.

PySyncObj keeps a log of tuples `(command, index, term)` and unpickles each regular
command when it applies it. Nothing pickled may cross a wire or reach a disk (P11), so
only the payload travels, with a kind, and the command is rebuilt here, locally:

    kind    payload           command in PySyncObj's log
    NOOP    empty             01
    CONFIG  a roster's bytes  01 | roster      (node.roster; never empty)
    BATCH   a batch's bytes   00 | 80 03 4B 00 42 <length u32 LE> <batch> 85 86 2E

The bytes after the 00 are the pickle of `(0, (batch,))`: method 0, the replicated
`apply`, with one bytes argument. The frame is fixed, so what PySyncObj unpickles is
never anything but a tuple of an int and bytes, whatever a peer sends.

    PROTO 3 | BININT1 0 | BINBYTES n batch | TUPLE1 | TUPLE2 | STOP

A membership entry is a no-op to PySyncObj, which looks at the first byte only: its own kind
of membership command (02) is unpickled wherever it is met. What it means, node.membership knows.

Invariant: `unwrap(wrap(batch)) == (BATCH, batch)`; any command that is none of the forms is
refused (P3: VERSION entries shift indexes), so it can be neither logged nor sent.

Proved by: tests/node/test_entry.py
"""

from __future__ import annotations

from typing import Final

from statemachine.errors import Fatal
from statemachine.frame import KIND_BATCH, KIND_CONFIG, KIND_NOOP

__all__ = [
    "COMMAND_OVERHEAD_BYTES",
    "KIND_BATCH",
    "KIND_CONFIG",
    "KIND_NOOP",
    "NOOP_COMMAND",
    "Entry",
    "config_payload",
    "unwrap",
    "wrap",
]

Entry = tuple[bytes, int, int]
"""(command, index, term), as PySyncObj's log holds it."""

NOOP_COMMAND: Final = b"\x01"
_HEAD: Final = b"\x00\x80\x03K\x00B"
_TAIL: Final = b"\x85\x86."
_BATCH_AT: Final = len(_HEAD) + 4
COMMAND_OVERHEAD_BYTES: Final = _BATCH_AT + len(_TAIL)


def wrap(kind: int, payload: bytes) -> bytes:
    """The command that PySyncObj logs for an entry.

    Raises:
        Fatal: `kind` is none that a log may hold.
    """
    if kind == KIND_BATCH:
        return b"".join((_HEAD, len(payload).to_bytes(4, "little"), payload, _TAIL))
    if kind == KIND_NOOP:
        return NOOP_COMMAND
    if kind == KIND_CONFIG and payload:
        return NOOP_COMMAND + payload
    raise Fatal(f"an entry of kind {kind} cannot be logged")


def unwrap(command: bytes) -> tuple[int, bytes]:
    """The kind and payload of a command.

    Raises:
        Fatal: the command is none of the forms above.
    """
    if command == NOOP_COMMAND:
        return KIND_NOOP, b""
    if command.startswith(NOOP_COMMAND):
        return KIND_CONFIG, command[1:]
    if (
        command.startswith(_HEAD)
        and command.endswith(_TAIL)
        and int.from_bytes(command[len(_HEAD) : _BATCH_AT], "little")
        == len(command) - COMMAND_OVERHEAD_BYTES
    ):
        return KIND_BATCH, command[_BATCH_AT : -len(_TAIL)]
    raise Fatal(f"a command that starts with {command[:8].hex()} cannot be logged")


def config_payload(command: bytes) -> bytes | None:
    """The roster's bytes, when the command is a membership entry."""
    return command[1:] if len(command) > 1 and command.startswith(NOOP_COMMAND) else None
