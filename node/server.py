"""The client port: asyncio sockets around node.session. It knows no rules.

    Server.start -> listen -> _Protocol for each client -> Session

    bytes in          -> session.receive
    buffer too full   -> session.pause_writing / resume_writing (asyncio says when)
    far too full      -> the connection is cut: client.output_buffer_bytes_max
    end of input      -> session.end_of_input: what was asked for is still answered
    session.close     -> what was written is sent, the write side is closed, input is drained

Why drained: closing a socket with unread input makes the kernel send a reset, which may throw away
the error reply on its way to the client. After LINGER_S the connection is cut all the same.

Every TICK_S the server looks at the clock for all of them: who has been idle too long, and
whether CLIENT PAUSE is over. With a TLS context nothing else changes: the port speaks TLS only.

With client.workers the sockets are held by other processes (node.front), and a protocol here
gets a transport that speaks to them; nothing else changes.

Invariants: at most client.max_clients connections; one more is told so and closed. An exception
in a handler, which would be a bug, costs that client its connection and is logged by the loop.

A crash closes the sockets; clients see a lost connection.

Does not do: choose addresses (node.config lets only loopback through without a password).

Proved by: tests/node/test_server.py, tests/node/test_server_tls.py
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final, cast

from node.config import ClientSection
from node.connection import Connection, Frontend
from node.errors import ConfigError
from node.front import Front
from node.logs import EventLog
from node.replies import error_line
from node.session import Session

__all__ = ["LINGER_S", "TICK_S", "Server", "tls_context"]

LINGER_S: Final = 1.0
TICK_S: Final = 0.1
_TICKS_PER_S: Final = 10
BACKLOG: Final = 1_024
_SEND_BUFFER_HIGH_BYTES: Final = 1024 * 1024
"""Past this a client counts as not reading, and nothing more is made for it."""

_DRAIN_POLL_S: Final = 0.005

_TOO_MANY: Final = error_line("ERR max number of clients reached")


def tls_context(client: ClientSection) -> ssl.SSLContext | None:
    """What the port speaks; None: plain text.

    Raises:
        ConfigError: a file is missing or is not what it should be.
    """
    if not client.tls_certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    key = "client.tls_certificate"
    try:
        context.load_cert_chain(client.tls_certificate, client.tls_key)
        if client.tls_client_ca:
            key = "client.tls_client_ca"
            context.load_verify_locations(client.tls_client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(((key, f"cannot be used: {error}"),)) from error
    return context


class Server:
    """Listens for clients of one node.

    Args:
        frontend: what the connections share.
        host, port: where to listen; port 0 takes a free one (see `port`).
        tls: None: plain text.
        log: where it is said that a worker ended.
    """

    def __init__(
        self,
        frontend: Frontend,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        log: EventLog | None = None,
    ) -> None:
        self._frontend = frontend
        self._host = host
        self._port = port
        self._tls = tls
        self._timer: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._log = log if log is not None else EventLog(frontend.backend.node_id)
        self._listener: asyncio.Server | Front | None = None
        self._protocols: set[_Protocol] = set()

    async def start(self) -> None:
        """Listen. Raises: OSError when the address is taken or is not this machine's."""
        loop = asyncio.get_running_loop()
        client = self._frontend.config.client
        if client.workers:
            front = Front(client, self._protocol, self._log, BACKLOG)
            self._listener = front
            await front.start(self._host, self._port)
        else:
            self._listener = await loop.create_server(
                self._protocol, self._host, self._port, backlog=BACKLOG, ssl=self._tls
            )
        self._timer = loop.call_later(TICK_S, self._tick)
        self._frontend.watches.call_soon = loop.call_soon

    def _protocol(self) -> _Protocol:
        return _Protocol(self._frontend, self._protocols)

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        self._frontend.tick()
        self._ticks += 1
        if self._ticks % _TICKS_PER_S == 0:
            for protocol in list(self._protocols):
                protocol.second_passed()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._listener is not None
        if isinstance(self._listener, Front):
            return self._listener.port
        return int(self._listener.sockets[0].getsockname()[1])

    async def drain(self, within_s: float) -> None:
        """Take no more clients; tell those that are there what they have asked for, and let go
        of them. Returns when all have gone, or when it took too long."""
        if self._listener is None:
            return
        self._listener.close()
        for protocol in list(self._protocols):
            protocol.end()
        for _ in range(round(within_s / _DRAIN_POLL_S)):
            if not self._protocols:
                return
            await asyncio.sleep(_DRAIN_POLL_S)

    async def stop(self) -> None:
        """Take no more clients and cut off those that are there."""
        if self._listener is None:
            return
        self._listener.close()
        if self._timer is not None:
            self._timer.cancel()
        for protocol in list(self._protocols):
            protocol.abort()
        await asyncio.sleep(0)  # Lets connection_lost run.
        if isinstance(self._listener, Front):
            await self._listener.stop()
        self._listener = None


class _Protocol(asyncio.Protocol):
    """One client's socket."""

    def __init__(self, frontend: Frontend, protocols: set[_Protocol]) -> None:
        self._frontend = frontend
        self._protocols = protocols
        self._session: Session | None = None
        self._transport: asyncio.Transport | None = None
        self._linger: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = stream = cast(asyncio.Transport, transport)
        self._protocols.add(self)
        frontend = self._frontend
        if len(frontend.connections) >= frontend.max_clients:
            frontend.rejected_total += 1
            stream.write(_TOO_MANY)
            self._close()
            return
        plain = stream.get_extra_info("socket")
        if plain is not None and plain.family in (socket.AF_INET, socket.AF_INET6):
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.set_write_buffer_limits(high=_SEND_BUFFER_HIGH_BYTES)
        self._session = Session(
            self._connect(stream),
            write=self._write,
            close=self._close,
            pause_reading=stream.pause_reading,
            resume_reading=stream.resume_reading,
        )

    def _connect(self, stream: asyncio.Transport) -> Connection:
        peer, local = stream.get_extra_info("peername"), stream.get_extra_info("sockname")
        connection = self._frontend.connect(_address(peer), _address(local))
        connection.unsent_bytes = stream.get_write_buffer_size
        return connection

    def data_received(self, data: bytes) -> None:
        if self._session is not None and self._linger is None:
            self._session.receive(data)

    def eof_received(self) -> bool:
        if self._session is None or self._linger is not None:
            return False
        self._session.end_of_input()
        return self._linger is None  # Keep the write side open for what is still to be said.

    def pause_writing(self) -> None:
        if self._session is not None:
            self._session.pause_writing()

    def resume_writing(self) -> None:
        if self._session is not None:
            self._session.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocols.discard(self)
        if self._linger is not None:
            self._linger.cancel()
        if self._session is not None:
            self._session.lost()

    def end(self) -> None:
        """Close once everything that was asked for is answered."""
        if self._session is not None and self._linger is None:
            self._session.end_of_input()

    def second_passed(self) -> None:
        """Count it; cut off who has been idle for too long."""
        session = self._session
        if session is None or session.is_busy:
            return
        session.connection.idle_s += 1
        limit_s = self._frontend.idle_timeout_s
        if limit_s and session.connection.idle_s > limit_s and not session.connection.is_listening:
            self.abort()

    def abort(self) -> None:
        """Cut the connection now."""
        assert self._transport is not None
        self._transport.abort()
        if self._session is not None:
            self._session.lost()

    def _write(self, data: bytes) -> None:
        stream = self._transport
        assert stream is not None
        stream.write(data)
        if stream.get_write_buffer_size() > self._frontend.output_bytes_max:
            self.abort()

    def _close(self) -> None:
        stream = self._transport
        assert stream is not None
        if self._linger is not None or stream.is_closing():
            return
        self._linger = asyncio.get_running_loop().call_later(LINGER_S, stream.abort)
        if stream.can_write_eof():
            try:
                stream.write_eof()
            except OSError:  # the client left by a reset, which asyncio has not seen yet
                stream.abort()
        else:  # TLS has no half-closed connections: what was written is sent, then all ends.
            stream.close()


def _address(name: object) -> str:
    """host:port, as CLIENT LIST shows it."""
    if isinstance(name, tuple) and len(name) >= 2:
        return f"[{name[0]}]:{name[1]}" if ":" in str(name[0]) else f"{name[0]}:{name[1]}"
    return "?:0"
