"""Certificates: what is written, what is never overwritten, what a node refuses to show."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from node import certificates
from node.certificates import make, refusal_of
from node.errors import ConfigError
from statemachine.fs import Disk

NOW_MS = 1_800_000_000_000
DAY_MS = 86_400_000


def made(directory: Path, *node_ids: str, days: int = 365, now_ms: int = NOW_MS) -> list[str]:
    return [path.name for path in make(directory, node_ids, days, Disk(), now_ms)]


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_an_authority_and_a_pair_for_each_node(tmp_path: Path) -> None:
    names = made(tmp_path / "certs", "n1", "n2")
    assert names == ["ca.key", "ca.crt", "n1.key", "n1.crt", "n2.key", "n2.crt"]
    assert sorted(path.name for path in (tmp_path / "certs").iterdir()) == sorted(names)
    assert all((tmp_path / "certs" / name).stat().st_mode & 0o777 == 0o600 for name in names)


def test_a_node_s_certificate_says_what_it_is_for_and_how_long(tmp_path: Path) -> None:
    made(tmp_path, "n1", days=30)
    authority, node = certificate(tmp_path / "ca.crt"), certificate(tmp_path / "n1.crt")
    node.verify_directly_issued_by(authority)
    san = node.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.UniformResourceIdentifier) == ["trimaran:node:n1"]
    usage = node.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not node.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    now = datetime.datetime.fromtimestamp(NOW_MS / 1000, datetime.UTC)
    assert node.not_valid_after_utc - now == datetime.timedelta(days=30)
    assert node.not_valid_before_utc < now - datetime.timedelta(hours=23)


def test_an_authority_that_is_there_signs_the_next_node_too(tmp_path: Path) -> None:
    made(tmp_path, "n1")
    authority = (tmp_path / "ca.crt").read_bytes()
    assert made(tmp_path, "n4") == ["n4.key", "n4.crt"]
    assert (tmp_path / "ca.crt").read_bytes() == authority
    certificate(tmp_path / "n4.crt").verify_directly_issued_by(certificate(tmp_path / "ca.crt"))


def test_what_is_there_is_never_overwritten_and_nothing_else_is_written(tmp_path: Path) -> None:
    made(tmp_path, "n1")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match=r"n1\.key: is there already.*n1\.crt: is there already"):
        made(tmp_path, "n2", "n1")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("node_ids", "days", "part"),
    [
        pytest.param([], 365, "1 to 9 ids", id="none"),
        pytest.param([f"n{i}" for i in range(10)], 365, "1 to 9 ids", id="too many"),
        pytest.param(["n1", "n1"], 365, "each once", id="twice"),
        pytest.param(["../n1"], 365, "no id of a node", id="a path"),
        pytest.param(["ca"], 365, "no id of a node", id="the authority's own files"),
        pytest.param(["n1"], 0, "must be 1 to 3650", id="no day"),
        pytest.param(["n1"], 3651, "must be 1 to 3650", id="more than ten years"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is(
    tmp_path: Path, node_ids: list[str], days: int, part: str
) -> None:
    with pytest.raises(ConfigError, match=part):
        made(tmp_path / "certs", *node_ids, days=days)
    assert not (tmp_path / "certs").exists()


def test_half_an_authority_signs_nothing(tmp_path: Path) -> None:
    made(tmp_path, "n1")
    (tmp_path / "ca.key").unlink()
    with pytest.raises(ConfigError, match="half an authority"):
        made(tmp_path, "n2")


@pytest.mark.parametrize("name", ["ca.key", "ca.crt"])
def test_an_authority_that_cannot_be_read_signs_nothing(tmp_path: Path, name: str) -> None:
    made(tmp_path, "n1")
    (tmp_path / name).write_bytes(b"-----BEGIN NOTHING-----\n")
    with pytest.raises(ConfigError, match="unreadable"):
        made(tmp_path, "n2")


def test_the_key_of_another_authority_signs_nothing(tmp_path: Path) -> None:
    made(tmp_path / "a", "n1")
    made(tmp_path / "b", "n1")
    (tmp_path / "a/ca.key").write_bytes((tmp_path / "b/ca.key").read_bytes())
    with pytest.raises(ConfigError, match=r"not the key of ca\.crt"):
        made(tmp_path / "a", "n2")


def test_a_certificate_does_not_outlive_its_authority(tmp_path: Path) -> None:
    made(tmp_path, "n1")
    with pytest.raises(ConfigError, match="authority ends"):
        made(tmp_path, "n2", days=365, now_ms=NOW_MS + 3600 * DAY_MS)


@pytest.mark.parametrize(
    ("node_id", "later_days", "part"),
    [
        ("n1", 0, None),
        ("n1", 29.9, None),
        ("n1", 30.1, "ended on 2027-02-14"),
        ("n1", -1.1, "begins on 2027-01-14"),
        ("n2", 0, "is of n1, this node is n2"),
    ],
)
def test_a_node_shows_only_its_own_certificate_while_it_is_valid(
    tmp_path: Path, node_id: str, later_days: float, part: str | None
) -> None:
    made(tmp_path, "n1", days=30)
    pem = (tmp_path / "n1.crt").read_bytes()
    problem = refusal_of(pem, node_id, NOW_MS + int(later_days * DAY_MS))
    assert problem is None if part is None else part in str(problem)


def test_a_certificate_without_an_id_is_nobody_s(tmp_path: Path) -> None:
    made(tmp_path, "n1")
    assert "is of no node" in str(refusal_of((tmp_path / "ca.crt").read_bytes(), "n1", NOW_MS))
    assert "no certificate" in str(refusal_of(b"nonsense", "n1", NOW_MS))
    assert certificates.DAYS_MAX == 3650
