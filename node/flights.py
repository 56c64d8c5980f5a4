r"""Runs in flight: requests of one kind that are carried out together, one run at a time.

    _begin_puts, _begin_writes  --submit--> backend --resolve--> a reply for each
    _begin_reads                --read----> backend --ready----> _answer_reads, from the machine
    _begin_control              --start---> backend --resolve or ready--> its reply
                                            backend --fail-----> an error for each

The middle one of a session's three storeys: node.session decides what comes next, node.sending
sends what is said.

Reads behind a write run need no round of their own once it is applied. Proof: they were
received before the run was submitted (`_covered` is the end of the queue at that moment). A write
that anybody was told of before that is committed, so whoever appends our batch, however often
it is sent again, appends it behind that write, or it never commits. Our batch is applied on this
node when it resolves; so this node's state holds that write. If the run fails, nothing is covered.

Invariants: one run is in flight at a time, and its requests stand at [_flight_start, _at) of the
queue; each of them gets exactly one reply; a Fatal is answered by nobody.

Does not do: look at requests that are not begun, or at sockets.

Proved by: tests/node/test_session.py, tests/node/test_session_order.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final

from node.commands import COMMANDS, Command, Control, Kind, find
from node.commands.spec import keys_of
from node.commands.strings import ok_plan
from node.connection import MODE, Connection
from node.errors import Fatal
from node.replies import OK
from node.resp import Request
from node.runs import (
    RUN_COMMANDS_MAX,
    Step,
    failure_reply,
    fitting,
    is_gets,
    plan_writes,
    put_columns,
    value_replies,
    write_replies,
)
from node.sending import REPLY_BYTES_MAX, Sending

__all__ = ["NOTHING", "PAUSED", "Flights"]

_READ_SLICE_COMMANDS: Final = 64

_KEY: Final = itemgetter(1)
_SET: Final = COMMANDS[b"set"]

# What a session waits for. Plain numbers: these are looked at several times for each request, and
# Python 3.11 takes 0.1 us to find a member of an Enum.
NOTHING: Final = 0
_PUTS: Final = 1
_WRITES: Final = 2
_READS: Final = 3
_CONTROL: Final = 4
PAUSED: Final = 5  # CLIENT PAUSE holds the next request up.

_READ_KIND: Final = Kind.READ


class Flights(Sending):
    """What one client has asked for and is being carried out. It is a node.backend.Waiter."""

    def __init__(self, connection: Connection, write: Callable[[bytes], None]) -> None:
        super().__init__(connection, write)
        self._queue: list[Request] = []
        self._queue_bytes = 0  # At least what the queue holds; 0 again when it is empty.
        self._at = 0  # The first request of the queue that is not begun.
        self._covered = 0  # Reads before this place need no round.
        self._flight = NOTHING
        self._flight_start = 0  # The flight's requests stand at [start, self._at).
        self._flight_covers = 0
        self._begun_s = 0.0  # When the last run was begun, for the meter.
        self._steps: list[Step] = []
        self._control: Control | None = None

    def _pump(self) -> None:
        """Go on with what comes next. The session's."""
        raise NotImplementedError

    # From the backend.

    def resolve(self, results: Sequence[Any], start: int, stop: int) -> None:
        """The run of writes is applied, or the order carried out."""
        flight = self._flight
        self._flight = NOTHING
        if self._is_closed:
            return
        self._covered = self._flight_covers
        count = stop - start
        if flight == _PUTS:
            self._frontend.commands_total += count
            self._frontend.meter.note("set", count, self._begun_s)
            if results[start:stop].count(True) == count:
                self._replies.append(OK * count)
            else:  # No plain put is refused by the rules; a batch as a whole may be.
                steps: list[Step] = [(ok_plan, slot, _SET) for slot in range(start, stop)]
                self._replies += write_replies(steps, results, self.connection.protocol)
        elif flight == _WRITES:
            self._resolve_steps(results)
        else:
            assert self._control is not None
            self._frontend.commands_total += 1
            self._note_alone()
            self._reply(self._control.reply(results[start], self.connection.protocol))
        self._pump()

    def ready(self) -> None:
        """The run of reads may be read."""
        flight, self._flight = self._flight, NOTHING
        if self._is_closed:
            return
        if flight == _CONTROL:  # One that is a read as a whole.
            assert self._control is not None
            self._note_alone()
            self._reply(self._control.reply(None, self.connection.protocol))
            self._pump()
            return
        self._covered = max(self._covered, self._at)
        self._at = self._flight_start
        self._pump()

    def fail(self, error: Exception) -> None:
        """What is in flight did not come about; or, with a Fatal, nobody can say."""
        if isinstance(error, Fatal):
            return  # No answer, then or later: an error would say "not done". The process ends.
        flight = self._flight
        self._flight = NOTHING
        if self._is_closed:
            return
        requests = self._queue[self._flight_start : self._at]
        if flight == _CONTROL:
            assert self._control is not None
            self._reply(failure_reply(error, requests[0], self._control.key))
            self._pump()
            return
        steps: Sequence[Step | None] = self._steps if flight == _WRITES else ()
        steps = steps or [None] * len(requests)
        for request, step in zip(requests, steps, strict=True):
            self._reply(step if isinstance(step, bytes) else failure_reply(error, request))
        self._steps = []
        self._pump()

    # Alone.

    def _run_alone(self, command: Command, request: Request) -> None:
        """A local or a control command."""
        assert command.handler is not None
        connection = self.connection
        connection.last_command = command.name
        self._begun_s = self._frontend.meter.now()
        outcome = command.handler(connection, request)
        if command.name == "client|reply" and not connection.mode & MODE.SKIPPING:
            self._mute(on=connection.is_muted)
        if isinstance(outcome, Control):
            self._flight, self._flight_covers = _CONTROL, self._covered
            self._flight_start = self._at
            self._at += 1
            self._control = outcome
            outcome.start(self)
        else:
            assert isinstance(outcome, bytes)
            self._frontend.meter.note(command.name, 1, self._begun_s)
            self._answer(outcome)

    def _note_alone(self) -> None:
        command = find(self._queue[self._flight_start])
        if not isinstance(command, bytes):
            self._frontend.meter.note(command.name, 1, self._begun_s)

    def _answer(self, reply: bytes) -> None:
        self._at += 1
        self._frontend.commands_total += 1
        self._reply(reply)

    # Writes.

    def _begin_puts(self) -> bool:
        """A run of SETs without options, as columns. False: what comes next is none."""
        if self.connection.mode & MODE.SKIPPING:
            return False
        requests = self._queue[self._at :] if self._at else self._queue
        columns = put_columns(requests, self._queue_bytes, self._frontend)
        if columns is None:
            return False
        batch = self._backend.batch
        start = batch.width
        batch.put_many(*columns)
        self._begin(_PUTS, len(requests))
        self._backend.submit(self, start, start + len(requests))
        return True

    def _begin_writes(self) -> None:
        """A run of any writes."""
        batch = self._backend.batch
        start = batch.width
        is_alone = self.connection.mode & MODE.SKIPPING
        queue = self._queue[: self._at + 1] if is_alone else self._queue
        self._steps = plan_writes(self.connection, batch, queue, self._at)
        self._begin(_WRITES, len(self._steps))
        if batch.width > start:
            self._backend.submit(self, start, batch.width)
        else:  # Mistakes only.
            self._flight = NOTHING
            self._resolve_steps(())

    def _begin(self, flight: int, count: int) -> None:
        self._flight = flight
        self._begun_s = self._frontend.meter.now()
        self._flight_start = self._at
        self._flight_covers = len(self._queue)
        self._at += count
        if flight != _READS and self.connection.tracking is not None:
            self.connection.tracking.caching = None  # It spoke of this command.

    def _resolve_steps(self, results: Sequence[Any]) -> None:
        """The replies of a run of writes."""
        steps, self._steps = self._steps, []
        self._frontend.commands_total += len(steps)
        names = [step[2].name for step in steps if not isinstance(step, bytes)]
        self._frontend.meter.note_each(names, self._begun_s)
        for reply in write_replies(steps, results, self.connection.protocol):
            self._reply(reply)
            if self._is_closed:  # Its replies had no room.
                return

    # Reads.

    def _begin_reads(self) -> None:
        """Ask for a read of the longest run of reads."""
        queue = self._queue
        is_alone = self.connection.mode & MODE.SKIPPING
        stop = min(len(queue), self._at + (1 if is_alone else RUN_COMMANDS_MAX))
        if stop - self._at > 1 and not is_gets(queue[self._at : stop]):
            for at in range(self._at + 1, stop):
                command = find(queue[at])
                if isinstance(command, bytes) or command.kind is not _READ_KIND:
                    stop = at
                    break
        count = stop - self._at
        self._begin(_READS, count)
        self._backend.read(self.connection.level, self)

    def _answer_reads(self) -> None:
        """Read from the machine, up to _covered, while they are reads and there is room."""
        queue = self._queue
        while self._at < self._covered and not self._is_writing_paused and not self._is_closed:
            stop = min(self._covered, self._at + _READ_SLICE_COMMANDS)
            is_alone = self.connection.mode & MODE.SKIPPING
            if is_alone:
                stop = self._at + 1
            requests = queue[self._at : stop]
            tracking = self.connection.tracking
            if len(requests) > 1 and tracking is None and is_gets(requests):
                values = self._backend.machine.get_many(list(map(_KEY, requests)))
                values = fitting(values, REPLY_BYTES_MAX)
                self._at += len(values)
                self._frontend.commands_total += len(values)
                self._frontend.meter.note("get", len(values), self._begun_s)
                self._reply(value_replies(values, self.connection.protocol))
                continue
            if not self._answer_each(requests) or is_alone:
                return

    def _answer_each(self, requests: Sequence[Request]) -> bool:
        """Read for one after the other; whether it may go on."""
        names: list[str] = []
        try:
            for request in requests:
                command = find(request)
                if isinstance(command, bytes) or command.kind is not _READ_KIND:
                    return False
                assert command.handler is not None
                reply = command.handler(self.connection, request)
                assert isinstance(reply, bytes)
                names.append(command.name)
                if self.connection.tracking is not None:
                    self._frontend.tracker.note(self.connection, keys_of(command, request))
                self._answer(reply)
                # TRI.WATCH changes the mode: the pump asks about what follows it.
                if self._is_writing_paused or self.connection.mode:
                    return False
        finally:
            self._frontend.meter.note_each(names, self._begun_s)
        return True
