"""Clients of a simulated cluster: RESP, every family of commands, and what they were told.

    Stream   one connection to one host: bytes with delays, ends with the process
    Client   asks one thing at a time of some node; goes to another when it hears nothing
    load()   what is asked, by a seed. What a history can be judged by:

        r*  registers     SET, SET IFEQ, DEL, GET, GETSET       linearizable
        c*  counters      INCRBY, DECRBY, GET                   linearizable; counts are exact
        l*  lists         APPEND a token, GET                   linearizable; each token once
        a, b accounts     MULTI INCRBY INCRBY EXEC; MGET        their sum is always 0
        e*  leases        SET PX once, GET                      never early, never again
        m*  all others    some thirty commands                  by the model (oracles.py)

An answer is ok, fail (certainly not applied: -CLUSTERDOWN, -BUSY, -LOADING, -MOVED) or unknown
(-UNKNOWN, a lost connection, no answer in time). Reads are linearizable or by lease; one in eight
is eventual and judged by nobody.

Does not do: judge (oracles.py).

Proved by: tests/simulation/test_simulation_parts.py
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import hiredis

from node.lab.history import FAIL, OK, Operation
from node.server import _Protocol
from tests.simulation.loop import Life

if TYPE_CHECKING:
    from tests.simulation.host import Host, SimServer
    from tests.simulation.world import World

__all__ = ["Client", "Lost", "Stream"]

_FAILS = ("CLUSTERDOWN", "BUSY", "LOADING", "MOVED", "TRYAGAIN", "READONLY")
DELAY_S = (0.0001, 0.0008)


class Lost(Exception):
    """The connection is gone, or nothing was heard in time."""


class Stream(asyncio.Transport):
    """Both ends of one client's connection. The node holds it as its transport."""

    def __init__(self, world: World, host: Host, server: SimServer, chance: random.Random) -> None:
        super().__init__()
        assert host.life is not None
        self._world = world
        self._life: Life = host.life
        self._server = server
        self._chance = chance
        self._reader = hiredis.Reader()
        self._waiting: list[asyncio.Future[Any]] = []
        self._last_s = [0.0, 0.0]
        self.closed = False
        self.pushed: list[Any] = []
        self.protocol = _Protocol(server._frontend, server._protocols)
        server.streams[self] = None
        world.loop.spawn(self._life, self.protocol.connection_made, self)

    # -- the client's end -------------------------------------------------------------------

    def ask(self, *words: bytes | str | int, count: int = 1) -> asyncio.Future[Any]:
        """Send one command, or several at once; the last one's reply."""
        data = hiredis.pack_command(words)
        future: asyncio.Future[Any] = self._world.loop.create_future()
        if self.closed:
            future.set_exception(Lost())
            return future
        self._waiting.append(future)
        self._at(0, self._to_node, data, context=self._life.context)
        return future

    def _at(self, way: int, function: Any, *arguments: Any, context: Any) -> None:
        low_s, high_s = DELAY_S
        at_s = self._world.loop.time() + low_s + (high_s - low_s) * self._chance.random()
        at_s = self._last_s[way] = max(at_s, self._last_s[way] + 1e-7)
        self._world.loop.call_at(at_s, function, *arguments, context=context)

    def _to_node(self, data: bytes) -> None:
        if not self.closed:
            self.protocol.data_received(data)

    def _to_client(self, data: bytes) -> None:
        if self.closed:
            return
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, hiredis.PushNotification):
                self.pushed.append(reply)
            elif self._waiting:
                future = self._waiting.pop(0)
                if not future.done():
                    future.set_result(reply)

    def hang_up(self) -> None:
        """The client goes."""
        if not self.closed and not self._world.is_over:
            self.broken()
            if not self._life.dead:
                self._world.loop.spawn(self._life, self.protocol.connection_lost, None)

    def broken(self) -> None:
        """Nothing is heard of it any more."""
        self.closed = True
        self._server.streams.pop(self, None)
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_exception(Lost())

    # -- the node's end: asyncio.Transport ----------------------------------------------------

    def write(self, data: Any) -> None:
        if not self.closed and not self._life.dead:
            self._world.oracles.answered(self._life)
            self._at(1, self._to_client, bytes(data), context=self._world.context)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: Any = None, low: Any = None) -> None:
        """Nothing is buffered."""

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """It is asked one thing at a time."""

    def resume_reading(self) -> None:
        """See above."""

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._at(1, self.hang_up, context=self._world.context)

    def close(self) -> None:
        self.write_eof()

    def abort(self) -> None:
        self._world.loop.call_soon(self.hang_up, context=self._world.context)


class Client:
    """One client. `run` goes on until the world says that it is enough."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self.number = number
        self.chance = random.Random(f"{world.seed} client {number}")
        self._stream: Stream | None = None
        self.at = ""
        self._level = b"linearizable"
        self._tokens = 0
        self._is_reader = number % 3 == 0
        """Reads by lease and nothing else: a write without an answer would hold it up."""
        self._accounts_seen = 0

    async def run(self) -> None:
        world, chance = self._world, self.chance
        while not world.is_enough:
            await asyncio.sleep(world.plan.pause_s * (0.2 + 1.6 * chance.random()))
            if world.is_enough:
                return
            kind = chance.random()
            if self._is_reader:
                await self._read(chance.choice(("r0", "r1", "c0", "c1", "l0")))
            elif kind < 0.28:
                await self._register()
            elif kind < 0.46:
                await self._counter()
            elif kind < 0.58:
                await self._list()
            elif kind < 0.68:
                await self._accounts()
            elif kind < 0.80:
                await self._lease()
            else:
                await self._misc()

    async def call(self, *words: bytes | str | int) -> Any:
        """One command and its reply. Raises: Lost."""
        stream = await self._connected()
        try:
            async with asyncio.timeout(2.0 + self.chance.random()):
                return await stream.ask(*words)
        except TimeoutError:
            self.leave()
            raise Lost from None
        except Lost:
            self.leave()
            raise

    async def _connected(self) -> Stream:
        if self._stream is not None and not self._stream.closed:
            return self._stream
        for _ in range(200):
            host = self._world.host_for(self.chance)
            if host is not None and host.server is not None and host.server.is_open:
                self.at, self._level = host.id, b"linearizable"
                self._stream = Stream(self._world, host, host.server, self.chance)
                return self._stream
            await asyncio.sleep(0.05)
            if self._world.is_enough:
                break
        raise Lost

    def leave(self) -> None:
        """Look for another node."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.hang_up()

    def _us(self) -> int:
        return self._world.now_us()

    async def _do(
        self, op: str, key: str, value: Any, *words: bytes | str | int, level: bytes = b""
    ) -> Operation:
        """Ask, and write down what was asked and told."""
        operation = Operation(op, self.number, self.at, key, value, self._us())
        try:
            if level and level != self._level:
                await self.call(b"TRI.CONSISTENCY", level)
                self._level = level
            operation.start_us = self._us()
            reply = await self.call(*words)
        except Lost:
            operation.end_us = self._us()
            # NB: its start, before anything was sent: it may have been carried out from then on.
            self._note(operation, "lost")
            return operation
        operation.end_us, operation.node = self._us(), self.at
        if isinstance(reply, hiredis.ReplyError):
            text = str(reply)
            word = text.partition(" ")[0]
            if word in _FAILS:
                operation.outcome = FAIL
            elif word != "UNKNOWN":
                operation.outcome, operation.result = OK, reply
            operation.error = text
            if operation.outcome != OK and self.chance.random() < 0.3:
                self.leave()
        else:
            operation.outcome, operation.result = OK, reply
        self._note(operation, operation.outcome)
        return operation

    def _note(self, operation: Operation, what: str) -> None:
        self._world.answers[what] += 1
        if self._world.tracing:
            self._world.trace(operation.show())

    def _read_level(self) -> bytes:
        if self._is_reader:
            return b"lease"
        return self.chance.choices((b"linearizable", b"lease", b"eventual"), weights=(8, 3, 2))[0]

    def _record(self, operation: Operation, level: bytes = b"") -> None:
        if level != b"eventual":
            self._world.history.append(operation)

    # -- families -----------------------------------------------------------------------------

    async def _read(self, key: str) -> None:
        level = self._read_level()
        found = await self._do("read", key, None, b"GET", key, level=level)
        found.level = level.decode()
        if found.outcome == OK:
            family, value = key[0], found.result
            if family == "c":
                found.result = int(value or 0)
            elif family == "l":
                found.result = tuple((value or b"").decode().split(",")[:-1])
            else:
                found.result = None if value is None else value.decode()
        self._record(found, level)

    async def _register(self) -> None:
        chance = self.chance
        key = f"r{chance.randrange(2)}"
        way = chance.random()
        if way < 0.45:
            await self._read(key)
            return
        self._tokens += 1
        value = f"{self.number}.{self._tokens}"
        value += "x" * (self._world.plan.padding if chance.random() < 0.7 else 0)
        if way < 0.75:
            self._record(await self._do("write", key, value, b"SET", key, value))
        elif way < 0.82:
            self._record(await self._do("write", key, None, b"DEL", key))
        else:
            old = self._world.last_seen.get(key, "0")
            done = await self._do("cas", key, (old, value), b"SET", key, value, b"IFEQ", old)
            done.result = done.result == b"OK"
            self._record(done)
        if way < 0.75 or way >= 0.82:
            self._world.last_seen[key] = value

    async def _counter(self) -> None:
        key = f"c{self.chance.randrange(2)}"
        if self.chance.random() < 0.4:
            await self._read(key)
            return
        delta = self.chance.choice((1, 1, 2, -1))
        words = (b"INCRBY", key, delta) if delta > 0 else (b"DECRBY", key, -delta)
        self._record(await self._do("add", key, delta, *words))

    async def _list(self) -> None:
        key = f"l{self.chance.randrange(2)}"
        if self.chance.random() < 0.4:
            await self._read(key)
            return
        self._tokens += 1
        token = f"{self.number}.{self._tokens}"
        done = await self._do("append", key, token, b"APPEND", key, token + ",")
        self._record(done)

    async def _accounts(self) -> None:
        """Two keys move together or not at all."""
        try:
            if self.chance.random() < 0.5:
                if self._level == b"eventual":
                    await self.call(b"TRI.CONSISTENCY", b"linearizable")
                    self._level = b"linearizable"
                reply = await self.call(b"MGET", b"acct-a", b"acct-b")
                if isinstance(reply, list):
                    self._world.oracles.accounts(int(reply[0] or 0), int(reply[1] or 0))
                return
            amount = self.chance.randrange(1, 9)
            await self.call(b"MULTI")
            await self.call(b"INCRBY", b"acct-a", amount)
            await self.call(b"DECRBY", b"acct-b", amount)
            await self.call(b"EXEC")
        except Lost:
            return

    async def _lease(self) -> None:
        """A key that is written once, with a lifetime, and looked at until long after."""
        world, chance = self._world, self.chance
        if chance.random() < 0.35 or not world.leases:
            self._tokens += 1
            key = f"e{self.number}.{self._tokens}"
            ttl_ms = chance.choice((80, 200, 500, 1200))
            done = await self._do("write", key, "v", b"SET", key, b"v", b"PX", ttl_ms)
            world.oracles.granted(key, ttl_ms, done)
            return
        key = chance.choice(list(world.leases)[-6:])
        level = b"lease" if chance.random() < 0.3 else b"linearizable"
        found = await self._do("read", key, None, b"GET", key, level=level)
        if found.outcome == OK:
            world.oracles.looked(key, found)

    async def _misc(self) -> None:
        """Whatever else there is: the model knows what it has to do (oracles.py)."""
        chance = self.chance
        k, o = f"m{chance.randrange(6)}", f"m{chance.randrange(6)}"
        n, t = chance.randrange(40), chance.choice((50, 300, 2000))
        v = f"v{chance.randrange(1000)}"
        words: tuple[Any, ...] = chance.choice(
            (
                ("SET", k, v, "NX"),
                ("SET", k, v, "XX", "GET"),
                ("SET", k, v, "KEEPTTL"),
                ("SET", k, n),
                ("SETNX", k, v),
                ("SETEX", k, 1, v),
                ("PSETEX", k, t, v),
                ("GETSET", k, v),
                ("GETDEL", k),
                ("GETEX", k, "PX", t),
                ("GETEX", k, "PERSIST"),
                ("MSET", k, v, o, n),
                ("MSETNX", k, v, o, v),
                ("SETRANGE", k, n, v),
                ("SETBIT", k, n, 1),
                ("INCR", k),
                ("APPEND", k, v),
                ("DEL", k, o),
                ("UNLINK", k),
                ("RENAME", k, o),
                ("RENAMENX", k, o),
                ("COPY", k, o, "REPLACE"),
                ("EXPIRE", k, 1),
                ("PEXPIRE", k, t),
                ("PEXPIRE", k, t, "GT"),
                ("PERSIST", k),
                ("DELEX", k, "IFEQ", v),
                ("MGET", k, o),
                ("EXISTS", k, o),
                ("PTTL", k),
                ("STRLEN", k),
                ("SCAN", 0),
                ("DBSIZE",),
                ("PUBLISH", "ch", v),
                ("TRI.GET", k),
                ("TRI.PREFIX", "m"),
                ("TRI.DIGEST",),
                ("INFO", "raft"),
                ("SET", k, v, "IFREV", n),
                ("RANDOMKEY",),
                ("SETEX", k, 0, v),
                ("EVAL", "return 1", 0),
                ("NOSUCH", k),
                ("SUBSTR", k, 0, 3),
                ("INCRBYFLOAT", k, "0.5"),
                ("TRI.LEASE", "GRANT", t, "ID", n % 4 + 1),
                ("TRI.LEASE", "KEEPALIVE", n % 4 + 1),
                ("TRI.LEASE", "REVOKE", n % 4 + 1),
                ("TRI.LEASE", "TTL", n % 4 + 1, "KEYS"),
                ("SET", f"g{n % 3}", v, "LEASE", n % 4 + 1),
                ("SET", f"g{n % 3}", v),
            )
        )
        self._world.commands[words[0]] += 1
        try:
            await self.call(*words)
        except Lost:
            return
