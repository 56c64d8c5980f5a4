"""The same network of real packets: each node in a network namespace of its own. Needs root.

    n1 [10.77.0.1] --veth--+
    n2 [10.77.0.2] --veth--+-- bridge, in a namespace of its own
    n3 [10.77.0.3] --veth--+

    cut(n1, n2)    a blackhole route in n1: what it sends to n2, acknowledgements too, is dropped

So what TCP makes of it is TCP's own: retransmission, its pauses, connections that are half alive.
Clients reach a node on its usual port of the host: a thread that has entered the node's namespace
carries their connections to the node's loopback, whatever is cut.

Invariants: only namespaces that were made here are touched, and all of them are removed.
Proved by: tests/cluster/test_chaos.py
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from types import TracebackType

from tests.support.cluster import Cluster, NodeProcess

__all__ = ["Namespaces"]

_CLONE_NEWNET = 0x40000000
_READ_BYTES = 256 * 1024


class Namespaces:
    """See the top of the file; tests.support.chaos.proxy.Network has the same calls."""

    settings = ("peer.secret=chaos",)
    """Peers that are not on loopback have to know each other."""

    def __init__(self) -> None:
        self._prefix = f"tri{os.getpid() % 100_000}"
        self._made: list[str] = []
        self._addresses: dict[str, str] = {}
        self._cuts: set[tuple[str, str]] = set()
        self._forwarders: list[_Forwarder] = []

    @staticmethod
    def problem() -> str | None:
        """Why it cannot be done here; None: it can."""
        if os.geteuid() != 0:
            return "needs root"
        if shutil.which("ip") is None:
            return "needs iproute2"
        name = f"tri{os.getpid() % 100_000}probe"
        if subprocess.run(
            ["ip", "netns", "add", name], capture_output=True, check=False
        ).returncode:
            return "no network namespaces here"
        words = ["ip", "-n", name, "link", "add", "b", "type", "bridge"]
        refused = subprocess.run(words, capture_output=True, check=False).returncode
        _ip("netns", "del", name)
        return "no bridges here" if refused else None

    def __enter__(self) -> Namespaces:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for forwarder in self._forwarders:
            forwarder.stop()
        for name in self._made:
            _ip("netns", "del", name)

    def join(self, cluster: Cluster) -> None:
        """Make the namespaces, and have the nodes run in them."""
        switch = self._make("switch")
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for number, node in enumerate(cluster, 1):
            self._addresses[node.id] = f"10.77.0.{number}"
            name = self._make(node.id)
            port = f"v{number}"
            _ip(
                "link",
                "add",
                "eth0",
                "netns",
                name,
                "type",
                "veth",
                "peer",
                "name",
                port,
                "netns",
                switch,
            )
            _ip("-n", switch, "link", "set", port, "master", "bridge", "up")
            _ip("-n", name, "addr", "add", f"{self._addresses[node.id]}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            node.prefix = ["ip", "netns", "exec", name]
        for node in cluster:
            self._configure(cluster, node)
            self._forwarders.append(_Forwarder(self._name(node.id), node.port))

    def _configure(self, cluster: Cluster, node: NodeProcess) -> None:
        text = node.path.read_text()
        for each in cluster:
            loopback = f'peer = "127.0.0.1:{each.peer_port}"'
            assert loopback in text
            text = text.replace(loopback, f'peer = "{self._addresses[each.id]}:{each.peer_port}"')
        node.path.write_text(text)

    def _name(self, node_id: str) -> str:
        return f"{self._prefix}{node_id}"

    def _make(self, node_id: str) -> str:
        name = self._name(node_id)
        _ip("netns", "add", name)
        self._made.append(name)
        _ip("-n", name, "link", "set", "lo", "up")
        return name

    def cut(self, sender: str, receiver: str) -> None:
        """What `sender` sends does not arrive at `receiver` any more."""
        if (sender, receiver) not in self._cuts:
            self._cuts.add((sender, receiver))
            self._route("add", sender, receiver)

    def _route(self, word: str, sender: str, receiver: str) -> None:
        target = f"{self._addresses[receiver]}/32"
        _ip("-n", self._name(sender), "route", word, "blackhole", target)

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
        while self._cuts:
            self._route("del", *self._cuts.pop())


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class _Forwarder:
    """Carries connections to a port of the host to the same port inside a namespace."""

    def __init__(self, namespace: str, port: int) -> None:
        self._namespace = namespace
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", port))  # made outside, used inside
        self._loop: asyncio.AbstractEventLoop | None = None
        self._entered = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"into-{namespace}", daemon=True)
        self._thread.start()
        assert self._entered.wait(10)

    def _run(self) -> None:
        with Path(f"/run/netns/{self._namespace}").open("rb") as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server = await asyncio.start_server(self._carry, sock=self._listening)
        self._entered.set()
        await self._stopping.wait()
        server.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
            ways = [
                asyncio.ensure_future(_pump(reader, there_writer)),
                asyncio.ensure_future(_pump(there_reader, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                there_writer.close()
        writer.close()

    def stop(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_READ_BYTES):
            writer.write(data)
            await writer.drain()
