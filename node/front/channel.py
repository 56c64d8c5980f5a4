"""What both ends of a worker's socket pair share: a loop turn leaves in one write.

    send, send, send --call_soon--> one write         what comes in: node.front.desk, process

Does not do: know what frames mean, or who they are for.

Proved by: tests/node/test_front.py
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from node.front.frames import Frames

__all__ = ["Channel"]

_HIGH_BYTES: Final = 4 * 1024 * 1024
"""When this much waits for the other end, it is full."""


class Channel(asyncio.Protocol):
    """One end of a pair."""

    def __init__(self) -> None:
        self._frames = Frames()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its type
        self._transport.set_write_buffer_limits(high=_HIGH_BYTES)

    def send(self, data: bytes) -> None:
        """With everything else of this loop turn."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(out))
