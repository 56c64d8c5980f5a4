"""A client of the laboratory's own: raw sockets, hiredis, and no outcome ever hidden.

    client = Client(number, servers, recorder, ...)
    operation = await client.call("write", "r0", "17", b"SET", b"r0", b"17")

Every call ends in one Operation in the recorder, with one of three outcomes:

    a reply                                  ok
    -UNKNOWN, connection lost, no answer
    within timeout_ms                        unknown   (and the connection is given up)
    any other error reply                    fail      (-CLUSTERDOWN, -LOADING, -MOVED, -BUSY,
                                                        -ERR: the server says: not applied)
    no connection could be made              fail      (nothing was sent)

Nothing is ever sent twice. A client is bound to one server and moves on to the next one when
its connection is lost, so that after a fault every client measures how soon it is served again.

Proved by: tests/lab/test_client.py
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import hiredis

from node.lab.clock import RunClock
from node.lab.history import FAIL, OK, UNKNOWN, Operation

__all__ = ["Answered", "Client", "Connection", "Lost", "Recorder", "Server", "ask", "pack"]

CONNECT_S: Final = 0.5
_RETRY_S: Final = 0.02
_AFTER_FAIL_S: Final = 0.01
_UNKNOWN_WORD: Final = "UNKNOWN"

Answered = Callable[[Any], Any]
"""Turns a reply into the result of an operation."""


class Lost(Exception):
    """The connection ended before the answer came."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a node answers clients."""

    id: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Server:
        """Of "host:port"; ValueError when it is none."""
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise ValueError(f"{text!r} is not host:port")
        return cls(text, host.strip("[]"), int(port))


@dataclass
class Recorder:
    """Where operations of all clients end up."""

    clock: RunClock
    operations: list[Operation] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: {OK: 0, FAIL: 0, UNKNOWN: 0})

    def add(self, operation: Operation) -> None:
        """It has ended, in whatever way."""
        self.operations.append(operation)
        self.counts[operation.outcome] += 1


def pack(*words: bytes | str | int) -> bytes:
    """A request, as it travels."""
    return cast(bytes, hiredis.pack_command(words))  # type: ignore[attr-defined]  # not in stubs


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
        self._waiting += futures
        self._transport.write(request)
        return futures

    def close(self) -> None:
        """Give it up."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()


async def ask(server: Server, *words: bytes | str | int, timeout_s: float = 2.0) -> Any:
    """One question on a connection of its own; error replies are values.

    Raises:
        OSError: no connection, or it was lost, or no answer in time.
    """
    connection = await Connection.open(server, min(timeout_s, CONNECT_S))
    try:
        async with asyncio.timeout(timeout_s):
            return await connection.send(pack(*words))[0]
    except (TimeoutError, Lost) as error:
        raise OSError(f"{server.id} does not answer") from error
    finally:
        connection.close()


class Client:
    """One process of the history: one operation at a time.

    Args:
        level: consistency that its connections ask for; "" leaves it to the server.
    """

    def __init__(
        self,
        number: int,
        servers: Sequence[Server],
        recorder: Recorder,
        *,
        rng: random.Random,
        timeout_ms: int,
        level: str = "",
        password: str = "",
    ) -> None:
        self.number = number
        self.rng = rng
        self.level = level
        self.planned_us = -1
        """When an open loop wanted the next operation to begin."""
        self.memory: dict[str, Any] = {}
        """What the workload keeps about this client."""
        self._servers = servers
        self._at = number % len(servers)
        self._recorder = recorder
        self._timeout_s = timeout_ms / 1000
        self._password = password
        self._connection: Connection | None = None

    @property
    def now_us(self) -> int:
        """The run's time."""
        return self._recorder.clock.now_us()

    async def call(
        self,
        op: str,
        key: str,
        value: Any,
        *words: bytes | str | int,
        decode: Answered = lambda reply: None,
    ) -> Operation:
        """One command as one operation."""
        return await self.call_all(op, key, value, [words], lambda replies: decode(replies[-1]))

    async def call_all(
        self,
        op: str,
        key: str,
        value: Any,
        commands: Sequence[Sequence[bytes | str | int]],
        decode: Answered,
    ) -> Operation:
        """Several commands, sent at once, as one operation (MULTI ... EXEC).

        The outcome is decided by the last reply: what EXEC says.
        """
        operation = Operation(
            op, self.number, self._servers[self._at].id, key, value, self.now_us, level=self.level
        )
        operation.planned_us, self.planned_us = self.planned_us, -1
        try:
            connection = await self._connected()
        except OSError as error:
            return self._end(operation, FAIL, f"not sent: {error}")
        # NB: the start is taken before anything is sent, and the end after the answer is here.
        operation.node = self._servers[self._at].id
        futures = connection.send(b"".join(pack(*words) for words in commands), len(commands))
        try:
            async with asyncio.timeout(self._timeout_s):
                replies = [await future for future in futures]
        except TimeoutError:
            self._give_up(futures)
            return self._end(operation, UNKNOWN, "no answer in time")
        except Lost as error:
            self._give_up(futures)
            return self._end(operation, UNKNOWN, str(error))
        if isinstance(replies[-1], hiredis.ReplyError):
            text = str(replies[-1])
            outcome = UNKNOWN if text.startswith(_UNKNOWN_WORD) else FAIL
            self._end(operation, outcome, text)
            await asyncio.sleep(_AFTER_FAIL_S)
            return operation
        if any(isinstance(reply, hiredis.ReplyError) for reply in replies):
            return self._end(operation, UNKNOWN, "a part of it was refused")
        try:
            operation.result = decode(replies)
        except (ValueError, TypeError) as error:
            return self._end(operation, FAIL, f"an answer of another kind: {error}")
        return self._end(operation, OK, "")

    def _end(self, operation: Operation, outcome: str, error: str) -> Operation:
        operation.outcome, operation.error = outcome, error
        operation.end_us = self.now_us
        self._recorder.add(operation)
        return operation

    async def _connected(self) -> Connection:
        if self._connection is not None and self._connection.is_open:
            return self._connection
        if self._connection is not None:
            self._move()
        problem: OSError | None = None
        for _ in self._servers:
            server = self._servers[self._at]
            try:
                connection = await Connection.open(server)
                await self._greet(connection, server)
            except OSError as error:
                problem = error
                self._move()
                continue
            self._connection = connection
            return connection
        await asyncio.sleep(_RETRY_S)
        assert problem is not None
        raise problem

    async def _greet(self, connection: Connection, server: Server) -> None:
        """Say who we are and how fresh reads are to be. OSError when that is refused."""
        requests = []
        if self._password:
            requests.append(pack("AUTH", self._password))
        if self.level:
            requests.append(pack("TRI.CONSISTENCY", self.level))
        try:
            async with asyncio.timeout(CONNECT_S):
                for future in connection.send(b"".join(requests), len(requests)):
                    reply = await future
                    if isinstance(reply, hiredis.ReplyError):
                        raise OSError(f"{server.id}: {reply}")
        except (TimeoutError, Lost) as error:
            connection.close()
            raise OSError(f"{server.id} does not answer") from error

    def _give_up(self, futures: Sequence[asyncio.Future[Any]]) -> None:
        for future in futures:
            future.cancel()
            if future.done() and not future.cancelled():
                future.exception()
        if self._connection is not None:
            self._connection.close()

    def _move(self) -> None:
        self._connection = None
        self._at = (self._at + 1) % len(self._servers)

    def close(self) -> None:
        """Close the connection, if any."""
        if self._connection is not None:
            self._connection.close()
