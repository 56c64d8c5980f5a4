"""A follower that is very far behind, or has an empty disk: a normal event, at a price in memory
that does not depend on how far.

    n3 away    n1, n2: so many MB of writes     in the journal's files (nothing is cut), or
    n3 back    <-- backlog, or a snapshot --    in the state (n3's disk is empty)
               writers go on all the while

Goal: it catches up; digests equal; meanwhile no election and no error at a client, and the leader
needs no more memory than a window's worth, the follower no more than the state itself needs.

TRIMARAN_BEHIND_MB=4000 for a large run (disk: six times that; memory, for the second: four times).
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.load import Load
from tests.support.cluster import Cluster, NodeProcess
from tests.support.supervised import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.stress]

Figures = Callable[[str], None]

BEHIND_MB = int(os.environ.get("TRIMARAN_BEHIND_MB", "96"))
WITHIN_S = 60 + BEHIND_MB / 5
VALUE_BYTES = 128 * 1024
WRITERS = 4
MB = 1024 * 1024
PATIENT = ("raft.election_timeout_min_ms=700", "raft.election_timeout_max_ms=1400")
"""What is shown is that work keeps nobody from hearing the leader, not how idle the machine is."""
KEEP_ALL = (*PATIENT, "journal.compact_bytes=68719476736")
"""Nothing is compacted: all that is missed is in the journal's files."""


def _rss_mb(node: NodeProcess) -> float:
    assert node.process is not None
    try:
        pages = Path(f"/proc/{node.process.pid}/statm").read_text().split()[1]
    except FileNotFoundError:
        return 0.0
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / MB


@contextmanager
def _watched(*nodes: NodeProcess) -> Iterator[dict[str, float]]:
    """The largest resident memory of each node meanwhile, in MB."""
    peaks = {node.id: _rss_mb(node) for node in nodes}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            for node in nodes:
                peaks[node.id] = max(peaks[node.id], _rss_mb(node))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


def _fill(node: NodeProcess, keys: int) -> float:
    """Write BEHIND_MB, over so many keys; MB a second."""
    writes = BEHIND_MB * MB // VALUE_BYTES
    begun_s = time.monotonic()
    errors: list[BaseException] = []

    def write(number: int) -> None:
        rng = random.Random(number)
        block = rng.randbytes(VALUE_BYTES)
        try:
            with node.connect() as client:
                for at in range(number, writes, WRITERS):
                    start = at % 64
                    assert client.set(f"k{at % keys}", block[start:] + block[:start])
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    return BEHIND_MB / (time.monotonic() - begun_s)


def _catch_up(
    cluster: Cluster, leader: NodeProcess, away: NodeProcess, figures: Figures, what: str
) -> dict[str, float]:
    """Start it under load and wait until it has everything; memory: before, peaks of both."""
    others = [node for node in cluster if node is not away]
    term, before_mb = leader.status()["term"], _rss_mb(leader)
    begun_s = time.monotonic()
    away.start()
    with _watched(leader, away) as peaks, Load(cluster, 6, pause_s=0.01) as load:
        wait_until(
            lambda: away.is_ready,
            WITHIN_S,
            lambda: "\n".join(away.lines[-20:]) or "it says nothing",
        )
        took_s = time.monotonic() - begun_s
        load.wait_for(50)
    assert load.errors == []
    assert {node.status()["term"] for node in others} == {term}
    index, digest = cluster.equal_digest()
    figures(
        f"{BEHIND_MB} MB behind, {what}: caught up in {took_s:.1f} s "
        f"({BEHIND_MB / took_s:.0f} MB/s) under load; memory of the leader {before_mb:.0f} MB "
        f"before, {peaks[leader.id]:.0f} MB at most; of the follower {peaks[away.id]:.0f} MB at "
        f"most; slowest write meanwhile {load.slowest_s:.2f} s; digest {digest[:12]} at {index}"
    )
    return {"before": before_mb, "leader": peaks[leader.id], "follower": peaks[away.id]}


@pytest.mark.timeout(120 + 2 * WITHIN_S)
def test_a_follower_far_behind_in_the_journal_is_sent_its_files_at_no_price_in_memory(
    tmp_path: Path, figures: Figures
) -> None:
    with Cluster(tmp_path, settings=KEEP_ALL, template=None) as cluster:
        leader = cluster.leader()
        away = cluster.others(leader)[0]
        away.kill()
        rate = _fill(leader, keys=64)  # 8 MB of state
        assert leader.status()["journal_bytes"] > BEHIND_MB * MB
        memory = _catch_up(cluster, leader, away, figures, f"in the journal ({rate:.0f} MB/s)")
        assert not away.find("snapshot installed")
        assert memory["leader"] < memory["before"] + 128
        assert memory["follower"] < 400


@pytest.mark.timeout(120 + 2 * WITHIN_S)
def test_a_follower_with_an_empty_disk_is_sent_the_state_at_no_price_in_the_leader_s_memory(
    tmp_path: Path, figures: Figures
) -> None:
    cluster = Cluster(tmp_path, settings=PATIENT, template=None)
    *first, away = cluster.nodes
    try:
        for node in first:
            node.start()
        for node in first:
            node.wait_ready()
        leader = cluster.leader(first)
        rate = _fill(leader, keys=BEHIND_MB * MB // VALUE_BYTES)
        for node in first:
            with node.connect(timeout_s=WITHIN_S) as client:
                client.execute_command("TRI.SNAPSHOT")
        memory = _catch_up(cluster, leader, away, figures, f"in the state ({rate:.0f} MB/s)")
        assert away.find("snapshot installed")
        assert memory["leader"] < memory["before"] + 128
        # The state, and what reading an image needs beside it.
        assert memory["follower"] < 1.5 * BEHIND_MB + 400
    finally:
        cluster.close()
