"""The laboratory's page: orders reach the hands, and nobody else's do.

Method: the panel over a real socket, with hands that write down what they are told; the load
against a real node whose client port goes away and comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from node.clock import Clock
from node.cluster_load import Load
from node.cluster_plan import Options, plan
from node.cluster_ports import panel_address, real_address
from node.config import Address
from node.errors import ConfigError
from node.logs import EventLog
from node.web.http import Server
from node.web.listening import events
from node.web.panel import Panel, Refused
from tests.support.fake_service import members
from tests.support.ports import free_base_port
from tests.web.browse import configs, exchange, get, in_loop, running

SECRET = "the-secret-of-this-page"


class NotedHands:
    """A node.web.panel.Hands that does nothing but remember."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    async def order_node(self, what: str, node_id: str) -> None:
        if what == "resume":
            raise Refused(f"{node_id} is down")
        self.done.append((what, node_id))

    async def order_link(self, what: str, ends: tuple[str, str]) -> None:
        self.done.append((what, ends))

    async def heal(self) -> None:
        self.done.append("heal")

    def set_rate(self, rate: int) -> None:
        self.done.append(rate)

    def state(self) -> dict[str, Any]:
        return {"nodes": {}, "cut": [], "rate": 0}


@contextlib.asynccontextmanager
async def panel() -> AsyncIterator[tuple[NotedHands, Address]]:
    base = free_base_port()
    hands = NotedHands()
    made = Panel(members(3, base), hands, token="", secret=SECRET, wall_ms=lambda: 7)
    address = Address("127.0.0.1", base + 2009)
    server = Server(made.answer, address, 16, EventLog("lab"))
    await server.start()
    try:
        yield hands, address
    finally:
        await server.stop()


async def post(at: Address, order: object, *, secret: str = SECRET, origin: str = "") -> int:
    body = json.dumps(order)
    head = {
        "host": str(at),
        "origin": origin or f"http://{at}",
        "x-trimaran-order": secret,
        "content-length": str(len(body)),
        "connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    answer = await exchange(at, f"POST /order HTTP/1.1\r\n{lines}\r\n{body}".encode())
    return int(answer.split()[1])


@in_loop
async def test_orders_are_looked_up_and_carried_out() -> None:
    async with panel() as (hands, at):
        for order in (
            {"do": "kill", "node": "n1"},
            {"do": "transfer", "node": "n3"},
            {"do": "cut", "ends": ["n2", "n1"]},
            {"do": "rate", "rate": 200},
            {"do": "heal"},
        ):
            assert await post(at, order) == 200
        assert hands.done == [
            ("kill", "n1"),
            ("transfer", "n3"),
            ("cut", ("n1", "n2")),
            200,
            "heal",
        ]


@pytest.mark.parametrize(
    ("order", "status"),
    [
        ({"do": "kill", "node": "n9"}, 400),
        ({"do": "kill"}, 400),
        ({"do": "order_link", "node": "n1"}, 400),
        ({"do": "cut", "ends": ["n1", "n1"]}, 400),
        ({"do": "cut", "ends": ["n1"]}, 400),
        ({"do": "rate", "rate": 10**9}, 400),
        ({"do": ["kill"], "node": "n1"}, 400),
        (["kill"], 400),
        ("kill", 400),
        ({"do": "resume", "node": "n1"}, 409),
    ],
)
@in_loop
async def test_other_orders_are_refused_with_a_reason(order: object, status: int) -> None:
    async with panel() as (hands, at):
        assert await post(at, order) == status
        assert hands.done == []


@in_loop
async def test_orders_of_other_pages_reach_nobody() -> None:
    kill = {"do": "kill", "node": "n1"}
    async with panel() as (hands, at):
        assert await post(at, kill, secret="guess") == 403
        assert await post(at, kill, origin="http://evil.example") == 403
        assert (await get(at, "/", host="evil.example"))[0] == 403
        _, headers, page = await get(at, "/")
        assert SECRET.encode() in page
        assert "access-control-allow-origin" not in headers
        assert headers["x-frame-options"] == "deny"
        assert hands.done == []


@in_loop
async def test_a_node_takes_no_orders_and_shows_no_secret(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    at = config.member.http
    async with running([config]):
        assert await post(at, {"do": "kill", "node": "n1"}) == 403
        assert await post(at, {"do": "kill", "node": "n1"}, secret="") == 403
        _, headers, page = await get(at, "/")
        assert b'const ORDER = "";' in page
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]


@in_loop
async def test_an_open_page_is_told_of_orders_and_of_nodes_that_do_not_answer() -> None:
    async with panel() as (_, at):
        stream = events(at, "/events", "", 5.0)
        first = await anext(stream)
        assert (first["kind"], first["lab"], first["via"]) == ("view", True, "")
        seen: dict[str, Any] = {}
        ordered = False
        async for message in stream:
            seen.setdefault(message["kind"], message)
            if not ordered:
                ordered = True
                assert await post(at, {"do": "kill", "node": "n2"}) == 200
            if {"down", "order", "lab"} <= seen.keys():
                break
        await stream.aclose()
    assert (seen["order"]["text"], seen["order"]["at"]) == ("kill n2", 7)


def test_a_laboratory_is_of_plain_links_and_has_ports_of_its_own() -> None:
    with pytest.raises(ConfigError) as caught:
        plan(Options(lab=True, tls=True))
    assert [key for key, _ in caught.value.problems] == ["--lab"]
    configs_ = plan(Options(lab=True, nodes=9))
    taken = [panel_address(configs_[0]), *map(real_address, configs_)]
    for config in configs_:
        taken += [config.member.client, config.member.peer, config.member.http]
    assert len(set(taken)) == len(taken) == 37


@in_loop
async def test_the_load_sees_an_outage_and_how_long_it_was(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    told: list[Mapping[str, Any]] = []
    load = Load([config.member.client], "", Clock(), told.append)

    async def until(kind: str) -> Mapping[str, Any]:
        told.clear()
        while not (found := [each for each in told if each["kind"] == kind]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return found[0]

    async with running([config]) as (node,):
        load.set_rate(50)
        assert (await until("probe"))["since"] < 5_000
        while not any(each["kind"] == "probe" and each["ok"] for each in told):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await node.stop()
        await asyncio.sleep(0.3)
        await node.start()
        outage = await until("outage")
        assert outage["ms"] >= 300
        assert await node.get(b"trimaran:lab:0") is not None
        await load.close()
