"""What clients ask: one class for each workload, one `step` for each operation of a client.

    name       a step                                               judged by
    register   GET, SET or SET IFEQ of one of a few keys            linear (register), stale
    counter    INCRBY, GET                                          linear (counter), sums
    append     GET, then SET key,old+element IFEQ old               linear (register), lists
    set        SET of a key of its own, once; all read at the end   lost or phantom writes
    bank       MULTI DECRBY INCRBY EXEC; MGET of all accounts       sums
    ttl        SET PX of new keys; GET around their deadlines       never early, never late
    lock       SET NX PX, INCR of the fence, SET IFEQ PX            fencing tokens, overlaps
    scan       SET of new keys; SCAN MATCH prefix to its end        nothing missing, nothing made up

Invariants: only the client's own generator decides. What a server cannot do is found out by
`prepare`, and is left out or refused by name, never quietly faked.

Proved by: tests/lab/test_workloads.py
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from node.lab.client import Client, Told
from node.lab.config import WorkloadConfig
from node.lab.connection import ReplyError, Server, ask
from node.lab.workload import CannotRun, Workload, revision_in, text

__all__ = ["BANK_TOTAL_EACH", "WORKLOADS"]

BANK_TOTAL_EACH: Final = 100
LIST_LENGTH_MAX: Final = 40


class Register(Workload):
    """Reads, writes and swaps of few keys."""

    async def step(self, client: Client) -> None:
        key, draw = self.key(client.rng, "r"), client.rng.random()
        seen: dict[str, str | None] = client.memory
        if draw < self.config.read_ratio:
            operation = await self.read(client, key)
            if operation.is_ok:
                seen[key] = operation.result
            return
        value, old = self.value(client), seen.get(key)
        if self.has_swap and old is not None and draw > 1 - self.config.cas_ratio:
            words = ("SET", key, self.pad(value), "IFEQ", self.pad(old))
            operation = await self.change(client, "cas", [old, value], *words, decode=bool)
        else:
            operation = await self.change(client, "write", value, "SET", key, self.pad(value))
        if operation.is_ok and operation.result is not False:
            seen[key] = value


class Counter(Workload):
    """Numbers that are added to."""

    async def step(self, client: Client) -> None:
        key = self.key(client.rng, "c")
        if client.rng.random() < self.config.read_ratio:
            await self.read(client, key, lambda reply: int(reply or 0))
        else:
            delta = client.rng.randrange(1, 4)
            await self.change(client, "add", delta, "INCRBY", key, delta, decode=int)


class Append(Workload):
    """A list in one value, appended to by compare-and-swap; a new key when it is long."""

    def __init__(self, config: WorkloadConfig) -> None:
        super().__init__(config)
        self._generation: dict[str, int] = {}

    async def prepare(self, server: Server) -> None:
        await super().prepare(server)
        if not self.has_swap:
            raise CannotRun("append needs SET IFEQ")

    async def step(self, client: Client) -> None:
        base = self.key(client.rng, "l")
        generation = self._generation.get(base, 0)
        key = f"{base}.{generation}"
        found = await self.read(client, key)
        if not found.is_ok or client.rng.random() < self.config.read_ratio:
            return
        old: str | None = found.result
        if old is not None and old.count(",") >= LIST_LENGTH_MAX:
            self._generation[base] = max(generation + 1, self._generation.get(base, 0))
            return
        element = self.value(client)
        new = element if old is None else f"{old},{element}"
        condition = ("NX",) if old is None else ("IFEQ", old)
        await self.change(client, "cas", [old, new], "SET", key, new, *condition, decode=bool)


class UniqueSet(Workload):
    """Keys that are written once, and all looked for at the end."""

    async def step(self, client: Client) -> None:
        value = self.value(client)
        key = f"{self.prefix}s:{value}"
        client.memory.setdefault("keys", []).append(key)
        await self.change(client, "add", value, "SET", key, self.pad(value))

    async def finish(self, client: Client) -> None:
        keys = client.memory.get("keys", [])
        for start in range(0, len(keys), 200):
            some = keys[start : start + 200]
            await client.call(
                "final",
                f"{self.prefix}s:",
                some,
                "MGET",
                *some,
                decode=lambda replies: [text(reply) for reply in replies],
            )


class Bank(Workload):
    """Money is moved between accounts, and never made."""

    async def prepare(self, server: Server) -> None:
        await super().prepare(server)
        if isinstance(await ask(server, "MULTI"), ReplyError):
            raise CannotRun("bank needs MULTI, which the server does not have")
        for number in range(self.config.keys):
            await ask(server, "SET", f"{self.prefix}a{number}", BANK_TOTAL_EACH)

    async def step(self, client: Client) -> None:
        accounts = [f"{self.prefix}a{number}" for number in range(self.config.keys)]
        if client.rng.random() < self.config.read_ratio:
            decode = lambda replies: [int(reply or 0) for reply in replies]  # noqa: E731
            await client.call("total", f"{self.prefix}bank", None, "MGET", *accounts, decode=decode)
            return
        source, target = client.rng.sample(accounts, 2)
        amount = client.rng.randrange(1, 6)
        moves = [("MULTI",), ("DECRBY", source, amount), ("INCRBY", target, amount)]
        asks = self.asks(client)
        moves += [("TRI.GET", source)] * asks + [("EXEC",)]

        def told(replies: Any) -> Told:
            left, added, *found = replies[-1]
            return Told([left, added], revision_in(found[0]) if asks else None)

        value = [source, target, amount]
        await client.call_all("move", f"{self.prefix}bank", value, moves, told)


class Ttl(Workload):
    """Keys with a time to live, looked at until after their deadline."""

    async def step(self, client: Client) -> None:
        alive: list[tuple[str, int]] = client.memory.setdefault("alive", [])
        alive[:] = [each for each in alive if each[1] > client.now_us]
        if alive and (len(alive) >= 4 or client.rng.random() < 0.8):
            await self.read(client, client.rng.choice(alive)[0])
            await asyncio.sleep(client.rng.uniform(0, 0.01))
            return
        ttl_ms = client.rng.randrange(self.config.ttl_ms // 2, self.config.ttl_ms + 1)
        key = f"{self.prefix}t:{self.value(client)}"
        written = await self.change(client, "lease", ttl_ms, "SET", key, "x", "PX", ttl_ms)
        if written.is_ok:
            # Looked at until well after its deadline.
            alive.append((key, written.end_us + 1_000 * ttl_ms + 300_000))


class Lock(Workload):
    """A lock with a lease: taken, given a fencing token, kept, let go."""

    async def step(self, client: Client) -> None:
        key, token, ttl_ms = self.key(client.rng, "lock"), self.value(client), self.config.ttl_ms
        acquire = ("SET", key, token, "NX", "PX", ttl_ms)
        taken = await self.change(client, "acquire", [token, ttl_ms], *acquire, decode=bool)
        if not taken.is_ok or not taken.result:
            await asyncio.sleep(client.rng.uniform(0.001, 0.02))
            return
        await self.change(client, "fence", token, "INCR", f"{key}:fence", decode=int)
        await asyncio.sleep(client.rng.uniform(0, ttl_ms / 2000))
        if self.has_swap and client.rng.random() < 0.7:
            # DELEX is not everywhere; to keep it for one more millisecond is to let go.
            release = ("SET", key, token, "IFEQ", token, "PX", 1)
            await self.change(client, "release", token, *release, decode=bool)


class Scan(Workload):
    """Keys below a prefix are added, and walked over from beginning to end."""

    async def step(self, client: Client) -> None:
        if client.rng.random() >= self.config.read_ratio:
            value = self.value(client)
            key = f"{self.prefix}p:{value}"
            await self.change(client, "add", value, "SET", key, self.pad(value))
            return
        found: list[str] = []
        cursor = "0"
        start_us = client.now_us
        while True:
            page = await client.call(
                "page",
                f"{self.prefix}p:",
                cursor,
                "SCAN",
                cursor,
                "MATCH",
                f"{self.prefix}p:*",
                "COUNT",
                500,
                decode=lambda reply: [reply[0].decode(), [text(each) for each in reply[1]]],
            )
            if not page.is_ok:
                return
            cursor, keys = page.result
            page.result = len(keys)
            found += keys
            if cursor == "0":
                break
        page.op, page.result, page.start_us = "scan", found, start_us


WORKLOADS: Final[dict[str, type[Workload]]] = {
    "register": Register,
    "counter": Counter,
    "append": Append,
    "set": UniqueSet,
    "bank": Bank,
    "ttl": Ttl,
    "lock": Lock,
    "scan": Scan,
}
