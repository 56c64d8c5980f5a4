"""The other end: what another node says, as it says it.

    async for message in events(address, "/stream", token, silence_s): ...
    content_type, body = await fetch(address, "/keys", token, timeout_s)

Invariants: bounded: one event is EVENT_BYTES_MAX at most. Whatever is wrong with the other end
leaves as an OSError; its silence as a TimeoutError.

Does not do: come again (node.web.fan_in).

Proved by: tests/web/test_http.py
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any, Final

import h11

from node.config_members import Address

__all__ = ["events", "fetch"]

EVENT_BYTES_MAX: Final = 4 * 1024 * 1024
_READ_BYTES: Final = 64 * 1024


def _asked(address: Address, path: str, token: str) -> tuple[h11.Connection, bytes]:
    headers = [("host", str(address)), ("connection", "close")]
    if token:
        headers.append(("authorization", f"Bearer {token}"))
    http = h11.Connection(h11.CLIENT)
    request = h11.Request(method="GET", target=path, headers=headers)
    return http, (http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b"")


async def fetch(address: Address, path: str, token: str, timeout_s: float) -> tuple[str, bytes]:
    """Content type and body of one page.

    Raises:
        OSError: it cannot be reached, or refuses. TimeoutError: it takes too long.
    """
    body, kind = b"", ""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            http, request = _asked(address, path, token)
            writer.write(request)
            while True:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    http.receive_data(await reader.read(_READ_BYTES))
                elif isinstance(event, h11.Response):
                    _check(event)
                    kind = dict(event.headers).get(b"content-type", b"").decode("latin-1")
                elif isinstance(event, h11.Data) and len(body) < EVENT_BYTES_MAX:
                    body += bytes(event.data)
                else:
                    return kind, body
        except h11.RemoteProtocolError as error:
            raise ConnectionAbortedError(f"not what a node says: {error}") from error
        finally:
            writer.close()


def _check(response: h11.Response) -> None:
    if response.status_code != 200:
        raise ConnectionRefusedError(f"HTTP {response.status_code}")


async def events(
    address: Address, path: str, token: str, silence_s: float
) -> AsyncGenerator[dict[str, Any]]:
    """The objects of a stream of events, as they come; ends when the stream does.

    Raises:
        OSError: it cannot be reached, or refuses. TimeoutError: it says nothing for `silence_s`.
    """
    async with asyncio.timeout(silence_s):
        reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        http, request = _asked(address, path, token)
        writer.write(request)
        unread = b""
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                async with asyncio.timeout(silence_s):
                    data = await reader.read(_READ_BYTES)
                if not data:
                    raise ConnectionResetError("the connection broke")
                http.receive_data(data)
            elif isinstance(event, h11.Response):
                _check(event)
            elif isinstance(event, h11.Data):
                *whole, unread = (unread + bytes(event.data)).split(b"\n\n")
                if len(unread) > EVENT_BYTES_MAX:
                    raise ConnectionAbortedError("an event without end")
                for each in whole:
                    if each.startswith(b"data: "):
                        yield json.loads(each[6:])
            else:
                return
    except (h11.RemoteProtocolError, ValueError) as error:
        raise ConnectionAbortedError(f"not what a node says: {error}") from error
    finally:
        writer.close()
