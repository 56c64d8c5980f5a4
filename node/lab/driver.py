"""Clients at work: closed or open loop, until they are told to stop.

    closed    a client asks again as soon as it was answered (and has rested pause_ms)
    open      operations are due at fixed moments, whatever the server does; a client that was
              held up sends what is overdue at once, and the wait counts: latency is measured
              from the planned moment, so a pause of the server is not hidden by clients that
              were waiting for it ("coordinated omission")

Proved by: tests/lab/test_client.py
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from node.lab.client import Client, Recorder
from node.lab.config import WorkloadConfig
from node.lab.connection import Server
from node.lab.workload import Workload

__all__ = ["Driver"]


class Driver:
    """All clients of one run."""

    def __init__(
        self,
        config: WorkloadConfig,
        workload: Workload,
        servers: Sequence[Server],
        recorder: Recorder,
        *,
        seed: str,
    ) -> None:
        self._config = config
        self._workload = workload
        self._recorder = recorder
        self._stop = asyncio.Event()
        self._clients = [
            Client(
                number,
                servers,
                recorder,
                rng=random.Random(f"{seed} client {number}"),
                timeout_ms=config.timeout_ms,
                level=config.levels[number % len(config.levels)],
            )
            for number in range(config.clients)
        ]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Let all clients begin."""
        loop_of = self._open if self._config.rate > 0 else self._closed
        self._tasks = [asyncio.create_task(loop_of(client)) for client in self._clients]

    async def stop(self) -> None:
        """No new operations; wait for those under way. A bug in a client is raised here."""
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def finish(self) -> None:
        """The final reads, one client after the other."""
        for client in self._clients:
            await self._workload.finish(client)

    def close(self) -> None:
        """Close all connections."""
        for task in self._tasks:
            task.cancel()
        for client in self._clients:
            client.close()

    async def _closed(self, client: Client) -> None:
        while not self._stop.is_set():
            await self._workload.step(client)
            if self._config.pause_ms:
                await asyncio.sleep(self._config.pause_ms / 1000)

    async def _open(self, client: Client) -> None:
        every_us = 1_000_000 * self._config.clients / self._config.rate
        due_us = client.now_us + every_us * client.number / self._config.clients
        while not self._stop.is_set():
            wait_us = due_us - client.now_us
            if wait_us > 0:
                await asyncio.sleep(wait_us / 1_000_000)
            client.planned_us = round(due_us)
            await self._workload.step(client)
            due_us += every_us
