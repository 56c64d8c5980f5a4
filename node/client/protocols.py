"""What a helper says to a node, and what it makes of the answers and of their loss. No I/O.

A protocol is a generator: it yields what to send, gets the answer sent in, or thrown in what
became of it instead, and returns its result. A driver (store: threads, aio: asyncio) sends on one
connection and, after any error but Rejected, goes on with a new one to the next address.

    Ask(words)       -> the reply                  Rejected        an answer: no
                                                   Unavailable     certainly not applied
                                                   OutcomeUnknown  perhaps applied, or yet to be
    Pause(seconds)   -> None

The rule of all of them: a request may be repeated when it was not applied, or when applying it
twice leaves what applying it once leaves. `acquire` and `Writes` make theirs so.

    acquire    SET key holder NX PX ttl; lost? TRI.GET key tells whether it is ours. The token is
               the revision that created the key: it rises with every grant.

    Writes     one key holds the number and the mark of the last write of a session:

               WATCH key | GET key -> n-1:other ? -> MULTI commands, SET key n:mark, EXEC -> results
                                      n:mark    ? -> applied, by a try whose answer was lost

               The watch names the *revision* that the key had when it said n-1, and EXEC
               compares where it is applied. Only one transaction can find that revision: as soon
               as one is applied, every other try, on its way anywhere, however late, finds another
               and changes nothing. The key is made before the first write, so even that one
               waits for a revision that cannot come again. No clock is part of it.

Proved by: tests/node/test_protocols.py (every loss at every step), tests/cluster/test_store.py
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final

from node.errors import KVError, NotLeader, OutcomeUnknown, Rejected, Unavailable

__all__ = [
    "Ask",
    "Done",
    "Pause",
    "Protocol",
    "Word",
    "Writes",
    "acquire",
    "grant",
    "keep_alive",
    "persistently",
    "release",
    "renew",
]

Word = bytes | str | int
PAUSE_S: Final = 0.05
SESSION_TTL_MS: Final = 7 * 24 * 3600 * 1000
TRY_LOCK_EVERY_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Ask:
    """Send these words, on the connection of the Ask before if nothing failed since."""

    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


Step = Ask | Pause
Protocol = Generator[Step, Any, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """A write of a session was applied, once."""

    results: list[Any] | None
    """Of each command; None when the answer was lost: it is certain that it was applied, and what
    its commands answered is not known."""


_AGAIN: Final = (Unavailable, NotLeader)
"""Certainly not applied: another node, or the same one a little later."""


def persistently(
    words: tuple[Word, ...], until_s: float, now_s: Callable[[], float], *, is_idempotent: bool
) -> Protocol:
    """One request, again while that is safe; its reply.

    Raises:
        Unavailable: not applied by `until_s`.
        OutcomeUnknown: perhaps applied (only where it is not idempotent, or time is up).
        Rejected: an answer.
    """
    may_be_applied: OutcomeUnknown | None = None
    while True:
        try:
            return (yield Ask(words))
        except OutcomeUnknown as error:
            may_be_applied = error
            if not is_idempotent or now_s() >= until_s:
                raise
        except _AGAIN:
            if now_s() >= until_s:
                if may_be_applied is not None:
                    raise may_be_applied from None
                raise
        yield Pause(PAUSE_S)


# -- locks ---------------------------------------------------------------------------------------


def acquire(
    key: Word, holder: bytes, ttl_ms: int, until_s: float, now_s: Callable[[], float]
) -> Protocol:
    """Take a lock, waiting for it until `until_s`. (token, when it was asked for), or None.

    Raises: Unavailable, OutcomeUnknown (it may be ours until its time to live is over), Rejected.
    """
    set_words: tuple[Word, ...] = ("SET", key, holder, "NX", "PX", ttl_ms)
    while True:
        asked_s = now_s()
        # Its loss is no harm: sent again, NX finds our own holder, and TRI.GET tells.
        reply = yield from persistently(set_words, until_s, now_s, is_idempotent=True)
        row = yield from persistently(("TRI.GET", key), until_s, now_s, is_idempotent=True)
        if row is not None and row[0] == holder:
            # NB: without an OK it was a try whose answer was lost, nobody knows how long ago: then
            # only what comes now says until when it is ours.
            renewed_s = asked_s
            if reply is None:
                renewed_s = yield from renew(key, holder, ttl_ms, until_s, now_s)
            if renewed_s is not None:
                return int(row[1]), renewed_s
        if now_s() >= until_s:
            return None
        yield Pause(TRY_LOCK_EVERY_S)


def renew(
    key: Word, holder: bytes, ttl_ms: int, until_s: float, now_s: Callable[[], float]
) -> Protocol:
    """Hold it for another `ttl_ms`. When that was asked for; None when it is no longer ours."""
    asked_s = now_s()
    words: tuple[Word, ...] = ("SET", key, holder, "IFEQ", holder, "PX", ttl_ms)
    reply = yield from persistently(words, until_s, now_s, is_idempotent=True)
    return asked_s if reply is not None else None


def release(key: Word, holder: bytes, until_s: float, now_s: Callable[[], float]) -> Protocol:
    """Let it go, if it is ours."""
    words = ("DELEX", key, "IFEQ", holder)
    return (yield from persistently(words, until_s, now_s, is_idempotent=True))


# -- leases --------------------------------------------------------------------------------------


def grant(ttl_ms: int, lease_id: int, until_s: float, now_s: Callable[[], float]) -> Protocol:
    """A lease of this id, which nobody else will ever ask for; when it was asked for."""
    asked_s = now_s()
    words: tuple[Word, ...] = ("TRI.LEASE", "GRANT", ttl_ms, "ID", lease_id)
    try:
        yield from persistently(words, until_s, now_s, is_idempotent=True)
    except Rejected as error:
        if not str(error).startswith("LEASEEXISTS"):
            raise
        # A try whose answer was lost made it.
    return asked_s


def keep_alive(lease_id: int, until_s: float, now_s: Callable[[], float]) -> Protocol:
    """Renew it; when that was asked for. Rejected (NOLEASE) when it is over."""
    asked_s = now_s()
    words: tuple[Word, ...] = ("TRI.LEASE", "KEEPALIVE", lease_id)
    yield from persistently(words, until_s, now_s, is_idempotent=True)
    return asked_s


# -- exactly once --------------------------------------------------------------------------------


class Writes:
    """The writes of one session, one after the other. For one user at a time."""

    def __init__(
        self, name: str, new_mark: Callable[[], str] = lambda: secrets.token_hex(8)
    ) -> None:
        self.key = f"trimaran:session:{name}"
        self._new_mark = new_mark
        self._number = 0
        self._is_open = False
        self._undecided: tuple[str, tuple[tuple[Word, ...], ...]] | None = None
        """(mark, commands) of the last write, while nobody knows what became of it."""

    def run(
        self, commands: tuple[tuple[Word, ...], ...], until_s: float, now_s: Callable[[], float]
    ) -> Protocol:
        """Carry out one write; Done.

        Raises:
            OutcomeUnknown: time is up. Running the same commands again is safe, and all that may
                be run next.
            Rejected: a command is wrong (nothing was applied), or somebody else uses the session,
                or it was not used for SESSION_TTL_MS.
        """
        if self._undecided is not None and self._undecided[1] != commands:
            raise Rejected("the last write of this session is undecided: run it again first")
        if not self._is_open:
            words: tuple[Word, ...] = ("SET", self.key, "0:", "NX", "PX", SESSION_TTL_MS)
            yield from persistently(words, until_s, now_s, is_idempotent=True)
            self._is_open = True
        if self._undecided is None:
            self._undecided = (self._new_mark(), commands)
        try:
            done = yield from self._until_done(self._undecided[0], commands, until_s, now_s)
        except Rejected:
            self._undecided = None
            raise
        self._number += 1
        self._undecided = None
        return done

    def _until_done(
        self,
        mark: str,
        commands: tuple[tuple[Word, ...], ...],
        until_s: float,
        now_s: Callable[[], float],
    ) -> Protocol:
        while True:
            failure: KVError = OutcomeUnknown("another try of it was in between")
            try:
                done = yield from self._try(mark, commands)
                if done is not None:
                    return done
            except (OutcomeUnknown, *_AGAIN) as error:
                failure = error
            if now_s() >= until_s:
                raise OutcomeUnknown(str(failure))
            yield Pause(PAUSE_S)

    def _try(self, mark: str, commands: tuple[tuple[Word, ...], ...]) -> Protocol:
        """Done, or None: what was watched has changed, look again."""
        ours = f"{self._number + 1}:{mark}".encode()
        yield Ask(("WATCH", self.key))
        found = yield Ask(("GET", self.key))
        if found == ours:
            yield Ask(("UNWATCH",))
            return Done(None)
        if found is None or int(found.partition(b":")[0]) != self._number:
            yield Ask(("UNWATCH",))
            what = "was not used for too long" if found is None else "is used by somebody else"
            raise Rejected(f"the session {self.key} {what}")
        yield Ask(("MULTI",))
        for words in (*commands, ("SET", self.key, ours, "PX", SESSION_TTL_MS)):
            try:
                yield Ask(words)
            except Rejected:
                yield Ask(("DISCARD",))
                raise
        results = yield Ask(("EXEC",))
        return None if results is None else Done(results[:-1])
