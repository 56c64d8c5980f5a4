"""No value of a key is ever logged or shown: a value that sings is sent through everything.

Method: a node in this process logs at its most talkative level, both formats, while clients send
one word as value, password, message, script, wrong type, wrong number, oversized value, broken
protocol and in a bug of a handler; it makes a snapshot, is restarted, and its files are damaged.
The word may be in replies and in files; it must be in no log line, in no error that a start raises,
and on no page of the HTTP port.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.app import Node
from node.commands import COMMANDS
from node.config import Address, Config, LogSection
from node.errors import KVError
from node.logs import configure
from tests.web.browse import configs, get, in_loop

CANARY = "canary7f3a9c51e8"
LONG = CANARY * 200
COMMANDS_SENT = [
    f"SET k {CANARY}",
    "GET k",
    f"SET k {CANARY} NX GET",
    f"SET k {CANARY} PX {CANARY}",
    f"INCRBY k {CANARY}",
    "INCR k",
    f"APPEND k {CANARY}",
    f"SETRANGE k {CANARY} {CANARY}",
    f"GETEX k EX {CANARY}",
    f"MSET a {CANARY} b {CANARY} c",
    f"MSET a {CANARY} b {CANARY}",
    f"AUTH {CANARY}",
    f"AUTH user {CANARY}",
    f"HELLO 3 AUTH default {CANARY}",
    f"PUBLISH channel {CANARY}",
    f"EVAL {CANARY} 0",
    f"EVALSHA {CANARY} 0",
    f"NOSUCHCOMMAND {CANARY}",
    f"CONFIG SET requirepass {CANARY}",
    f"CONFIG SET notify-keyspace-events {CANARY}",
    "MULTI",
    f"SET k {CANARY}",
    f"INCRBY k {CANARY}",
    "EXEC",
    f"SET k {CANARY} IFEQ {CANARY}",
    f"DELEX k IFEQ {CANARY}",
    f"TRI.CONSISTENCY {CANARY}",
    f"TRI.TRANSFER {CANARY}",
    f"TRI.MEMBER ADD {CANARY} {CANARY}",
    "TRI.SNAPSHOT",
    "CLIENT LIST",
    f"SET long {LONG}",
]
BROKEN = [
    f"*2\r\n$3\r\nGET\r\n$x\r\n{CANARY}\r\n",
    f"*1\r\n${len(CANARY)}\r\n{CANARY}xx",
    f"*-5\r\n{CANARY}\r\n",
    f"GET / HTTP/1.1\r\nHost: {CANARY}\r\n\r\n",
    f'SET "unbalanced {CANARY}\r\n',
    f"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$99999999\r\n{CANARY}",
]


@pytest.fixture(autouse=True, params=["text", "json"])
def said(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """Everything that this process logs."""
    root, ours = logging.getLogger(), logging.getLogger("trimaran")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    stream = io.StringIO()
    configure(LogSection(level="debug", format=request.param), "n1", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


async def send(at: Address, data: bytes, count: int) -> bytes:
    """Send it; what came back by the time that nothing more comes."""
    reader, writer = await asyncio.open_connection(at.host, at.port)
    writer.write(data)
    if count == 0:
        writer.write_eof()
    found = b""
    with contextlib.suppress(TimeoutError, OSError):
        while more := await asyncio.wait_for(reader.read(65_536), 0.3):
            found += more
    writer.close()
    return found


async def sing(config: Config) -> None:
    """Everything above, and a bug whose words are a value."""
    at = config.member.client
    for command in COMMANDS_SENT[:-2]:
        await_data = command.encode() + b"\r\n"
        if command in ("MULTI", "EXEC") or "IFEQ" in command:
            continue
        await send_one(at, await_data)
    reply = await send(at, "".join(f"{each}\r\n" for each in COMMANDS_SENT).encode(), 1)
    assert CANARY.encode() in reply  # That is what a client is for.
    for each in BROKEN:
        await send(at, each.encode(), 0)


async def send_one(at: Address, data: bytes) -> None:
    """One command on a connection of its own, not waited for beyond its first line."""
    reader, writer = await asyncio.open_connection(at.host, at.port)
    writer.write(data)
    with contextlib.suppress(OSError):
        await asyncio.wait_for(reader.readline(), 5)
    writer.close()


@in_loop
async def test_it_is_in_no_log_line_and_on_no_page(
    tmp_path: Path, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    (config,) = configs(tmp_path)
    async with Node(config) as node:
        await node.wait_ready(10)
        await sing(config)
        pages = [await get(config.member.http, path) for path in ("/status", "/metrics", "/keys")]
        assert [page[0] for page in pages] == [200, 200, 200]
        assert all(CANARY.encode() not in body for _, _, body in pages)
        recorder = node._site.recorder if node._site is not None else None
        assert recorder is not None
        assert CANARY not in recorder.history()
        assert recorder.events

    # Bugs: in a handler (the loop logs it), and in what answers a write (the batches do).
    def broken(*_arguments: object) -> bytes:
        raise ValueError(f"invalid literal: {CANARY!r}")

    async with Node(config) as node:
        await node.wait_ready(10)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(None)
        monkeypatch.setattr("node.session.find", broken)
        await send_one(config.member.client, b"GET k\r\n")
        monkeypatch.undo()
        core = node._core
        assert core is not None
        core.reads.tick = broken  # type: ignore[method-assign]
        assert node.failed is not None
        assert isinstance(await asyncio.wait_for(node.failed, 5), ValueError)
    assert COMMANDS
    text = said.getvalue()
    for words in ("leader ready", "snapshot made", "fatal", "ValueError", "broken"):
        assert words in text, words
    assert CANARY not in text


@in_loop
async def test_it_is_in_no_error_of_a_damaged_directory(tmp_path: Path, said: io.StringIO) -> None:
    (config,) = configs(tmp_path)
    async with Node(config) as node:
        await node.wait_ready(10)
        for number in range(20):
            await node.set(b"k%d" % number, LONG.encode())
    files = [path for path in sorted(config.node.data_dir.rglob("*")) if path.is_file()]
    errors: list[str] = []
    for path in files:
        sound = path.read_bytes()
        at = sound.find(CANARY.encode())
        if at < 0:
            continue
        path.write_bytes(sound[:at] + b"C" + sound[at + 1 :])
        try:
            async with Node(config):
                pass
        except KVError as error:
            errors.append(f"{error} {error!r}")
        path.write_bytes(sound)
    assert errors
    assert CANARY[1:] not in "".join(errors) + said.getvalue()
