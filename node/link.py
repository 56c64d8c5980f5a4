"""One connection to a peer: TLS if there is any, the handshake, then frames.

    socket --> [ tls ] --> FrameReader --> handshake until it is open, then the owner's messages
    socket <-- [ tls ] <-- write

A connection that is not open within HANDSHAKE_S, breaks the protocol, shows a wrong certificate
or proof, is silent for SILENCE_MAX_S, or takes so little that more than send_buffer_bytes_max
waits for it, is closed; the reason goes to the owner, once. Before it is open a peer costs one
frame of HANDSHAKE_FRAME_BYTES_MAX at most, and no work but its handshake.

Invariant: messages are handed over whole and in order, and none after a refusal.

A paused or cut-off peer is noticed by its silence only (Raft's timeouts are shorter).

Does not do: know what messages mean (node.transport), dial or count (node.links).

Proved by: tests/node/test_links.py, tests/node/test_links_tls.py
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final, Protocol, cast

from node import wire
from node.handshake import NONCE_BYTES, Handshake, Refused
from node.tls import PeerTls, TlsError

__all__ = ["Link", "LinkOwner"]

HANDSHAKE_S: Final = 2.0
PING_AFTER_S: Final = 0.5
SILENCE_MAX_S: Final = 5.0
HANDSHAKE_FRAME_BYTES_MAX: Final = 2048
_TLS_RECORDS: Final = (b"\x15\x03", b"\x16\x03")
"""How an alert and a first hello of TLS begin."""


class LinkOwner(Protocol):
    """What a link asks of node.links."""

    frame_bytes_max: int
    send_buffer_bytes_max: int
    tls: PeerTls | None

    def handshake(
        self, dialled: str | None, nonce: bytes, certified: frozenset[str] | None
    ) -> Handshake: ...
    def connected(self, link: Link) -> None: ...
    def opened(self, link: Link) -> None: ...
    def ended(self, link: Link) -> None: ...
    def refused(self, link: Link, reason: str) -> None: ...
    def message(self, peer_id: str, message: wire.Message) -> None:
        """Raises WireError when it cannot be true: the link is closed."""
        ...

    def received(self) -> None: ...


class Link(asyncio.Protocol):
    """See the top of the file.

    Args:
        dialled: the peer's id when we called it, None when it called us.
    """

    def __init__(self, owner: LinkOwner, dialled: str | None) -> None:
        self._owner = owner
        self.dialled = dialled
        self.peer_id: str | None = None
        """Who it is, once that is proved."""
        self.address = ""
        """Of the other end, without its port."""
        self.closed = asyncio.Event()
        self.handshake: Handshake | None = None
        self._tls = owner.tls.stream(dialled=dialled is not None) if owner.tls else None
        self._reader = wire.FrameReader(HANDSHAKE_FRAME_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._is_refused = False
        self._has_heard = False
        self._heard_at = self._wrote_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """Whether messages may go both ways."""
        return self.peer_id is not None and not self.is_closing

    @property
    def is_closing(self) -> bool:
        """Whether it has come to its end."""
        return self._is_refused or self._transport is None or self._transport.is_closing()

    # -- asyncio ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio.Transports in all but name.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=1 << 30)  # bounded by `write` instead
        peer = self._transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else "unknown"
        loop = asyncio.get_running_loop()
        self._heard_at = self._wrote_at = loop.time()
        self._timer = loop.call_later(HANDSHAKE_S, self._handshake_timeout)
        self._owner.connected(self)
        if not self.is_closing:
            self._advance(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.dialled is not None and self.peer_id is None and not self._is_refused:
            self._is_refused = True
            self._owner.refused(self, "it hung up before the handshake was over: its log says why")
        self._is_refused = True
        self._owner.ended(self)
        self.closed.set()

    def data_received(self, data: bytes) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        if self.is_closing:
            return
        if not self._has_heard:
            self._has_heard = True
            if self._tls is None and data[:2] in _TLS_RECORDS:
                self.refuse("it speaks TLS, this node does not (peer.tls_cert)")
                return
        self._advance(data)

    def _advance(self, data: bytes) -> None:
        """Bytes came (b"": the connection is there)."""
        try:
            plain = self._decrypt(data)
            if self.handshake is None and (self._tls is None or self._tls.is_ready):
                self._begin()
            for body in self._reader.feed(plain):
                self._on_frame(body)
                if self.is_closing:
                    return
        except TlsError as error:
            self._refuse(str(error), b"")
            return
        except Refused as error:
            self._refuse(str(error), error.answer)
            return
        except wire.WireError as error:
            self.refuse(str(error))
            return
        if self.peer_id is not None and data:
            self._owner.received()
        if self._tls is not None and self._tls.has_ended:
            self.abort()

    def _decrypt(self, data: bytes) -> bytes:
        if self._tls is None:
            return data
        try:
            return self._tls.receive(data)
        finally:
            self._flush_tls()  # our part of TLS's own handshake, or why we break it off

    def _flush_tls(self) -> None:
        assert self._tls is not None
        assert self._transport is not None
        if records := self._tls.take():
            self._transport.write(records)

    # -- handshake ----------------------------------------------------------------------

    def _begin(self) -> None:
        certified = self._tls.peer_ids() if self._tls is not None else None
        nonce = secrets.token_bytes(NONCE_BYTES)
        self.handshake = self._owner.handshake(self.dialled, nonce, certified)
        self._send(self.handshake.begin())

    def _on_frame(self, body: bytes) -> None:
        if self.peer_id is not None:
            message = wire.decode(body)
            kind = message[0]
            if kind == wire.HELLO or kind == wire.PROOF:
                raise wire.WireError("handshake on an open link")
            if kind != wire.PING:
                self._owner.message(self.peer_id, message)
            return
        assert self.handshake is not None
        self._send(self.handshake.receive(body))
        if self.handshake.is_open:
            self._open()

    def _open(self) -> None:
        assert self.handshake is not None
        assert self._timer is not None
        self.peer_id = self.handshake.peer_id
        self._reader.frame_bytes_max = self._owner.frame_bytes_max
        self._timer.cancel()
        self._check_silence()
        self._owner.opened(self)

    def _handshake_timeout(self) -> None:
        self.refuse(f"no handshake within {HANDSHAKE_S:.0f} s")

    # -- open ---------------------------------------------------------------------------

    def _check_silence(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now - self._heard_at > SILENCE_MAX_S:
            self.refuse(f"silent for {SILENCE_MAX_S:.0f} s")
            return
        if now - self._wrote_at > PING_AFTER_S:
            self.write(wire.encode(wire.PING))
        self._timer = loop.call_later(PING_AFTER_S, self._check_silence)

    def write(self, frame: bytes) -> bool:
        """Queue a frame; False when the link is at its end, perhaps because of it."""
        if self.is_closing:
            return False
        self._wrote_at = asyncio.get_running_loop().time()
        self._send(frame)
        if self.buffered_bytes() > self._owner.send_buffer_bytes_max:
            self.refuse(f"more than {self._owner.send_buffer_bytes_max} bytes wait for it")
            return False
        return True

    def _send(self, data: bytes) -> None:
        if not data or self._transport is None or self._transport.is_closing():
            return
        if self._tls is None:
            self._transport.write(data)
        else:
            self._tls.send(data)
            self._flush_tls()

    def buffered_bytes(self) -> int:
        """What is queued and not yet taken by the kernel."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def socket(self) -> Any:
        """The socket below, for what the kernel knows of it; None when it is gone."""
        return self._transport.get_extra_info("socket") if self._transport is not None else None

    # -- the end ------------------------------------------------------------------------

    def refuse(self, reason: str) -> None:
        """Close it at once, and say why."""
        if not self._is_refused:
            self._is_refused = True
            self._owner.refused(self, reason)
        self.abort()

    def _refuse(self, reason: str, answer: bytes) -> None:
        """Close it when what the other side is still told has left, and say why."""
        if self._is_refused or self._transport is None:
            return
        self._send(answer)
        self._is_refused = True
        self._owner.refused(self, reason)
        self._transport.close()  # the timer of the handshake is still there for who takes nothing

    def abort(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()
