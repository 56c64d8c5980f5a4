"""A node that missed more than the journal keeps gets a snapshot, and follows on from there.

n3 away (killed, or paused)      n1, n2: 50,000 writes, snapshots made, journals cut
n3 back   <--- snapshot stream --- leader           "snapshot installed" in n3's log
n3        <--- appends ----------- leader           equal digest, goes on following

An empty disk is the same; and what the journal still has, though not in memory, is sent from its
files without a snapshot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.support.cluster import Cluster, NodeProcess
from tests.support.supervised import wait_until

pytestmark = pytest.mark.cluster

StartCluster = Callable[..., Cluster]
Figures = Callable[[str], None]

WRITES = 50_000
KEYS = 20_000
CHUNK = 500
SMALL_JOURNAL = (
    "journal.compact_bytes=1048576",
    "journal.retain_bytes=65536",
    "journal.segment_bytes_max=1048576",
)


def _write_many(client: redis.Redis, count: int, label: str, value_bytes: int) -> float:
    """Writes per second of `count` SETs, all acknowledged."""
    begun_s = time.monotonic()
    for start in range(0, count, CHUNK):
        pipeline = client.pipeline(transaction=False)
        for number in range(start, min(start + CHUNK, count)):
            pipeline.set(f"k{number % KEYS}", f"{label} {number} ".ljust(value_bytes, "."))
        assert all(pipeline.execute())
    return count / (time.monotonic() - begun_s)


def _cut_the_journals(cluster: Cluster, away: NodeProcess) -> None:
    """Make sure that nobody can send `away` the entries it lacks."""
    for node in cluster.others(away):
        cluster.client(node.id).execute_command("TRI.SNAPSHOT")
        assert node.said("snapshot made")


def _follows_on(cluster: Cluster, node: NodeProcess, word: str) -> None:
    other = cluster.others(node)[0]
    cluster.client(other.id).set("after", word)
    assert cluster.client(node.id).get("after") == word.encode()
    cluster.client(node.id).set("from it", word)
    assert cluster.client(other.id).get("from it") == word.encode()
    cluster.equal_digest()


def test_a_node_that_was_stopped_through_50_000_writes_catches_up_by_snapshot(
    start_cluster: StartCluster, figures: Figures
) -> None:
    cluster = start_cluster(settings=SMALL_JOURNAL)
    leader = cluster.leader()
    away = cluster.others(leader)[0]
    cluster.client(leader.id).set("before", "1")
    away.kill()
    rate = _write_many(cluster.client(leader.id), WRITES, "stopped", 64)
    _cut_the_journals(cluster, away)
    begun_s = time.monotonic()
    away.restart()
    wait_until(lambda: bool(away.find("snapshot installed")), 20, lambda: "\n".join(away.lines))
    index, digest = cluster.equal_digest()
    figures(
        f"{WRITES:,} writes at {rate:,.0f}/s went by; caught up {time.monotonic() - begun_s:.2f} s "
        f"after its start ({away.find('snapshot installed')[0].split(' event=')[1]}); "
        f"equal digest {digest[:12]} at {index}"
    )
    _follows_on(cluster, away, "again")
    # What was installed is durable: it starts from it, and needs no second one.
    away.kill()
    away.restart()
    _follows_on(cluster, away, "once more")
    assert not away.find("snapshot installed")


def test_a_node_that_was_paused_through_50_000_writes_catches_up_by_snapshot(
    start_cluster: StartCluster, figures: Figures
) -> None:
    # 16 MB, more than the kernel keeps for a peer that does not read; and past 1 MiB of its own
    # the leader keeps nothing for it.
    cluster = start_cluster(settings=(*SMALL_JOURNAL, "peer.send_buffer_bytes_max=1048576"))
    leader = cluster.leader()
    away = cluster.others(leader)[0]
    away.pause()
    rate = _write_many(cluster.client(leader.id), WRITES, "paused", 320)
    _cut_the_journals(cluster, away)
    begun_s = time.monotonic()
    away.resume()
    wait_until(lambda: bool(away.find("snapshot installed")), 20, lambda: "\n".join(away.lines))
    index, digest = cluster.equal_digest()
    figures(
        f"{WRITES:,} writes at {rate:,.0f}/s went by; caught up {time.monotonic() - begun_s:.2f} s "
        f"after its pause; equal digest {digest[:12]} at {index}"
    )
    _follows_on(cluster, away, "again")


def test_a_node_whose_disk_is_empty_is_sent_everything(tmp_path: Path, figures: Figures) -> None:
    """It was never started: the others have written, and cut what they wrote from the journal."""
    cluster = Cluster(tmp_path, settings=SMALL_JOURNAL)
    *first, away = cluster.nodes
    with cluster_of(cluster, first):
        rate = _write_many(cluster.client(first[0].id), WRITES, "before it was there", 64)
        _cut_the_journals(cluster, away)
        begun_s = time.monotonic()
        away.restart()
        wait_until(lambda: bool(away.find("snapshot installed")), 20, lambda: str(away.lines))
        index, digest = cluster.equal_digest()
        figures(
            f"{WRITES:,} writes at {rate:,.0f}/s; everything was there "
            f"{time.monotonic() - begun_s:.2f} s after its start; digest {digest[:12]} at {index}"
        )
        _follows_on(cluster, away, "again")


def test_what_left_the_leader_s_memory_is_read_from_its_files_and_needs_no_snapshot(
    start_cluster: StartCluster, figures: Figures
) -> None:
    cluster = start_cluster(
        settings=("journal.memory_bytes=65536", "journal.segment_bytes_max=1048576")
    )
    leader = cluster.leader()
    away = cluster.others(leader)[0]
    away.kill()
    rate = _write_many(cluster.client(leader.id), WRITES, "stopped", 320)
    begun_s = time.monotonic()
    away.restart()
    index, digest = cluster.equal_digest()
    journal_bytes = leader.status()["journal_bytes"]
    figures(
        f"{WRITES:,} writes at {rate:,.0f}/s; {journal_bytes:,} bytes of journal, 65,536 of it "
        f"in memory; caught up {time.monotonic() - begun_s:.2f} s after its start; "
        f"equal digest {digest[:12]} at {index}"
    )
    assert journal_bytes > 10_000_000
    assert not away.find("snapshot installed")
    _follows_on(cluster, away, "again")


@contextmanager
def cluster_of(cluster: Cluster, nodes: list[NodeProcess]) -> Iterator[None]:
    """Only these nodes run at first; all are ended in the end."""
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_ready()
        cluster.leader(nodes)
        yield
    finally:
        cluster.close()
