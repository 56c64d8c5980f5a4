"""Links: one authenticated connection to each peer, kept up for as long as we live.

    smaller id dials, greater id accepts; a lost link is dialled again every 50 ms (P24)

    Links --- dials, accepts, counts ---> Link (node.link) ---> Handshake (node.handshake)
      |                                     |
      +--> Refusals: the log                +--> TlsStream (node.tls), with certificates

A newer link from the same peer replaces the older one (the peer has been restarted). Of the
connections that have not shown yet who they are HALF_OPEN_MAX are kept: a new one pushes out the
oldest of the address that has most of them, so who knocks a thousand times pushes out himself.
With TLS, of which a first answer costs 0.7 ms of work, TLS_PER_SECOND_MAX are given an address.

Invariants: messages of one link arrive whole and in order or not at all; between two links
of the same peer there is always on_down, so the caller can forget what it had sent. Members may
come and go while it runs (`add_peer`, `remove_peer`); who was removed is a stranger at once.

Memory: for each peer one frame that comes in, send_buffer_bytes_max that waits to go out; for
each half-open connection a few KiB.

What a crash does: the kernel closes the sockets; the peers see on_down within a round trip.

Does not do: know what messages mean (node.transport), decide who is a member.

Proved by: tests/node/test_links.py, tests/node/test_links_tls.py
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from node import wire
from node.config import Address, Member
from node.handshake import OURS, Handshake, Versions
from node.link import HANDSHAKE_S, Link
from node.logs import EventLog
from node.refusals import Refusals
from node.tls import PeerTls

__all__ = ["LinkEvents", "Links"]

HALF_OPEN_MAX: Final = 64
TLS_PER_SECOND_MAX: Final = 100
"""A peer that is refused each time dials 20 times a second."""
_RTT_AT: Final = 68
"""Where tcpi_rtt (u32, microseconds) stands in struct tcp_info, <linux/tcp.h>."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEvents:
    """What the links tell their owner, always in the loop's thread."""

    up: Callable[[str], None]
    down: Callable[[str], None]
    message: Callable[[str, wire.Message], None]
    """May raise WireError: what the peer says cannot be true, its link is closed."""
    received: Callable[[], None]
    """All messages of one read from a socket have been handed over."""


class Links:
    """All links of one node.

    Args:
        me, others: who we are and whom we talk to.
        epoch: how often our data directory was opened (told to the peer).
        secret: shared by all members; "" proves nothing and is for loopback or TLS only.
        tls: certificates; None for plain connections.
        frame_bytes_max: limit on one frame, before anything is allocated.
        send_buffer_bytes_max: a peer for which more than this waits loses its link.
        redial_s: pause between two tries to reach a peer that is away.
        versions: what is offered in the hello.
        listen: where, when it is not our own address, at which a proxy of a laboratory sits.
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
        tls: PeerTls | None = None,
        send_buffer_bytes_max: int = 1 << 30,
        versions: Versions = OURS,
        listen: Address | None = None,
    ) -> None:
        self.me = me
        self._listen = listen or me.peer
        self.epoch = epoch
        self.frame_bytes_max = frame_bytes_max
        self.send_buffer_bytes_max = send_buffer_bytes_max
        self.tls = tls
        self.events = events
        self.members = {member.id: member for member in others}
        self._secret = secret.encode()
        self._versions = versions
        self._redial_s = redial_s
        self._refusals = Refusals(log, asyncio.get_running_loop().time)
        self._open: dict[str, Link] = {}
        self._half_open: dict[Link, None] = {}
        """Connections that came in and are not open yet, oldest first."""
        self._connections: set[Link] = set()
        self._second = 0
        self._arrivals: Counter[str] = Counter()
        """Connections that came in this second, by address."""
        self._server: asyncio.Server | None = None
        self._diallers: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    # -- life -----------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen on the peer address and begin to dial.

        Raises:
            OSError: the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        host, port = self._listen.host, self._listen.port
        self._server = await loop.create_server(lambda: Link(self, None), host, port)
        for member in self.members.values():
            self._begin_to_dial(member)

    def _begin_to_dial(self, member: Member) -> None:
        if self.me.id < member.id:
            task = asyncio.get_running_loop().create_task(self._dial(member))
            self._diallers[member.id] = task

    async def _dial(self, member: Member) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing:
            try:
                # NB: without a limit a connection that was begun in front of a cut waits for
                # TCP's own patience, and the link is away for minutes after the cut has healed.
                async with asyncio.timeout(HANDSHAKE_S):
                    _, link = await loop.create_connection(
                        lambda: Link(self, member.id), member.peer.host, member.peer.port
                    )
                await link.closed.wait()
            except OSError:
                pass  # nobody there yet (TimeoutError is one too): ask again
            await asyncio.sleep(self._redial_s)

    def add_peer(self, member: Member) -> None:
        """One more member from now on; or the same one at another address."""
        if self.members.get(member.id) == member:
            return
        self.remove_peer(member.id)
        self.members[member.id] = member
        if self._server is not None and not self._closing:
            self._begin_to_dial(member)

    def remove_peer(self, peer_id: str) -> None:
        """A member no more: its links end, and it gets none. Harmless when it is none."""
        self.members.pop(peer_id, None)
        dialler = self._diallers.pop(peer_id, None)
        if dialler is not None:
            dialler.cancel()
        for link in list(self._connections):
            handshake = link.handshake
            if peer_id in (link.dialled, link.peer_id, handshake and handshake.peer_id):
                link.abort()
                self._lost(link)

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

    # -- use ------------------------------------------------------------------------------

    def send(self, peer_id: str, frame: bytes) -> bool:
        """Queue a frame to a peer; False when no link is open."""
        link = self._open.get(peer_id)
        return link is not None and link.write(frame)

    def is_up(self, peer_id: str) -> bool:
        """Whether the link to this peer is open."""
        link = self._open.get(peer_id)
        return link is not None and link.is_open

    def buffered_bytes(self, peer_id: str) -> int:
        """Bytes queued to this peer that its kernel has not taken yet."""
        link = self._open.get(peer_id)
        return link.buffered_bytes() if link is not None else 0

    def round_trip_s(self, peer_id: str) -> float | None:
        """The kernel's smoothed estimate of the way there and back (its own acknowledgements: what
        the peer's process takes is not in it). None: no link, or a kernel that does not tell."""
        link = self._open.get(peer_id)
        plain = link.socket() if link is not None else None
        if plain is None or not hasattr(socket, "TCP_INFO"):
            return None
        try:
            info = plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT_AT + 4)
        except OSError:
            return None
        return int.from_bytes(info[_RTT_AT : _RTT_AT + 4], sys.byteorder) / 1e6

    @property
    def refusals_count(self) -> int:
        """Connections refused and links broken off since the start."""
        return self._refusals.count

    # -- called by links ------------------------------------------------------------------

    def handshake(
        self, dialled: str | None, nonce: bytes, certified: frozenset[str] | None
    ) -> Handshake:
        return Handshake(
            self.me.id,
            epoch=self.epoch,
            secret=self._secret,
            nonce=nonce,
            dialled=dialled,
            is_member=self.members.__contains__,
            certified=certified,
            versions=self._versions,
        )

    def connected(self, link: Link) -> None:
        self._connections.add(link)
        if self._closing:
            link.abort()
        elif link.dialled is None:
            self._half_open[link] = None
            if self.tls is not None and self._is_too_often(link.address):
                link.refuse(f"more than {TLS_PER_SECOND_MAX} connections in a second")
                return
            if len(self._half_open) > HALF_OPEN_MAX:
                crowd = Counter(each.address for each in self._half_open).most_common(1)[0][0]
                oldest = next(each for each in self._half_open if each.address == crowd)
                oldest.refuse(f"more than {HALF_OPEN_MAX} connections that are not open yet")

    def _is_too_often(self, address: str) -> bool:
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._second = second
            self._arrivals.clear()
        self._arrivals[address] += 1
        return self._arrivals[address] > TLS_PER_SECOND_MAX

    def opened(self, link: Link) -> None:
        assert link.peer_id is not None
        self._half_open.pop(link, None)
        if link.peer_id not in self.members:  # removed during the handshake
            link.abort()
            return
        older = self._open.get(link.peer_id)
        if older is not None:
            older.abort()
            self._lost(older)
        self._open[link.peer_id] = link
        self.events.up(link.peer_id)

    def ended(self, link: Link) -> None:
        self._connections.discard(link)
        self._half_open.pop(link, None)
        self._lost(link)

    def _lost(self, link: Link) -> None:
        if link.peer_id is not None and self._open.get(link.peer_id) is link:
            del self._open[link.peer_id]
            if not self._closing:
                self.events.down(link.peer_id)

    def refused(self, link: Link, reason: str) -> None:
        self._half_open.pop(link, None)
        if self._closing:
            return
        if link.peer_id is not None:
            self._refusals.say(link.peer_id, reason, event="peer link broken off")
        else:
            who = link.address if link.dialled is None else f"{link.dialled} at {link.address}"
            self._refusals.say(who, reason)

    def message(self, peer_id: str, message: wire.Message) -> None:
        self.events.message(peer_id, message)

    def received(self) -> None:
        self.events.received()
