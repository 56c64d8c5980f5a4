"""Who may use the HTTP port: a table of requests, with and without a token, in and out of a lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.config import Config
from node.errors import ConfigError
from node.web.guard import COOKIE, ORDER_HEADER, Guard
from node.web.http import Request
from tests.node.test_config import MINIMAL

TOKEN = "0123456789abcdef-token"


def asked(
    path: str = "/status", method: str = "GET", query: dict[str, str] | None = None, **headers: str
) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(method, path, query or {}, {"host": "127.0.0.1:9001"} | named)


def status(guard: Guard, request: Request) -> int:
    """200: let through."""
    refusal = guard.refusal(request)
    return 200 if refusal is None else refusal.status


@pytest.mark.parametrize(
    ("host", "want"),
    [
        ("127.0.0.1:9001", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:9001", 200),
        ("evil.example", 403),
        ("evil.example:9001", 403),
        ("127.0.0.1.evil.example", 403),
        ("[::2]", 403),
        ("", 403),
    ],
)
def test_without_a_token_only_loopback_names_are_answered(host: str, want: int) -> None:
    """A name of somebody else's that resolves to 127.0.0.1 is how a web page gets in."""
    assert status(Guard(""), asked(host=host)) == want


@pytest.mark.parametrize("path", ["/", "/status", "/metrics", "/events", "/stream", "/keys"])
def test_with_a_token_nothing_is_told_without_it(path: str) -> None:
    guard = Guard(TOKEN)
    assert status(guard, asked(path)) == 401
    for wrong in (TOKEN[:-1], TOKEN + "x", "", "ä"):
        assert status(guard, asked(path, authorization=f"Bearer {wrong}")) == 401
        assert status(guard, asked(path, cookie=f"{COOKIE}={wrong}")) == 401
    assert status(guard, asked(path, authorization=f"Basic {TOKEN}")) == 401
    assert status(guard, asked(path, authorization=f"Bearer {TOKEN}", host="db.example")) == 200
    assert status(guard, asked(path, cookie=f"a=b; {COOKIE}={TOKEN}")) == 200


def test_health_needs_no_token() -> None:
    assert [status(Guard(TOKEN), asked(path)) for path in ("/healthz", "/readyz")] == [200, 200]


def test_the_token_in_the_address_becomes_a_cookie_that_no_script_reads() -> None:
    answer = Guard(TOKEN).refusal(asked("/", query={"token": TOKEN}))
    assert answer is not None
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
    assert status(Guard(TOKEN), asked("/status", query={"token": TOKEN})) == 401


ORDER = "a-secret-of-the-page"
OWN = {"origin": "http://127.0.0.1:9001", ORDER_HEADER.replace("-", "_"): ORDER}


@pytest.mark.parametrize(
    ("headers", "want"),
    [
        pytest.param(OWN, 200, id="our own page"),
        pytest.param(OWN | {"origin": "http://evil.example"}, 403, id="another page"),
        pytest.param(OWN | {"origin": "http://127.0.0.1:9002"}, 403, id="another port"),
        pytest.param(OWN | {"origin": "null"}, 403, id="a file, or a frame in a box"),
        pytest.param({"origin": OWN["origin"]}, 403, id="without the secret"),
        pytest.param(OWN | {ORDER_HEADER.replace("-", "_"): "x"}, 403, id="a wrong one"),
        pytest.param({ORDER_HEADER.replace("-", "_"): ORDER}, 403, id="no origin"),
        pytest.param(OWN | {"host": "evil.example"}, 403, id="another name"),
    ],
)
def test_orders_come_from_our_own_page_alone(headers: dict[str, str], want: int) -> None:
    assert status(Guard("", ORDER), asked("/order", "POST", **headers)) == want


def test_outside_of_a_laboratory_nothing_can_be_ordered() -> None:
    assert status(Guard(""), asked("/order", "POST", **OWN)) == 403
    assert status(Guard("", ""), asked("/order", "POST", **(OWN | {"x_trimaran_order": ""}))) == 403
    assert status(Guard("", ORDER), asked("/order", "DELETE", **OWN)) == 405


def test_off_loopback_the_port_is_not_bound_without_a_token(tmp_path: Path) -> None:
    path = tmp_path / "n1.toml"
    text = MINIMAL.replace('http = "127.0.0.1', 'http = "10.0.0.1')
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Config.load(path)
    assert dict(caught.value.problems) == {
        "cluster.members.n1.http": "is 10.0.0.1:9001: an address other than loopback needs "
        "http.token"
    }
    assert Config.load(path, [f"http.token={TOKEN}"]).http.token == TOKEN
    assert not Config.load(path, ["http.enabled=false"]).http.enabled
    with pytest.raises(ConfigError):
        Config.load(path, ["http.token=short"])
    assert TOKEN not in repr(Config.load(path, [f"http.token={TOKEN}"]))
