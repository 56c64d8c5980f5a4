"""What stands at which path of a node's HTTP port.

    /healthz    200 while the process answers
    /readyz     200: has a leader, has caught up, takes writes; else 503 and why
                ?quorum: and a majority has just confirmed a read (fails within 2 s)
    /metrics    for Prometheus           /status    this node, as JSON
    /keys       ?prefix= &limit=: names of keys and what is left of their leases; no values
    /stream     what this node records, as a stream of events
    /events     what all nodes record (node.web.fan_in): the dashboard's
    /           the dashboard; under `trimaran cluster --lab` leads to the laboratory's

Only GET and HEAD: nothing here changes anything.

Proved by: tests/web/test_pages.py, tests/web/test_dashboard.py
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from node.config_members import Address
from node.errors import KVError, Unavailable
from node.reads import Level
from node.version import TRIMARAN_VERSION
from node.web.exposition import CONTENT_TYPE
from node.web.families import Facts, gather, resident_bytes
from node.web.fan_in import FanIn
from node.web.guard import Guard
from node.web.http import Request, Response, Stream, as_json, sse
from statemachine.fs import Disk

__all__ = ["Pages", "dashboard"]

QUORUM_S: Final = 2.0
KEYS_MAX: Final = 500


class Pages:
    """Answers requests about one node."""

    def __init__(self, facts: Facts) -> None:
        config = facts.core.config
        self._facts = facts
        self._guard = Guard(config.http.token)
        self._page = dashboard()

    async def answer(self, request: Request) -> Response | Stream:
        """Whatever is asked for."""
        refusal = self._guard.refusal(request)
        if refusal is not None:
            return refusal
        match request.path:
            case "/healthz":
                return Response(200, b"ok\n")
            case "/readyz":
                return await self._ready(with_quorum="quorum" in request.query)
            case "/metrics":
                return Response(200, gather(self._facts).encode(), CONTENT_TYPE)
            case "/status":
                return as_json(self.status())
            case "/keys":
                return self._keys(request)
            case "/stream":
                return Stream(self._stream())
            case "/events":
                return Stream(self._events())
            case "/":
                return self._home()
        return Response(404, b"no such page\n")

    def _home(self) -> Response:
        panel = self._facts.core.config.lab.panel
        if panel:
            return Response(307, b"", headers={"location": f"http://{panel}/"})
        return self._page

    def status(self) -> dict[str, Any]:
        """This node: what `trimaran status --json` has of it, and more."""
        facts = self._facts
        core, frontend = facts.core, facts.frontend
        return core.service.status() | {
            "version": TRIMARAN_VERSION,
            "ready": core.is_ready(),
            "refusal": core.batches.refusal or core.batches.leaving,
            "leases": core.machine.leases_count,
            "clients": len(frontend.connections),
            "requests": frontend.commands_total,
            "memory_bytes": resident_bytes(facts.disk),
            "uptime_s": max(0, facts.core.service.now_ms() - facts.started_ms) // 1000,
            "members": core.service.member_list()["members"],
        }

    async def _ready(self, *, with_quorum: bool) -> Response:
        core = self._facts.core
        reason = core.batches.refusal or core.batches.leaving
        if core.raft.leader_id() is None:
            reason = "no leader"
        elif not core.is_ready():
            reason = "not caught up with the leader"
        elif reason is None and with_quorum:
            reason = await self._quorum_problem()
        if reason is not None:
            return Response(503, f"not ready: {reason}\n".encode())
        return Response(200, b"ready\n")

    async def _quorum_problem(self) -> str | None:
        waiter = _Confirmed()
        self._facts.core.service.read(Level.LINEARIZABLE, waiter)
        try:
            async with asyncio.timeout(QUORUM_S):
                await waiter.done
        except TimeoutError:
            return "no majority confirmed a read in time"
        except (KVError, OSError) as error:
            return str(error)
        return None

    def _keys(self, request: Request) -> Response:
        machine = self._facts.core.machine
        prefix = request.query.get("prefix", "").encode()
        try:
            limit = min(max(int(request.query.get("limit", "50")), 1), KEYS_MAX)
        except ValueError:
            return Response(400, b"limit: a number\n")
        found = machine.scan_prefix(prefix, limit=limit)
        now_ms = self._facts.core.service.now_ms()
        rows = []
        for key, value in found.items:
            deadline_ms = machine.deadline_ms(key)
            left_ms = None if deadline_ms is None else max(deadline_ms - now_ms, 0)
            name = key.decode("utf-8", "backslashreplace")
            rows.append({"key": name, "bytes": len(value), "left_ms": left_ms})
        return as_json({"total": len(machine), "keys": rows})

    async def _stream(self) -> AsyncIterator[bytes]:
        recorder = self._facts.recorder
        queue = recorder.listen()
        try:
            yield sse(recorder.history())
            while (text := await queue.get()) is not None:
                yield sse(text)
        finally:
            recorder.leave(queue)

    def _events(self) -> AsyncIterator[bytes]:
        facts = self._facts
        core = facts.core
        own_id = core.config.node.id

        def members() -> dict[str, Address]:
            return {each.id: each.http for each in core.members()}

        fan_in = FanIn(
            members,
            token=core.config.http.token,
            wall_ms=core.service.now_ms,
            own_id=own_id,
            own=facts.recorder,
        )
        rows = [
            {"id": each.id, "http": str(each.http), "client": str(each.client)}
            for each in core.members()
        ]
        return fan_in.pieces({"kind": "view", "via": own_id, "lab": False, "members": rows})


class _Confirmed:
    """Waits for one read to be granted."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def resolve(self, _results: object, _start: int, _stop: int) -> None:
        """No write was asked for."""

    def ready(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(
                error if isinstance(error, KVError) else Unavailable(str(error))
            )


def dashboard(order_secret: str = "") -> Response:
    """The page, with the secret that its orders need put in, and what it may do."""
    text = Disk().read_bytes(Path(__file__).with_name("page.html")).decode("utf-8")
    assert text.count("__ORDER__") == 1
    text = text.replace("__ORDER__", order_secret)
    allowed = {
        kind: "".join(
            f" 'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'"
            for each in re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        )
        for kind in ("script", "style")
    }
    policy = (
        f"default-src 'none'; connect-src 'self'; img-src data:; script-src{allowed['script']}; "
        f"style-src{allowed['style']}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"content-security-policy": policy, "x-frame-options": "DENY"}
    return Response(200, text.encode(), "text/html; charset=utf-8", headers)
