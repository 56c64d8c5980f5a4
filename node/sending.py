"""What a client is told: replies gathered and handed to the socket, pushes, silence.

    _reply --> replies --_flush--> _write --> the socket          CLIENT REPLY OFF, SKIP: nowhere
    push ------------ behind the replies that are ready --------> the socket, in any case

The lower of a session's three storeys (node.flights, node.session). Bytes out, no requests.

Invariants: replies leave in the order in which they were made; what is not wanted is thrown away as
it would be sent; a client that does not read is made REPLY_BYTES_MAX and one reply more.

Does not do: decide what the replies are.

Proved by: tests/node/test_session.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from node.connection import Connection

__all__ = ["REPLY_BYTES_MAX", "Sending"]

REPLY_BYTES_MAX: Final = 1024 * 1024
"""Replies are handed to the socket when this much is ready, so that it can say stop."""


def _throw_away(_data: bytes) -> None:
    """CLIENT REPLY OFF and SKIP."""


class Sending:
    """The sending half of one client's session.

    Args:
        write: takes reply bytes. It may call pause_writing.
    """

    def __init__(self, connection: Connection, write: Callable[[bytes], None]) -> None:
        self.connection = connection
        self._frontend = connection.frontend
        self._backend = connection.backend
        self._write = self._send = write  # The former throws away what is not wanted.
        self._replies: list[bytes] = []
        self._reply_bytes = 0
        self._is_closed = False
        self._is_writing_paused = False
        connection.push = self.push

    def push(self, data: bytes) -> None:
        """Bytes that answer no request, behind the replies that are ready."""
        if not self._is_closed and not self.connection.is_closing:
            self._flush()
            self._send(data)

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

    def _mute(self, *, on: bool) -> None:
        """From here on replies are thrown away, or sent again."""
        self._flush()  # What was answered before goes the old way.
        self._write = _throw_away if on else self._send
