"""A client of the laboratory's own: one operation at a time, no outcome ever hidden.

    client = Client(number, servers, recorder, ...)
    operation = await client.call("write", "r0", "17", b"SET", b"r0", b"17")

Every call ends in one Operation in the recorder, with one of three outcomes:

    a reply                                  ok
    -UNKNOWN, connection lost, no answer
    within timeout_ms                        unknown   (and the connection is given up)
    any other error reply                    fail      (-CLUSTERDOWN, -LOADING, -MOVED, -BUSY,
                                                        -ERR: the server says: not applied)
    a reply that makes no sense              unknown
    no connection could be made              fail      (nothing was sent)

Nothing is ever sent twice. A client has a server of its own and moves on to the next one when its
connection is lost, so that after a fault every client measures how soon it is served again. It goes
home, between two operations, once its own server answers again: otherwise all clients would gather
at whoever was never hit.

Proved by: tests/lab/test_client.py
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from node.lab.clock import RunClock
from node.lab.connection import CONNECT_S, Connection, Lost, ReplyError, Server, ask, pack
from node.lab.history import FAIL, OK, UNKNOWN, Operation

__all__ = ["Answered", "Client", "Recorder", "Told"]

_RETRY_S: Final = 0.02
_AFTER_FAIL_S: Final = 0.01
_HOME_S: Final = 0.3
_UNKNOWN_WORD: Final = "UNKNOWN"
_QUEUED: Final = b"QUEUED"

Answered = Callable[[Any], Any]
"""Turns a reply into the result of an operation, or into Told.

Raises:
    ReplyError: the server did none of it.
    ValueError, TypeError: the reply makes no sense.
"""


@dataclass(frozen=True, slots=True)
class Told:
    """A result, and the revision that came with it."""

    result: Any
    revision: int | None


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
    ) -> None:
        self.number = number
        self.rng = rng
        self.level = level
        self.planned_us = -1
        """When an open loop wanted the next operation to begin."""
        self.memory: dict[str, Any] = {}
        """What the workload keeps about this client."""
        self._servers = servers
        self._home = self._at = number % len(servers)
        self._way_home: asyncio.Task[Connection] | None = None
        self._recorder = recorder
        self._timeout_s = timeout_ms / 1000
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
        if isinstance(replies[-1], ReplyError):
            text = str(replies[-1])
            # NB: what was to be queued and was not, because MULTI was refused, may have been done.
            queued = all(isinstance(each, ReplyError) or each == _QUEUED for each in replies[1:-1])
            is_unknown = text.startswith(_UNKNOWN_WORD) or not queued
            self._end(operation, UNKNOWN if is_unknown else FAIL, text)
            await asyncio.sleep(_AFTER_FAIL_S)
            return operation
        if any(isinstance(reply, ReplyError) for reply in replies):
            return self._end(operation, UNKNOWN, "a part of it was refused")
        try:
            told = decode(replies)
        except ReplyError as error:
            return self._end(operation, FAIL, str(error))
        except (ValueError, TypeError, LookupError) as error:
            return self._end(operation, UNKNOWN, f"an answer of another kind: {error}")
        if isinstance(told, Told):
            operation.result, operation.revision = told.result, told.revision
        else:
            operation.result = told
        return self._end(operation, OK, "")

    def _end(self, operation: Operation, outcome: str, error: str) -> Operation:
        operation.outcome, operation.error = outcome, error
        operation.end_us = self.now_us
        self._recorder.add(operation)
        return operation

    async def _connected(self) -> Connection:
        if self._way_home is not None and self._way_home.done():
            way_home, self._way_home = self._way_home, None
            self.close()
            self._connection, self._at = way_home.result(), self._home
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
            if self._at != self._home and self._way_home is None:
                self._way_home = asyncio.create_task(self._go_home())
            return connection
        await asyncio.sleep(_RETRY_S)
        assert problem is not None
        raise problem

    async def _go_home(self) -> Connection:
        """A connection to its own server, once that answers."""
        home = self._servers[self._home]
        while True:
            await asyncio.sleep(_HOME_S)
            try:
                await ask(home, "PING", timeout_s=CONNECT_S)
                connection = await Connection.open(home)
                await self._greet(connection, home)
            except OSError:
                continue
            return connection

    async def _greet(self, connection: Connection, server: Server) -> None:
        """Say who we are and how fresh reads are to be. OSError when that is refused."""
        requests = []
        if server.password:
            requests.append(pack("AUTH", server.password))
        if self.level:
            requests.append(pack("TRI.CONSISTENCY", self.level))
        try:
            async with asyncio.timeout(CONNECT_S):
                for future in connection.send(b"".join(requests), len(requests)):
                    reply = await future
                    if isinstance(reply, ReplyError):
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
        """Close what is open, and look for nothing more."""
        if self._way_home is not None:
            self._way_home.cancel()
            if self._way_home.done() and not self._way_home.cancelled():
                self._way_home.result().close()
        if self._connection is not None:
            self._connection.close()
