"""Who may use the HTTP port. Pure: a request in, a refusal or None out.

    no token set    only loopback is bound (node.config); and the request must name a loopback
                    host: a page of the web that points its own name at 127.0.0.1 is refused
    token set       Authorization: Bearer TOKEN, or the cookie that GET /?token=TOKEN gives
    always open     /healthz, /readyz: they tell nobody anything but their name
    orders          POST, laboratory only: without a page's own secret in a header, which no other
                    origin can read, and an Origin that is this very address, nothing is done

Secrets are compared in constant time, and are in no answer and no log line.

Does not do: TLS; count tries (16 characters are not guessed).

Proved by: tests/web/test_guard.py
"""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from typing import Final

from node.web.http import Request, Response

__all__ = ["COOKIE", "ORDER_HEADER", "Guard"]

COOKIE: Final = "trimaran_token"
ORDER_HEADER: Final = "x-trimaran-order"
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
_OPEN: Final = frozenset({"/healthz", "/readyz"})


class Guard:
    """Says no.

    Args:
        token: what readers must show; "" : whoever reaches the (loopback) port may read.
        order_secret: what a page of ours shows with an order; "": there are no orders.
    """

    def __init__(self, token: str, order_secret: str = "") -> None:
        self._token = token
        self._order_secret = order_secret

    def refusal(self, request: Request) -> Response | None:
        """Why not, or None."""
        if request.path in _OPEN and request.method in ("GET", "HEAD"):
            return None
        if not self._token and _host(request) not in _LOOPBACK:
            return Response(403, b"this port answers to loopback names alone: see http.token\n")
        if self._token and not self._has_token(request):
            if request.path == "/" and _same(request.query.get("token", ""), self._token):
                return self._remember()
            return Response(
                401,
                b"a token is needed: Authorization: Bearer ..., or open /?token=...\n",
                headers={"www-authenticate": "Bearer"},
            )
        if request.method in ("GET", "HEAD"):
            return None
        return self._order_refusal(request)

    def _has_token(self, request: Request) -> bool:
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return _same(shown.strip(), self._token)
        try:
            cookie = SimpleCookie(request.headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and _same(cookie.value, self._token)

    def _remember(self) -> Response:
        """The token leaves the address bar, and stays where no script reads it."""
        cookie = SimpleCookie({COOKIE: self._token})
        cookie[COOKIE]["httponly"] = True
        cookie[COOKIE]["samesite"] = "Strict"
        cookie[COOKIE]["path"] = "/"
        value = cookie[COOKIE].OutputString()
        return Response(303, b"", headers={"location": "/", "set-cookie": value})

    def _order_refusal(self, request: Request) -> Response | None:
        if request.method != "POST":
            return Response(405, b"GET, or POST of an order\n", headers={"allow": "GET, POST"})
        if not self._order_secret:
            return Response(403, b"no orders here: this is no laboratory\n")
        origin, host = request.headers.get("origin", ""), request.headers.get("host", "")
        if origin not in (f"http://{host}", f"https://{host}"):
            return Response(403, b"orders come from our own page alone\n")
        if not _same(request.headers.get(ORDER_HEADER, ""), self._order_secret):
            return Response(403, b"orders come from our own page alone: reload it\n")
        return None


def _same(shown: str, wanted: str) -> bool:
    """In a time that does not depend on where they differ."""
    return hmac.compare_digest(shown.encode("utf-8", "replace"), wanted.encode())


def _host(request: Request) -> str:
    """The name in Host, without its port."""
    host = request.headers.get("host", "")
    name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
    return name.lower()
