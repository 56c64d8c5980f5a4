"""The network between nodes: a TCP proxy on each way, which a test can cut in each direction.

    n1's configuration says that n2 is at proxy(n1, n2); the smaller id dials (node.links)

    n1 --> [ n1->n2 | gate ] --> n2        cut(n1, n2): what n1 sends does not arrive
       <-- [ gate | n2->n1 ] <--           cut(n2, n1): the other way

As with packets that are dropped: nothing is reset, both ends believe in their connection until
they find it silent; what was sent meanwhile arrives when the cut is healed (TCP sends again),
unless they have given up. A new connection is made only while both directions are whole. The
wires are the laboratory's (node.lab.proxy).

Runs in a thread of its own. Proved by: tests/node/test_chaos_parts.py
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import threading
from collections.abc import Callable
from types import TracebackType

from node.lab.proxy import Wire
from tests.support.cluster import Cluster

__all__ = ["Network"]


class Network:
    """The proxies of one cluster. Enter it before the cluster is started."""

    settings: tuple[str, ...] = ()
    """What the nodes have to be told in such a network."""

    def __init__(self) -> None:
        self._wires: list[Wire] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._ports: dict[tuple[str, str], int] = {}
        self._servers: list[asyncio.Server] = []

    def __enter__(self) -> Network:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        tasks = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.05)  # closed transports end in a turn of their own

    def join(self, cluster: Cluster) -> None:
        """Put a proxy on every way, and write the nodes' configurations anew."""
        ports = {node.id: node.peer_port for node in cluster}
        for one, other in itertools.permutations(ports, 2):
            made = self._listen(one, other, ports[other])
            self._ports[one, other] = asyncio.run_coroutine_threadsafe(made, self._loop).result(10)
        for node in cluster:
            text = node.path.read_text()
            for other, port in ports.items():
                if other != node.id:
                    mine = f'peer = "127.0.0.1:{port}"'
                    assert mine in text
                    text = text.replace(mine, f'peer = "127.0.0.1:{self._ports[node.id, other]}"')
            node.path.write_text(text)

    async def _listen(self, one: str, other: str, port: int) -> int:
        wire = Wire(one, other, random.Random(0))

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await wire.carry(reader, writer, ("127.0.0.1", port))
            writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self._servers.append(server)
        self._wires.append(wire)
        return int(server.sockets[0].getsockname()[1])

    def _do(self, change: Callable[[], None]) -> None:
        """Carry it out in the proxies' thread; returns when it is done."""

        async def carry_out() -> None:
            change()

        asyncio.run_coroutine_threadsafe(carry_out(), self._loop).result(10)

    def cut(self, sender: str, receiver: str) -> None:
        """What `sender` sends does not arrive at `receiver` any more."""
        for wire in self._wires:
            if set(wire.ends) == {sender, receiver}:
                self._do(wire.direction(sender).hold)

    def cut_both(self, one: str, other: str) -> None:
        """Nothing passes between the two."""
        self.cut(one, other)
        self.cut(other, one)

    def split(self, ids: list[str], minority: set[str]) -> None:
        """Cut every way between the minority and the others."""
        for one, other in itertools.permutations(ids, 2):
            if (one in minority) != (other in minority):
                self.cut(one, other)

    def heal(self) -> None:
        """Every way is whole again."""
        for wire in self._wires:
            self._do(wire.heal)
