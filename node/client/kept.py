"""Locks, offices and leases, each kept by a thread of its own while it is open.

    with -> acquire / grant -> thread: renew every third of the time to live -> release / revoke

Invariants: a connection of its own, so nothing that the program does holds up a renewal; what is
believed is node.client.held's; a renewal that fails is tried again until the time to live is over.

A crash leaves the key or lease to its time to live.

Proved by: tests/cluster/test_store.py
"""

from __future__ import annotations

import secrets
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from node.client.held import Holding
from node.client.protocols import Protocol, Word, acquire, grant, keep_alive, release, renew
from node.errors import KVError, OutcomeUnknown, Rejected, Unavailable

if TYPE_CHECKING:
    from node.client.store import Store

__all__ = ["Kept", "Lease", "Lock"]


class Kept(Holding):
    """Something with a time to live, kept by a thread of its own while it is open."""

    def __init__(self, store: Store, ttl_s: float) -> None:
        super().__init__(ttl_s, store.now_s)
        self._store = store
        self._line = store.line()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def _keep(self) -> None:
        self._thread = threading.Thread(target=self._keep_on, name="trimaran-keep", daemon=True)
        self._thread.start()

    def _keep_on(self) -> None:
        while not self._done.wait(self._every_s):
            try:
                asked_s = self._line.run(self._renewing())
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

    def _stop(self) -> None:
        self._held.end()
        self._done.set()
        self._line.close()
        if self._thread is not None:
            self._thread.join()


class Lock(Kept):
    """A lock or an office. `token` is of this grant: it is larger than that of any before."""

    def __init__(self, store: Store, key: Word, holder: bytes, ttl_s: float, wait_s: float) -> None:
        super().__init__(store, ttl_s)
        self._key = key
        self._holder = holder
        self._wait_s = wait_s
        self.token = 0

    def __enter__(self) -> Self:
        store = self._store
        until_s = store.now_s() + self._wait_s
        try:
            found = self._line.run(
                acquire(self._key, self._holder, self._ttl_ms, until_s, store.now_s)
            )
        except BaseException:
            self._line.close()
            raise
        if found is None:
            self._line.close()
            raise Unavailable(f"{self._key!r} is held by somebody else")
        self.token, asked_s = found
        self._held.renewed(asked_s)
        self._keep()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        store = self._store
        until_s = min(store.until_s(), self._held.until_s)
        try:
            store.run(release(self._key, self._holder, until_s, store.now_s))
        except (Unavailable, OutcomeUnknown):
            pass  # Its time to live ends it.

    def _renewing(self) -> Protocol:
        until_s = self._held.until_s
        return renew(self._key, self._holder, self._ttl_ms, until_s, self._store.now_s)


class Lease(Kept):
    """A lease; keys are put under it with `SET ... LEASE lease.id`."""

    def __init__(self, store: Store, ttl_s: float) -> None:
        super().__init__(store, ttl_s)
        self.id = secrets.randbelow(2**62) + 2**32
        """Ours alone: drawn at random."""

    def __enter__(self) -> Self:
        store = self._store
        try:
            asked_s = self._line.run(grant(self._ttl_ms, self.id, store.until_s(), store.now_s))
        except BaseException:
            self._line.close()
            raise
        self._held.renewed(asked_s)
        self._keep()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        try:
            self._store.call("TRI.LEASE", "REVOKE", self.id, is_idempotent=True)
        except (Unavailable, OutcomeUnknown):
            pass  # Its time to live ends it.

    def _renewing(self) -> Protocol:
        return keep_alive(self.id, self._held.until_s, self._store.now_s)
