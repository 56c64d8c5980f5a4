"""A client's socket as the node sees it when a worker holds the socket: an asyncio transport.

    Session -> server's protocol -> Stream.write ... -> Channel (one for each worker) -> frames
    frames -> Channel -> Stream -> protocol.data_received, pause_writing ...

Invariants: after ABORT, or after LOST was heard, no frame carries the number any more. A client
that does not read and a worker that does not (its channel is full) both pause the protocol; it is
resumed when both read. What waits for a client is what no ACK has covered yet, less what a worker
may owe one for: so the protocol is paused in the very call that writes too much, as a socket's is,
and the limits of slow clients and subscribers hold to within ACK_BYTES. A pause ends, because
a worker whose client reads holds back less than LOW_BYTES of ACKs.

Does not do: TLS, accept: the worker's.

Proved by: tests/node/test_front.py, tests/node/test_server.py
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from node.front.frames import KIND, frame

__all__ = ["ACK_BYTES", "WORKER_HIGH_BYTES", "Stream"]

ACK_BYTES: Final = 64 * 1024
"""A worker says what it has sent once it is so much."""

HIGH_BYTES: Final = 1024 * 1024
LOW_BYTES: Final = 512 * 1024
"""Past the one a client counts as not reading, until below the other."""

WORKER_HIGH_BYTES: Final = 256 * 1024
"""What waits in a worker without being said: see the invariant."""
assert WORKER_HIGH_BYTES + ACK_BYTES < LOW_BYTES

_CLIENT, _CHANNEL = 1, 2


class Stream(asyncio.Transport):
    """One client.

    Args:
        names: peername and sockname.
        send: takes frames.
        forget: called once, when the number is dead.
    """

    def __init__(
        self,
        number: int,
        names: dict[str, Any],
        *,
        has_tls: bool,
        send: Callable[[bytes], None],
        forget: Callable[[int], None],
    ) -> None:
        super().__init__(names)
        self._number = number
        self._has_tls = has_tls
        self._send = send
        self._forget = forget
        self._protocol: asyncio.Protocol | None = None
        self._unsent_bytes = 0
        self._is_closing = False
        self._is_dead = False
        self._paused_by = 0

    def begin(self, protocol: asyncio.Protocol, *, is_channel_full: bool) -> None:
        """The client is there."""
        self._protocol = protocol
        protocol.connection_made(self)
        if is_channel_full:
            self.pause(_CHANNEL)

    # What the worker says.

    def heard(self, kind: int, payload: bytes) -> None:
        """A frame of this number. A bug in what it leads to costs this client its connection."""
        try:
            self._heard(kind, payload)
        except Exception as error:  # noqa: BLE001 - as the loop does for a socket of its own
            told = {"message": "a client's protocol failed", "exception": error, "transport": self}
            asyncio.get_running_loop().call_exception_handler(told)
            self.abort()

    def _heard(self, kind: int, payload: bytes) -> None:
        protocol = self._protocol
        assert protocol is not None
        if kind == KIND.DATA:
            protocol.data_received(payload)
        elif kind == KIND.ACK:
            self._unsent_bytes -= int.from_bytes(payload, "little")
            if self._paused_by & _CLIENT and self.get_write_buffer_size() < LOW_BYTES:
                self.resume(_CLIENT)
        elif kind == KIND.END:
            if not protocol.eof_received():
                self.close()
        elif kind == KIND.LOST:
            self.die()
        else:
            raise ValueError(f"frame of kind {kind}")

    def die(self) -> None:
        """There is no client any more."""
        if not self._is_dead:
            self._is_dead = self._is_closing = True
            self._forget(self._number)
            assert self._protocol is not None
            self._protocol.connection_lost(None)

    def channel_full(self, *, is_full: bool) -> None:
        """The worker takes no more for now, or again."""
        (self.pause if is_full else self.resume)(_CHANNEL)

    def pause(self, reason: int) -> None:
        """The protocol is told once, for the first reason."""
        before, self._paused_by = self._paused_by, self._paused_by | reason
        if not before and not self._is_dead:
            assert self._protocol is not None
            self._protocol.pause_writing()

    def resume(self, reason: int) -> None:
        """The protocol is told once, when no reason is left."""
        before, self._paused_by = self._paused_by, self._paused_by & ~reason
        if before and not self._paused_by and not self._is_dead:
            assert self._protocol is not None
            self._protocol.resume_writing()

    # What the protocol asks of a transport.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send it behind what was written before."""
        if not self._is_closing:
            self._unsent_bytes += len(data)
            self._send(frame(KIND.DATA, self._number, bytes(data)))
            if self._unsent_bytes > HIGH_BYTES:
                self.pause(_CLIENT)

    def get_write_buffer_size(self) -> int:
        """Bytes that wait for the client, as far as is known."""
        return max(self._unsent_bytes - ACK_BYTES, 0)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The worker has its own."""

    def pause_reading(self) -> None:
        """What is on its way still comes."""
        self._say(KIND.PAUSE)

    def resume_reading(self) -> None:
        """After pause_reading."""
        self._say(KIND.RESUME)

    def can_write_eof(self) -> bool:
        """TLS has no half-closed connections."""
        return not self._has_tls

    def write_eof(self) -> None:
        """Half-close behind what was written."""
        self._say(KIND.END)

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._is_closing

    def close(self) -> None:
        """Close behind what was written; the protocol hears of it when it is done."""
        if not self._is_closing:
            self._is_closing = True
            self._say(KIND.CLOSE)

    def abort(self) -> None:
        """Close now. The protocol hears of it in the next turn, as of a socket."""
        if not self._is_dead:
            self._say(KIND.ABORT)
            self._is_dead = self._is_closing = True
            self._forget(self._number)
            assert self._protocol is not None
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def _say(self, kind: int) -> None:
        if not self._is_dead:
            self._send(frame(kind, self._number))
