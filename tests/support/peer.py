"""A scripted peer on a blocking socket: shakes hands as any node, then says whatever it is told to.

with Peer(port, "n1", "n3", secret=b"...", context=None) as peer:
    peer.say(frame)
    peer.is_open()          whether the node has not hung up
"""

from __future__ import annotations

import socket
import ssl
import struct
from pathlib import Path
from types import TracebackType

from node import wire
from node.handshake import Handshake

__all__ = ["Peer", "client_context", "knock"]


def client_context(certs: Path, node_id: str | None, ca: Path | None = None) -> ssl.SSLContext:
    """TLS as node `node_id`, or without a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations((ca or certs) / "ca.crt")
    if node_id is not None:
        context.load_cert_chain(certs / f"{node_id}.crt", certs / f"{node_id}.key")
    return context


class Peer:
    """See the top of the file.

    Raises: ConnectionError, OSError when the node refuses it.
    """

    def __init__(
        self,
        port: int,
        me: str,
        to: str,
        *,
        secret: bytes = b"",
        nonce: bytes = bytes(16),
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.sent: list[bytes] = []
        self._socket = _dial(port)
        try:
            if context is not None:
                self._socket = context.wrap_socket(self._socket)
            self._shake_hands(me, to, secret, nonce)
        except BaseException:
            self._socket.close()
            raise

    def _shake_hands(self, me: str, to: str, secret: bytes, nonce: bytes) -> None:
        handshake = Handshake(
            me,
            epoch=1,
            secret=secret,
            nonce=nonce,
            dialled=to,
            is_member=lambda _: True,
            certified=None,
        )
        self._answer(handshake.begin())
        reader = wire.FrameReader(1 << 20)
        while not handshake.is_open:
            data = self._socket.recv(65_536)
            if not data:
                raise ConnectionResetError("refused")
            for body in reader.feed(data):
                if not handshake.is_open:  # else it is what the node says on the open link
                    self._answer(handshake.receive(body))

    def _answer(self, frame: bytes) -> None:
        if frame:
            self.sent.append(frame)
            self.say(frame)

    def say(self, data: bytes) -> None:
        self._socket.sendall(data)

    def is_open(self, wait_s: float = 0.2) -> bool:
        """Whether the node says nothing more for `wait_s`, and does not hang up."""
        self._socket.settimeout(wait_s)
        try:
            while self._socket.recv(65_536):
                pass
        except TimeoutError:
            return True
        except OSError:
            return False
        finally:
            if self._socket.fileno() >= 0:
                self._socket.settimeout(10)
        return False

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()


def _dial(port: int) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    # Closing leaves nothing behind: a million connections would use up all local ports.
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return plain


def knock(port: int, data: bytes) -> None:
    """Dial, say it, wait until the node hangs up (as it must), and no longer than 10 s."""
    with _dial(port) as plain:
        try:
            plain.sendall(data)
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(65_536):
                pass
        except ConnectionError:
            pass
