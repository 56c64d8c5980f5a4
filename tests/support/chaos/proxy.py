"""The network between nodes: a TCP proxy on each way, which a test can cut in each direction.

    n1's configuration says that n2 is at proxy(n1, n2); the smaller id dials (node.links)

    n1 --> [ n1->n2 | gate ] --> n2        cut(n1, n2): what n1 sends does not arrive
       <-- [ gate | n2->n1 ] <--           cut(n2, n1): the other way

As with packets that are dropped: nothing is reset, both ends believe in their connection until
they find it silent; what was sent meanwhile arrives when the cut is healed (TCP sends again),
unless they have given up. A new connection is made only while both directions are whole.

Runs in a thread of its own. Proved by: tests/node/test_chaos_parts.py
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from types import TracebackType

from tests.support.cluster import Cluster

__all__ = ["Network"]

_LOOK_S = 0.005
_READ_BYTES = 256 * 1024


class Network:
    """The proxies of one cluster. Enter it before the cluster is started."""

    settings: tuple[str, ...] = ()
    """What the nodes have to be told in such a network."""

    def __init__(self) -> None:
        self._cuts: set[tuple[str, str]] = set()
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
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._carry(one, other, port, reader, writer)
            writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _carry(
        self,
        one: str,
        other: str,
        port: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        await self._pass(one, other)
        await self._pass(other, one)
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        ways = [
            asyncio.ensure_future(self._pump(one, other, reader, there_writer)),
            asyncio.ensure_future(self._pump(other, one, there_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            there_writer.close()

    async def _pump(
        self, sender: str, receiver: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Until the sender closes; the end of a connection does not pass a cut either."""
        data = b" "
        while data:
            try:
                data = await reader.read(_READ_BYTES)
            except OSError:
                data = b""
            await self._pass(sender, receiver)
            if data:
                writer.write(data)
                await writer.drain()

    async def _pass(self, sender: str, receiver: str) -> None:
        while (sender, receiver) in self._cuts:  # noqa: ASYNC110 - cut from another thread
            await asyncio.sleep(_LOOK_S)

    def cut(self, sender: str, receiver: str) -> None:
        """What `sender` sends does not arrive at `receiver` any more."""
        self._cuts.add((sender, receiver))

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
        self._cuts = set()
