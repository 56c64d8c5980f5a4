"""The majority is lost for good; what the last node has becomes a new cluster.

Goal: every write that the survivor had, acknowledged or under way, is there again; the lost nodes,
should they turn up with their old directories, are strangers and change nothing.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from node.config import Config
from tests.cluster.test_backup import trimaran
from tests.support.cluster import Cluster
from tests.support.supervised import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.stress]


def test_the_last_node_founds_a_new_cluster_and_the_lost_ones_stay_strangers(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.leader()
        survivor = cluster["n3"]  # whom the others dial
        lost, other = cluster.others(survivor)
        words = ("recover", survivor.data_dir, "--config", survivor.path)
        client = cluster.client(survivor.id)
        client.mset({f"k{number}": number for number in range(100)})
        for _ in range(50):
            client.incr("counter")
        assert "in use" in trimaran(*words, "--new-cluster", code=70)
        survivor.stop()
        assert "leads: the majority is there" in trimaran(*words, "--new-cluster", code=2)
        lost.kill()
        other.kill()
        said = trimaran(*words, code=1)
        assert "nothing was done" in said
        assert f"given up: {', '.join(sorted([lost.id, other.id]))}" in said

        assert "set them aside first" in trimaran(*words, "--new-cluster", code=2)
        for gone in (lost, other):
            gone.data_dir.rename(tmp_path / f"{gone.id}.lost")
        trimaran(*words, "--new-cluster")
        assert len(list(tmp_path.glob(f"{survivor.id}.before-recovery-*"))) == 1
        survivor.restart()
        client = cluster.client(survivor.id)
        assert client.incr("counter") == 51
        assert client.dbsize() == 101
        revision = client.execute_command("TRI.GET", "counter")[2]
        assert revision > 1_000_000_000

        # A lost one turns up: it reaches nobody, and nobody believes it.
        (tmp_path / f"{other.id}.lost").rename(other.data_dir)
        other.start()
        refused = f"hello from '{other.id}' to '{survivor.id}'"
        wait_until(
            lambda: bool(survivor.find(refused)), 20, lambda: "\n".join(survivor.lines[-20:])
        )
        assert survivor.status()["leader"] == survivor.id
        assert client.incr("counter") == 52
        other.kill()

        # Empty and told to join, it is welcome.
        shutil.rmtree(other.data_dir)
        other.start("node.join=true")
        config = Config.load(other.path)
        member = config.member
        ports = f"{member.client}:{member.peer.port}"
        address = Config.load(survivor.path).member.client
        trimaran("member", "add", other.id, ports, "--connect", str(address))
        other.wait_ready()
        reader = cluster.client(other.id)
        assert int(reader.get("counter")) == 52
