"""TLS 1.3 between nodes, as a filter of bytes: no sockets, no event loop.

    from the socket --receive()--> [ ssl ] --> what the peer wrote
    what we write   --send()-----> [ ssl ] --take()--> to the socket

    [peer] tls_cert, tls_key   this node's, its id in the certificate as URI:trimaran:node:<id>
           tls_ca              who signs nodes of this cluster, and nobody else

Both sides show a certificate, both check the other's against `tls_ca` alone (not what the system
trusts), both read the id from it (node.handshake compares it with who is meant). One authority
for each cluster: whoever it signed an id for is that node.

Why not asyncio's own TLS: there the side that was called is told nothing of a handshake that
failed, so a stranger could not be reported, and half-open connections not be counted; and a
filter needs no event loop to be tested. Both event loops are served alike.

Invariants: nothing older than 1.3; no session is resumed, so each connection checks the dates of
certificates anew; what is buffered here is never more than came in one read, and one record.

A certificate that is replaced is read at the next start. An open link outlives its certificate.

Does not do: make certificates (node.certificates), close politely (a lost link is a lost link).

Proved by: tests/node/test_tls.py
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final

from node.certificates import ID_PREFIX, refusal_of
from node.config_sections import PeerSection
from node.errors import ConfigError
from statemachine.fs import FileSystem

__all__ = ["PeerTls", "TlsError", "TlsStream", "load"]

_READ_BYTES: Final = 256 * 1024
_SENTENCES: Final = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS, this node does (peer.tls_cert)",
    "HTTP_REQUEST": "it does not speak TLS, this node does (peer.tls_cert)",
    "UNSUPPORTED_PROTOCOL": "it speaks a TLS older than 1.3",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate",
}


class TlsError(Exception):
    """The connection cannot be trusted: close it, after what `take` still has."""


class PeerTls:
    """What this node shows and whom it believes, for both directions."""

    def __init__(self, cert: Path, key: Path, ca: Path) -> None:
        self._accepting = _context(ssl.PROTOCOL_TLS_SERVER, cert, key, ca)
        self._accepting.num_tickets = 0
        self._dialling = _context(ssl.PROTOCOL_TLS_CLIENT, cert, key, ca)

    def stream(self, *, dialled: bool) -> TlsStream:
        """For one new connection."""
        return TlsStream(self._dialling if dialled else self._accepting, dialled=dialled)


def _context(protocol: ssl._SSLMethod, cert: Path, key: Path, ca: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # ids, not host names: node.handshake
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cafile=str(ca))
    context.load_cert_chain(str(cert), str(key), password=lambda: "")
    return context


def load(section: PeerSection, node_id: str, disk: FileSystem, now_ms: int) -> PeerTls | None:
    """The TLS of a node; None when none is configured.

    Raises:
        ConfigError: a file is not there, is not what it should be, is another node's, or out
            of date: said now rather than by a cluster that does not come together.
    """
    if not section.tls_cert:
        return None
    cert, key, ca = Path(section.tls_cert), Path(section.tls_key), Path(section.tls_ca)
    problems = [
        (f"peer.{name}", f"{path}: no such file")
        for name, path in (("tls_cert", cert), ("tls_key", key), ("tls_ca", ca))
        if not disk.exists(path)
    ]
    if problems:
        raise ConfigError(problems)
    problem = refusal_of(disk.read_bytes(cert), node_id, now_ms)
    if problem is not None:
        raise ConfigError([("peer.tls_cert", f"{cert}: {problem}")])
    try:
        return PeerTls(cert, key, ca)
    except (ssl.SSLError, OSError, ValueError) as error:
        names = f"{cert}, {key}, {ca}"
        text = getattr(error, "reason", None) or str(error)
        problem = f"{names}: not a certificate, its key and an authority ({text})"
        raise ConfigError([("peer.tls_cert", problem)]) from error


class TlsStream:
    """One connection's TLS.

    Args:
        dialled: whether we called, and so speak first.
    """

    def __init__(self, context: ssl.SSLContext, *, dialled: bool) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=not dialled)
        self.is_ready = False
        """Whether the other side has shown a certificate that is believed.

        To who dialled it may still turn out that ours is not.
        """
        self.has_ended = False
        """Whether the other side has said that nothing more will come."""

    def receive(self, data: bytes) -> bytes:
        """Bytes came from the socket (b"": begin); what the peer wrote in them.

        Raises:
            TlsError: with a reason in words.
        """
        if data:
            self._incoming.write(data)
        chunks = []
        try:
            if not self.is_ready:
                self._tls.do_handshake()
                self.is_ready = True
            while chunk := self._tls.read(_READ_BYTES):
                chunks.append(chunk)
            self.has_ended = True
        except ssl.SSLWantReadError:
            pass  # all of it was read
        except ssl.SSLZeroReturnError:
            self.has_ended = True
        except ssl.SSLError as error:
            raise TlsError(_reason(error)) from error
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def send(self, data: bytes) -> None:
        """Encrypt; `take` has it then. Only once `is_ready`."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls.write(rest) :]

    def take(self) -> bytes:
        """What is to be written to the socket."""
        return self._outgoing.read()

    def peer_ids(self) -> frozenset[str]:
        """The node ids in the certificate of the other side."""
        found: Any = self._tls.getpeercert() or {}
        return frozenset(
            value[len(ID_PREFIX) :]
            for kind, value in found.get("subjectAltName", ())
            if kind == "URI" and value.startswith(ID_PREFIX)
        )


def _reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    reason = error.reason or str(error)
    if reason in _SENTENCES:
        return _SENTENCES[reason]
    words = reason.lower().replace("_", " ")
    if "alert" in words:
        return f"it refuses our certificate or our TLS: {words.partition('alert ')[2]}"
    return f"no TLS with it: {words}"
