"""The server itself: what it answers, what it refuses, and that nobody can hold it up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from node.config import Address
from node.logs import EventLog
from node.web import http
from node.web.http import Request, Response, Server, Stream, sse
from node.web.listening import events
from tests.support.ports import free_base_port
from tests.web.browse import exchange, get, in_loop


async def answer(request: Request) -> Response | Stream:
    """An echo, a stream, and a bug."""
    if request.path == "/bug":
        raise RuntimeError("a bug")
    if request.path == "/stream":
        return Stream(_pieces())
    said = f"{request.method} {request.path} {dict(request.query)} {len(request.body)}"
    return Response(200, said.encode())


async def _pieces() -> AsyncIterator[bytes]:
    for number in range(3):
        yield sse(f'{{"number": {number}}}')
    await asyncio.sleep(60)


@contextlib.asynccontextmanager
async def serving(connections_max: int = 8) -> AsyncIterator[tuple[Server, Address]]:
    address = Address("127.0.0.1", free_base_port())
    server = Server(answer, address, connections_max, EventLog("n1"))
    await server.start()
    try:
        yield server, address
    finally:
        await server.stop()


@in_loop
async def test_one_connection_carries_one_request_after_the_other() -> None:
    async with serving() as (_, address):
        said = await exchange(
            address,
            b"GET /a?x=1&y=%20 HTTP/1.1\r\nHost: h\r\n\r\n"
            b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
            b"HEAD /c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        )
    assert said.count(b"HTTP/1.1 200") == 3
    assert b"GET /a {'x': '1', 'y': ' '} 0" in said
    assert b"POST /b {} 3" in said
    assert b"HEAD /c" not in said


@pytest.mark.parametrize(
    ("data", "want"),
    [
        pytest.param(b"\x16\x03\x01\x02\r\n\r\n", b"400", id="TLS"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", b"400", id="no host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 40_000, b"431", id="long head"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n" + b"a" * 70_000,
            b"413",
            id="long body",
        ),
    ],
)
@in_loop
async def test_what_cannot_be_read_is_refused_and_the_next_client_served(
    data: bytes, want: bytes
) -> None:
    async with serving() as (_, address):
        with contextlib.suppress(ConnectionResetError):  # It need not read all of a long one.
            said = await exchange(address, data)
            assert said.startswith(b"HTTP/1.1 " + want)
        assert (await get(address, "/"))[0] == 200


@in_loop
async def test_a_bug_in_a_page_is_answered_and_costs_nobody_else() -> None:
    async with serving() as (_, address):
        assert (await get(address, "/bug"))[0] == 500
        assert (await get(address, "/"))[0] == 200


@in_loop
async def test_one_connection_too_many_is_closed_and_room_comes_back() -> None:
    async with serving(connections_max=4) as (server, address):
        held = [await asyncio.open_connection(address.host, address.port) for _ in range(4)]
        while server.connections < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        with contextlib.suppress(ConnectionResetError):
            assert await exchange(address, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n") == b""
        for _, writer in held:
            writer.close()
        while server.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        assert (await get(address, "/"))[0] == 200


@in_loop
async def test_whoever_is_slow_with_a_request_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_S", 0.1)
    async with serving() as (_, address):
        assert await exchange(address, b"GET / HTTP/1.1\r\nHost") == b""


@in_loop
async def test_a_stream_is_read_as_it_comes_and_ends_with_the_server() -> None:
    async with serving() as (server, address):
        stream = events(address, "/stream", "", 5.0)
        assert [(await anext(stream))["number"] for _ in range(3)] == [0, 1, 2]
        await server.stop()
        with contextlib.suppress(OSError):
            assert [each async for each in stream] == []


@in_loop
async def test_a_silent_stream_is_noticed() -> None:
    async with serving() as (_, address):
        stream = events(address, "/stream", "", 0.2)
        for _ in range(3):
            await anext(stream)
        with pytest.raises(TimeoutError):
            await anext(stream)
        with pytest.raises(ConnectionRefusedError):
            await anext(events(address, "/bug", "", 0.2))
