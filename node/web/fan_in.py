"""What all nodes say, as one stream: each open page has one of these.

    n1's recorder ----- in process ------+
    n2  GET /stream  (text/event-stream) +--> one queue --> the page's GET /events
    n3  GET /stream  ------------------- +

    {"kind": "down", "node": "n3", "at": ..., "reason": "refused"}   and it is asked again

The nodes are asked at their http addresses, not over the links between peers: so a node that is
cut off from the others is still heard, and it is seen what it believes. Whoever says nothing for
SILENCE_S (it samples twice a second) is down: paused, or gone without a word.

Invariants: bounded: one connection for each other member, a queue of QUEUE_MAX; a page that does
not read loses its stream and comes again. Ends with its page.

Proved by: tests/web/test_pages.py
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final

from node.config_members import Address
from node.web.http import sse
from node.web.listening import events
from node.web.recorder import Recorder

__all__ = ["FanIn"]

SILENCE_S: Final = 1.6
AGAIN_S: Final = 0.4
MEMBERS_EVERY_S: Final = 1.0
QUEUE_MAX: Final = 1_024


class FanIn:
    """Everybody's stream, merged.

    Args:
        members: id -> http address of everybody, asked again each second.
        own: this node's recorder, if a node makes this; its id is `own_id`.
        token: http.token, the same on all nodes.
    """

    def __init__(
        self,
        members: Callable[[], Mapping[str, Address]],
        *,
        token: str,
        wall_ms: Callable[[], int],
        own_id: str = "",
        own: Recorder | None = None,
    ) -> None:
        self._members = members
        self._token = token
        self._wall_ms = wall_ms
        self._own_id, self._own = own_id, own
        self._queue: asyncio.Queue[str] = asyncio.Queue(QUEUE_MAX)
        self._tasks: dict[str, tuple[Address, asyncio.Task[None]]] = {}
        self._is_full = False

    def put(self, message: Mapping[str, Any]) -> None:
        """One more message to the page, from whoever has something of its own to say."""
        self._put(json.dumps(message))

    def _put(self, text: str) -> None:
        try:
            self._queue.put_nowait(text)
        except asyncio.QueueFull:
            self._is_full = True

    async def pieces(self, first: Mapping[str, Any]) -> AsyncGenerator[bytes]:
        """The stream's bytes; begins with `first`. Closing it ends all that it started."""
        recorder, queue = self._own, None
        try:
            yield sse(json.dumps(first))
            if recorder is not None:
                queue = recorder.listen()
                self._put(recorder.history())
                task = asyncio.create_task(self._follow_own(queue))
                self._tasks[self._own_id] = (Address("", 0), task)
            loop, look_s = asyncio.get_running_loop(), 0.0
            while not self._is_full:
                if loop.time() >= look_s:
                    self._follow_members()
                    look_s = loop.time() + MEMBERS_EVERY_S
                with contextlib.suppress(TimeoutError):
                    wait_s = max(look_s - loop.time(), 0.0)
                    # NB: no timeout around a yield: it would strike whoever reads us.
                    text = await asyncio.wait_for(self._queue.get(), wait_s)
                    yield sse(text)
        finally:
            for _, task in self._tasks.values():
                task.cancel()
            if recorder is not None and queue is not None:
                recorder.leave(queue)

    def _follow_members(self) -> None:
        """Begin to listen to who is new, or has moved; stop with who has gone."""
        wanted = {name: at for name, at in self._members().items() if name != self._own_id}
        for name, (address, task) in list(self._tasks.items()):
            if name != self._own_id and wanted.get(name) != address:
                task.cancel()
                del self._tasks[name]
                self.put({"kind": "gone", "node": name})
        for name, address in wanted.items():
            if name not in self._tasks:
                task = asyncio.create_task(self._follow(name, address))
                self._tasks[name] = (address, task)

    async def _follow_own(self, queue: asyncio.Queue[str | None]) -> None:
        while (text := await queue.get()) is not None:
            self._put(text)

    async def _follow(self, name: str, address: Address) -> None:
        while True:
            reason = "the stream ended"
            try:
                async for message in events(address, "/stream", self._token, SILENCE_S):
                    self.put(message)
            except TimeoutError:
                reason = f"silent for {SILENCE_S} s"
            except OSError as error:
                # asyncio's own text names the address, which the page knows.
                reason = os.strerror(error.errno).lower() if error.errno else str(error)
            self.put({"kind": "down", "node": name, "at": self._wall_ms(), "reason": reason})
            await asyncio.sleep(AGAIN_S)
