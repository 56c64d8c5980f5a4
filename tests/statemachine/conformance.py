"""Words that both halves of the conformance suite use: entries in the seed's own payloads.

One entry is one WriteCommand; indexes go on from the machine's last applied. `now_ms` is the time
on the entries: the seed asks the clock, here time comes in with what is applied.
"""

from __future__ import annotations

from statemachine import Entry, Outcome, WriteCommand
from tests.statemachine.batches import batch_of, insert
from tests.statemachine.homes import Machine

__all__ = ["chunk", "found", "pairs", "run", "wait_until"]


def chunk(first: int, *commands: WriteCommand, term: int = 1, now_ms: int = 0) -> list[Entry]:
    return [
        Entry.command(index, term, command.SerializeToString(), now_ms)
        for index, command in enumerate(commands, first)
    ]


def run(machine: Machine, *commands: WriteCommand, now_ms: int = 0) -> list[Outcome]:
    """Apply them as the next entries, in one chunk."""
    first = machine.last_applied.index + 1
    return machine.apply_chunk(chunk(first, *commands, now_ms=now_ms))


def wait_until(machine: Machine, now_ms: int) -> None:
    """Time passes: a batch without commands, as a leader proposes when something is due."""
    machine.apply_chunk([Entry.batch(machine.last_applied.index + 1, 1, batch_of(now_ms=now_ms))])


def pairs(*names: bytes) -> list[WriteCommand]:
    return [insert(b"key" + name, b"value" + name) for name in names]


def found(machine: Machine, prefix: bytes = b"") -> list[bytes]:
    return [key for key, _ in machine.scan_prefix(prefix).items]
