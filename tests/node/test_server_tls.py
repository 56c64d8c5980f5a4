"""The client port in TLS, and clients that are idle: sockets and clocks.

Method: node.server in a thread over the fake service, with certificates that openssl makes for
the test; redis-py and bare TLS sockets are the clients.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from node.config import ClientSection
from node.errors import ConfigError
from node.server import LINGER_S, tls_context
from tests.support.fake_service import config, wire
from tests.support.live_server import Wire, live_server

OPENSSL = shutil.which("openssl")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, and node and client, .pem and .key, that it signed; other.pem, that it did not."""
    if OPENSSL is None:
        pytest.skip("openssl is not installed: no certificates for the test")
    directory = tmp_path_factory.mktemp("certificates")

    def run(*words: str) -> None:
        subprocess.run([OPENSSL or "", *words], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    for name in ("ca", "other"):
        subject = ("-subj", f"/CN={name}")
        run("req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", *subject)
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("node", "client"):
        run("req", *key[:-2], "-keyout", f"{name}.key", "-out", "r.pem", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
        run("x509", "-req", "-in", "r.pem", "-out", f"{name}.pem", "-days", "2", *signed)
    return directory


def section(certificates: Path, **more: str | int) -> ClientSection:
    return ClientSection(
        tls_certificate=str(certificates / "node.pem"),
        tls_key=str(certificates / "node.key"),
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_works_over_tls_and_checks_who_answers(
    certificates: Path, protocol: int, workers: int
) -> None:
    with live_server(config(client=section(certificates, workers=workers))) as server:
        with redis.Redis(
            port=server.port, host="127.0.0.1", protocol=protocol, ssl=True,
            ssl_ca_certs=str(certificates / "ca.pem"),
        ) as client:  # fmt: skip
            assert client.set("a", "x" * 300_000)
            assert client.get("a") == b"x" * 300_000
            pipeline = client.pipeline()
            for number in range(500):
                pipeline.set(f"k{number}", number)
            assert pipeline.execute() == [True] * 500
        stranger = redis.Redis(
            port=server.port, host="127.0.0.1", ssl=True, retry=None,
            ssl_ca_certs=str(certificates / "other.pem"),
        )  # fmt: skip
        with stranger, pytest.raises(redis.ConnectionError, match="certificate verify failed"):
            stranger.ping()


@pytest.mark.parametrize("workers", [0, 1])
def test_plain_text_at_a_tls_port_is_closed_and_disturbs_nobody(
    certificates: Path, workers: int
) -> None:
    with live_server(config(client=section(certificates, workers=workers))) as server:
        with Wire(server.port) as client:
            client.send(wire("SET", "a", "1"))
            assert b"OK" not in client.rest()
        context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
        with socket.create_connection(("127.0.0.1", server.port), 10) as plain:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as client:
                assert client.version() in ("TLSv1.2", "TLSv1.3")
                client.sendall(wire("GET", "a"))
                assert client.recv(100) == b"$-1\r\n"
                begin_s = time.monotonic()
                client.sendall(wire("SET", "a", "1") + wire("QUIT"))
                told = b""
                while data := client.recv(100):
                    told += data
                assert told == b"+OK\r\n+OK\r\n"
                assert time.monotonic() - begin_s < LINGER_S


def test_clients_can_be_asked_for_a_certificate(certificates: Path) -> None:
    asking = section(certificates, tls_client_ca=str(certificates / "ca.pem"))
    with live_server(config(client=asking)) as server:

        def client(**files: str) -> redis.Redis:
            ca = str(certificates / "ca.pem")
            return redis.Redis(
                port=server.port, host="127.0.0.1", ssl=True, ssl_ca_certs=ca, retry=None, **files
            )

        own = {
            "ssl_certfile": str(certificates / "client.pem"),
            "ssl_keyfile": str(certificates / "client.key"),
        }
        foreign = {
            "ssl_certfile": str(certificates / "other.pem"),
            "ssl_keyfile": str(certificates / "other.key"),
        }
        with client(**own) as known:
            assert known.ping()
        for stranger in (client(), client(**foreign)):
            with stranger, pytest.raises(redis.ConnectionError):
                stranger.ping()


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"tls_certificate": "/nowhere.pem"}, "client.tls_certificate"),
        ({"tls_client_ca": "/nowhere.pem"}, "client.tls_client_ca"),
    ],
)
def test_files_that_cannot_be_used_are_refused_by_their_key(
    certificates: Path, change: dict[str, str], key: str
) -> None:
    files = {
        "tls_certificate": str(certificates / "node.pem"),
        "tls_key": str(certificates / "node.key"),
    }
    with pytest.raises(ConfigError, match=key):
        tls_context(ClientSection(**files | change))  # type: ignore[arg-type]


def test_half_of_the_files_is_no_configuration() -> None:
    for half in ({"tls_certificate": "a"}, {"tls_key": "a"}, {"tls_client_ca": "a"}):
        with pytest.raises(ConfigError, match=r"client\.tls_"):
            config(client=ClientSection(**half))  # type: ignore[arg-type]


# Idle.


def test_an_idle_client_is_cut_off_and_a_subscriber_is_not() -> None:
    with live_server(config(client=ClientSection(idle_timeout_s=1))) as server:
        with Wire(server.port) as idle, Wire(server.port) as busy, Wire(server.port) as listener:
            assert idle.run("PING") == b"PONG"
            assert listener.run("SUBSCRIBE", "a")[0] == b"subscribe"
            begin_s = time.monotonic()
            wait_for(lambda: _works(busy) and server.call(_count(server.frontend)) == 2)
            assert 1.0 <= time.monotonic() - begin_s < 8.0
            assert busy.run("PUBLISH", "a", "x") == 1
            assert listener.reply() == [b"message", b"a", b"x"]


def test_a_pause_ends_by_itself() -> None:
    with live_server() as server, Wire(server.port) as one, Wire(server.port) as other:
        one.run("CLIENT", "PAUSE", "300")
        begin_s = time.monotonic()
        assert other.run("PING") == b"PONG"
        assert time.monotonic() - begin_s >= 0.25


def _works(client: Wire) -> bool:
    return bool(client.run("PING") == b"PONG")


def _count(frontend: object) -> Callable[[], int]:
    return lambda: len(frontend.connections)  # type: ignore[attr-defined]


def wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
