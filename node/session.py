r"""One client's requests, carried out in order. No sockets: bytes in, bytes out.

    receive(data) -> parser -> queue -> pump -> replies -> write(bytes)
                                         |  ^
                       submit, read, ... v  | resolve, ready, fail
                                       backend

The pump takes from the queue the longest run of requests of one kind (node.runs), and one run
is in flight at a time:
    writes    all into the batch of this loop turn, one submit; one reply block when it resolves
    reads     one read(level); on ready() all are read at once
    local     answered in their turn
    control   one at a time
While a run is in flight the queue grows; past QUEUE_COMMANDS_MAX or QUEUE_BYTES_MAX reading stops.
So a pipeline keeps its order with no future, lock or task for an operation.

Reads behind a write run need no round of their own once it is applied. Proof: they were
received before the run was submitted (`_covered` is the end of the queue at that moment). A write
that anybody was told of before that is committed, so whoever appends our batch, however often
it is sent again, appends it behind that write, or it never commits. Our batch is applied on this
node when it resolves; so this node's state holds that write. If the run fails, nothing is covered.

Invariants:
  Replies leave in the order of the requests, each request has exactly one.
  While connection.mode is not 0 requests go one by one, and node.modes is asked about each.
  Bounded: unparsed bytes (node.resp), the queue, a run, and what is made for a client
  that does not read: REPLY_BYTES_MAX and one reply more, then nothing until it has read.
  A mistake of a client is its own: an error reply, or its connection closed.

A crash, or a client that goes: what was submitted may be applied, nobody is told.

Does not do: sockets, timeouts (node.server, node.service), rules about keys.

Proved by: tests/node/test_session.py, tests/node/test_session_order.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final

from node.commands import COMMANDS, Command, Control, Kind, find
from node.commands.strings import ok_plan
from node.connection import MODE, Connection
from node.errors import Fatal
from node.modes import intercept
from node.replies import OK, error_line
from node.resp import OversizedRequest, Request, RequestParser
from node.runs import (
    RUN_COMMANDS_MAX,
    Step,
    failure_reply,
    is_gets,
    oversized_reply,
    plan_writes,
    put_columns,
    value_replies,
    write_replies,
)

__all__ = ["QUEUE_BYTES_MAX", "QUEUE_COMMANDS_MAX", "REPLY_BYTES_MAX", "Session"]

QUEUE_COMMANDS_MAX: Final = 8_192
QUEUE_BYTES_MAX: Final = 1024 * 1024
REPLY_BYTES_MAX: Final = 1024 * 1024
"""Replies are handed to the socket when this much is ready, so that it can say stop."""
_READ_SLICE_COMMANDS: Final = 64

_KEY: Final = itemgetter(1)
_SET: Final = COMMANDS[b"set"]
_HTTP: Final = frozenset({b"post", b"host:"})
"""First words of lines that a browser sends, which any web page can make it do to a loopback
port. Redis closes on them, before the body, which could hold commands; so does this."""

_NOAUTH: Final = b"-NOAUTH Authentication required.\r\n"


# What a session waits for. Plain numbers: these are looked at several times for each request, and
# Python 3.11 takes 0.1 us to find a member of an Enum.
_NOTHING: Final = 0
_PUTS: Final = 1
_WRITES: Final = 2
_READS: Final = 3
_CONTROL: Final = 4
_PAUSED: Final = 5  # CLIENT PAUSE holds the next request up.

_READ_KIND: Final = Kind.READ
_WRITE_KIND: Final = Kind.WRITE


def _throw_away(_data: bytes) -> None:
    """CLIENT REPLY OFF and SKIP."""


class Session:
    """One client. It is a node.backend.Waiter. All calls from the loop's thread.

    Args:
        connection: from Frontend.connect; the session disconnects it.
        write: takes reply bytes. It may call pause_writing.
        close: to be closed once what was written is sent.
        pause_reading, resume_reading: called in turns, pause first.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        write: Callable[[bytes], None],
        close: Callable[[], None],
        pause_reading: Callable[[], None],
        resume_reading: Callable[[], None],
    ) -> None:
        self.connection = connection
        self._frontend = connection.frontend
        self._backend = connection.backend
        self._write = self._send = write  # The former throws away what is not wanted.
        self._close = close
        self._pause_reading = pause_reading
        self._resume_reading = resume_reading
        self._parser = RequestParser(
            self._frontend.entry_bytes_max, authenticated=connection.is_authenticated
        )
        self._queue: list[Request] = []
        self._at = 0  # The first request of the queue that is not begun.
        self._queue_bytes = 0  # At least what the queue holds; 0 again when it is empty.
        self._covered = 0  # Reads before this place need no round.
        self._replies: list[bytes] = []
        self._reply_bytes = 0
        self._flight = _NOTHING
        self._flight_start = 0  # The flight's requests stand at [start, self._at).
        self._flight_covers = 0
        self._begun_s = 0.0  # When the last run was begun, for the meter.
        self._steps: list[Step] = []
        self._control: Control | None = None
        self._is_pumping = False
        self._is_reading_paused = False
        self._is_writing_paused = False
        self._is_input_over = False
        self._is_closed = False
        self._skipped_at = 0  # Where the command stood whose reply is not wanted.
        connection.push = self.push
        connection.kill = self.kill

    # From the socket.

    def receive(self, data: bytes) -> None:
        """Bytes from the client, cut anywhere."""
        if self._is_closed or self.connection.is_closing:
            return
        self.connection.idle_s = 0
        data_bytes = self._parser.held_bytes + len(data)
        found = self._parser.feed(data)
        if self._flight == _NOTHING and self._at == len(self._queue):
            self._queue = found
            self._at = self._covered = 0
            self._queue_bytes = data_bytes
        else:
            self._queue += found
            self._queue_bytes += data_bytes
        self._pump()

    def end_of_input(self) -> None:
        """The client will send no more; it is still told what it asked for."""
        self._is_input_over = True
        self._pump()

    def pause_writing(self) -> None:
        """The client does not read: make no more replies."""
        self._is_writing_paused = self.connection.is_full = True

    def resume_writing(self) -> None:
        """It has read."""
        self._is_writing_paused = self.connection.is_full = False
        self._pump()

    def lost(self) -> None:
        """The client has gone. Answers that are still to come are dropped."""
        self._is_closed = True
        self._queue = []
        self._at = 0
        self._frontend.disconnect(self.connection)

    # From others.

    def push(self, data: bytes) -> None:
        """Bytes that answer no request, behind the replies that are ready."""
        if not self._is_closed and not self.connection.is_closing:
            self._flush()
            self._send(data)

    def kill(self) -> None:
        """Close it: what was answered is sent, what is in flight is not answered any more."""
        if not self._is_closed:
            self.connection.is_closing = True
            self._flush()
            self.lost()
            self._close()

    @property
    def is_busy(self) -> bool:
        """Whether the client waits for something."""
        return self._flight != _NOTHING or self._at < len(self._queue)

    def _resume(self) -> None:
        """The pause is over."""
        if self._flight == _PAUSED:
            self._flight = _NOTHING
            self._pump()

    # From the backend.

    def resolve(self, results: Sequence[Any], start: int, stop: int) -> None:
        """The run of writes is applied, or the order carried out."""
        flight = self._flight
        self._flight = _NOTHING
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
        flight, self._flight = self._flight, _NOTHING
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
        self._flight = _NOTHING
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

    # The pump.

    def _pump(self) -> None:
        """Carry out what can be carried out now, then send what there is to say."""
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while (
                self._flight == _NOTHING
                and not self._is_writing_paused
                and not self.connection.is_closing
                and not self._is_closed
                and (self._at < len(self._queue) or self._refill())
            ):
                self._run_next()
        finally:
            self._is_pumping = False
        self._settle()

    def _refill(self) -> bool:
        """The queue is empty: take what the parser held back before AUTH."""
        self._queue = self._parser.feed(b"") if self._parser.has_rest else []
        self._at = self._covered = 0
        return bool(self._queue)

    def _settle(self) -> None:
        """Send; close where the end has come; stop or go on reading."""
        if self._is_closed:
            return
        is_idle = self._flight == _NOTHING and self._at == len(self._queue)
        if self.connection.mode and self._flight == _NOTHING:
            self._end_skip()
        if self._at == len(self._queue):
            self._queue_bytes = 0
        if is_idle and self._parser.error is not None and not self.connection.is_closing:
            self._reply(error_line(f"ERR {self._parser.error}"))
            self.connection.is_closing = True
        self._flush()
        if self.connection.watches_behind:  # Behind the reply that tells of them.
            self._frontend.watches.feed(self.connection)
        if self.connection.is_closing or (is_idle and self._is_input_over):
            self.connection.is_closing = True
            self._close()
            return
        is_full = (
            self._queue_bytes > QUEUE_BYTES_MAX or len(self._queue) - self._at > QUEUE_COMMANDS_MAX
        )
        if is_full != self._is_reading_paused:
            self._is_reading_paused = is_full
            (self._pause_reading if is_full else self._resume_reading)()

    def _reply(self, reply: bytes) -> None:
        """A reply that may be long, or one of many."""
        self._replies.append(reply)
        self._reply_bytes += len(reply)
        if self._reply_bytes >= REPLY_BYTES_MAX:
            self._flush()

    def _flush(self) -> None:
        if self._replies:
            data = b"".join(self._replies)
            self._replies.clear()
            self._reply_bytes = 0
            self._write(data)

    def _run_next(self) -> None:
        """The next run, or the next request."""
        if self.connection.mode:
            self._end_skip()
            self._begin_skip()
        request = self._queue[self._at]
        command = find(request)
        if self._frontend.is_paused and self._hold(command):
            return
        if isinstance(command, bytes):
            if isinstance(request, OversizedRequest):
                command = oversized_reply(self._frontend.entry_bytes_max)
            elif request[0].lower() in _HTTP:
                self.connection.is_closing = True
                return
            if self.connection.transaction is not None:
                self.connection.transaction.is_spoilt = True
            self._answer(command)
        elif not self.connection.is_authenticated and not command.needs_no_auth:
            self._answer(_NOAUTH)
        elif (
            self.connection.mode
            and (reply := intercept(self.connection, command, request)) is not None
        ):
            self._answer(reply)
        elif command.kind is _READ_KIND:
            if self._at < self._covered:
                self._answer_reads()
            else:
                self._begin_reads()
        elif command.kind is _WRITE_KIND:
            if not self._begin_puts():
                self._begin_writes()
        else:
            self._run_alone(command, request)

    def _begin_skip(self) -> None:
        """If the reply to the next command is not wanted: it is carried out alone."""
        if self.connection.mode & MODE.SKIP:
            self.connection.set_mode(MODE.SKIP, on=False)
            self.connection.set_mode(MODE.SKIPPING, on=True)
            self._mute(on=True)
            self._skipped_at = self._at

    def _end_skip(self) -> None:
        """If that command is done, and not still to be carried out."""
        if self.connection.mode & MODE.SKIPPING and self._at != self._skipped_at:
            self.connection.set_mode(MODE.SKIPPING, on=False)
            self._mute(on=self.connection.is_muted)

    def _mute(self, *, on: bool) -> None:
        """From here on replies are thrown away, or sent again."""
        self._flush()  # What was answered before goes the old way.
        self._write = _throw_away if on else self._send

    def _hold(self, command: Command | bytes) -> bool:
        """Whether the pause holds the request up. Commands about clients go through."""
        if isinstance(command, bytes) or command.name.startswith("client|"):
            return False
        writes = command.kind is _WRITE_KIND or command.name == "exec"
        if self._frontend.pause_writes_only and not writes:
            return False
        self._flight = _PAUSED
        self._frontend.held.append(self._resume)
        return True

    def _answer(self, reply: bytes) -> None:
        self._at += 1
        self._frontend.commands_total += 1
        self._reply(reply)

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
            self._parser.authenticated = connection.is_authenticated

    def _note_alone(self) -> None:
        command = find(self._queue[self._flight_start])
        if not isinstance(command, bytes):
            self._frontend.meter.note(command.name, 1, self._begun_s)

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
            self._flight = _NOTHING
            self._resolve_steps(())

    def _begin(self, flight: int, count: int) -> None:
        self._flight = flight
        self._begun_s = self._frontend.meter.now()
        self._flight_start = self._at
        self._flight_covers = len(self._queue)
        self._at += count

    def _resolve_steps(self, results: Sequence[Any]) -> None:
        """The replies of a run of writes."""
        steps, self._steps = self._steps, []
        self._frontend.commands_total += len(steps)
        for step in steps:
            if not isinstance(step, bytes):
                self._frontend.meter.note(step[2].name, 1, self._begun_s)
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
            if len(requests) > 1 and is_gets(requests):
                self._at = stop
                self._frontend.commands_total += len(requests)
                self._frontend.meter.note("get", len(requests), self._begun_s)
                values = self._backend.machine.get_many(list(map(_KEY, requests)))
                self._reply(value_replies(values, self.connection.protocol))
                continue
            for request in requests:
                command = find(request)
                if isinstance(command, bytes) or command.kind is not _READ_KIND:
                    return
                assert command.handler is not None
                reply = command.handler(self.connection, request)
                assert isinstance(reply, bytes)
                self._frontend.meter.note(command.name, 1, self._begun_s)
                self._answer(reply)
                if self._is_writing_paused:
                    return
            if is_alone:
                return
