"""MULTI ... EXEC: what was queued becomes one operation of the log, and one reply.

    queue     (command, request), ...                 until EXEC, within bounds
    plan      writes -> their operations \\
              reads  -> Read operations   > one Transaction in the batch, with the watches
              others -> nothing          /
    result    one result for each slot, or None: a watched key had changed
    reply     each command's own reply, in order

So the whole is one command to the log: applied at one place of it, on every replica alike,
with no other command between. A read is answered by the very handler that answers it
elsewhere, which looks at what its Read fetched instead of at the machine. Commands that are
neither (PING, TIME, CLIENT ...) are carried out when the reply is made.

A transaction without writes needs no log: it is one read, granted once, at one moment; its watches
are looked at in the same moment.

Invariants: bounded: limits.multi_commands_max, and limits.entry_bytes_max together; past either
the transaction is refused as a whole. A mistake that is found while queueing spoils all of it
(EXECABORT); one that shows when it runs is that command's own reply, and the others run.

Does not do: roll back (Redis does not either), know the connection's other modes (node.modes).

Proved by: tests/node/test_transactions.py, tests/cluster/test_stock_clients.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from node.backend import Machine
from node.commands.keys import KEYS_MAX, SCAN_KEYS_MAX, scan_place
from node.commands.spec import Command, Control, Kind, Plan, first_key, keys_of
from node.config_limits import LimitsSection
from node.connection import Connection
from node.replies import NIL_ARRAY, error_line, refusal_line
from node.resp import Request
from statemachine.commands import BatchBuilder, WriteCommand
from statemachine.store import Fetched, Refusal

__all__ = ["Seen", "Transaction", "revision_of"]


# What the reply of one command is made of: the results of all slots -> bytes.
_Step = Callable[[Any, int], bytes]


@dataclass(slots=True)
class Transaction:
    """What MULTI began."""

    queued: list[tuple[Command, Request]] = field(default_factory=list)
    bytes_count: int = 0
    is_spoilt: bool = False
    """A command was refused while queueing: EXEC will be, too."""

    def queue(self, command: Command, request: Request, limits: LimitsSection) -> bytes | None:
        """Add one. None: done; else the reply that says why not."""
        self.bytes_count += sum(map(len, request)) + 16 * len(request)
        if len(self.queued) >= limits.multi_commands_max:
            self.is_spoilt = True
            return error_line(
                f"ERR transaction of more than limits.multi_commands_max "
                f"({limits.multi_commands_max} commands)"
            )
        if self.bytes_count > limits.entry_bytes_max:
            self.is_spoilt = True
            return error_line(
                f"ERR transaction of more than limits.entry_bytes_max "
                f"({limits.entry_bytes_max} bytes)"
            )
        self.queued.append((command, request))
        return None

    def execute(self, connection: Connection, watches: dict[bytes, Seen]) -> bytes | Control:
        """What EXEC is to do, or its reply where that is known at once."""
        kinds = {command.kind for command, _ in self.queued}
        keys = (first_key(command, request) for command, request in self.queued)
        key = next((key for key in keys if key is not None), None)
        if Kind.WRITE in kinds:
            return self._write(connection, watches, key)
        if Kind.READ in kinds or watches:
            backend, level = connection.backend, connection.level
            return Control(
                lambda waiter: backend.read(level, waiter),
                lambda _result, _protocol: self._read(connection, watches),
                key,
            )
        return self._read(connection, {})

    def _read(self, connection: Connection, watches: dict[bytes, Seen]) -> bytes:
        """Answer from the machine, at this moment."""
        machine = connection.machine
        if not all(machine.is_unchanged(key, *seen) for key, seen in watches.items()):
            return NIL_ARRAY[connection.protocol]
        return _joined([_answer(connection, command, request) for command, request in self.queued])

    def _write(
        self, connection: Connection, watches: dict[bytes, Seen], key: bytes | None
    ) -> Control:
        builder = BatchBuilder()
        steps: list[_Step] = []
        connection.collector = builder
        try:
            for command, request in self.queued:
                steps.append(_step(connection, builder, command, request))
        finally:
            connection.collector = None
        operation = WriteCommand.Transaction(
            watches=[
                WriteCommand.Watch(key=key, revision=revision, seen=None if revision else index)
                for key, (revision, index) in watches.items()
            ],
            commands=builder.command_list(),
        )
        backend = connection.backend

        def start(waiter: Any) -> None:
            batch = backend.batch
            slot = batch.width
            batch.add(WriteCommand(transaction=operation))
            backend.submit(waiter, slot, slot + 1)

        def reply(results: Any, protocol: int) -> bytes:
            if isinstance(results, Refusal):
                return refusal_line(results, "exec")
            if results is None:
                return NIL_ARRAY[protocol]
            # NB: a HELLO in the middle changes the protocol for those behind it.
            return _joined([step(results, connection.protocol) for step in steps])

        return Control(start, reply, key)


Seen = tuple[int, int]
"""What WATCH saw: the key's revision, 0 if it was not there, and the index at which that was so."""


def revision_of(machine: Machine, key: bytes) -> int:
    """When the key was last changed; 0: it is not there."""
    facts = machine.facts(key)
    return 0 if facts is None else facts.modified


def _step(
    connection: Connection, builder: BatchBuilder, command: Command, request: Request
) -> _Step:
    """Put what the command needs into the transaction; how its reply is made."""
    slot = builder.width
    if command.kind is Kind.WRITE:
        assert command.handler is not None
        plan = command.handler(connection, request)
        assert not isinstance(plan, Control)
        if isinstance(plan, bytes):
            mistake = plan
            return lambda _results, _protocol: mistake
        return _write_step(plan, slot, command)
    if command.kind is Kind.READ:
        builder.add(WriteCommand(read=_read_operation(connection, command, request)))
        return lambda results, _protocol: _answer(connection, command, request, results[slot])
    return lambda _results, _protocol: _answer(connection, command, request)


def _write_step(plan: Plan, slot: int, command: Command) -> _Step:
    def step(results: Any, protocol: int) -> bytes:
        result = results[slot]
        if isinstance(result, Refusal):
            return refusal_line(result, command.name)
        return plan(result, protocol)

    return step


def _read_operation(
    connection: Connection, command: Command, request: Request
) -> WriteCommand.Read:
    """What the handler will look at."""
    read = WriteCommand.Read(keys=keys_of(command, request))
    if command.name == "keys":
        read.page_count = KEYS_MAX
    elif command.name == "randomkey":
        read.page_count = SCAN_KEYS_MAX
    elif command.name == "scan":
        after, count = scan_place(connection, request)
        read.page_after, read.page_count = after or b"", count + 1
    return read


def _answer(
    connection: Connection, command: Command, request: Request, fetched: object = None
) -> bytes:
    """Carry out a command that is no write, here and now."""
    assert command.handler is not None
    machine = connection.machine
    if isinstance(fetched, Fetched):
        # What is not there (ordered scans) is used by commands that may not be queued.
        connection.machine = cast(Machine, fetched)
    try:
        reply = command.handler(connection, request)
    finally:
        connection.machine = machine
    assert isinstance(reply, bytes), command.name
    if connection.tracking is not None and command.kind is Kind.READ:
        _note_read(connection, keys_of(command, request), is_past=isinstance(fetched, Fetched))
    return reply


def _note_read(connection: Connection, keys: list[bytes], *, is_past: bool) -> None:
    """For CLIENT TRACKING."""
    tracking = connection.tracking
    assert tracking is not None
    if not is_past:
        connection.frontend.tracker.note(connection, keys)
    elif keys and not tracking.broadcast:
        # NB: what was applied behind the transaction was told before its reply is made: too early.
        connection.frontend.tracker.tell(connection, keys)


def _joined(replies: list[bytes]) -> bytes:
    return b"*%d\r\n%b" % (len(replies), b"".join(replies))
