"""Nodes for an experiment: real processes, killed, paused and started one by one.

    cluster = OwnCluster(experiment.cluster, directory, clock, wires=True, doors=False, rng=...)
    await cluster.start()               all ready, or ClusterFailed with what they said
    await cluster.leader()              "n2", asked for at the client ports
    cluster.kill("n2"); await cluster.revive("n2")
    await cluster.stop()

    DIR/n1.toml     its configuration       DIR/n1/      its data
    DIR/n1.log      what it printed         DIR/n1.door  its laboratory door, when asked for

Each node is `trimaran serve --config DIR/n1.toml`: what `trimaran cluster` would start, without
its supervisor, so that nothing restarts a node but the experiment. With wires, nodes know each
other by the ports of gates (node.lab.proxy).

Invariants: only processes started here are signalled, by pid. If the laboratory is killed, the
kernel kills them (node.orphan). `stop` ends all of them, paused ones too.

Proved by: tests/lab/test_end_to_end.py
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from node.lab import files
from node.lab.clock import RunClock
from node.lab.config import ClusterConfig
from node.lab.connection import Server
from node.lab.events import parse
from node.lab.foreign import ClusterFailed, Foreign, NodeProcess
from node.lab.namespaces import Namespaces, PacketWire
from node.lab.plan import HOST, PASSWORD, node_documents, node_ids, to_toml
from node.lab.proxy import Gate, Wire

__all__ = ["OwnCluster"]

_SUPERVISOR_VARIABLE: Final = "TRIMARAN_SUPERVISOR"
_PROGRAM: Final = (sys.executable, "-P", "-m", "node", "serve")
_ROOT: Final = Path(__file__).resolve().parents[2]
_STOP_S: Final = 4.0


class OwnCluster(Foreign):
    """Nodes that are started here."""

    def __init__(
        self,
        config: ClusterConfig,
        directory: Path,
        clock: RunClock,
        *,
        wires: bool,
        doors: bool,
        rng: random.Random,
    ) -> None:
        self._config = config
        self._clock = clock
        self._directory = files.make_dir(directory)
        self._doors = doors
        self._with_wires = wires
        self._rng = rng
        self.wires: list[Wire | PacketWire] = []
        self._gates: list[Gate] = []
        self._namespaces: Namespaces | None = None
        self.documents: list[dict[str, Any]] = []
        self._readers: set[asyncio.Task[None]] = set()
        super().__init__([])

    async def start(self) -> None:
        """Write the configurations, start all nodes, wait until they are ready."""
        ids, hosts = node_ids(self._config), None
        if self._config.wires == "namespaces":
            self._namespaces = Namespaces(ids, self._rng, self._config.delay_ms)
            hosts = {each: self._namespaces.host_of(each) for each in ids}
            self.wires += self._namespaces.open()
        self.documents = node_documents(
            self._config, self._directory, doors=self._doors, hosts=hosts
        )
        members = self.documents[0]["cluster"]["members"]
        for member in members:
            host, _, port = member["client"].rpartition(":")
            server = Server(member["id"], host, int(port), PASSWORD if hosts else "")
            self.servers.append(server)
            self.nodes[member["id"]] = NodeProcess(member["id"], server, self._directory)
        if self._with_wires and self._namespaces is None:
            await self._lay_wires(members)
        for document in self.documents:
            node = self.nodes[document["node"]["id"]]
            files.save_text(node.config_path, to_toml(document))
        for node in self.nodes.values():
            await self.spawn(node)
        await self.wait_ready(self.nodes, 30.0)

    async def _lay_wires(self, members: list[dict[str, str]]) -> None:
        """A gate before each node: all know each other by the gates' ports."""
        ids = sorted(each["id"] for each in members)
        laid = {
            ends: Wire(*ends, self._rng, self._config.delay_ms)
            for ends in itertools.combinations(ids, 2)  # the lower id dials (node.links)
        }
        self.wires += laid.values()
        for member, document in zip(members, self.documents, strict=True):
            own, real = member["id"], member["peer"]
            host, _, port = real.rpartition(":")
            wires = {ends[0]: wire for ends, wire in laid.items() if ends[1] == own}
            gate = Gate((host, int(port)), wires)
            await gate.start(HOST)
            self._gates.append(gate)
            document["lab"] = document.get("lab", {}) | {"peer_listen": real}
            member["peer"] = f"{HOST}:{gate.port}"  # of the list that all documents share

    async def spawn(self, node: NodeProcess) -> None:
        """Start its process; does not wait until it is ready."""
        node.ready, node.ended = asyncio.Event(), asyncio.Event()
        node.paused = node.doomed = False
        program: tuple[str, ...] = _PROGRAM
        if self._namespaces is not None:
            program = (*self._namespaces.program(node.id), *_PROGRAM)
        node.process = await asyncio.create_subprocess_exec(
            *program,
            "--config",
            str(node.config_path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the laboratory, which ends them in its own way.
            env=os.environ
            | {
                # What the user put there comes after: it may add to a node, not replace it.
                "PYTHONPATH": os.pathsep.join(
                    filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))
                ),
                "PYTHONUNBUFFERED": "1",
                _SUPERVISOR_VARIABLE: str(os.getpid()),
            },
        )
        self.note(node.id, "started", pid=node.process.pid)
        task = asyncio.create_task(self._listen(node, node.process))
        self._readers.add(task)
        task.add_done_callback(self._readers.discard)

    async def _listen(self, node: NodeProcess, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for raw in process.stdout:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            node.lines.append(line)
            if line == "ready":
                node.ready.set()
                self.note(node.id, "ready")
            else:
                self.events.append(parse(line, node.id, self._clock))
        code = await process.wait()
        self.note(node.id, "ended", code=code)
        node.ended.set()

    def forget(self, node: NodeProcess) -> None:
        """Remove what a node stored; at its next start it joins with nothing."""
        files.remove_tree(self._directory / node.id)
        document = next(each for each in self.documents if each["node"]["id"] == node.id)
        document["node"]["join"] = True
        files.save_text(node.config_path, to_toml(document))

    def address_of(self, node: NodeProcess) -> str:
        """Where it is reached, as TRI.MEMBER ADD has it: host:client:peer:http."""
        members = self.documents[0]["cluster"]["members"]
        own = next(each for each in members if each["id"] == node.id)
        ports = (own[kind].rpartition(":")[2] for kind in ("client", "peer", "http"))
        return ":".join((node.server.host, *ports))

    def note(self, node: str, event: str, **fields: Any) -> None:
        """Something that the laboratory did or saw."""
        now_us = self._clock.now_us()
        self.events.append({"at_us": now_us, "node": node, "event": event, **fields})

    async def wait_ready(self, ids: Iterable[str], timeout_s: float) -> None:
        """Until all of these are ready. ClusterFailed with their last words if not."""
        nodes = [self.nodes[each] for each in ids]

        async def ready_or_ended(node: NodeProcess) -> None:
            tasks = [asyncio.create_task(each.wait()) for each in (node.ready, node.ended)]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*map(ready_or_ended, nodes))
        late = [node for node in nodes if not node.ready.is_set()]
        if late:
            said = "\n".join(f"{node.id} | {line}" for node in late for line in node.lines[-5:])
            raise ClusterFailed(f"not ready: {', '.join(node.id for node in late)}\n{said}")

    async def reap(self, node: NodeProcess, timeout_s: float = _STOP_S) -> None:
        """Wait for the end of a process that was told to end; kill it if it does not."""
        try:
            async with asyncio.timeout(timeout_s):
                await node.ended.wait()
        except TimeoutError:
            node.signal(signal.SIGKILL)
            await node.ended.wait()

    async def open_door(self, node: NodeProcess, **order: Any) -> None:
        """Tell a node's laboratory door. ClusterFailed when it does not do it."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(node.door_path))
            writer.write(json.dumps(order).encode() + b"\n")
            async with asyncio.timeout(2.0):
                answer = await reader.readline()
            writer.close()
        except (OSError, TimeoutError) as error:
            raise ClusterFailed(f"{node.id}: its laboratory door is shut: {error}") from error
        if answer.strip() != b"ok":
            raise ClusterFailed(f"{node.id}: {answer.decode('utf-8', 'replace').strip()}")

    async def stop(self) -> None:
        """End everything, keep what was printed."""
        for node in self.nodes.values():
            node.signal(signal.SIGCONT)
            node.signal(signal.SIGTERM)
        for node in self.nodes.values():
            if node.process is not None:
                await self.reap(node)
        for gate in self._gates:
            await gate.close()
        if self._namespaces is not None:
            self._namespaces.close()
        for node in self.nodes.values():
            files.save_text(self._directory / f"{node.id}.log", "\n".join(node.lines) + "\n")
