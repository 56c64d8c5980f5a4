"""The other end of a stream of events: what another node says, as it says it.

    async for message in events(address, "/stream", token, silence_s): ...

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

__all__ = ["events"]

EVENT_BYTES_MAX: Final = 4 * 1024 * 1024
_READ_BYTES: Final = 64 * 1024


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
        headers = [("host", str(address)), ("connection", "close")]
        if token:
            headers.append(("authorization", f"Bearer {token}"))
        http = h11.Connection(h11.CLIENT)
        asked = h11.Request(method="GET", target=path, headers=headers)
        writer.write((http.send(asked) or b"") + (http.send(h11.EndOfMessage()) or b""))
        unread = b""
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                async with asyncio.timeout(silence_s):
                    http.receive_data(await reader.read(_READ_BYTES))
            elif isinstance(event, h11.Response):
                if event.status_code != 200:
                    raise ConnectionRefusedError(f"HTTP {event.status_code}")
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
