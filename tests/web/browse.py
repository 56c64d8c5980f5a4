"""For the tests of the HTTP port: nodes in this loop, and plain requests to them.

async with running(configs) as nodes: ...
status, headers, body = await get(address, "/status")
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from node.app import Node
from node.config import Address, Config, HttpSection, NodeSection, RaftSection
from tests.support.fake_service import members
from tests.support.ports import free_base_port

TIMEOUT_S = 20.0
FAST = RaftSection(election_timeout_min_ms=100, election_timeout_max_ms=200, heartbeat_ms=30)


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs a test in an event loop of its own."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        async def limited() -> None:
            async with asyncio.timeout(TIMEOUT_S):
                await test(*arguments, **named)

        asyncio.run(limited())

    return run


def configs(data: Path, count: int = 1, token: str = "") -> list[Config]:
    """n1, n2, ..."""
    everybody = members(count, free_base_port(count))
    return [
        Config(
            node=NodeSection(id=member.id, data_dir=data / member.id),
            members=everybody,
            raft=FAST if count == 1 else RaftSection(),
            http=HttpSection(token=token),
        )
        for member in everybody
    ]


@contextlib.asynccontextmanager
async def running(made: list[Config]) -> AsyncIterator[list[Node]]:
    """A node of each, ready."""
    async with contextlib.AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(Node(config)) for config in made]
        for node in nodes:
            await node.wait_ready(TIMEOUT_S)
        yield nodes


async def exchange(address: Address, data: bytes) -> bytes:
    """Everything that comes back until the other end closes."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(data)
        return await reader.read(-1)
    finally:
        writer.close()


async def get(address: Address, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    lines = {"host": str(address), "connection": "close"} | headers
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    answer = await exchange(address, f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
    top, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = top.decode().split("\r\n")
    found = dict(line.lower().split(": ", 1) for line in rest)
    return int(first.split()[1]), found, body


async def get_json(address: Address, path: str, **headers: str) -> Any:
    """A JSON answer."""
    status, _, body = await get(address, path, **headers)
    assert status == 200, body
    return json.loads(body)
