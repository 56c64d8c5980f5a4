"""Kills, pauses, hand-overs and snapshots in random order, with a journal that is cut all the time.

    6 writers, 3 counters ---> n1 n2 n3 <--- one disturbance after the other, seeded

Goal: what the tests for one disturbance promise, for all that come upon one another. Journals,
WAL segments and checkpoints are so small that nodes come back by snapshot, by checkpoint and by
journal in turns. Nothing acknowledged is lost, nothing counts twice, no client of a node that lives
is told of an error, and the states are equal in the end.

A failing seed is run again with TRIMARAN_SEED=n; the order of events in three processes is not the
same every time.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable

import pytest
import redis

from tests.cluster.load import Counters, Load
from tests.support.cluster import Cluster, NodeProcess

pytestmark = [pytest.mark.cluster, pytest.mark.stress]

StartCluster = Callable[..., Cluster]
Figures = Callable[[str], None]

SECONDS = 50
SMALL = (
    "journal.compact_bytes=65536",
    "journal.retain_bytes=4096",
    "journal.segment_bytes_max=65536",
    "wal.segment_bytes_max=65536",
    "checkpoint.entries=200",
)


def _kill(nodes: list[NodeProcess], down_s: float) -> None:
    for node in nodes:
        node.doom()
    for node in nodes:
        node.reap()
    time.sleep(down_s)
    for node in nodes:
        node.start()


def _pause(node: NodeProcess, down_s: float) -> None:
    node.pause()
    time.sleep(down_s)
    node.resume()


def _ask(node: NodeProcess, word: str) -> None:
    with node.connect() as client:
        try:
            client.execute_command(word)
        except redis.ResponseError:
            pass  # The last disturbance is not over: nobody to hand over to. A fair answer.


def _disturb(cluster: Cluster, rng: random.Random) -> str:
    """Do one thing to the cluster; its name."""
    leader = cluster.leader()
    follower = rng.choice(cluster.others(leader))
    down_s = rng.random()
    actions: dict[str, Callable[[], None]] = {
        "kill the leader": lambda: _kill([leader], down_s),
        "restart the leader at once": lambda: _kill([leader], 0),
        "kill a follower": lambda: _kill([follower], 2 * down_s),
        "kill two": lambda: _kill(rng.sample(cluster.nodes, 2), down_s / 2),
        "kill all": lambda: _kill(cluster.nodes, down_s / 2),
        "pause the leader": lambda: _pause(leader, 1.5 * down_s),
        "pause a follower": lambda: _pause(follower, 2 * down_s),
        "hand over": lambda: _ask(leader, "TRI.TRANSFER"),
        "snapshot": lambda: _ask(rng.choice(cluster.nodes), "TRI.SNAPSHOT"),
    }
    name = rng.choice(list(actions))
    actions[name]()
    for node in cluster:
        node.wait_ready()
    return name


@pytest.mark.timeout(240)
def test_nothing_is_lost_whatever_happens_in_whatever_order(
    start_cluster: StartCluster, figures: Figures
) -> None:
    seed = int(os.environ.get("TRIMARAN_SEED", time.time_ns() % 100_000))
    rng = random.Random(seed)
    cluster = start_cluster(settings=SMALL)
    done: Counter[str] = Counter()
    with Load(cluster, 6) as load, Counters(cluster, 3) as counters:
        end_s = time.monotonic() + SECONDS
        while time.monotonic() < end_s:
            done[_disturb(cluster, rng)] += 1
            if rng.random() < 0.7:  # Else the next one comes upon this one.
                load.wait_for(20)
        load.wait_for(20)
    installed = sum("snapshot installed" in line for node in cluster for line in node.all_lines)
    figures(
        f"seed {seed}: {sum(done.values())} disturbances {dict(done)}; "
        f"{load.acked_count:,} writes and {counters.acked_count:,} counts acknowledged, "
        f"{installed} snapshots installed, slowest write {load.slowest_s:.2f} s"
    )
    assert load.errors + counters.errors == []
    assert not [line for node in cluster for line in node.all_lines if "Traceback" in line]
    cluster.equal_digest()
    for node in cluster:
        assert load.missing(cluster.client(node.id)) == []
    counters.check(cluster.client("n1"))
