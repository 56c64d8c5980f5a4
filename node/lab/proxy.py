"""The wires between peers, with somebody sitting on them: a TCP proxy before each node.

    n1 --dials--> [gate of n2: who is it?] -- wire n1-n2 --connects--> where n2 really listens
                                         n1>n2: open | held, delay, loss
                                         n2>n1: open | held, delay, loss

All nodes, and so their rosters, know each of them by the port of its gate; where it really
listens only the node itself is told (`lab.peer_listen`). So whoever joins is dialled through its
gate too. The gate reads whose connection it is in the hello, the first frame on it; who is no
node of ours is hung up on. The two directions of a pair are set one by one.

    0        4      5      6          7        8
    +--------+------+------+----------+--------+- - - -+     the first bytes of a hello: a msgpack
    | length | 0x9n | 0x01 | version  | 0xa0+s | id    |     array of kind 1, version, who dials
    +--------+------+------+----------+--------+- - - -+     (the node promises: they never change)

    held    nothing passes. What is sent waits here, as it would wait in the sender's kernel while
            the network drops its segments, and arrives when the wire is open again, if the
            connection lived that long. A new connection is not carried on while either
            direction is held: a SYN and its answer need both
    delay   each chunk arrives that much later, in order
    loss    a chunk is lost with this probability, and comes, with all behind it, one
            retransmission timeout later (200 ms, Linux's shortest): what loss is under TCP

What it is not: packets (node.lab.switch has those): there is no reordering, no duplication and no
RST from the middle. Nor is it for TLS between peers: a hello must be readable.

Proved by: tests/lab/test_proxy.py
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping
from typing import Final

__all__ = ["Direction", "Gate", "Wire"]

RETRANSMIT_S: Final = 0.2
_CHUNK_BYTES: Final = 64 * 1024
_HEAD_BYTES: Final = 8
_QUEUE_CHUNKS_MAX: Final = 256
"""More than this waits in the sender's own socket."""


class Direction:
    """One way of a wire."""

    def __init__(self, rng: random.Random, delay_ms: tuple[float, float] = (0.0, 0.0)) -> None:
        self._rng = rng
        self._usual_ms = delay_ms
        self._open = asyncio.Event()
        self._open.set()
        self.delay_ms = delay_ms
        self.loss = 0.0

    @property
    def held(self) -> bool:
        """Whether nothing passes."""
        return not self._open.is_set()

    def hold(self) -> None:
        """Let nothing pass."""
        self._open.clear()

    def heal(self) -> None:
        """As new."""
        self.delay_ms, self.loss = self._usual_ms, 0.0
        self._open.set()

    async def until_open(self) -> None:
        """Return once it is not held."""
        await self._open.wait()

    def lateness_s(self) -> float:
        """How much later the next chunk is to arrive."""
        late_s = self._rng.uniform(*self.delay_ms) / 1000
        if self.loss and self._rng.random() < self.loss:
            late_s += RETRANSMIT_S
        return late_s


class Wire:
    """The proxy of one pair of nodes: `dialler` calls, `target` is called.

    Args:
        delay_ms: how slow both ways are when nothing is wrong with them.
    """

    def __init__(
        self,
        dialler: str,
        target: str,
        rng: random.Random,
        delay_ms: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.ends = (dialler, target)
        self._there = Direction(rng, delay_ms)
        self._back = Direction(rng, delay_ms)

    def direction(self, source: str) -> Direction:
        """The way from one of its ends to the other."""
        return self._there if source == self.ends[0] else self._back

    def heal(self) -> None:
        """Both ways as new."""
        self._there.heal()
        self._back.heal()

    async def carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        to: tuple[str, int],
        head: bytes = b"",
    ) -> None:
        """One connection, from the dialler on to where the target listens, until it ends.

        Args:
            head: what was read of it already.
        """
        await self._there.until_open()
        await self._back.until_open()
        far_reader, far_writer = await asyncio.open_connection(*to)
        ways = [
            asyncio.create_task(_pump(reader, far_writer, self._there, head)),
            asyncio.create_task(_pump(far_reader, writer, self._back)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            far_writer.close()


class Gate:
    """Where all others find one node: tells by a connection's first frame whose it is.

    Args:
        to: where the node really listens.
        wires: to it, by dialler; or one, if this gate is told to one dialler only: then nothing is
            read of a connection, and TLS passes too.
    """

    def __init__(self, to: tuple[str, int], wires: Mapping[str, Wire] | Wire) -> None:
        self._to = to
        self._wires = wires
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self, host: str, port: int = 0) -> None:
        """Listen, at a free port if none is named; `port` is where."""
        self._server = await asyncio.start_server(self._accept, host, port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End all connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if isinstance(self._wires, Wire):
                await self._wires.carry(reader, writer, self._to)
                return
            head = await reader.readexactly(_HEAD_BYTES)
            size = head[-1] & 0x1F
            head += await reader.readexactly(size)
            wire = self._wires.get(head[-size:].decode("ascii", "replace"))
            if wire is not None:
                await wire.carry(reader, writer, self._to, head)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # The node at either end is gone, or we are: its peer sees the end.
        finally:
            writer.close()
            self._tasks.discard(task)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Direction, data: bytes = b""
) -> None:
    """Carry bytes one way until either side ends."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUE_CHUNKS_MAX)

    async def deliver() -> None:
        while True:
            due_s, data = await queue.get()
            while way.held:
                await way.until_open()
            if (wait_s := due_s - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            if not data:
                return
            writer.write(data)
            await writer.drain()

    delivery = asyncio.create_task(deliver())
    last_s = 0.0
    with contextlib.suppress(OSError):
        try:
            while data := data or await reader.read(_CHUNK_BYTES):
                # In order, however late the one before is.
                last_s = max(last_s, loop.time() + way.lateness_s())
                await queue.put((last_s, data))
                data = b""
                if delivery.done():
                    break
            await queue.put((last_s, b""))
            await delivery
        finally:
            delivery.cancel()
