"""The power goes off in the whole room, again and again: nothing acknowledged is lost.

    writers on all nodes -> kill -9 of all -> every file cut back to what was synced,
    every name to what its directory's last sync holds (tests/support/power.py) -> start -> look

Goal: 0 acknowledged writes lost, states equal, whatever the moment. Control: the same with the
gate off (acknowledged as soon as a majority has it, synced or not) loses some; if it did not, the
first half would prove nothing. Disks take 1 to 15 ms for each sync, each its own, so that at each
failure much is written and not synced.

TRIMARAN_ROUNDS=100 for the long run. A failing seed is run again with TRIMARAN_SEED=n.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.load import Load
from tests.support.cluster import FAST, Cluster
from tests.support.doored import CONTROL_VARIABLE, GATE_VARIABLE, MIRROR_VARIABLE, control
from tests.support.power import cut_power

pytestmark = [pytest.mark.cluster, pytest.mark.stress]

Figures = Callable[[str], None]

ROUNDS = int(os.environ.get("TRIMARAN_ROUNDS", "25"))
CONTROL_ROUNDS = 4
SMALL = (
    "journal.compact_bytes=131072",
    "journal.retain_bytes=4096",
    "journal.segment_bytes_max=65536",
    "journal.memory_bytes=65536",
    "wal.segment_bytes_max=65536",
    "checkpoint.entries=500",
    "checkpoint.bytes=131072",
)
"""All that is written, renamed and removed happens in every round."""


def _cluster(directory: Path, gate: str) -> Cluster:
    cluster = Cluster(directory, settings=SMALL, template=FAST)
    for node in cluster:
        node.module = "tests.support.doored"
        node.environment = {
            CONTROL_VARIABLE: str(directory / f"{node.id}.door.json"),
            MIRROR_VARIABLE: str(directory / f"{node.id}.mirror"),
            GATE_VARIABLE: gate,
        }
    return cluster


def _round(cluster: Cluster, rng: random.Random) -> tuple[int, list[str], int]:
    """(acknowledged, lost, bytes cut off) of one power failure. All nodes run when it returns."""
    for node in cluster:
        control(cluster.directory / f"{node.id}.door.json", sync_ms=rng.uniform(1, 15))
    with Load(cluster, 12) as load:
        load.wait_for(rng.randrange(20, 400))
        for node in cluster:
            node.doom()
        for node in cluster:
            node.reap()
    cut_bytes = sum(
        cut_power(node.data_dir, cluster.directory / f"{node.id}.mirror") for node in cluster
    )
    for node in cluster:
        control(cluster.directory / f"{node.id}.door.json")
    cluster.start()
    cluster.leader()
    with cluster["n1"].connect() as client:
        lost = load.missing(client)
        client.flushall()  # Keys are used again: the next round must find its own.
    return load.acked_count, lost, cut_bytes


def _run(directory: Path, rounds: int, gate: str, seed: int) -> tuple[int, list[str], int]:
    rng = random.Random(seed)
    acked, lost, cut_bytes = 0, [], 0
    with _cluster(directory, gate) as cluster:
        for _ in range(rounds):
            found = _round(cluster, rng)
            acked, lost, cut_bytes = acked + found[0], lost + found[1], cut_bytes + found[2]
            if gate == "on":
                assert found[1] == [], f"{seed=}"
        cluster.equal_digest()
    return acked, lost, cut_bytes


@pytest.mark.timeout(300 + 12 * ROUNDS)
def test_nothing_acknowledged_is_lost_when_the_power_fails_everywhere(
    tmp_path: Path, figures: Figures
) -> None:
    seed = int(os.environ.get("TRIMARAN_SEED", time.time_ns() % 100_000))
    begun_s = time.monotonic()
    acked, lost, cut_bytes = _run(tmp_path, ROUNDS, "on", seed)
    figures(
        f"seed {seed}: {ROUNDS} power failures, {acked:,} acknowledged, {len(lost)} lost; "
        f"{cut_bytes:,} bytes were not synced; {time.monotonic() - begun_s:.0f} s"
    )
    assert lost == []
    assert acked > ROUNDS * 20
    assert cut_bytes > 0, "nothing was cut off: the test tests nothing"


@pytest.mark.timeout(180)
def test_the_same_without_the_gate_loses_acknowledged_writes(
    tmp_path: Path, figures: Figures
) -> None:
    acked, lost, _ = _run(tmp_path, CONTROL_ROUNDS, "off", 1)
    figures(
        f"gate off: {CONTROL_ROUNDS} power failures, {acked:,} acknowledged, {len(lost):,} lost"
    )
    assert lost
