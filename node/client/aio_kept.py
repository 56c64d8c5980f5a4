"""node.client.kept for asyncio: locks, offices and leases, each kept by a task of its own.

Proved by: tests/cluster/test_store.py
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from types import TracebackType
from typing import TYPE_CHECKING, Self

from node.client.held import Holding
from node.client.protocols import Protocol, Word, acquire, grant, keep_alive, release, renew
from node.errors import KVError, OutcomeUnknown, Rejected, Unavailable

if TYPE_CHECKING:
    from node.client.aio import Store

__all__ = ["Lease", "Lock"]


class _Kept(Holding):
    """See node.client.kept.Kept."""

    def __init__(self, store: Store, ttl_s: float) -> None:
        super().__init__(ttl_s, store.now_s)
        self._store = store
        self._line = store.line()
        self._task: asyncio.Task[None] | None = None

    def _keep(self, asked_s: float) -> None:
        self._held.renewed(asked_s)
        self._task = asyncio.create_task(self._keep_on(), name="trimaran-keep")

    async def _keep_on(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                asked_s = await self._line.run(self._renewing())
            except Rejected:
                asked_s = None
            except KVError:
                continue  # `check` says so when it has gone on for too long.
            if asked_s is None:
                self._held.end()
                return
            self._held.renewed(asked_s)

    def _renewing(self) -> Protocol:
        raise NotImplementedError

    async def _stop(self) -> None:
        self._held.end()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._line.drop()


class Lock(_Kept):
    """See node.client.kept.Lock."""

    def __init__(self, store: Store, key: Word, holder: bytes, ttl_s: float, wait_s: float) -> None:
        super().__init__(store, ttl_s)
        self._key = key
        self._holder = holder
        self._wait_s = wait_s
        self.token = 0

    async def __aenter__(self) -> Self:
        store = self._store
        until_s = store.now_s() + self._wait_s
        protocol = acquire(self._key, self._holder, self._ttl_ms, until_s, store.now_s)
        try:
            found = await self._line.run(protocol)
        except BaseException:
            await self._line.drop()
            raise
        if found is None:
            await self._line.drop()
            raise Unavailable(f"{self._key!r} is held by somebody else")
        self.token, asked_s = found
        self._keep(asked_s)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()
        store = self._store
        until_s = min(store.until_s(), self._held.until_s)
        with contextlib.suppress(Unavailable, OutcomeUnknown):  # its time to live ends it
            await store.run(release(self._key, self._holder, until_s, store.now_s))

    def _renewing(self) -> Protocol:
        until_s = self._held.until_s
        return renew(self._key, self._holder, self._ttl_ms, until_s, self._store.now_s)


class Lease(_Kept):
    """See node.client.kept.Lease."""

    def __init__(self, store: Store, ttl_s: float) -> None:
        super().__init__(store, ttl_s)
        self.id = secrets.randbelow(2**62) + 2**32

    async def __aenter__(self) -> Self:
        store = self._store
        protocol = grant(self._ttl_ms, self.id, store.until_s(), store.now_s)
        try:
            self._keep(await self._line.run(protocol))
        except BaseException:
            await self._line.drop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()
        with contextlib.suppress(Unavailable, OutcomeUnknown):  # its time to live ends it
            await self._store.call("TRI.LEASE", "REVOKE", self.id, is_idempotent=True)

    def _renewing(self) -> Protocol:
        return keep_alive(self.id, self._held.until_s, self._store.now_s)
