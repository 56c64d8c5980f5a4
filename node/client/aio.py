"""Store for asyncio: the same as node.client.store, word for word, with await.

    store = Store("127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003")
    await store.call("SET", "k", "v")
    async with store.lock("job", ttl_s=10) as lock: ...
    async with store.election("leader", "me"): ...
    async with store.lease(ttl_s=10) as lease: ...
    async for event in store.watch(prefix="user:"): ...
    await store.session().run(("INCR", "n"))

What is said to nodes, and what is believed of the answers, is node.client.protocols', events' and
held's; here is only how bytes come and go.

Invariant: a Store may be used by many tasks, one request at a time.

Proved by: tests/cluster/test_store.py
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Self

from node.client.aio_kept import Lease, Lock
from node.client.aio_line import Line
from node.client.events import Compacted, Event, Follower
from node.client.line import addresses_of
from node.client.protocols import Done, Protocol, Word, Writes, persistently
from node.client.store import GIVE_UP_S, READS, SILENCE_S, target
from node.clock import Clock
from node.errors import KVError, Rejected

__all__ = ["Lease", "Lock", "Session", "Store", "Watch"]


class Store:
    """See node.client.store.Store."""

    def __init__(
        self,
        addresses: str | Sequence[str],
        *,
        password: str = "",
        give_up_s: float = GIVE_UP_S,
        clock: Clock | None = None,
    ) -> None:
        self._addresses = addresses_of(addresses)
        self._password = password
        self.give_up_s = give_up_s
        self.now_s = (clock or Clock()).monotonic
        self._line = self.line()
        self._one_at_a_time = asyncio.Lock()

    def line(self) -> Line:
        """A connection of one's own."""
        return Line(self._addresses, self._password)

    async def run(self, protocol: Protocol) -> Any:
        """Drive a protocol on the store's own connection."""
        async with self._one_at_a_time:
            return await self._line.run(protocol)

    def until_s(self) -> float:
        """When what is asked now is given up."""
        return self.now_s() + self.give_up_s

    async def call(self, *words: Word, is_idempotent: bool | None = None) -> Any:
        """Any command; its reply. Raises: Unavailable, OutcomeUnknown, Rejected."""
        if is_idempotent is None:
            is_idempotent = str(words[0]).upper() in READS
        return await self.run(
            persistently(words, self.until_s(), self.now_s, is_idempotent=is_idempotent)
        )

    def lock(self, key: Word, *, ttl_s: float = 10.0, wait_s: float = GIVE_UP_S) -> Lock:
        """One holder at a time. Use it in `async with`."""
        return Lock(self, key, secrets.token_hex(16).encode(), ttl_s, wait_s)

    def election(
        self, key: Word, name: str, *, ttl_s: float = 5.0, wait_s: float = float("inf")
    ) -> Lock:
        """An office: like a lock, and `leader` tells whose it is."""
        return Lock(self, key, name.encode() + b"/" + secrets.token_hex(8).encode(), ttl_s, wait_s)

    async def leader(self, key: Word) -> str | None:
        """The name of who holds an office."""
        found = await self.call("GET", key)
        return None if found is None else found.rpartition(b"/")[0].decode()

    def lease(self, *, ttl_s: float = 10.0) -> Lease:
        """A lease for many keys, kept alive while it is open."""
        return Lease(self, ttl_s)

    def watch(
        self,
        *,
        prefix: bytes | str | None = None,
        key: bytes | str | None = None,
        from_revision: int | None = None,
        previous: bool = False,
    ) -> Watch:
        """Changes under a prefix ("": all) or of one key."""
        kind, name = target(prefix, key)
        return Watch(self.line(), Follower(kind, name, from_revision, previous=previous))

    def session(self) -> Session:
        """Writes that are carried out once each. Not for two tasks at the same time."""
        return Session(self, secrets.token_hex(12))

    async def close(self) -> None:
        """Close the store's own connection."""
        await self._line.drop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class Watch:
    """See node.client.store.Watch. Leaving the `async for` is the end of it; `close` afterwards."""

    def __init__(self, line: Line, follower: Follower) -> None:
        self._line = line
        self._follower = follower

    @property
    def next_revision(self) -> int | None:
        """All before it was told: where a later watch goes on."""
        return self._follower.next_revision

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            try:
                self._follower.begun(await self._line.ask(self._follower.words()))
                while True:
                    for event in self._follower.take(await self._line.receive(SILENCE_S)):
                        yield event
            except Rejected as error:
                if str(error).startswith("COMPACTED"):
                    raise Compacted(str(error)) from error
                raise
            except KVError:
                await self._line.drop()
                await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Close its connection."""
        await self._line.drop()


class Session:
    """See node.client.store.Session."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._writes = Writes(name)

    async def run(self, *commands: tuple[Word, ...]) -> Done:
        """Carry out these commands together, once. Raises: OutcomeUnknown, Rejected."""
        store = self._store
        done: Done = await store.run(self._writes.run(commands, store.until_s(), store.now_s))
        return done

    async def end(self) -> None:
        """Forget the session's key. Without it its time to live does."""
        await self._store.call("DEL", self._writes.key, is_idempotent=True)
