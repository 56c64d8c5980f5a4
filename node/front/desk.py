"""The node's side of client.workers: starts the processes, keeps them, hears and tells them.

    Front.start -> for each worker: its listening sockets, a socket pair, the process
    Channel     -> the node's end of one pair: frames in to Streams, frames out once a loop turn

A listening socket is made here and inherited: it stays open when a worker dies, so the next one
serves whoever waited at it. Frames of one turn leave in one write.

Does not do: rules of clients (node.server's protocol, which a Stream is made for).

Proved by: tests/node/test_front.py
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from node.config import ClientSection
from node.front.channel import Channel
from node.front.frames import KIND, frame
from node.front.stream import Stream
from node.logs import EventLog
from node.orphan import SUPERVISOR_VARIABLE

__all__ = ["Front"]

RESTART_S: Final = 0.2
_END_S: Final = 2.0
_TLS: Final = ("tls_certificate", "tls_key", "tls_client_ca")
_ROOT: Final = str(Path(__file__).resolve().parents[2])

MakeProtocol = Callable[[], asyncio.Protocol]


class Front:
    """All workers of one node.

    Args:
        client: how many, and what they need of TLS.
        make_protocol: what a client is served by.
    """

    def __init__(
        self, client: ClientSection, make_protocol: MakeProtocol, log: EventLog, backlog: int
    ) -> None:
        self._client = client
        self._make_protocol = make_protocol
        self._log = log
        self._backlog = backlog
        self._workers: list[_Worker] = []
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises: OSError when the address is taken or is not this machine's."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        addresses = list(dict.fromkeys((family, name) for family, _, _, _, name in found))
        places: list[list[socket.socket]] = []
        with contextlib.ExitStack() as undo:
            for _ in range(self._client.workers):
                places.append([])
                for family, name in addresses:
                    wanted = (name[0], self.port or name[1], *name[2:])
                    if len(places) == 1 and not self.port:
                        _refuse_taken(family, wanted)
                    listening = undo.enter_context(_listen(family, wanted, self._backlog))
                    places[-1].append(listening)
                    self.port = int(listening.getsockname()[1])
            undo.pop_all()
        made = (self._client, self._make_protocol, self._log)
        self._workers = [_Worker(place, *made) for place in places]
        try:
            for each in self._workers:
                await each.start()
        except BaseException:
            await self.stop()
            raise

    @property
    def pids(self) -> list[int]:
        """Of the processes that run."""
        return [pid for each in self._workers if (pid := each.pid) is not None]

    def close(self) -> None:
        """Accept nobody any more."""
        for each in self._workers:
            each.be_deaf()

    async def stop(self) -> None:
        """End them, with the clients that they have."""
        for each in self._workers:
            await each.stop()
        self._workers = []


def _refuse_taken(family: int, name: tuple[object, ...]) -> None:
    """SO_REUSEPORT would share the port with another node of the same user: look first."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(name)


def _listen(family: int, name: tuple[object, ...], backlog: int) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(name)
        listening.listen(backlog)
    except BaseException:
        listening.close()
        raise
    return listening


class _Worker:
    """One process, started again whenever it ends."""

    def __init__(
        self,
        listening: list[socket.socket],
        client: ClientSection,
        make_protocol: MakeProtocol,
        log: EventLog,
    ) -> None:
        self._listening = listening
        self._client = client
        self._make_protocol = make_protocol
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: _Channel | None = None
        self._is_wanted = True
        self._restart: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        ours = self._spawn()
        has_tls = bool(self._client.tls_certificate)
        channel = self._channel = _Channel(self._make_protocol, has_tls, self._ended)
        await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=ours)

    def _spawn(self) -> socket.socket:
        """Start the process; our end of the pair. Raises: OSError, there is no room for it."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        fds = [each.fileno() for each in self._listening]
        told = {name: getattr(self._client, name) for name in _TLS}
        words = json.dumps({"channel": theirs.fileno(), "listening": fds, **told})
        paths = [_ROOT, os.environ.get("PYTHONPATH", "")]
        more = {
            "PYTHONPATH": os.pathsep.join(each for each in paths if each),
            SUPERVISOR_VARIABLE: str(os.getpid()),
        }
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "node.front.process", words],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno(), *fds],
                    env=os.environ | more,
                )
        except OSError:
            ours.close()
            raise
        return ours

    def be_deaf(self) -> None:
        if self._channel is not None:
            self._channel.send(frame(KIND.DEAF, 0))
        for each in self._listening:
            each.close()
        self._listening = []

    def _ended(self) -> None:
        """The pair is closed: so is the process, or it is about to be."""
        self._channel = None
        if self._is_wanted and self._listening:
            self._log.warning("client worker ended", pid=self.pid)
            self._restart = asyncio.get_running_loop().create_task(self._start_again())

    async def _start_again(self) -> None:
        self._reap()
        while True:
            await asyncio.sleep(RESTART_S)
            if not self._listening:
                return
            try:
                await self.start()
            except OSError as error:  # no room for a process: there may be, later
                self._log.error("client worker cannot be started", error=str(error))
            else:
                self._log.info("client worker started", pid=self.pid)
                return

    def _reap(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    async def stop(self) -> None:
        self._is_wanted = False
        if self._restart is not None:
            self._restart.cancel()
        self.be_deaf()
        if self._channel is not None:
            self._channel.end()
        if self._process is not None:
            for _ in range(round(_END_S / 0.01)):
                if self._process.poll() is not None:
                    break
                await asyncio.sleep(0.01)
        self._reap()


class _Channel(Channel):
    """The node's end of a pair."""

    def __init__(
        self, make_protocol: MakeProtocol, has_tls: bool, ended: Callable[[], None]
    ) -> None:
        super().__init__()
        self._make_protocol = make_protocol
        self._has_tls = has_tls
        self._ended = ended
        self._streams: dict[int, Stream] = {}
        self._is_full = False

    def data_received(self, data: bytes) -> None:
        streams = self._streams
        for kind, number, payload in self._frames.feed(data):
            stream = streams.get(number)
            if stream is not None:
                stream.heard(kind, payload)
            elif kind == KIND.OPEN:
                self._open(number, payload)
            # Else: said before the worker heard of our ABORT.

    def _open(self, number: int, payload: bytes) -> None:
        told = json.loads(payload)
        names = {name: tuple(told[name]) for name in ("peername", "sockname") if told[name]}
        stream = Stream(number, names, has_tls=self._has_tls, send=self.send, forget=self._forget)
        self._streams[number] = stream
        stream.begin(self._make_protocol(), is_channel_full=self._is_full)

    def _forget(self, number: int) -> None:
        self._streams.pop(number, None)

    def end(self) -> None:
        """The worker ends when it sees this."""
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def pause_writing(self) -> None:
        self._is_full = True
        for each in list(self._streams.values()):
            each.channel_full(is_full=True)

    def resume_writing(self) -> None:
        self._is_full = False
        for each in list(self._streams.values()):
            each.channel_full(is_full=False)

    def connection_lost(self, exc: Exception | None) -> None:
        for each in list(self._streams.values()):
            each.die()
        self._ended()
