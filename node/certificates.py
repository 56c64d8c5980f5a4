"""Certificates of nodes: a small authority for one cluster, and what it signs.

    trimaran certs DIR --nodes n1,n2,n3 [--days N]

    DIR/ca.crt          the authority: every node has a copy                   (peer.tls_ca)
    DIR/ca.key          signs nodes. Belongs where no node runs; needed for the next one only
    DIR/n1.crt n1.key   of one node, and only there                  (peer.tls_cert, tls_key)

    a node's certificate: subject CN=n1; SAN URI:trimaran:node:n1; for server and client;
    ECDSA P-256; valid from a day ago (clocks differ) for --days

Invariants: no file is ever overwritten; keys are readable by their owner only (0600); an
authority that is there already signs the new ones, which is how a fourth node gets its own;
everything that can be wrong is found before the first file is written.

A crash leaves some of the files, each whole or of no use; those that are there are named, and
not touched, by the next try.

Does not do: revoke (a stolen key: make a new authority), renew in place (move the old away).
Certificates of another tool do as well, as long as the SAN is there.

Proved by: tests/node/test_certificates.py
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node.config_members import MEMBERS_MAX, is_node_id
from node.errors import ConfigError
from statemachine.fs import FileSystem

__all__ = ["DAYS_MAX", "ID_PREFIX", "make", "refusal_of"]

ID_PREFIX: Final = "trimaran:node:"
DAYS_MAX: Final = 3650
_AUTHORITY_DAYS: Final = 3660
_DAY: Final = datetime.timedelta(days=1)


def make(
    directory: Path, node_ids: Sequence[str], days: int, disk: FileSystem, now_ms: int
) -> list[Path]:
    """Write certificates for these nodes, and the authority if it is not there yet.

    Returns: the files that were made.

    Raises:
        ConfigError: an id that is none, a file that is there already, an authority that cannot
            sign. Nothing was written.
        DiskFailed: some may have been.
    """
    now = datetime.datetime.fromtimestamp(now_ms // 1000, datetime.UTC)
    _refuse(directory, node_ids, days, disk)
    paths = [directory / f"{node_id}{end}" for node_id in node_ids for end in (".key", ".crt")]
    authority_paths = [directory / "ca.key", directory / "ca.crt"]
    is_new = not any(disk.exists(path) for path in authority_paths)
    authority = _Authority.new(now) if is_new else _Authority.read(directory, disk)
    if authority.valid_until < now + days * _DAY:
        problem = f"is {days}, but the authority ends on {authority.valid_until:%Y-%m-%d}"
        raise ConfigError([("--days", problem)])
    contents = list(authority.pems()) if is_new else []
    for node_id in node_ids:
        contents += authority.sign(node_id, now, days)
    made = [*authority_paths, *paths] if is_new else paths
    disk.make_dir(directory)
    before = os.umask(0o077)
    try:
        for path, content in zip(made, contents, strict=True):
            disk.write_new(path, [content])
        disk.sync_dir(directory)
    finally:
        os.umask(before)
    return made


def _refuse(directory: Path, node_ids: Sequence[str], days: int, disk: FileSystem) -> None:
    problems = []
    if not 1 <= len(node_ids) <= MEMBERS_MAX or len(set(node_ids)) != len(node_ids):
        problems.append(("--nodes", f"must be 1 to {MEMBERS_MAX} ids, each once"))
    problems += [
        ("--nodes", f"{node_id!r} is no id of a node") for node_id in node_ids if not _fits(node_id)
    ]
    if not 1 <= days <= DAYS_MAX:
        problems.append(("--days", f"is {days}, must be 1 to {DAYS_MAX}"))
    problems += [
        (str(path), "is there already; it is not overwritten: move it away to make a new one")
        for node_id in node_ids
        for path in (directory / f"{node_id}.key", directory / f"{node_id}.crt")
        if not problems and disk.exists(path)
    ]
    if problems:
        raise ConfigError(problems)


def _fits(node_id: str) -> bool:
    return is_node_id(node_id) and node_id != "ca"  # its files would be the authority's


class _Authority:
    """A certificate that signs, and its key."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def new(cls, now: datetime.datetime) -> _Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "trimaran cluster")])
        builder = (
            _builder(name, name, key.public_key(), now, _AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()),
                critical=False,
            )
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def read(cls, directory: Path, disk: FileSystem) -> _Authority:
        try:
            certificate = x509.load_pem_x509_certificate(disk.read_bytes(directory / "ca.crt"))
            key = serialization.load_pem_private_key(disk.read_bytes(directory / "ca.key"), None)
        except FileNotFoundError as error:
            problem = "holds half an authority: of ca.crt and ca.key one is missing"
            raise ConfigError([(str(directory), problem)]) from error
        except (ValueError, TypeError) as error:
            raise ConfigError([(f"{directory}/ca.crt, ca.key", f"unreadable: {error}")]) from error
        if (
            not isinstance(key, ec.EllipticCurvePrivateKey)
            or key.public_key() != certificate.public_key()
        ):
            problem = "is not the key of ca.crt"
            raise ConfigError([(str(directory / "ca.key"), problem)])
        return cls(certificate, key)

    @property
    def valid_until(self) -> datetime.datetime:
        return self._certificate.not_valid_after_utc

    def pems(self) -> tuple[bytes, bytes]:
        """Key and certificate."""
        return _pem_of_key(self._key), self._certificate.public_bytes(serialization.Encoding.PEM)

    def sign(self, node_id: str, now: datetime.datetime, days: int) -> tuple[bytes, bytes]:
        """Key and certificate of a node."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node_id)])
        authority_key = self._key.public_key()
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _builder(name, self._certificate.subject, key.public_key(), now, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key), critical=False
            )
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.UniformResourceIdentifier(f"{ID_PREFIX}{node_id}")]
                ),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return _pem_of_key(key), certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + days * _DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def refusal_of(pem: bytes, node_id: str, now_ms: int) -> str | None:
    """Why a node cannot show this certificate as its own; None when it can."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        ids = _ids(certificate)
    except ValueError as error:
        return f"is no certificate: {error}"
    if node_id not in ids:
        whose = " and ".join(sorted(ids)) or "no node"
        return f"is of {whose}, this node is {node_id} (SAN URI:{ID_PREFIX}{node_id})"
    now = datetime.datetime.fromtimestamp(now_ms / 1000, datetime.UTC)
    if now > certificate.not_valid_after_utc:
        return f"ended on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: make a new one"
    if now < certificate.not_valid_before_utc:
        return f"begins on {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: wrong clock?"
    return None


def _ids(certificate: x509.Certificate) -> frozenset[str]:
    """The node ids in a certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return frozenset(uri[len(ID_PREFIX) :] for uri in uris if uri.startswith(ID_PREFIX))
