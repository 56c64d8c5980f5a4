"""A RESP server in memory that can be told to lie: what the laboratory has to find out.

async with Liar("stale_read") as liar: ... liar.address

honest          what it says is true, one command after the other
stale_read      now and then a GET answers with the value before the last one
lost_write      now and then a SET is acknowledged and not done
double_apply    now and then an INCRBY is done twice
early_expiry    a time to live is cut by a third
late_expiry     keys never expire
same_token      now and then an INCR of a fence answers the number before
two_holders     SET NX succeeds now and then although the key is there
torn_move       now and then the second half of a MULTI is not done
blind_scan      SCAN leaves keys out
old_revision    now and then TRI.GET tells the revision before the last one
late_revision   now and then TRI.GET tells a revision that is still to come
"""

from __future__ import annotations

import asyncio
import itertools
import time
from types import TracebackType
from typing import Any

import hiredis

LIES = (
    "stale_read",
    "lost_write",
    "double_apply",
    "early_expiry",
    "late_expiry",
    "same_token",
    "two_holders",
    "torn_move",
    "blind_scan",
    "old_revision",
    "late_revision",
)
_EVERY = 23


class Liar:
    """Every 23rd command that the lie is about is answered wrongly."""

    def __init__(self, lie: str = "honest") -> None:
        self._lie = lie
        self._values: dict[bytes, bytes] = {}
        self._before: dict[bytes, bytes] = {}
        self._revision = 0
        self._revisions: dict[bytes, int] = {}
        self._revisions_before: dict[bytes, int] = {}
        self._deadlines: dict[bytes, float] = {}
        self._count = itertools.count(1)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.address = ""

    async def __aenter__(self) -> Liar:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        # What a client that has gone dialled at the end is accepted first, and gets its task:
        # NB: asyncio loses a connection that it accepted when its server is closed meanwhile.
        for _ in range(10):
            await asyncio.sleep(0)
        self._server.close()
        await asyncio.sleep(0)
        # Their readers come to an end by themselves. NB: asyncio's own callback on these tasks
        # raises when one was cancelled.
        for writer in list(self._writers):
            writer.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _lies(self, lie: str) -> bool:
        return self._lie == lie and next(self._count) % _EVERY == 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._answer(reader, writer)
        except ConnectionError:
            pass  # The client has seen enough.
        finally:
            writer.close()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser, queued = hiredis.Reader(), None
        while data := await reader.read(65536):
            parser.feed(data)
            while (request := parser.gets()) is not False:
                words = [bytes(each) for each in request]
                name = words[0].upper()
                if name == b"MULTI":
                    queued, reply = [], b"+OK\r\n"
                elif name == b"EXEC" and queued is not None:
                    if self._lies("torn_move"):
                        self._do(queued[0])
                        replies = [b":0\r\n"] * len(queued)
                    else:
                        replies = [self._do(each) for each in queued]
                    queued, reply = None, b"*%d\r\n%b" % (len(replies), b"".join(replies))
                elif queued is not None:
                    queued.append(words)
                    reply = b"+QUEUED\r\n"
                else:
                    reply = self._do(words)
                writer.write(reply)

    def _do(self, words: list[bytes]) -> bytes:
        name, rest = words[0].upper(), words[1:]
        for key in [key for key, at in self._deadlines.items() if at <= time.monotonic()]:
            if self._lie != "late_expiry":
                del self._deadlines[key]
                self._values.pop(key, None)
        if name == b"SET":
            return self._set(rest)
        if name == b"GET":
            value = self._values.get(rest[0])
            if rest[0] in self._before and self._lies("stale_read"):
                value = self._before[rest[0]]
            return _bulk(value)
        if name == b"TRI.GET":
            return self._facts(rest[0])
        if name == b"MGET":
            found = [_bulk(self._values.get(key)) for key in rest]
            return b"*%d\r\n%b" % (len(found), b"".join(found))
        if name in (b"INCR", b"INCRBY", b"DECRBY"):
            return self._add(name, rest)
        if name == b"SCAN":
            found = [key for key in self._values if key.startswith(rest[2].rstrip(b"*"))]
            if self._lies("blind_scan"):
                found = found[1:]
            page = b"".join(map(_bulk, found))
            return b"*2\r\n$1\r\n0\r\n*%d\r\n%b" % (len(found), page)
        return b"+PONG\r\n" if name == b"PING" else b"-ERR unknown command\r\n"

    def _set(self, rest: list[bytes]) -> bytes:
        key, value = rest[0], rest[1]
        options: dict[bytes, Any] = {}
        words = iter(rest[2:])
        for word in words:
            options[word.upper()] = next(words) if word.upper() in (b"IFEQ", b"PX") else True
        held = self._values.get(key)
        if b"NX" in options and held is not None and not self._lies("two_holders"):
            return b"$-1\r\n"
        if b"IFEQ" in options and held != options[b"IFEQ"]:
            return b"$-1\r\n"
        if not options and self._lies("lost_write"):
            return b"+OK\r\n"
        if held is not None:
            self._before[key] = held
        self._put(key, value)
        self._deadlines.pop(key, None)
        if b"PX" in options:
            seconds = int(options[b"PX"]) / 1000
            if self._lie == "early_expiry":
                seconds *= 0.66
            self._deadlines[key] = time.monotonic() + seconds
        return b"+OK\r\n"

    def _put(self, key: bytes, value: bytes) -> None:
        self._revision += 1
        if key in self._revisions:
            self._revisions_before[key] = self._revisions[key]
        self._values[key], self._revisions[key] = value, self._revision

    def _facts(self, key: bytes) -> bytes:
        value = self._values.get(key)
        if value is None:
            return b"*-1\r\n"
        revision = self._revisions[key]
        if key in self._before and self._lies("stale_read"):
            value, revision = self._before[key], self._revisions_before[key]
        elif key in self._revisions_before and self._lies("old_revision"):
            revision = self._revisions_before[key]
        elif self._lies("late_revision"):
            revision += 5
        return b"*3\r\n%b:%d\r\n:%d\r\n" % (_bulk(value), revision, revision)

    def _add(self, name: bytes, rest: list[bytes]) -> bytes:
        delta = int(rest[1]) if len(rest) > 1 else 1
        delta = -delta if name == b"DECRBY" else delta
        number = int(self._values.get(rest[0], b"0"))
        if name == b"INCR" and number and self._lies("same_token"):
            return b":%d\r\n" % number
        if self._lies("double_apply"):
            number += delta
        self._put(rest[0], b"%d" % (number + delta))
        return b":%d\r\n" % (number + delta)


def _bulk(value: bytes | None) -> bytes:
    return b"$-1\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)
