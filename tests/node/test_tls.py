"""TLS as a filter of bytes: two ends in one process, and every way in which they do not match."""

from __future__ import annotations

import random
import re
import ssl
import time
from pathlib import Path

import pytest

from node.certificates import make
from node.config_sections import PeerSection
from node.errors import ConfigError
from node.tls import PeerTls, TlsError, TlsStream, load
from statemachine.fs import Disk

DAY_MS = 86_400_000


def now_ms() -> int:
    """OpenSSL looks at the clock of the machine, so these certificates do too."""
    return int(time.time() * 1000)


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certs")
    make(directory, ["n1", "n2"], 30, Disk(), now_ms())
    make(directory / "other", ["n1", "n2"], 30, Disk(), now_ms())
    make(directory / "old", ["n1", "n2"], 1, Disk(), now_ms() - 3 * DAY_MS)
    make(directory / "early", ["n1", "n2"], 30, Disk(), now_ms() + 3 * DAY_MS)
    return directory


def tls(directory: Path, node_id: str, ca: Path | None = None) -> PeerTls:
    return PeerTls(
        directory / f"{node_id}.crt", directory / f"{node_id}.key", ca or directory / "ca.crt"
    )


def ends(dialler: PeerTls, acceptor: PeerTls) -> tuple[TlsStream, TlsStream]:
    return dialler.stream(dialled=True), acceptor.stream(dialled=False)


def shake_hands(one: TlsStream, two: TlsStream) -> list[str]:
    """Carry bytes both ways until nothing moves; the errors that came up."""
    errors = []
    to_one: bytes = b""
    to_two: bytes = b""
    for _ in range(10):
        for end, data in ((one, to_one), (two, to_two)):
            try:
                end.receive(data)
            except TlsError as error:
                errors.append(str(error))
        to_one, to_two = two.take(), one.take()
        if errors and not (to_one or to_two):
            break
    return errors


def test_two_nodes_of_one_authority_see_each_other_s_ids(certs: Path) -> None:
    one, two = ends(tls(certs, "n1"), tls(certs, "n2"))
    assert shake_hands(one, two) == []
    assert one.is_ready
    assert two.is_ready
    assert one.peer_ids() == {"n2"}
    assert two.peer_ids() == {"n1"}
    assert one._tls.version() == "TLSv1.3"


@pytest.mark.parametrize("size_bytes", [1, 16_384, 16_385, 3_000_000])
def test_what_is_sent_arrives_however_it_is_cut(certs: Path, size_bytes: int) -> None:
    one, two = ends(tls(certs, "n1"), tls(certs, "n2"))
    shake_hands(one, two)
    data = bytes(range(256)) * (size_bytes // 256 + 1)
    one.send(data[:size_bytes])
    records = one.take()
    assert data[:100] not in records
    cut_bytes = max(1, len(records) // 7)
    parts = [records[at : at + cut_bytes] for at in range(0, len(records), cut_bytes)]
    assert b"".join(map(two.receive, parts)) == data[:size_bytes]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("other", "certificate signature failure|self-signed|unable to get local issuer"),
        ("old", "certificate has expired"),
        ("early", "certificate is not yet valid"),
    ],
)
@pytest.mark.parametrize("whose", ["dialler", "acceptor"])
def test_a_certificate_that_is_not_believed_opens_nothing(
    certs: Path, name: str, part: str, whose: str
) -> None:
    """Each of the two says why in words; the one that is refused learns it from an alert."""
    if name == "other":
        good = tls(certs, "n2")
    else:
        # Its own authority is believed, its dates are not.
        good = tls(certs, "n2", ca=certs / name / "ca.crt")
    bad = tls(certs / name, "n1", ca=certs / "ca.crt")
    one, two = ends(bad, good) if whose == "dialler" else ends(good, bad)
    errors = shake_hands(one, two)
    assert any(error.startswith("its certificate is refused: ") for error in errors), errors
    assert any(re.search(part, error) for error in errors), errors
    assert any(error.startswith("it refuses our certificate") for error in errors), errors
    believer = two if whose == "dialler" else one
    assert not believer.is_ready


def test_a_dialler_without_a_certificate_is_refused(certs: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(certs / "ca.crt")
    one, two = TlsStream(context, dialled=True), tls(certs, "n2").stream(dialled=False)
    assert "it shows no certificate" in shake_hands(one, two)
    assert not two.is_ready


def test_an_older_tls_is_refused(certs: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(certs / "ca.crt")
    context.load_cert_chain(certs / "n1.crt", certs / "n1.key")
    one, two = TlsStream(context, dialled=True), tls(certs, "n2").stream(dialled=False)
    assert "it speaks a TLS older than 1.3" in shake_hands(one, two)


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x20" + bytes(32)])
def test_who_does_not_speak_tls_is_told_apart(certs: Path, junk: bytes) -> None:
    with pytest.raises(TlsError, match="does not speak TLS"):
        tls(certs, "n1").stream(dialled=False).receive(junk)


def test_a_changed_byte_anywhere_is_one_clean_error(certs: Path) -> None:
    """In any flight of the handshake, or behind it: never anything but TlsError."""
    one_tls, two_tls = tls(certs, "n1"), tls(certs, "n2")
    refused = 0
    for seed in range(200):
        rng = random.Random(seed)
        one, two = ends(one_tls, two_tls)
        try:
            with_a_changed_byte(one, two, rng)
        except TlsError:
            refused += 1
    assert refused > 150


def with_a_changed_byte(one: TlsStream, two: TlsStream, rng: random.Random) -> None:
    to_one, when = b"", rng.randrange(4)
    for turn in range(5):
        one.receive(to_one)
        if one.is_ready:
            one.send(b"hello")
        to_two = bytearray(one.take())
        if turn == when and to_two:
            to_two[rng.randrange(len(to_two))] ^= rng.randrange(1, 256)
        two.receive(bytes(to_two))
        to_one = two.take()


def test_the_end_that_the_other_side_announces_is_seen(certs: Path) -> None:
    one, two = ends(tls(certs, "n1"), tls(certs, "n2"))
    shake_hands(one, two)
    one.send(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        one._tls.unwrap()
    assert two.receive(one.take()) == b"last words"
    assert two.has_ended
    assert not one.has_ended


# -- loading -------------------------------------------------------------------------------------


def section(directory: Path, **files: str) -> PeerSection:
    names = {"tls_cert": "n1.crt", "tls_key": "n1.key", "tls_ca": "ca.crt"} | files
    return PeerSection(**{key: str(directory / name) for key, name in names.items()})


def test_what_is_configured_is_loaded_and_nothing_else(certs: Path) -> None:
    assert load(PeerSection(), "n1", Disk(), now_ms()) is None
    assert load(section(certs), "n1", Disk(), now_ms()) is not None


@pytest.mark.parametrize(
    ("files", "node_id", "part"),
    [
        pytest.param({"tls_key": "absent"}, "n1", "absent: no such file", id="no file"),
        pytest.param({}, "n2", "is of n1, this node is n2", id="another node's"),
        pytest.param({"tls_key": "n2.key"}, "n1", "KEY_VALUES_MISMATCH", id="another key"),
        pytest.param({"tls_cert": "n1.key"}, "n1", "is no certificate", id="key for certificate"),
        pytest.param({"tls_ca": "n1.key"}, "n1", "not a certificate, its key", id="no authority"),
        pytest.param({"tls_cert": "old/n1.crt"}, "n1", "ended on", id="expired"),
    ],
)
def test_what_cannot_be_used_is_said_at_the_start(
    certs: Path, files: dict[str, str], node_id: str, part: str
) -> None:
    with pytest.raises(ConfigError, match=part):
        load(section(certs, **files), node_id, Disk(), now_ms())
