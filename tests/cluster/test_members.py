"""A cluster of real processes grows from one node to three to five and shrinks again, under load.

    n1 alone -> member add n2, n3 -> n4, n5 -> member remove ... -> n5 alone
    writers on every member all the while

Goal: no write fails on a node that is a member, whatever is added or removed meanwhile, the leader
included; what was acknowledged is there at the end. Method: `trimaran member`, as an operator.
"""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from node.cli import main
from node.config_members import member_text
from tests.cluster.load import Load
from tests.support.cluster import Cluster, NodeProcess
from tests.support.ports import free_base_port
from tests.support.supervised import ROOT, Supervised, wait_until

pytestmark = pytest.mark.cluster

Figures = Callable[[str], None]


def member(cluster: Cluster, *words: str, code: int = 0) -> str:
    """`trimaran member ...`, asking every node that runs; what it printed."""
    running = [node for node in cluster if node.process is not None]
    connect = ",".join(str(node.config.member.client) for node in running)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        assert main(["member", "--connect", connect, *words]) == code, printed.getvalue()
    return printed.getvalue()


def add(cluster: Cluster, node: NodeProcess) -> None:
    """Start a node that waits, and have it seated; it votes when this returns."""
    node.start()
    said = member(cluster, "add", node.id, member_text(node.config.member))
    assert f"{node.id} votes" in said
    node.wait_ready()


def remove(cluster: Cluster, node: NodeProcess) -> None:
    """Have a node taken out; its process ends by itself and says why."""
    node._is_meant_to_run = False  # from now on its clients have to go elsewhere
    member(cluster, "remove", node.id)
    assert node.reap() == 70
    assert any("was removed from the cluster" in line for line in node.lines), node.lines[-5:]


def test_one_node_becomes_three_and_one_again_without_a_failed_write(
    tmp_path: Path, figures: Figures
) -> None:
    _grow_and_shrink(tmp_path, figures, 3)


@pytest.mark.stress
def test_one_node_becomes_five_and_one_again_without_a_failed_write(
    tmp_path: Path, figures: Figures
) -> None:
    _grow_and_shrink(tmp_path, figures, 5)


def _grow_and_shrink(tmp_path: Path, figures: Figures, count: int) -> None:
    with Cluster(tmp_path, nodes=count, founders=1) as cluster:
        first, *others = cluster.nodes
        slowest = []
        with Load(cluster, writers=2 * count) as load:
            load.wait_for(50)
            for node in others:
                begun_s = time.monotonic()
                add(cluster, node)
                load.wait_for(50)
                slowest.append(load.gap_s(begun_s, time.monotonic()))
            assert {each["role"] for each in _list(cluster)["members"]} == {"voter"}
            for node in [cluster.leader(), *others[:-1]]:
                if node is not others[-1] and node.process is not None:
                    begun_s = time.monotonic()
                    remove(cluster, node)
                    load.wait_for(50)
                    slowest.append(load.gap_s(begun_s, time.monotonic()))
            if first.process is not None and others[-1].process is not None:
                remove(cluster, first)
                load.wait_for(20)
        assert load.errors == []
        last = others[-1]
        assert [each["id"] for each in _list(cluster)["members"]] == [last.id]
        lost = load.missing(cluster.client(last.id))
        figures(
            f"1 -> {count} -> 1 nodes: {load.acked_count:,} writes acknowledged, {len(lost)} lost, "
            f"{load.unknown_count} unknown; longest gap {max(slowest):.3f} s, "
            f"slowest write {load.slowest_s:.3f} s"
        )
        assert lost == []


def _list(cluster: Cluster) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads(member(cluster, "list", "--json"))
    return found


def test_mistakes_are_refused_in_words(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=3, founders=2) as cluster:
        said = member(cluster, "add", "n9", "127.0.0.1", code=2)
        assert 'must look like "127.0.0.1:7004:8004"' in said
        said = member(cluster, "add", "n1", "127.0.0.1:1111:1112", code=2)
        assert "n1 is a member already" in said
        taken = cluster["n1"].config.member
        said = member(cluster, "add", "n9", member_text(taken), code=2)
        assert "already" in said
        said = member(cluster, "add", "n9", "192.0.2.1:7001:8001", code=2)
        assert "needs peer.secret" in said
        # A node that nobody seats waits, and serves nothing but what it knows of itself.
        waiting = cluster["n3"]
        waiting.start()
        wait_until(lambda: any("no member" in line for line in waiting.lines), 10)
        with waiting.connect() as client:
            wait_until(lambda: _refuses(client), 10)
        assert not waiting.is_ready
        said = member(cluster, "remove", "n3")
        assert "is no member" in said


def _refuses(client: redis.Redis) -> bool:
    try:
        client.set("k", "v")
    except redis.exceptions.ClusterDownError as error:
        return "no member" in str(error)
    except redis.ConnectionError:
        return False
    raise AssertionError("a node that is no member took a write")


def test_a_supervised_cluster_grows_when_it_is_started_with_more_nodes(tmp_path: Path) -> None:
    fast = str(ROOT / "configs" / "fast.toml")
    base_port = free_base_port(3)
    with Supervised(tmp_path, "--nodes", "1", "--config", fast, base_port=base_port) as cluster:
        cluster.wait_for_line("cluster ready", 30)
        with redis.Redis(port=base_port) as client:
            client.set("k", "of one")
    for _ in range(2):  # the second time all of them are there already
        with Supervised(tmp_path, "--nodes", "3", "--config", fast, base_port=base_port) as cluster:
            cluster.wait_for_line("cluster ready", 30)
            with redis.Redis(port=base_port + 2) as client:
                assert client.get("k") == b"of one"
                found = json.loads(client.execute_command("TRI.MEMBER", "LIST"))
                roles = {each["id"]: each["role"] for each in found["members"]}
                assert roles.keys() == {"n1", "n2", "n3"}
    with Supervised(tmp_path, "--nodes", "1", "--config", fast, base_port=base_port) as cluster:
        assert cluster.wait(10) == 2
        assert "use --nodes 3" in cluster.text
