"""What becomes of a request: ok, fail or unknown, and never anything that hides the third."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from node.lab.client import Client, Recorder
from node.lab.clock import RunClock
from node.lab.config import WorkloadConfig
from node.lab.connection import Server, ask
from node.lab.driver import Driver
from node.lab.history import FAIL, OK, UNKNOWN, Operation
from node.lab.workload import Workload
from tests.lab.liar import Liar
from tests.lab.test_proxy import in_loop

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def outcome_of(answer: Answer) -> Operation:
    """What a client records when a server behaves like that."""
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await answer(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    recorder = Recorder(RunClock())
    client = Client(0, [Server("n1", host, port)], recorder, rng=random.Random(1), timeout_ms=150)
    operation = await client.call("write", "k", "v", "SET", "k", "v")
    client.close()
    server.close()
    for writer in writers:
        writer.close()
    await asyncio.sleep(0.01)
    assert recorder.operations == [operation]
    assert operation.end_us >= operation.start_us
    return operation


def says(reply: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(reply)
        await writer.drain()

    return answer


@pytest.mark.parametrize(
    ("reply", "want"),
    [
        (b"+OK\r\n", OK),
        (b"-UNKNOWN write may or may not have been applied\r\n", UNKNOWN),
        (b"-CLUSTERDOWN no leader\r\n", FAIL),
        (b"-LOADING\r\n", FAIL),
        (b"-MOVED 7 127.0.0.1:7001\r\n", FAIL),
        (b"-BUSY\r\n", FAIL),
        (b"-ERR wrong\r\n", FAIL),
    ],
)
def test_a_reply_decides(reply: bytes, want: str) -> None:
    operation = asyncio.run(outcome_of(says(reply)))
    assert operation.outcome == want
    assert (operation.error == "") == (want == OK)


@in_loop
async def test_a_lost_connection_is_unknown() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.transport.abort()

    assert (await outcome_of(answer)).outcome == UNKNOWN


@in_loop
async def test_no_answer_in_time_is_unknown() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        await asyncio.sleep(0.4)

    operation = await outcome_of(answer)
    assert (operation.outcome, operation.error) == (UNKNOWN, "no answer in time")
    assert 140_000 < operation.latency_us < 400_000


@in_loop
async def test_an_answer_that_is_no_resp_is_unknown() -> None:
    assert (await outcome_of(says(b"HTTP/1.1 200 OK\r\n\r\n"))).outcome == UNKNOWN


@in_loop
async def test_what_was_never_sent_has_failed_and_the_next_server_is_asked() -> None:
    closed = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = closed.sockets[0].getsockname()[1]
    closed.close()
    await closed.wait_closed()
    recorder = Recorder(RunClock())
    gone = Server("gone", "127.0.0.1", port)
    alone = Client(0, [gone], recorder, rng=random.Random(1), timeout_ms=500)
    assert (await alone.call("write", "k", "v", "SET", "k", "v")).outcome == FAIL
    async with Liar() as liar:
        live = Server.parse(liar.address)
        client = Client(0, [gone, live], recorder, rng=random.Random(1), timeout_ms=500)
        operation = await client.call("write", "k", "v", "SET", "k", "v")
        assert (operation.outcome, operation.node) == (OK, live.id)
        assert await ask(live, "GET", "k") == b"v"
        client.close()


@in_loop
async def test_a_client_goes_home_when_its_own_server_answers_again() -> None:
    async with Liar() as away:
        async with Liar() as first:
            servers = [Server.parse(first.address), Server.parse(away.address)]
            recorder = Recorder(RunClock())
            client = Client(0, servers, recorder, rng=random.Random(1), timeout_ms=500)
            assert (await client.call("read", "k", None, "GET", "k")).node == first.address
        await client.call("read", "k", None, "GET", "k")  # finds the connection lost
        assert (await client.call("read", "k", None, "GET", "k")).node == away.address
        host, _, port = first.address.rpartition(":")
        async with Liar() as again:
            assert again._server is not None
            back = await asyncio.start_server(again._serve, host, int(port))
            await asyncio.sleep(0.5)
            assert (await client.call("read", "k", None, "GET", "k")).node == first.address
            client.close()
            back.close()


class _Slow(Workload):
    async def step(self, client: Client) -> None:
        operation = await client.call("write", "k", "v", "SET", "k", "v")
        if len(client.memory) < 1:
            client.memory["paused"] = True
            await asyncio.sleep(0.2)  # as if the server had paused
        assert operation.is_ok


@in_loop
async def test_an_open_loop_counts_from_the_planned_moment() -> None:
    """A pause of 200 ms is felt by all operations that were due in it, not by one."""
    config = WorkloadConfig(clients=1, rate=100.0)
    async with Liar() as liar:
        recorder = Recorder(RunClock())
        servers = [Server.parse(liar.address)]
        driver = Driver(config, _Slow(config), servers, recorder, seed="1")
        driver.start()
        await asyncio.sleep(0.5)
        await driver.stop()
        driver.close()
    late = [each for each in recorder.operations if each.latency_us > 20_000]
    assert 10 <= len(late) <= 40
    assert all(each.planned_us >= 0 for each in recorder.operations)
