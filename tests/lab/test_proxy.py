"""The wires: what is held arrives later and in order, each way by itself; delay and loss."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from node.lab.proxy import RETRANSMIT_S, Gate, Wire


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*arguments: Any, **words: Any) -> None:
        asyncio.run(test(*arguments, **words))

    return run


HELLO = b"\0\0\0\x2a\x98\x01\x02\xa2n1\xa2n2..."
"""What n1 begins a connection to n2 with, and what comes behind its id."""


class Ends:
    """Both ends of a wire: n1, which has dialled, and n2."""

    def __init__(self, wire: Wire, gate: Gate, accepted: asyncio.Queue[Any]) -> None:
        self.wire, self.gate, self.accepted = wire, gate, accepted

    def begin(self, n1: Any, n2: Any) -> None:
        self.n1_reader, self.n1_writer = n1
        self.n2_reader, self.n2_writer = n2


@asynccontextmanager
async def a_wire() -> AsyncIterator[Ends]:
    accepted: asyncio.Queue[Any] = asyncio.Queue()
    server = await asyncio.start_server(
        lambda reader, writer: accepted.put_nowait((reader, writer)), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    wire = Wire("n1", "n2", random.Random(1))
    gate = Gate(("127.0.0.1", port), {"n1": wire})
    await gate.start("127.0.0.1")
    n1 = await asyncio.open_connection("127.0.0.1", gate.port)
    n1[1].write(HELLO)
    ends = Ends(wire, gate, accepted)
    ends.begin(n1, await accepted.get())
    assert await ends.n2_reader.readexactly(len(HELLO)) == HELLO
    try:
        yield ends
    finally:
        for writer in (ends.n1_writer, ends.n2_writer):
            writer.close()
        await gate.close()
        server.close()
        await asyncio.sleep(0.01)


async def silent(reader: asyncio.StreamReader, seconds: float = 0.08) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return not await reader.read(1)
    except TimeoutError:
        return True


@in_loop
async def test_bytes_pass_both_ways() -> None:
    async with a_wire() as ends:
        ends.n1_writer.write(b"there")
        assert await ends.n2_reader.readexactly(5) == b"there"
        ends.n2_writer.write(b"back")
        assert await ends.n1_reader.readexactly(4) == b"back"


@in_loop
async def test_one_way_is_held_and_the_other_is_not() -> None:
    async with a_wire() as ends:
        ends.wire.direction("n1").hold()
        ends.n1_writer.write(b"one ")
        ends.n1_writer.write(b"two")
        ends.n2_writer.write(b"back")
        assert await ends.n1_reader.readexactly(4) == b"back"
        assert await silent(ends.n2_reader)
        ends.wire.heal()
        assert await ends.n2_reader.readexactly(7) == b"one two"


@in_loop
async def test_nobody_can_connect_while_a_wire_is_cut() -> None:
    async with a_wire() as ends:
        ends.wire.direction("n2").hold()
        reader, writer = await asyncio.open_connection("127.0.0.1", ends.gate.port)
        writer.write(HELLO)
        assert await silent(reader)
        assert len(ends.gate._tasks) == 2  # accepted, and not carried on
        writer.close()


@pytest.mark.parametrize("said", [HELLO.replace(b"n1", b"n9"), b"GET / HTTP/1.1\r\n\r\n" * 9])
@in_loop
async def test_a_stranger_is_hung_up_on(said: bytes) -> None:
    async with a_wire() as ends:
        reader, writer = await asyncio.open_connection("127.0.0.1", ends.gate.port)
        writer.write(said)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


@in_loop
async def test_a_gate_for_one_dialler_reads_nothing_of_what_passes() -> None:
    async with a_wire() as ends:
        wire = Wire("n1", "n2", random.Random(1))
        gate = Gate(ends.gate._to, wire)
        await gate.start("127.0.0.1")
        _, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        writer.write(b"\x16")  # TLS, say
        reader, there = await ends.accepted.get()
        assert await reader.readexactly(1) == b"\x16"
        for each in (writer, there):
            each.close()
        await gate.close()


@in_loop
async def test_delay_and_loss_make_late_and_keep_the_order() -> None:
    async with a_wire() as ends:
        loop, way = asyncio.get_running_loop(), ends.wire.direction("n1")
        way.delay_ms = (60.0, 60.0)
        begun_s = loop.time()
        ends.n1_writer.write(b"x")
        assert await ends.n2_reader.readexactly(1) == b"x"
        assert loop.time() - begun_s >= 0.055
        way.delay_ms, way.loss = (0.0, 0.0), 1.0
        begun_s = loop.time()
        ends.n1_writer.write(b"a")
        await asyncio.sleep(0.01)
        way.loss = 0.0
        ends.n1_writer.write(b"b")
        assert await ends.n2_reader.readexactly(2) == b"ab"
        assert loop.time() - begun_s >= RETRANSMIT_S - 0.01


@in_loop
async def test_the_end_of_one_side_is_the_end_of_the_other() -> None:
    async with a_wire() as ends:
        ends.n2_writer.write(b"last")
        ends.n2_writer.close()
        assert await ends.n1_reader.read() == b"last"
