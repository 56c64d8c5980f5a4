"""Store: a cluster by its addresses, with threads. What redis-py does not know (node.client).

    store = Store("127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003")
    store.call("SET", "k", "v")                     at the next node while nothing was applied
    with store.lock("job", ttl_s=10) as lock:       lock.token, lock.check()
    with store.election("leader", "me") as office:  blocks until it is ours
    with store.lease(ttl_s=10) as lease:            store.call("SET", "k", "v", "LEASE", lease.id)
    for event in store.watch(prefix="user:"):       resumes at another node, none missing
    session = store.session()
    session.run(("INCR", "n"), ("SET", "k", "v"))   exactly once

Why not redis.Redis: since its version 6 it sends a command again by itself when an answer is lost,
which counts an INCR twice. Here what may have been applied is never sent again, unless that is
harmless; and a command that certainly was not is sent to the next node.

Invariants: a Store may be used by many threads, one request at a time; whatever lives in the
background (a lock, a lease, a watch) has a connection of its own. Nothing is held by anybody who
cannot know that it is (node.client.held).

A crash of the process leaves what it held to its time to live.

Does not do: pool, pipeline, cache. `store.redis()` is a redis.Redis of one node for that.

Proved by: tests/cluster/test_store.py
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from node.client.connection import CONNECT_TIMEOUT_S
from node.client.events import Compacted, Event, Follower
from node.client.kept import Lease, Lock
from node.client.line import Line, addresses_of
from node.client.protocols import Done, Protocol, Word, Writes, persistently
from node.clock import Clock
from node.errors import KVError, Rejected, Unavailable

__all__ = ["GIVE_UP_S", "READS", "SILENCE_S", "Session", "Store", "Watch", "target"]

GIVE_UP_S: Final = 30.0
"""Past any election, and past the time for which a node holds on to a write."""
SILENCE_S: Final = 15.0
"""A node says that a watch is alive every few seconds (client.watch_progress_ms)."""
READS: Final = frozenset(("GET", "TRI.GET", "TRI.RANGE", "TRI.PREFIX", "MGET", "EXISTS", "TTL"))
"""Commands that are safe to repeat because they change nothing; is_idempotent says it of others."""


class Store:
    """See the top of the file.

    Args:
        addresses: client ports, "host:port,host:port"; whichever answers is used.
        password: requirepass of the nodes.
        give_up_s: how long a request may be sent again.
    """

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
        self._one_at_a_time = threading.Lock()

    def line(self) -> Line:
        """A connection of one's own."""
        return Line(self._addresses, self._password)

    def run(self, protocol: Protocol) -> Any:
        """Drive a protocol on the store's own connection."""
        with self._one_at_a_time:
            return self._line.run(protocol)

    def until_s(self) -> float:
        """When what is asked now is given up."""
        return self.now_s() + self.give_up_s

    def call(self, *words: Word, is_idempotent: bool | None = None) -> Any:
        """Any command; its reply, bytes where it is text.

        Args:
            is_idempotent: twice is as good as once: so a lost answer is no end. None: reads are.

        Raises:
            Unavailable: certainly not applied, by any node, within give_up_s.
            OutcomeUnknown: it may have been applied, or may yet be.
            Rejected: the node's error.
        """
        if is_idempotent is None:
            is_idempotent = str(words[0]).upper() in READS
        return self.run(
            persistently(words, self.until_s(), self.now_s, is_idempotent=is_idempotent)
        )

    def redis(self, **options: Any) -> redis.Redis:
        """A redis.Redis of the first node that answers, which repeats nothing by itself."""
        reasons = []
        for address in self._addresses:
            client = redis.Redis(
                host=address.host,
                port=address.port,
                password=self._password or None,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
                **options,
            )
            try:
                client.ping()
                return client
            except redis.RedisError as error:
                reasons.append(f"{address}: {error}")
                client.close()
        raise Unavailable("; ".join(reasons))

    def lock(self, key: Word, *, ttl_s: float = 10.0, wait_s: float = GIVE_UP_S) -> Lock:
        """One holder at a time. Use it in `with`; Unavailable when it cannot be had in wait_s."""
        return Lock(self, key, secrets.token_hex(16).encode(), ttl_s, wait_s)

    def election(
        self, key: Word, name: str, *, ttl_s: float = 5.0, wait_s: float = float("inf")
    ) -> Lock:
        """An office: like a lock, and `leader` tells whose it is."""
        return Lock(self, key, name.encode() + b"/" + secrets.token_hex(8).encode(), ttl_s, wait_s)

    def leader(self, key: Word) -> str | None:
        """The name of who holds an office."""
        found = self.call("GET", key)
        return None if found is None else found.rpartition(b"/")[0].decode()

    def lease(self, *, ttl_s: float = 10.0) -> Lease:
        """A lease for many keys, kept alive while it is open. Use it in `with`."""
        return Lease(self, ttl_s)

    def watch(
        self,
        *,
        prefix: bytes | str | None = None,
        key: bytes | str | None = None,
        from_revision: int | None = None,
        previous: bool = False,
    ) -> Watch:
        """Changes under a prefix ("": all) or of one key. Iterate over it."""
        kind, name = target(prefix, key)
        return Watch(self.line(), Follower(kind, name, from_revision, previous=previous))

    def session(self) -> Session:
        """Writes that are carried out once each. Not for two threads at the same time."""
        return Session(self, secrets.token_hex(12))

    def close(self) -> None:
        """Close the store's own connection."""
        self._line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def target(prefix: bytes | str | None, key: bytes | str | None) -> tuple[str, bytes]:
    """What a watch is of: (PREFIX or KEY, its bytes)."""
    if (prefix is None) == (key is None):
        raise ValueError("a watch is of a prefix or of a key")
    name = prefix if prefix is not None else key
    assert name is not None
    encoded = name.encode() if isinstance(name, str) else name
    return ("PREFIX" if prefix is not None else "KEY"), encoded


class Watch:
    """Changes in the order of the log. `close` ends it, from any thread."""

    def __init__(self, line: Line, follower: Follower) -> None:
        self._line = line
        self._follower = follower
        self._is_closed = False

    @property
    def next_revision(self) -> int | None:
        """All before it was told: where a later watch goes on."""
        return self._follower.next_revision

    def __iter__(self) -> Iterator[Event]:
        """Events, without end.

        Raises:
            Compacted: no node still has what comes next: read again, and watch from there.
            Rejected: the watch is wrong.
        """
        while not self._is_closed:
            try:
                self._follower.begun(self._line.ask(self._follower.words()))
                while True:
                    yield from self._follower.take(self._line.receive(SILENCE_S))
            except Rejected as error:
                if self._is_closed:
                    return
                if str(error).startswith("COMPACTED"):
                    raise Compacted(str(error)) from error
                raise
            except KVError:
                self._line.drop()
                threading.Event().wait(0.05)

    def close(self) -> None:
        """The iteration ends."""
        self._is_closed = True
        self._line.close()


class Session:
    """Writes with an identity. See node.client.protocols for why each happens once."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._writes = Writes(name)

    def run(self, *commands: tuple[Word, ...]) -> Done:
        """Carry out these commands together, once: all of them, as one transaction.

        Raises:
            OutcomeUnknown: nobody answered in time. The next call must be with the same commands:
                it finds out, or does it; anything else is refused.
            Rejected: a command is wrong; nothing was applied.
        """
        store = self._store
        done: Done = store.run(self._writes.run(commands, store.until_s(), store.now_s))
        return done

    def end(self) -> None:
        """Forget the session's key. Without it its time to live does."""
        self._store.call("DEL", self._writes.key, is_idempotent=True)
