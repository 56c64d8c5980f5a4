"""Clients of a simulated cluster that are told things: watches, caches, optimistic transactions.

    watch      TRI.WATCH of a prefix, from one node to the next; what it was told makes up a state,
               which is what TRI.PREFIX reads at that revision: nothing left out, nothing twice,
               in order, on any node, through crashes; two watches are told the same of a revision
    cache      CLIENT TRACKING: what it has read and was not told to forget is what a read gives
    optimist   WATCH, GET, MULTI, SET, EXEC: a counter that counts each success once

Which of them a run has is in its plan. Each asks on one connection at a time and ends with it; what
it keeps is its own.

Does not do: write anything but the optimist's counter.

Proved by: tests/simulation/test_listeners.py: each finds a bug that is put in on purpose
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import hiredis

from tests.simulation.clients import Lost, Stream

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["KINDS", "Listener"]

PAUSE_S = 0.08
LATE_S = 0.05
"""A watch that reads on in the history is told within this what was applied before."""
PREFIXES = (b"", b"r", b"l", b"m", b"e")


class Listener:
    """One of them. `run` goes on until the world says that it is enough."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._chance = random.Random(f"{world.seed} listener {number}")

    async def run(self) -> None:
        while not self._world.is_enough:
            stream = self._connect()
            if stream is not None:
                try:
                    await self._listen(stream)
                except Lost:
                    pass
                finally:
                    stream.hang_up()
            await asyncio.sleep(PAUSE_S * self._chance.random())

    def judge(self) -> None:
        """All is over, and every member has the same."""

    async def _listen(self, stream: Stream) -> None:
        raise NotImplementedError

    def _connect(self) -> Stream | None:
        host = self._world.host_for(self._chance)
        if host is None or host.server is None or not host.server.is_open:
            return None
        return Stream(self._world, host, host.server, self._chance)

    async def _ask(self, stream: Stream, *words: bytes | int) -> Any:
        """The reply. Raises: Lost, also for one that says that it is not served here now."""
        try:
            async with asyncio.timeout(2.0):
                reply = await stream.ask(*words)
        except TimeoutError:
            raise Lost from None
        if isinstance(reply, hiredis.ReplyError):
            raise Lost
        return reply

    async def _pause(self) -> None:
        await asyncio.sleep(PAUSE_S * (0.2 + 1.6 * self._chance.random()))


class Watcher(Listener):
    """Sees the whole of a prefix grow."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self._prefix = self._chance.choice(PREFIXES)
        self._state: dict[bytes, bytes] = {}
        self._told = -1
        """It knows everything up to this revision; -1: nothing yet."""
        self._later: list[tuple[int, Any]] = []
        """Frames that are not part of `_state` yet."""

    async def _listen(self, stream: Stream) -> None:
        await self._ask(stream, b"HELLO", 3)
        self._later.clear()  # told again, from where the state ends
        if self._told < 0:
            self._told, self._state = await self._read(stream)
        else:
            self._world.count("a watch went on elsewhere")
        try:
            await self._ask(stream, b"TRI.WATCH", b"PREFIX", self._prefix, b"FROM", self._told + 1)
        except Lost:
            if not stream.closed:
                self._told = -1  # perhaps the history does not reach back so far: begin anew
            raise
        while not self._world.is_enough:
            await self._pause()
            revision, state = await self._read(stream)
            await asyncio.sleep(LATE_S)
            self._take(stream)
            self._compare(stream, revision, state)

    async def _read(self, stream: Stream) -> tuple[int, dict[bytes, bytes]]:
        """The prefix as it is, and at which revision."""
        reply = await self._ask(stream, b"TRI.PREFIX", self._prefix, b"LIMIT", 10_000)
        revision, more, rows = reply
        assert not more
        return revision, {row[0]: row[1] for row in rows}

    def _take(self, stream: Stream) -> None:
        """What was pushed: whole frames, in order. Raises: Lost when the watch has ended."""
        pushed, stream.pushed = stream.pushed, []
        for name, _, revision, rest in pushed:
            if name != b"tri.watch":
                self._world.count("a watch was told that it must begin anew")
                self._told = -1
                self._later.clear()
                raise Lost
            last = self._later[-1][0] if self._later else self._told
            if revision < last or (revision == last and rest):
                self._world.violate(f"a watch was told of revision {revision} behind {last}")
            self._is_everybodys(revision, rest)
            self._later.append((revision, rest))

    def _is_everybodys(self, revision: int, rows: list[Any]) -> None:
        """Of a key at a revision all are told the same. A batch may change it more than once."""
        changes: dict[bytes, tuple[Any, ...]] = {}
        for operation, key, value in rows:
            changes[key] = (*changes.get(key, ()), (operation, value))
        for key, told in changes.items():
            first = self._world.changes.setdefault((revision, key), told)
            if first != told:
                self._world.violate(
                    f"of {key!r} at revision {revision} one watch is told {first}, another {told}"
                )

    def _compare(self, stream: Stream, revision: int, state: dict[bytes, bytes]) -> None:
        if revision < self._told:
            return  # this node is behind the one that told us
        while self._later and self._later[0][0] <= revision:
            at, rows = self._later.pop(0)
            for operation, key, value in rows:
                if operation == b"flush":
                    self._state.clear()
                elif value is None:
                    self._state.pop(key, None)
                else:
                    self._state[key] = value
            self._told = at
        if not stream.closed and self._state != state:
            differing = sorted(
                key
                for key in self._state.keys() | state.keys()
                if self._state.get(key) != state.get(key)
            )
            self._world.violate(
                f"a watch of {self._prefix!r} was not told of {differing[:3]} up to {revision}"
            )
        self._world.count("a watch was compared with a read")


class Cache(Listener):
    """Reads a few keys, and keeps what it has read until it is told to forget it."""

    async def _listen(self, stream: Stream) -> None:
        await self._ask(stream, b"HELLO", 3)
        await self._ask(stream, b"CLIENT", b"TRACKING", b"ON")
        kept: dict[bytes, Any] = {}
        while not self._world.is_enough:
            await self._pause()
            key = self._chance.choice((b"r0", b"r1", b"c0", b"c1", b"l0"))
            value = await self._ask(stream, b"GET", key)
            pushed, stream.pushed = stream.pushed, []
            for _, keys in pushed:
                self._world.count("a cache was told to forget")
                for each in kept.copy() if keys is None else keys:
                    kept.pop(each, None)
            if kept.get(key, value) != value:
                self._world.violate(f"a cache still has {kept[key]!r} of {key!r}, now {value!r}")
            kept[key] = value


class Optimist(Listener):
    """Counts, if nobody else has counted meanwhile."""

    KEY = b"x0"

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self._rival = random.Random(f"{world.seed} rival {number}")
        self._counted = world.counted

    async def _listen(self, stream: Stream) -> None:
        while not self._world.is_enough:
            await self._pause()
            await self._ask(stream, b"WATCH", self.KEY)
            value = int(await self._ask(stream, b"GET", self.KEY) or 0)
            if self._rival.random() < 0.3:
                await self._outrun(stream, value)
                continue
            await self._ask(stream, b"MULTI")
            await self._ask(stream, b"SET", self.KEY, value + 1)
            self._counted["perhaps"] += 1
            reply = await self._ask(stream, b"EXEC")
            self._counted["perhaps"] -= 1
            self._counted["told"] += reply is not None

    async def _outrun(self, stream: Stream, value: int) -> None:
        """Another connection counts between WATCH and EXEC: the transaction must not."""
        rival = self._connect()
        if rival is None:
            raise Lost
        try:
            self._counted["perhaps"] += 1
            await self._ask(rival, b"INCR", self.KEY)
            self._counted["perhaps"] -= 1
            self._counted["told"] += 1
        finally:
            rival.hang_up()
        await self._ask(stream, b"MULTI")
        await self._ask(stream, b"SET", self.KEY, value + 1)
        if await self._ask(stream, b"EXEC") is not None:
            self._world.violate(f"EXEC although {self.KEY!r} had changed since WATCH")
        self._world.count("a transaction found its key changed")

    def judge(self) -> None:
        member = self._world.members()[0]
        assert member.core is not None
        counted = int(member.core.machine.get(self.KEY) or 0)
        told, perhaps = self._counted["told"], self._counted["perhaps"]
        if not told <= counted <= told + perhaps:
            self._world.violate(
                f"{counted} counted by transactions: {told} told of, {perhaps} perhaps"
            )


KINDS: dict[str, type[Listener]] = {"watch": Watcher, "cache": Cache, "optimist": Optimist}
"""By the name that a plan has."""
