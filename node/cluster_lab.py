r"""`trimaran cluster --lab`: the supervisor's hands on its nodes and on the wires between them.

    page --POST /order--> node.web.panel --> here --> SIGKILL, SIGSTOP, SIGCONT, SIGTERM to a child
                                                 \--> node.lab.proxy.Wire: held, open
                                                  \-> TRI.TRANSFER at the leader's client port

    n1 --n2's peer port--> [gate of n2: wire n1-n2] --> where n2 really listens, 9 ports above

Everybody knows everybody by the usual peer ports, at which gates of the laboratory sit; the nodes
know nothing of them (node.lab.proxy). A node that was killed here stays down until it is started
here: the supervisor restarts only what died by itself.

Invariants: only children of this supervisor are signalled, through node.cluster_child; a page is
told after each change. `stop` lets everything run again, so that nodes can be stopped in order.

What it does not do: speak TLS between the nodes (a gate must read whose connection it is: `--tls`
is refused), judge anything (that is `trimaran lab`).

Proved by: tests/web/test_panel.py, tests/web/test_dashboard.py
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import secrets
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Final

from node.client import Client, find_leader, statuses
from node.clock import Clock
from node.cluster_child import Child
from node.cluster_load import Load
from node.cluster_ports import panel_address, real_address
from node.config import Config
from node.errors import KVError
from node.lab.proxy import Gate, Wire
from node.logs import EventLog
from node.web.http import Server
from node.web.panel import Panel, Refused

__all__ = ["ClusterLab"]

CONNECTIONS_MAX: Final = 64
TRANSFER_S: Final = 3.0
RATE_AT_START: Final = 50
CAUSE_MS: Final = 5_000


class ClusterLab:
    """A node.web.panel.Hands.

    Args:
        children: of the supervisor, in order.
    """

    def __init__(self, configs: Sequence[Config], children: Sequence[Child]) -> None:
        self._configs = list(configs)
        self._children = {child.id: child for child in children}
        self._clock = Clock()
        self._wires: dict[tuple[str, str], Wire] = {}
        self._gates: list[Gate] = []
        self._cut: set[tuple[str, str]] = set()
        self._isolated: set[str] = set()
        self._paused: set[str] = set()
        self._held: dict[str, asyncio.Event] = {}
        self._last_order: tuple[int, str] = (0, "")
        self.address = panel_address(configs[0])
        client = configs[0].client
        members = tuple(config.member for config in configs)
        self._panel = Panel(
            members,
            self,
            token=configs[0].http.token,
            secret=secrets.token_urlsafe(24),
            wall_ms=self._clock.wall_ms,
        )
        self._can_load = not client.tls_certificate
        addresses = [member.client for member in members]
        self._load = Load(addresses, client.requirepass, self._clock, self._tell)
        self._server = Server(self._panel.answer, self.address, CONNECTIONS_MAX, EventLog("lab"))

    async def start(self) -> list[Config]:
        """Open the gates and the page; what each node is to be told instead.

        Raises:
            OSError: a port is in use.
        """
        await self._server.start()
        rng = random.Random(0)
        ids = [config.node.id for config in self._configs]
        self._wires = {
            (dialler, target): Wire(dialler, target, rng)
            for dialler in ids
            for target in ids
            if dialler < target  # the lower id dials (node.links)
        }
        for config in self._configs:
            own, address = config.node.id, real_address(config)
            wires = {ends[0]: wire for ends, wire in self._wires.items() if ends[1] == own}
            gate = Gate((address.host, address.port), wires)
            await gate.start(config.member.peer.host, config.member.peer.port)
            self._gates.append(gate)
        return [self._behind_gate(config) for config in self._configs]

    def begin_load(self) -> None:
        """Once all nodes are ready."""
        if self._can_load:
            self.set_rate(RATE_AT_START)
            self._panel.tell_state()

    def _behind_gate(self, config: Config) -> Config:
        """This node's configuration: where it really listens, and where the page is."""
        lab = dataclasses.replace(
            config.lab, panel=str(self.address), peer_listen=str(real_address(config))
        )
        return dataclasses.replace(config, lab=lab)

    async def stop(self) -> None:
        """Let all go on, so that it can end."""
        await self._load.close()
        for child in self._children.values():
            if child.pid is not None:
                child.signal(signal.SIGCONT)
        for released in self._held.values():
            released.set()
        await self._server.stop()
        for gate in self._gates:
            await gate.close()

    def held(self, node_id: str) -> asyncio.Event | None:
        """Set once this node, which was killed here, may be started again; None: it may now."""
        return self._held.get(node_id)

    def changed(self) -> None:
        """A process came or went."""
        self._paused = {each for each in self._paused if self._children[each].pid is not None}
        self._panel.tell_state()

    # -- orders -----------------------------------------------------------------------------

    async def order_node(self, what: str, node_id: str) -> None:
        self._last_order = (self._clock.wall_ms(), f"{what} {node_id}")
        child = self._children[node_id]
        if what == "start":
            self._release(node_id)
        elif what in ("isolate", "rejoin"):
            (self._isolated.add if what == "isolate" else self._isolated.discard)(node_id)
            self._set_wires()
        elif child.pid is None:
            raise Refused(f"{node_id} is down")
        elif what == "kill":
            self._held.setdefault(node_id, asyncio.Event())
            child.signal(signal.SIGKILL)
        elif what == "pause":
            child.signal(signal.SIGSTOP)
            self._paused.add(node_id)
        elif what == "resume":
            child.signal(signal.SIGCONT)
            self._paused.discard(node_id)
        elif what == "restart":
            child.signal(signal.SIGTERM)
        else:
            await asyncio.to_thread(self._transfer, node_id)

    def _release(self, node_id: str) -> None:
        released = self._held.pop(node_id, None)
        if released is not None:
            released.set()

    async def order_link(self, what: str, ends: tuple[str, str]) -> None:
        self._last_order = (self._clock.wall_ms(), f"{what} {ends[0]}-{ends[1]}")
        (self._cut.add if what == "cut" else self._cut.discard)(ends)
        self._set_wires()

    async def heal(self) -> None:
        self._cut.clear()
        self._isolated.clear()
        self._set_wires()
        for node_id in list(self._paused):
            self._children[node_id].signal(signal.SIGCONT)
        self._paused.clear()
        for node_id in list(self._held):
            self._release(node_id)

    def _set_wires(self) -> None:
        for ends, wire in self._wires.items():
            is_held = ends in self._cut or bool(self._isolated & set(ends))
            for end in ends:
                direction = wire.direction(end)
                if is_held:
                    direction.hold()
                elif direction.held:
                    direction.heal()

    def _transfer(self, node_id: str) -> None:
        """In a thread: asks the nodes who leads, and that one to hand over."""
        config = self._configs[0]
        addresses = [each.member.client for each in self._configs]
        password = config.client.requirepass
        try:
            leader = find_leader(statuses(addresses, password))
            if leader is None:
                raise Refused("nobody leads")
            with Client.connect([leader.address], password, TRANSFER_S) as client:
                client.write("TRI.TRANSFER", node_id)
        except KVError as error:
            raise Refused(f"not handed over: {error}") from error

    def set_rate(self, rate: int) -> None:
        if rate and not self._can_load:
            raise Refused("the load does not speak TLS")
        self._load.set_rate(rate)

    def state(self) -> dict[str, Any]:
        return {
            "nodes": {
                node_id: {
                    "state": "down"
                    if child.pid is None
                    else "paused"
                    if node_id in self._paused
                    else "up",
                    "isolated": node_id in self._isolated,
                }
                for node_id, child in self._children.items()
            },
            "cut": [list(ends) for ends in sorted(self._cut)],
            "rate": self._load.rate,
        }

    def _tell(self, message: Mapping[str, Any]) -> None:
        """What the load saw; an outage with what was ordered shortly before."""
        if message["kind"] == "outage":
            at, text = self._last_order
            is_near = message["from"] - CAUSE_MS < at < message["from"] + message["ms"]
            message = {**message, "cause": text if is_near else ""}
        self._panel.tell(message)
