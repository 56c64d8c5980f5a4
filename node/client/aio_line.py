"""node.client.line.Line for asyncio: drives protocols over one connection at a time.

What is cancelled in the middle of a request drops its connection: an answer is never taken for
another's.

Proved by: tests/cluster/test_store.py
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import redis.asyncio.connection
from redis import exceptions

from node.client.connection import CONNECT_TIMEOUT_S, failure, unreachable
from node.client.line import ANSWER_S
from node.client.protocols import Ask, Protocol, Word
from node.config_members import Address
from node.errors import KVError, NotLeader, OutcomeUnknown, Rejected, Unavailable

__all__ = ["Line"]

_Connection: Any = redis.asyncio.connection.Connection


class Line:
    """See node.client.line.Line."""

    def __init__(self, addresses: Sequence[Address], password: str) -> None:
        self._addresses = list(addresses)
        self._at = 0
        self._password = password
        self._connection: Any = None
        self._address = self._addresses[0]
        self._leader: Address | None = None

    async def run(self, protocol: Protocol) -> Any:
        answer: Any = None
        error: KVError | None = None
        while True:
            try:
                step = protocol.send(answer) if error is None else protocol.throw(error)
            except StopIteration as end:
                return end.value
            answer = error = None
            if not isinstance(step, Ask):
                await asyncio.sleep(step.seconds)
                continue
            try:
                answer = await self.ask(step.words)
            except KVError as found:
                error = found

    async def ask(self, words: Sequence[Word]) -> Any:
        try:
            if self._connection is None:
                await self._connect()
            return await self._exchange(words)
        except Rejected:
            raise
        except NotLeader as error:
            await self.drop()
            self._leader = Address.parse(error.address)
            raise
        except BaseException:  # cancelled, too: its answer would be taken for the next one's
            await self.drop()
            raise

    async def _connect(self) -> None:
        self._address = self._leader or self._addresses[self._at % len(self._addresses)]
        self._leader = None
        connection = _Connection(
            host=self._address.host,
            port=self._address.port,
            password=self._password or None,
            protocol=2,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=ANSWER_S,
        )
        try:
            await connection.connect()
        except (exceptions.RedisError, OSError) as error:
            raise unreachable(self._address, error) from error
        self._connection = connection

    async def _exchange(self, words: Sequence[Word]) -> Any:
        try:
            await self._connection.send_command(*words)
            return await self._connection.read_response()
        except exceptions.RedisError as error:
            raise failure(self._address, error) from error
        except OSError as error:
            raise OutcomeUnknown(f"{self._address}: the connection broke: {error}") from error

    async def receive(self, timeout_s: float) -> Any:
        try:
            return await self._connection.read_response(timeout=timeout_s)
        except (exceptions.RedisError, OSError) as error:
            await self.drop()
            raise Unavailable(f"{self._address}: {error}") from error

    async def drop(self) -> None:
        connection, self._connection = self._connection, None
        self._at += 1
        if connection is not None:
            await connection.disconnect(nowait=True)
