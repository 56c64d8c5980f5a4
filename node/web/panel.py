"""The laboratory's page: the dashboard, served by the supervisor, with buttons that break things.

    trimaran cluster --lab                  http://127.0.0.1:(base port + 2009)/
    GET /, /events, /keys                   as a node's; the stream comes from all nodes, and stays
                                            when any of them dies: the supervisor is none of them
    POST /order  {"do": "kill", "node": "n1"}        kill start pause resume restart
                                                     isolate rejoin transfer
                 {"do": "cut", "ends": ["n1", "n2"]} cut mend
                 {"do": "rate", "rate": 50}, {"do": "heal"}

The nodes know nothing of it: orders reach processes (node.web.panel.Hands, which the supervisor
is) and the wires between them (node.cluster_lab), so nothing that serves data has a way to be
told to die. Nodes started without --lab have no such port, and refuse every POST.

Safe: loopback address and loopback names alone; orders need the Origin of this very page and a
secret that only it was given (node.web.guard); what is in an order is looked up, never run.

A crash of the supervisor ends the nodes with it (node.orphan).

Proved by: tests/web/test_panel.py, tests/web/test_dashboard.py
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import urlencode

from node.config import Member
from node.config_members import Address
from node.web.fan_in import FanIn
from node.web.guard import Guard
from node.web.http import Request, Response, Stream, as_json
from node.web.listening import fetch
from node.web.pages import dashboard

__all__ = ["Hands", "Panel", "Refused"]

_NODE_ORDERS: Final = (
    "kill",
    "start",
    "pause",
    "resume",
    "restart",
    "isolate",
    "rejoin",
    "transfer",
)
_LINK_ORDERS: Final = ("cut", "mend")
RATES: Final = (0, 50, 200, 1_000)
KEYS_S: Final = 1.0


class Refused(Exception):
    """An order that cannot be carried out now; the text says why."""


class Hands(Protocol):
    """Who carries orders out. All in the loop's thread."""

    async def order_node(self, what: str, node_id: str) -> None:
        """Raises Refused."""

    async def order_link(self, what: str, ends: tuple[str, str]) -> None: ...
    async def heal(self) -> None: ...
    def set_rate(self, rate: int) -> None: ...
    def state(self) -> dict[str, Any]:
        """{"nodes": {id: {"state": up|paused|down, "isolated"}}, "cut": [[a, b]], "rate"}."""
        ...


class Panel:
    """Answers requests.

    Args:
        members: everybody, in order.
        token: of the nodes' HTTP ports.
        secret: what a page is given to show with its orders.
        wall_ms: the clock of what is told.
    """

    def __init__(
        self,
        members: tuple[Member, ...],
        hands: Hands,
        *,
        token: str,
        secret: str,
        wall_ms: Callable[[], int],
    ) -> None:
        self._members = members
        self._hands = hands
        self._token = token
        self._wall_ms = wall_ms
        self._guard = Guard("", secret)
        self._page = dashboard(secret)
        self._open: set[FanIn] = set()

    async def answer(self, request: Request) -> Response | Stream:
        """Whatever is asked for, or ordered."""
        refusal = self._guard.refusal(request)
        if refusal is not None:
            return refusal
        if request.method == "POST":
            if request.path != "/order":
                return Response(404, b"no such order\n")
            return await self._order(request)
        match request.path:
            case "/":
                return self._page
            case "/events":
                return Stream(self._events())
            case "/healthz":
                return Response(200, b"ok\n")
            case "/status":
                return as_json(self._hands.state())
            case "/keys" | "/metrics" | "/readyz":
                return await self._from_a_node(request)
        return Response(404, b"no such page\n")

    def tell(self, message: Mapping[str, Any]) -> None:
        """To every open page."""
        for fan_in in self._open:
            fan_in.put(message)

    def tell_state(self) -> None:
        """What runs and what is cut, to every open page."""
        self.tell({"kind": "lab", **self._hands.state()})

    async def _order(self, request: Request) -> Response:
        try:
            order = json.loads(request.body)
            text = await self._carry_out(order)
        except (ValueError, KeyError, TypeError) as error:
            return Response(400, f"no such order: {error}\n".encode())
        except Refused as error:
            return Response(409, f"{error}\n".encode())
        finally:
            self.tell_state()
        return as_json({"done": text})

    async def _carry_out(self, order: dict[str, Any]) -> str:
        what, names = order["do"], [each.id for each in self._members]
        if what in _NODE_ORDERS:
            node_id = names[names.index(order["node"])]
            self._say(text := f"{what} {node_id}")
            await self._hands.order_node(what, node_id)
        elif what in _LINK_ORDERS:
            first, second = sorted(names.index(each) for each in order["ends"])
            if first == second:
                raise ValueError("a link has two ends")
            self._say(text := f"{what} {names[first]} - {names[second]}")
            await self._hands.order_link(what, (names[first], names[second]))
        elif what == "rate":
            rate = RATES[RATES.index(order["rate"])]
            self._say(text := f"load {rate}/s")
            self._hands.set_rate(rate)
        elif what == "heal":
            self._say(text := "heal")
            await self._hands.heal()
        else:
            raise ValueError(repr(what)[:40])
        return text

    def _say(self, text: str) -> None:
        """Before it is done: what it does comes after it."""
        self.tell({"kind": "order", "at": self._wall_ms(), "text": text})

    async def _from_a_node(self, request: Request) -> Response:
        """What any node says that answers."""
        query = f"?{urlencode(request.query)}" if request.query else ""
        for member in self._members:
            try:
                kind, body = await fetch(member.http, request.path + query, self._token, KEYS_S)
            except (OSError, TimeoutError):
                continue
            return Response(200, body, kind)
        return Response(503, b"no node answers\n")

    async def _events(self) -> AsyncIterator[bytes]:
        def members() -> dict[str, Address]:
            return {each.id: each.http for each in self._members}

        fan_in = FanIn(members, token=self._token, wall_ms=self._wall_ms)
        rows = [
            {"id": each.id, "http": str(each.http), "client": str(each.client)}
            for each in self._members
        ]
        self._open.add(fan_in)
        asyncio.get_running_loop().call_soon(self.tell_state)
        pieces = fan_in.pieces({"kind": "view", "via": "", "lab": True, "members": rows})
        try:
            async for piece in pieces:
                yield piece
        finally:
            self._open.discard(fan_in)
            await pieces.aclose()
