r"""One client's requests, carried out in order. No sockets: bytes in, bytes out.

    receive(data) -> parser -> queue -> pump -> replies -> write(bytes)
                                         |  ^
                       submit, read, ... v  | resolve, ready, fail
                                       backend

    Session   what comes next: bytes into requests, the pump, when to stop reading     here
    Flights   how a run of them is carried out                                         node.flights
    Sending   what is said, and whether it is sent                                     node.sending

The pump takes from the queue the longest run of requests of one kind (node.runs), and one run
is in flight at a time:
    writes    all into the batch of this loop turn, one submit; one reply block when it resolves
    reads     one read(level); on ready() all are read at once
    local     answered in their turn
    control   one at a time
While a run is in flight the queue grows; past QUEUE_COMMANDS_MAX or QUEUE_BYTES_MAX reading stops.
So a pipeline keeps its order with no future, lock or task for an operation.

Reads behind a write run need no round of their own once it is applied (proof in node.flights).

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

from collections.abc import Callable
from typing import Final

from node.commands import Command, Kind, find
from node.connection import MODE, Connection
from node.flights import NOTHING, PAUSED, Flights
from node.modes import intercept
from node.replies import error_line
from node.resp import OversizedRequest, RequestParser
from node.runs import oversized_reply
from node.sending import REPLY_BYTES_MAX

__all__ = ["QUEUE_BYTES_MAX", "QUEUE_COMMANDS_MAX", "REPLY_BYTES_MAX", "Session"]

QUEUE_COMMANDS_MAX: Final = 8_192
QUEUE_BYTES_MAX: Final = 1024 * 1024

_HTTP: Final = frozenset({b"post", b"host:"})
"""First words of lines that a browser sends, which any web page can make it do to a loopback
port. Redis closes on them, before the body, which could hold commands; so does this."""

_NOAUTH: Final = b"-NOAUTH Authentication required.\r\n"

_READ_KIND: Final = Kind.READ
_WRITE_KIND: Final = Kind.WRITE


class Session(Flights):
    """One client. All calls from the loop's thread.

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
        super().__init__(connection, write)
        self._close = close
        self._pause_reading = pause_reading
        self._resume_reading = resume_reading
        self._parser = RequestParser(
            self._frontend.entry_bytes_max, authenticated=connection.is_authenticated
        )
        self._is_pumping = False
        self._is_reading_paused = False
        self._is_input_over = False
        self._skipped_at = 0  # Where the command stood whose reply is not wanted.
        connection.kill = self.kill

    # From the socket.

    def receive(self, data: bytes) -> None:
        """Bytes from the client, cut anywhere."""
        if self._is_closed or self.connection.is_closing:
            return
        self.connection.idle_s = 0
        data_bytes = self._parser.held_bytes + len(data)
        found = self._parser.feed(data)
        if self._flight == NOTHING and self._at == len(self._queue):
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
        return self._flight != NOTHING or self._at < len(self._queue)

    def _resume(self) -> None:
        """The pause is over."""
        if self._flight == PAUSED:
            self._flight = NOTHING
            self._pump()

    # The pump.

    def _pump(self) -> None:
        """Carry out what can be carried out now, then send what there is to say."""
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while (
                self._flight == NOTHING
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
        is_idle = self._flight == NOTHING and self._at == len(self._queue)
        if self.connection.mode and self._flight == NOTHING:
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
            self._parser.authenticated = self.connection.is_authenticated

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

    def _hold(self, command: Command | bytes) -> bool:
        """Whether the pause holds the request up. Commands about clients go through."""
        if isinstance(command, bytes) or command.name.startswith("client|"):
            return False
        writes = command.kind is _WRITE_KIND or command.name == "exec"
        if self._frontend.pause_writes_only and not writes:
            return False
        self._flight = PAUSED
        self._frontend.held.append(self._resume)
        return True
