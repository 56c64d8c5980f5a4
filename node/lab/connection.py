"""One connection to a RESP server: raw sockets, hiredis, replies in the order of the requests.

    connection = await Connection.open(server)
    futures = connection.send(pack("GET", "k"))         one for each reply that is due
    reply = await ask(server, "PING")                   on a connection of its own

Error replies are values (ReplyError). A connection that ends fails all that wait for an
answer with Lost: what was sent may have been done.

Proved by: tests/lab/test_client.py
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, cast

import hiredis
from hiredis import ReplyError

__all__ = ["CONNECT_S", "Connection", "Lost", "ReplyError", "Server", "ask", "pack"]

CONNECT_S: Final = 0.5


class Lost(Exception):
    """The connection ended before the answer came."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a node answers clients."""

    id: str
    host: str
    port: int
    password: str = ""

    @classmethod
    def parse(cls, text: str) -> Server:
        """Of "host:port"; ValueError when it is none."""
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise ValueError(f"{text!r} is not host:port")
        return cls(text, host.strip("[]"), int(port))


def pack(*words: bytes | str | int) -> bytes:
    """A request, as it travels."""
    return cast(bytes, hiredis.pack_command(words))  # type: ignore[arg-type]  # any length


class Connection(asyncio.Protocol):
    """One connection; replies are handed out in the order of the requests."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._waiting: list[asyncio.Future[Any]] = []
        self._transport: asyncio.Transport | None = None
        self.is_open = False

    @classmethod
    async def open(cls, server: Server, timeout_s: float = CONNECT_S) -> Connection:
        """Connect; OSError when that is not possible in time."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(cls, server.host, server.port)
        except TimeoutError as error:
            raise OSError(f"{server.id} accepts no connection") from error
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                if self._waiting:
                    future = self._waiting.pop(0)
                    if not future.done():
                        future.set_result(reply)
        except hiredis.ProtocolError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_exception(Lost("connection lost"))

    def send(self, request: bytes, replies: int = 1) -> list[asyncio.Future[Any]]:
        """Send it; one future for each reply that is due."""
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Any]] = [loop.create_future() for _ in range(replies)]
        for future in futures:
            future.add_done_callback(_heard)
        self._waiting += futures
        self._transport.write(request)
        return futures

    def close(self) -> None:
        """Give it up."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()


def _heard(future: asyncio.Future[Any]) -> None:
    """Nobody has to wait for an answer: whoever was interrupted does not."""
    if not future.cancelled():
        future.exception()


async def ask(server: Server, *words: bytes | str | int, timeout_s: float = 2.0) -> Any:
    """One question on a connection of its own; error replies are values.

    Raises:
        OSError: no connection, or it was lost, or no answer in time.
    """
    connection = await Connection.open(server, min(timeout_s, CONNECT_S))
    try:
        async with asyncio.timeout(timeout_s):
            if server.password:
                await connection.send(pack("AUTH", server.password))[0]
            return await connection.send(pack(*words))[0]
    except (TimeoutError, Lost) as error:
        raise OSError(f"{server.id} does not answer") from error
    finally:
        connection.close()
