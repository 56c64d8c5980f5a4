"""A disk that takes 2 s for each sync: nobody is deposed, writes are slow, not failed.

    one node at a time, then all three     every fsync, fdatasync and directory sync of it
                                           sleeps for 2 s (tests/support/doored.py)

Goal: not one election and not one error at a client, whichever sync it is: journal, WAL,
checkpoint, snapshot, cut, rotation. Method: journals and checkpoints so small that all of these
happen all the time; counters count, so that a write applied twice would show.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from node.config_members import member_text
from tests.cluster.load import Counters
from tests.support.cluster import Cluster, NodeProcess
from tests.support.doored import CONTROL_VARIABLE, control
from tests.support.supervised import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.stress]

Figures = Callable[[str], None]

SYNC_MS = 2_000
PATIENT = ("raft.election_timeout_min_ms=700", "raft.election_timeout_max_ms=1400")
"""Still less than a sync takes; but a busy machine's pauses are not what is tested here."""
SMALL = (
    "journal.compact_bytes=65536",
    "journal.retain_bytes=4096",
    "journal.segment_bytes_max=65536",
    "journal.memory_bytes=65536",
    "wal.segment_bytes_max=65536",
    "checkpoint.entries=200",
)


def doored(
    directory: Path, nodes: int, settings: tuple[str, ...] = (), founders: int | None = None
) -> Cluster:
    """A cluster whose disks can be slowed down, not started yet."""
    cluster = Cluster(directory, nodes=nodes, settings=settings, template=None, founders=founders)
    for node in cluster:
        node.module = "tests.support.doored"
        node.environment = {CONTROL_VARIABLE: str(control_of(node))}
    return cluster


def control_of(node: NodeProcess) -> Path:
    return node.path.with_suffix(".door.json")


def _wait_s(cluster: Cluster, node: NodeProcess) -> float:
    """How long one write takes there now."""
    with node.connect() as client:
        begun_s = time.monotonic()
        client.set("probe", "1")
        return time.monotonic() - begun_s


@pytest.mark.timeout(240)
@pytest.mark.parametrize("settings", [(), SMALL], ids=["defaults", "everything rotates"])
def test_syncs_of_two_seconds_cost_no_election_and_no_write(
    tmp_path: Path, figures: Figures, settings: tuple[str, ...]
) -> None:
    with doored(tmp_path, 3, (*PATIENT, *settings)) as cluster:
        leader = cluster.leader()
        term = leader.status()["term"]
        waits = {}
        with Counters(cluster, 6) as counters:
            counters.wait_for(300)
            for name, slow in {
                "the leader": [leader],
                "one follower": cluster.others(leader)[:1],
                "both followers": cluster.others(leader),
                "all": cluster.nodes,
            }.items():
                for node in slow:
                    control(control_of(node), sync_ms=SYNC_MS)
                time.sleep(5)
                waits[name] = _wait_s(cluster, leader)
                for node in slow:
                    control(control_of(node))
                counters.wait_for(300)
                seen = {node.id: node.status().get("term") for node in cluster}
                assert set(seen.values()) == {term}, f"{name}: {seen}"
        figures(
            "a write at the leader while syncs take 2 s: "
            + ", ".join(f"{name} {wait_s:.2f} s" for name, wait_s in waits.items())
        )
        on_loop = {
            line for node in cluster for line in node.all_lines if line.startswith("sync on the")
        }
        assert not on_loop
        assert counters.errors == []
        assert cluster.leader() is leader
        cluster.equal_digest()
        counters.check(cluster.client("n1"))


@pytest.mark.timeout(120)
def test_members_change_while_syncs_take_two_seconds_and_no_loop_waits_for_them(
    tmp_path: Path, figures: Figures
) -> None:
    with doored(tmp_path, 4, PATIENT, founders=3) as cluster:
        leader, newcomer = cluster.leader(cluster.nodes[:3]), cluster["n4"]
        term = leader.status()["term"]
        newcomer.start()
        with Counters(cluster, 6) as counters:
            counters.wait_for(100)
            for node in cluster.nodes[:3]:
                control(control_of(node), sync_ms=SYNC_MS)
            begun_s = time.monotonic()
            with leader.connect(timeout_s=60) as client:
                client.execute_command("TRI.MEMBER", "ADD", *_words(newcomer))
            took_s = time.monotonic() - begun_s
            for node in cluster.nodes[:3]:
                control(control_of(node))
            newcomer.wait_ready()
            wait_until(lambda: _role(leader, newcomer) == "voter", 60, "it does not vote")
            counters.wait_for(100)
            assert {node.status().get("term") for node in cluster} == {term}
        on_loop = {
            line for node in cluster for line in node.all_lines if line.startswith("sync on the")
        }
        assert not on_loop
        assert counters.errors == []
        counters.check(cluster.client("n1"))
        figures(f"a learner seated after {took_s:.1f} s; a voter later, all in one term")


def _words(node: NodeProcess) -> list[str]:
    return [node.id, *member_text(node.config.member).split()]


def _role(asked: NodeProcess, node: NodeProcess) -> str:
    found = asked.member_list()["members"]
    return next((str(each["role"]) for each in found if each["id"] == node.id), "")


@pytest.mark.timeout(120)
def test_a_cluster_of_one_node_goes_on_answering_reads_while_a_sync_takes_two_seconds(
    tmp_path: Path, figures: Figures
) -> None:
    with doored(tmp_path, 1) as cluster:
        (node,) = cluster
        with node.connect() as writer, node.connect() as reader:
            writer.set("k", "1")
            control(control_of(node), sync_ms=SYNC_MS)
            begun_s = time.monotonic()
            took_s: list[float] = []

            def write() -> None:
                writer.set("k", "2")
                took_s.append(time.monotonic() - begun_s)

            thread = threading.Thread(target=write)
            thread.start()
            slowest_s = 0.0
            while time.monotonic() - begun_s < 1.5:
                at_s = time.monotonic()
                assert reader.get("k") == b"1"  # Not before it is durable.
                slowest_s = max(slowest_s, time.monotonic() - at_s)
            thread.join(20)
            assert reader.get("k") == b"2"
        assert 1.9 < took_s[0] < 6
        assert slowest_s < 1.0
        figures(f"SET after {took_s[0]:.2f} s; slowest GET meanwhile {slowest_s * 1000:.1f} ms")
