"""Links: one authenticated TCP connection to each peer, kept up for as long as we live.

    smaller id dials, greater id accepts; a lost link is dialled again every 50 ms (P24)

    dialler                          acceptor
      hello(version, a, b, nonce)  ->    known peer? meant for me? right direction?
                                   <-  hello(version, b, a, nonce)
      proof                        ->
                                   <-  proof      HMAC-SHA256(secret, sender | both nonces | ids)
      ------------- open: messages both ways, a ping after 0.5 s of silence -----------

A connection that is not open within 2 s, breaks the protocol, shows a wrong proof or is
silent for 5 s is closed. A stranger is logged once per reason and costs one small buffer.
A newer link from the same peer replaces the older one (the peer has been restarted).

Invariants: messages of one link arrive whole and in order or not at all; between two links
of the same peer there is always on_down, so the caller can forget what it had sent.

What a crash does: the kernel closes the sockets; the peers see on_down within a round trip.
A paused or cut-off peer is noticed by its silence only (Raft's timeouts are shorter).

Does not do: know what messages mean (node.transport), encrypt (loopback only without TLS).

Proved by: tests/node/test_links.py
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from node import wire
from node.config import Member
from node.logs import EventLog

__all__ = ["LinkEvents", "Links"]

HANDSHAKE_S: Final = 2.0
PING_AFTER_S: Final = 0.5
SILENCE_MAX_S: Final = 5.0
_HANDSHAKE_FRAME_BYTES_MAX: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEvents:
    """What the links tell their owner, always in the loop's thread."""

    up: Callable[[str], None]
    down: Callable[[str], None]
    message: Callable[[str, wire.Message], None]
    received: Callable[[], None]
    """All messages of one read from a socket have been handed over."""


class Links:
    """All links of one node.

    Args:
        me, others: who we are and whom we talk to.
        epoch: how often our data directory was opened (told to the peer).
        secret: shared by all members; "" proves nothing and is for loopback only.
        frame_bytes_max: limit on one frame, before anything is allocated.
        redial_s: pause between two tries to reach a peer that is away.
    """

    def __init__(
        self,
        me: Member,
        others: tuple[Member, ...],
        *,
        epoch: int,
        secret: str,
        frame_bytes_max: int,
        redial_s: float,
        log: EventLog,
        events: LinkEvents,
    ) -> None:
        self.me = me
        self.epoch = epoch
        self.secret = secret.encode()
        self.frame_bytes_max = frame_bytes_max
        self._redial_s = redial_s
        self._log = log
        self.events = events
        self.members = {member.id: member for member in others}
        self._open: dict[str, _Link] = {}
        self._connections: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self._diallers: dict[str, asyncio.Task[None]] = {}
        self._complaints: set[str] = set()
        self._closing = False

    async def start(self) -> None:
        """Listen on the peer address and begin to dial.

        Raises:
            OSError: the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        address = self.me.peer
        self._server = await loop.create_server(
            lambda: _Link(self, None), address.host, address.port
        )
        for member in self.members.values():
            self._begin_dialling(member)

    def add_peer(self, member: Member) -> None:
        """Be linked with one more peer, or with one that has moved, from now on."""
        if self.members.get(member.id) != member:
            self.remove_peer(member.id)
            self.members[member.id] = member
            if self._server is not None and not self._closing:
                self._begin_dialling(member)

    def remove_peer(self, peer_id: str) -> None:
        """Break the link to a peer, and let no new one be made."""
        self.members.pop(peer_id, None)
        dialler = self._diallers.pop(peer_id, None)
        if dialler is not None:
            dialler.cancel()
        link = self._open.get(peer_id)
        if link is not None:
            link.abort()
            self.lost(link)

    def _begin_dialling(self, member: Member) -> None:
        if self.me.id < member.id:
            task = asyncio.get_running_loop().create_task(self._dial(member))
            self._diallers[member.id] = task

    async def _dial(self, member: Member) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing:
            try:
                _, link = await loop.create_connection(
                    lambda: _Link(self, member.id), member.peer.host, member.peer.port
                )
                await link.closed.wait()
            except OSError:
                pass  # nobody there yet: ask again
            await asyncio.sleep(self._redial_s)

    def send(self, peer_id: str, frame: bytes) -> bool:
        """Queue a frame to a peer; False when no link is open."""
        link = self._open.get(peer_id)
        if link is None:
            return False
        link.write(frame)
        return True

    def is_up(self, peer_id: str) -> bool:
        """Whether the link to this peer is open."""
        return peer_id in self._open

    def buffered_bytes(self, peer_id: str) -> int:
        """Bytes queued to this peer that its kernel has not taken yet."""
        link = self._open.get(peer_id)
        return link.buffered_bytes() if link is not None else 0

    async def close(self) -> None:
        """Close the listener and every link. No event is told after this."""
        self._closing = True
        if self._server is not None:
            self._server.close()
        diallers = list(self._diallers.values())
        for task in diallers:
            task.cancel()
        for link in list(self._connections):
            link.abort()
        await asyncio.gather(*diallers, return_exceptions=True)

    # -- called by links ---------------------------------------------------------------

    def opened(self, link: _Link) -> None:
        assert link.peer_id is not None
        older = self._open.get(link.peer_id)
        if older is not None:
            older.abort()
            self.lost(older)
        self._open[link.peer_id] = link
        self.events.up(link.peer_id)

    def lost(self, link: _Link) -> None:
        if link.peer_id is not None and self._open.get(link.peer_id) is link:
            del self._open[link.peer_id]
            if not self._closing:
                self.events.down(link.peer_id)

    def complain(self, who: str, reason: str) -> None:
        """Log a refused connection once per reason."""
        if reason not in self._complaints and len(self._complaints) < 100:
            self._complaints.add(reason)
            self._log.warning("peer connection refused", peer=who, reason=reason)

    def track(self, link: _Link, present: bool) -> None:
        if present:
            self._connections.add(link)
        else:
            self._connections.discard(link)


class _Link(asyncio.Protocol):
    """One connection: handshake, then frames.

    Args:
        dialled: the peer's id when we called it, None when it called us.
    """

    def __init__(self, links: Links, dialled: str | None) -> None:
        self._links = links
        self._dialled = dialled
        self.peer_id: str | None = None
        self.closed = asyncio.Event()
        self._reader = wire.FrameReader(_HANDSHAKE_FRAME_BYTES_MAX)
        self._nonce = secrets.token_bytes(16)
        self._expected_proof: bytes | None = None
        self._transport: asyncio.Transport | None = None
        self._is_open = False
        self._heard_at = self._wrote_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # -- asyncio ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio.Transports in all but name.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=1 << 30)  # bounded by node.transport instead
        self._links.track(self, True)
        loop = asyncio.get_running_loop()
        self._heard_at = self._wrote_at = loop.time()
        self._timer = loop.call_later(HANDSHAKE_S, self._handshake_timeout)
        if self._dialled is not None:
            self._say_hello(self._dialled)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._links.track(self, False)
        self._links.lost(self)
        self.closed.set()

    def data_received(self, data: bytes) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        try:
            for body in self._reader.feed(data):
                self._on_message(wire.decode(body))
                if self._transport is None or self._transport.is_closing():
                    return
        except wire.WireError as error:
            self._refuse(str(error))
            return
        if self._is_open:
            self._links.events.received()

    # -- handshake ----------------------------------------------------------------------

    def _on_message(self, message: wire.Message) -> None:
        kind = message[0]
        if self._is_open:
            if kind == wire.HELLO or kind == wire.PROOF:
                raise wire.WireError("handshake on an open link")
            if kind != wire.PING:
                assert self.peer_id is not None
                self._links.events.message(self.peer_id, message)
        elif kind == wire.HELLO and self._expected_proof is None:
            self._on_hello(*message[1:])
        elif kind == wire.PROOF and self._expected_proof is not None:
            self._on_proof(message[1])
        else:
            raise wire.WireError("message before the handshake is over")

    def _say_hello(self, peer_id: str) -> None:
        me = self._links.me.id
        self.write(
            wire.encode(wire.HELLO, wire.WIRE_VERSION, me, peer_id, self._links.epoch, self._nonce)
        )

    def _on_hello(self, version: int, sender: str, to: str, epoch: int, nonce: bytes) -> None:
        me = self._links.me.id
        if version != wire.WIRE_VERSION:
            raise wire.WireError(f"peer speaks wire version {version}, not {wire.WIRE_VERSION}")
        if to != me or sender not in self._links.members:
            raise wire.WireError(f"hello from {sender!r} to {to!r} at node {me!r}")
        if self._dialled is None:
            if sender > me:
                raise wire.WireError(f"{sender} is to be dialled, not to dial")
            self._say_hello(sender)
            nonces = nonce + self._nonce
        else:
            if sender != self._dialled:
                raise wire.WireError(f"dialled {self._dialled}, got {sender}")
            nonces = self._nonce + nonce
        self.peer_id = sender
        self._expected_proof = self._proof(sender, me, nonces)
        self.write(wire.encode(wire.PROOF, self._proof(me, sender, nonces)))

    def _proof(self, sender: str, to: str, nonces: bytes) -> bytes:
        text = b"\0".join((b"trimaran peer", sender.encode(), to.encode(), nonces))
        return hmac.new(self._links.secret, text, hashlib.sha256).digest()

    def _on_proof(self, proof: bytes) -> None:
        assert self._expected_proof is not None
        if not hmac.compare_digest(proof, self._expected_proof):
            raise wire.WireError(f"wrong proof from {self.peer_id}: is the secret the same?")
        self._is_open = True
        self._reader.frame_bytes_max = self._links.frame_bytes_max
        assert self._timer is not None
        self._timer.cancel()
        self._check_silence()
        self._links.opened(self)

    def _handshake_timeout(self) -> None:
        self._refuse("no handshake within 2 s")

    def _refuse(self, reason: str) -> None:
        assert self._transport is not None
        self._links.complain(str(self._transport.get_extra_info("peername")), reason)
        self.abort()

    # -- open ---------------------------------------------------------------------------

    def _check_silence(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now - self._heard_at > SILENCE_MAX_S:
            self._refuse(f"{self.peer_id} silent for {SILENCE_MAX_S:.0f} s")
            return
        if now - self._wrote_at > PING_AFTER_S:
            self.write(wire.encode(wire.PING))
        self._timer = loop.call_later(PING_AFTER_S, self._check_silence)

    def write(self, frame: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._wrote_at = asyncio.get_running_loop().time()
            self._transport.write(frame)

    def buffered_bytes(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
