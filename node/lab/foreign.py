"""What clients are pointed at: any RESP server that runs already, or nodes of ours (cluster).

    cluster = Foreign([Server.parse("127.0.0.1:6379")])
    await cluster.start()              it answers, or ClusterFailed
    await cluster.leader()             "n2", if it answers TRI.STATUS; else None

Nothing can be broken there.

Proved by: tests/lab/test_end_to_end.py
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any, Final

from node.lab.connection import Server, ask
from node.lab.events import Event

__all__ = ["ClusterFailed", "Foreign", "NodeProcess", "status_of"]

_STATUS_S: Final = 0.4


class ClusterFailed(Exception):
    """The nodes are not as they have to be; says what they said."""


class NodeProcess:
    """One node, and the process that runs it now, if any."""

    def __init__(self, id: str, server: Server, directory: Path) -> None:
        self.id = id
        self.server = server
        self.config_path = directory / f"{id}.toml"
        self.door_path = directory / f"{id}.door"
        self.process: asyncio.subprocess.Process | None = None
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()
        self.paused = False
        self.doomed = False
        """Told to end, and not started again yet."""
        self.lines: list[str] = []

    @property
    def runs(self) -> bool:
        """Whether there is a process, paused or not."""
        return self.process is not None and self.process.returncode is None

    def signal(self, number: int) -> None:
        """Send one, if it runs."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


class Foreign:
    """A server that runs already."""

    def __init__(self, servers: list[Server]) -> None:
        self.servers = servers
        self.events: list[Event] = []
        self.nodes: dict[str, NodeProcess] = {}

    async def start(self) -> None:
        """Look whether it answers. ClusterFailed when not."""
        for server in self.servers:
            try:
                await ask(server, "PING")
            except OSError as error:
                raise ClusterFailed(f"{server.id} does not answer: {error}") from error

    async def stop(self) -> None:
        """It goes on."""

    async def statuses(self) -> dict[str, dict[str, Any]]:
        """TRI.STATUS of each server that answers it."""
        answers = await asyncio.gather(*(status_of(server) for server in self.servers))
        return {
            server.id: answer
            for server, answer in zip(self.servers, answers, strict=True)
            if answer is not None
        }

    async def leader(self) -> str | None:
        """Who says that it leads, in the highest term."""
        found = await self.statuses()
        leaders = [
            (status["term"], name) for name, status in found.items() if status["role"] == "leader"
        ]
        return max(leaders)[1] if leaders else None


async def status_of(server: Server) -> dict[str, Any] | None:
    """Its TRI.STATUS; None when it does not answer, or is no node of ours."""
    try:
        reply = await ask(server, "TRI.STATUS", timeout_s=_STATUS_S)
    except OSError:
        return None
    if not isinstance(reply, bytes):
        return None
    found: dict[str, Any] = json.loads(reply)
    return found
