"""A worker: the process that holds clients' sockets for a node. Knows no commands.

    python -m node.front.process '{"channel": 5, "listening": [6], "tls_certificate": ""}'

    accept -> OPEN     client's bytes -> DATA     its end -> END, LOST     a turn's in one write
    DATA, END, CLOSE, ABORT, PAUSE, RESUME from the node -> the socket      DEAF: stop accepting

It stops reading from clients while the node does not take what they said. How much may wait for a
client that does not read is for the node to judge, which hears by ACK what was sent.

It ends when the node closes the channel, or dies.

Proved by: tests/node/test_front.py
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import socket
import sys
from typing import Any, cast

from node.config import ClientSection
from node.front.channel import Channel
from node.front.frames import KIND, frame
from node.front.stream import ACK_BYTES, WORKER_HIGH_BYTES
from node.orphan import die_with_supervisor
from node.server import BACKLOG, tls_context

__all__ = ["main"]


class _Channel(Channel):
    """The worker's end of the pair."""

    def __init__(self) -> None:
        super().__init__()
        self.clients: dict[int, _Client] = {}
        self.listeners: list[asyncio.Server] = []
        self.ended = asyncio.get_running_loop().create_future()
        self.is_full = False
        self._last = 0

    def number(self) -> int:
        """Of the next client."""
        self._last += 1
        return self._last

    def data_received(self, data: bytes) -> None:
        clients = self.clients
        for kind, number, payload in self._frames.feed(data):
            client = clients.get(number)
            if client is not None:
                client.told(kind, payload)
            elif kind == KIND.DEAF:
                for each in self.listeners:
                    each.close()

    def pause_writing(self) -> None:
        self.is_full = True
        for each in list(self.clients.values()):
            each.judge_reading()

    def resume_writing(self) -> None:
        self.is_full = False
        for each in list(self.clients.values()):
            each.judge_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class _Client(asyncio.Protocol):
    """One client's socket."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._number = channel.number()
        self._stream: Any = None
        self._unacked_bytes = 0
        self._is_paused = False
        self._is_reading = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._stream = stream = cast(asyncio.Transport, transport)
        plain = stream.get_extra_info("socket")
        if plain is not None and plain.family in (socket.AF_INET, socket.AF_INET6):
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.set_write_buffer_limits(high=WORKER_HIGH_BYTES)
        names = {name: stream.get_extra_info(name) for name in ("peername", "sockname")}
        self._channel.clients[self._number] = self
        self._say(KIND.OPEN, json.dumps(names).encode())
        self.judge_reading()

    def data_received(self, data: bytes) -> None:
        self._say(KIND.DATA, data)

    def eof_received(self) -> bool:
        self._say(KIND.END)
        return True  # The node says when: it may still owe an answer.

    def resume_writing(self) -> None:
        self._ack()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._channel.clients.pop(self._number, None) is not None:
            self._say(KIND.LOST)

    def told(self, kind: int, payload: bytes) -> None:
        """By the node."""
        stream = self._stream
        if kind == KIND.DATA:
            stream.write(payload)
            self._unacked_bytes += len(payload)
            if self._unacked_bytes >= ACK_BYTES:
                self._ack()
        elif kind == KIND.END:
            stream.write_eof()
        elif kind == KIND.CLOSE:
            stream.close()
        elif kind == KIND.ABORT:
            del self._channel.clients[self._number]
            stream.abort()
        else:
            self._is_paused = kind == KIND.PAUSE
            self.judge_reading()

    def judge_reading(self) -> None:
        """Read unless the node wants none of this client, or takes nothing at all."""
        wanted = not self._is_paused and not self._channel.is_full
        if wanted != self._is_reading and not self._stream.is_closing():
            self._is_reading = wanted
            (self._stream.resume_reading if wanted else self._stream.pause_reading)()

    def _ack(self) -> None:
        """Say what has left; what waits is said later."""
        sent = self._unacked_bytes - self._stream.get_write_buffer_size()
        if sent > 0:
            self._unacked_bytes -= sent
            self._say(KIND.ACK, sent.to_bytes(8, "little"))

    def _say(self, kind: int, payload: bytes = b"") -> None:
        self._channel.send(frame(kind, self._number, payload))


async def _run(told: dict[str, Any]) -> None:
    """Serve until the channel ends."""
    loop = asyncio.get_running_loop()
    tls = {name: told[name] for name in ("tls_certificate", "tls_key", "tls_client_ca")}
    context = tls_context(ClientSection(**tls))
    channel = _Channel()
    pair = socket.socket(fileno=told["channel"])
    pair.setblocking(False)
    await loop.create_unix_connection(lambda: channel, sock=pair)
    for number in told["listening"]:
        listening = socket.socket(fileno=number)
        channel.listeners.append(
            await loop.create_server(
                lambda: _Client(channel), sock=listening, ssl=context, backlog=BACKLOG
            )
        )
    gc.collect()
    gc.freeze()
    await channel.ended


def main() -> None:
    """Until the node has no more use for it."""
    die_with_supervisor()
    # Ctrl-C in a terminal is for the node, which ends its workers when it has drained them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        import uvloop
    except ImportError:
        asyncio.run(_run(json.loads(sys.argv[1])))
    else:
        uvloop.run(_run(json.loads(sys.argv[1])))


if __name__ == "__main__":
    main()
