"""HTTP/1.1 over asyncio streams: a small server.

    Server(answer, ...)     Request -> answer(request) -> Response    one body, then the next
                                                       -> Stream      until its end or the client's

h11 knows the bytes; this file owns sockets and limits:

    head of a request  16 KiB          body                64 KiB
    whole request      5 s             idle connection     30 s
    connections        as told         a stream's backlog  the client has 10 s to take a piece

Invariants: whatever a client sends costs it its own connection alone. What `answer` raises is
answered 500 and logged; it never reaches the node. `stop` ends streams too, at once.

A crash closes the sockets.

Does not do: TLS, compression, ranges, chunked requests longer than the limit; know paths or rights.

Proved by: tests/web/test_http.py
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import h11

from node.config_members import Address
from node.logs import EventLog, what

__all__ = ["Answer", "Request", "Response", "Server", "Stream", "as_json", "sse"]

HEAD_BYTES_MAX: Final = 16 * 1024
BODY_BYTES_MAX: Final = 64 * 1024
REQUEST_S: Final = 5.0
IDLE_S: Final = 30.0
SEND_S: Final = 10.0
_READ_BYTES: Final = 16 * 1024
_SAFE_HEADERS: Final = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for. Names of headers are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer with a body."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that goes on: a text/event-stream."""

    pieces: AsyncIterator[bytes]


Answer = Callable[[Request], Awaitable[Response | Stream]]


def as_json(value: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(status, json.dumps(value).encode() + b"\n", "application/json")


def sse(text: str) -> bytes:
    """One event of a stream. `text` has no line ends (JSON has none)."""
    return b"data: " + text.encode() + b"\n\n"


class Server:
    """Listens at one address.

    Args:
        answer: told every request that could be read.
        connections_max: one more is closed at once.
    """

    def __init__(self, answer: Answer, address: Address, connections_max: int, log: EventLog):
        self._answer = answer
        self._address = address
        self._connections_max = connections_max
        self._log = log
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. OSError when the address is taken or is not this machine's."""
        self._server = await asyncio.start_server(
            self._serve, self._address.host, self._address.port, limit=_READ_BYTES
        )

    async def stop(self) -> None:
        """Close everything, streams too."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= self._connections_max:
            writer.transport.abort()
            return
        self._tasks.add(task)
        try:
            await _Connection(reader, writer, self._answer, self._log).serve()
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass  # It is gone, too slow, or we stop: nobody is left to be told.
        finally:
            self._tasks.discard(task)
            writer.close()


class _Connection:
    """One client."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Answer,
        log: EventLog,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._answer, self._log = answer, log
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)

    async def serve(self) -> None:
        """Answer one request after the other."""
        http = self._http
        while True:
            try:
                request = await self._next_request()
            except h11.RemoteProtocolError as error:
                status = int(error.error_status_hint)
                if http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    await self._send(Response(status, b"bad request\n"), close=True)
                return
            if request is None:
                return
            answer = await self._ask(request)
            if isinstance(answer, Stream):
                await self._stream(answer)
                return
            await self._send(answer, is_head=request.method == "HEAD")
            if http.our_state is h11.MUST_CLOSE or http.their_state is h11.MUST_CLOSE:
                return
            http.start_next_cycle()

    async def _next_request(self) -> Request | None:
        """None: the client has no more. RemoteProtocolError: it cannot be read, or is too long."""
        found: h11.Request | None = None
        body = b""
        limit_s = IDLE_S
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                async with asyncio.timeout(limit_s):
                    self._http.receive_data(await self._reader.read(_READ_BYTES))
                limit_s = REQUEST_S
            elif isinstance(event, h11.Request):
                found = event
                if _header(event, b"expect"):
                    raise h11.RemoteProtocolError("no expectations", error_status_hint=417)
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
                if len(body) > BODY_BYTES_MAX:
                    raise h11.RemoteProtocolError("body too long", error_status_hint=413)
            elif isinstance(event, h11.EndOfMessage):
                assert found is not None
                return _request(found, body)
            else:  # ConnectionClosed, PAUSED
                return None

    async def _ask(self, request: Request) -> Response | Stream:
        try:
            return await self._answer(request)
        except Exception as error:  # noqa: BLE001 - a page's bug is not the node's end
            self._log.error("page failed", path=request.path, reason=what(error))
            return Response(500, b"this page failed; the log says why\n")

    async def _send(self, answer: Response, *, is_head: bool = False, close: bool = False) -> None:
        headers = {
            "content-type": answer.content_type,
            "content-length": str(len(answer.body)),
            **_SAFE_HEADERS,
            **answer.headers,
        }
        if close:
            headers["connection"] = "close"
        out = self._http.send(h11.Response(status_code=answer.status, headers=_pairs(headers)))
        parts = [out or b""]
        if not is_head:
            parts.append(self._http.send(h11.Data(data=answer.body)) or b"")
        parts.append(self._http.send(h11.EndOfMessage()) or b"")
        await self._write(b"".join(parts))

    async def _stream(self, answer: Stream) -> None:
        headers = {"content-type": "text/event-stream", "connection": "close", **_SAFE_HEADERS}
        out = self._http.send(h11.Response(status_code=200, headers=_pairs(headers)))
        await self._write(out or b"")
        gone = asyncio.create_task(self._until_gone())
        try:
            sending = asyncio.create_task(self._send_pieces(answer.pieces))
            await asyncio.wait([gone, sending], return_when=asyncio.FIRST_COMPLETED)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        finally:
            gone.cancel()

    async def _until_gone(self) -> None:
        with contextlib.suppress(OSError):
            while await self._reader.read(_READ_BYTES):
                pass

    async def _send_pieces(self, pieces: AsyncIterator[bytes]) -> None:
        async for piece in pieces:
            await self._write(self._http.send(h11.Data(data=piece)) or b"")

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        async with asyncio.timeout(SEND_S):
            await self._writer.drain()


def _pairs(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]


def _header(request: h11.Request, name: bytes) -> bytes:
    return next((value for found, value in request.headers if found == name), b"")


def _request(found: h11.Request, body: bytes) -> Request:
    target = urlsplit(found.target.decode("latin-1"))
    return Request(
        found.method.decode("latin-1"),
        target.path or "/",
        dict(parse_qsl(target.query, keep_blank_values=True)),
        {name.decode("latin-1"): value.decode("latin-1") for name, value in found.headers},
        body,
    )
