"""The handshake of two nodes: who they are, what they speak, that both hold the secret. Pure.

    smaller id dials                      greater id accepts
      hello(a to b, epoch, nonce)   ->      a member? meant for me? its certificate? versions?
      the one I dialled? versions?  <-    hello(b to a, epoch, nonce)
      proof of the dialler          ->      right?
      right?                        <-    proof of the acceptor
      ----------------------------- open ------------------------------------

    proof = HMAC-SHA256(secret, "trimaran peer proof" | side | u32 length | hello | hello)

Both hellos are in it, byte for byte, the dialler's first: so a proof is bound to both ids, both
epochs, both nonces (16 fresh bytes from each side: what was heard once opens nothing again),
the direction (a proof sent back is the other side's: no reflection) and every version that was
offered (nobody between can talk two nodes into an older one). The dialler proves first: who only
knocks learns nothing that a guessed secret could be tried on.

Versions. A hello says which wire versions its node speaks (newest, oldest), which format of
batches and snapshots it reads at most, and which one it writes. Two nodes use the newest that
both know; where there is none, each of the two says so in a sentence of its own. The first five
fields of a hello never change, fields that a newer program puts behind ours are not looked at:
see "Rolling upgrade" in node/README.md.

Does not do: read sockets, wait, encrypt. The secret proves who opened a connection, not who
writes each frame: on a network where somebody can change packets use TLS (node.tls).

Proved by: tests/node/test_handshake.py, tests/node/test_links.py
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from node import wire
from statemachine.commands import BATCH_VERSION
from statemachine.image import IMAGE_VERSION

__all__ = ["OURS", "Agreed", "Handshake", "Refused", "Versions", "agree", "proof_of"]

NONCE_BYTES: Final = 16
_LABEL: Final = b"trimaran peer proof\0"
_DIALLER, _ACCEPTOR = b"dialler\0", b"acceptor"


class Refused(wire.WireError):
    """The connection is not to be opened.

    Args:
        answer: what the other side is still told, so that it knows why by itself.
    """

    def __init__(self, reason: str, answer: bytes = b"") -> None:
        super().__init__(reason)
        self.answer = answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """What a node speaks and reads; all of it from the oldest to the newest."""

    wire: int
    wire_oldest: int
    format: int
    """The newest that it reads."""
    format_oldest: int
    """The one that it writes: who cannot read that cannot be its peer."""


_FORMAT: Final = BATCH_VERSION + IMAGE_VERSION - 1
"""Of what travels to be kept: batches and snapshots. The sum rises with either."""
OURS: Final = Versions(
    # 2: hellos with ranges of versions. 3: a link begins with the incarnation, without which nobody
    # is admitted (so 3 cannot speak 2); results of skipped batches may be asked for.
    wire=3,
    wire_oldest=3,
    format=_FORMAT,
    format_oldest=_FORMAT,
)


@dataclass(frozen=True, slots=True)
class Agreed:
    """What both ends of a link speak, and what both can read."""

    wire: int
    format: int


def agree(peer_id: str, ours: Versions, theirs: Versions) -> Agreed:
    """The newest that both know.

    Raises:
        Refused: there is none; the sentence says who has to be upgraded.
    """
    pairs = (
        ("wire version", ours.wire, ours.wire_oldest, theirs.wire, theirs.wire_oldest),
        ("data format", ours.format, ours.format_oldest, theirs.format, theirs.format_oldest),
    )
    for what, newest, oldest, their_newest, their_oldest in pairs:
        if newest < their_oldest:
            raise Refused(
                f"{peer_id} needs {what} {their_oldest} or newer, this node knows {newest} at "
                f"most: upgrade this node"
            )
        if their_newest < oldest:
            raise Refused(
                f"{peer_id} knows {what} {their_newest} at most, this node needs {oldest} or "
                f"newer: upgrade {peer_id}"
            )
    return Agreed(min(ours.wire, theirs.wire), min(ours.format, theirs.format))


def proof_of(secret: bytes, side: bytes, dialler_hello: bytes, acceptor_hello: bytes) -> bytes:
    """What proves that one side holds the secret."""
    size = len(dialler_hello).to_bytes(4, "big")
    text = b"".join((_LABEL, side, size, dialler_hello, acceptor_hello))
    return hmac.new(secret, text, hashlib.sha256).digest()


class Handshake:
    """One side of one handshake.

    Args:
        me, epoch: who we are, and how often our data directory was opened.
        secret: b"" proves nothing: for loopback, and behind TLS.
        nonce: fresh.
        dialled: whom we called; None when we were called.
        is_member: whether an id is one of the other members.
        certified: ids that the other side's certificate names; None without TLS.
    """

    def __init__(
        self,
        me: str,
        *,
        epoch: int,
        secret: bytes,
        nonce: bytes,
        dialled: str | None,
        is_member: Callable[[str], bool],
        certified: frozenset[str] | None,
        versions: Versions = OURS,
    ) -> None:
        self._me = me
        self._epoch = epoch
        self._secret = secret
        self._nonce = nonce
        self._dialled = dialled
        self._is_member = is_member
        self._certified = certified
        self._versions = versions
        self._hello = b""
        self._peer_hello = b""
        self.peer_id: str | None = dialled
        """Who is at the other end; proved once `is_open`."""
        self.peer_epoch = 0
        self.agreed: Agreed | None = None
        self.is_open = False

    def begin(self) -> bytes:
        """What is to be sent first.

        Raises:
            Refused: the certificate is not that of the node we dialled.
        """
        if self._dialled is None:
            return b""
        self._check_certificate(self._dialled)
        return self._say_hello(self._dialled)

    def receive(self, body: bytes) -> bytes:
        """The body of a frame came; what is to be sent now.

        Raises:
            WireError, Refused: close the connection.
        """
        kind, *fields = wire.decode(body)
        if kind == wire.HELLO and not self._peer_hello:
            return self._on_hello(body, fields)
        if kind == wire.PROOF and self.agreed is not None:
            return self._on_proof(fields[0])
        raise Refused("a message before the handshake is over")

    def _say_hello(self, to: str) -> bytes:
        frame = wire.encode(
            wire.HELLO,
            self._versions.wire,
            self._me,
            to,
            self._epoch,
            self._nonce,
            self._versions.wire_oldest,
            self._versions.format,
            self._versions.format_oldest,
        )
        self._hello = frame[wire.LENGTH.size :]
        return frame

    def _on_hello(self, body: bytes, fields: list[Any]) -> bytes:
        sender, to, epoch = fields[1:4]
        if to != self._me or not self._is_member(sender):
            raise Refused(f"hello from {sender!r} to {to!r} at node {self._me!r}")
        if self._dialled is None:
            if sender >= self._me:
                raise Refused(f"{sender} is to be dialled, not to dial")
            self._check_certificate(sender)
        elif sender != self._dialled:
            raise Refused(f"dialled {self._dialled}, got {sender}")
        self.peer_id, self.peer_epoch, self._peer_hello = sender, epoch, body
        answer = self._say_hello(sender) if self._dialled is None else b""
        try:
            self.agreed = agree(sender, self._versions, _versions_of(fields))
        except Refused as error:
            raise Refused(str(error), answer) from error
        return answer if self._dialled is None else wire.encode(wire.PROOF, self._proof(_DIALLER))

    def _check_certificate(self, peer_id: str) -> None:
        if self._certified is not None and peer_id not in self._certified:
            whose = " and ".join(sorted(self._certified)) or "no node"
            raise Refused(f"{peer_id} shows a certificate of {whose}")

    def _on_proof(self, proof: bytes) -> bytes:
        theirs = _ACCEPTOR if self._dialled is not None else _DIALLER
        if not hmac.compare_digest(proof, self._proof(theirs)):
            raise Refused(f"wrong proof from {self.peer_id}: is peer.secret the same?")
        self.is_open = True
        if self._dialled is not None:
            return b""
        return wire.encode(wire.PROOF, self._proof(_ACCEPTOR))

    def _proof(self, side: bytes) -> bytes:
        hellos = (self._hello, self._peer_hello)
        dialler, acceptor = hellos if self._dialled is not None else reversed(hellos)
        return proof_of(self._secret, side, dialler, acceptor)


def _versions_of(fields: list[Any]) -> Versions:
    """What a hello offers. The first ones there were named one wire version, and no format."""
    newest = fields[0]
    wire_oldest, format_newest, format_oldest = fields[5:8] if len(fields) >= 8 else (newest, 1, 1)
    return Versions(
        wire=newest, wire_oldest=wire_oldest, format=format_newest, format_oldest=format_oldest
    )
