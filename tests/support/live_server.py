"""A node.server in a thread of this process, and a real redis-server beside it.

    live_server()   node.server over FakeService on a free loopback port; its loop in a thread
    redis_oracle()  redis-server 7 on a free port, killed by its pid at the end; skips without one
    Wire            a bare socket that sends requests and reads replies (by hiredis)

The service is a double (fake_service.py says so); sockets, sessions and commands are the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import hiredis
import pytest

from node.commands import COMMANDS
from node.config import Config
from node.connection import Frontend
from node.server import Server, tls_context
from tests.support.fake_service import FakeService, config, wire

WAIT_S = 10.0


@dataclass(slots=True)
class LiveServer:
    """A running server. Other threads touch its service through `call` only."""

    loop: asyncio.AbstractEventLoop
    service: FakeService
    frontend: Frontend
    port: int
    server: Server

    def call(self, function: Callable[[], Any]) -> Any:
        """Run it in the loop's thread."""

        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(WAIT_S)


@contextlib.contextmanager
def live_server(
    configuration: Config | None = None,
    *,
    base_port: int | None = None,
    event_loop: str = "asyncio",
) -> Iterator[LiveServer]:
    """Serve until the block ends.

    Args:
        base_port: where to listen, and the one node of the cluster with it; else on a free port,
            which the replies about the (three) members do not know.
        event_loop: "asyncio" or "uvloop"; the test is skipped where that is missing.
    """
    count = 3 if base_port is None else 1
    if event_loop == "uvloop":
        loop: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    service = FakeService(
        count=count,
        base_port=base_port or 7001,
        now_ms=lambda: time.time_ns() // 1_000_000,
        call_soon=loop.call_soon,
    )
    frontend = Frontend(
        service, configuration or config(count=count, base_port=base_port or 7001), COMMANDS
    )
    tls = tls_context(frontend.config.client)
    server = Server(frontend, "127.0.0.1", base_port or 0, tls)
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(WAIT_S)
    try:
        yield LiveServer(loop, service, frontend, server.port, server)
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(WAIT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_S)
        loop.close()


@contextlib.contextmanager
def redis_oracle() -> Iterator[int]:
    """The port of a redis-server of version 7."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed: nothing to compare with")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    if " v=7." not in version.stdout:
        pytest.skip(f"the words compared with are Redis 7's, and this is {version.stdout.strip()}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen([program, *words], stdout=subprocess.DEVNULL)
    try:
        deadline_s = time.monotonic() + WAIT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), WAIT_S).close()
                break
            except OSError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait(WAIT_S)


class Wire:
    """A client that sends what it is told to, right or wrong."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), WAIT_S)
        self._reader = hiredis.Reader(replyError=hiredis.ReplyError)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_args: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """As it is."""
        self.socket.sendall(data)

    def reply(self) -> Any:
        """The next reply. Raises EOFError when the server closed."""
        while True:
            found = self._reader.gets()
            if found is not False:
                return found
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError
            self._reader.feed(data)

    def replies(self, count: int) -> list[Any]:
        """The next ones."""
        return [self.reply() for _ in range(count)]

    def run(self, *arguments: bytes | str | int) -> Any:
        """One command to its reply."""
        self.send(wire(*arguments))
        return self.reply()

    def rest(self) -> bytes:
        """All that comes until the server closes, unparsed."""
        data = b""
        while piece := self.socket.recv(1 << 16):
            data += piece
        return data
