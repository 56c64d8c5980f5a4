"""Nodes are ended whenever it is: also when Ctrl-C comes while one of them is being started."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from node.lab import cluster as room
from node.lab.clock import RunClock
from node.lab.cluster import OwnCluster
from node.lab.config import ClusterConfig
from node.lab.connection import Server
from node.lab.foreign import NodeProcess


def test_a_start_that_is_interrupted_leaves_nothing_to_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)")
    monkeypatch.setattr(room, "_PROGRAM", program)
    started = asyncio.create_subprocess_exec

    async def slowly(*words: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await started(*words, **options)
        await asyncio.sleep(0.3)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slowly)

    async def interrupted() -> None:
        clock, rng = RunClock(), random.Random(1)
        cluster = OwnCluster(ClusterConfig(), tmp_path, clock, wires=False, doors=False, rng=rng)
        node = cluster.nodes["n1"] = NodeProcess("n1", Server("n1", "127.0.0.1", 1), tmp_path)
        await cluster.spawn(node)
        node.signal(9)
        await cluster.reap(node)
        again = asyncio.create_task(cluster.spawn(node))
        await asyncio.sleep(0.1)
        again.cancel()
        with pytest.raises(asyncio.CancelledError):
            await again
        async with asyncio.timeout(20):
            await cluster.stop()
        assert not node.runs

    asyncio.run(interrupted())
