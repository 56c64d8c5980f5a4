"""A node loses its directory, or a byte of it; `trimaran repair` brings it back, under load.

Goal: the node does not start on what is damaged, and does not vote with an empty directory; one
command gives it a new place, nothing acknowledged is lost, no client of the others sees an error.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from node.cli import main
from tests.cluster.load import Load
from tests.support.cluster import Cluster, NodeProcess
from tests.support.supervised import wait_until

pytestmark = pytest.mark.cluster

Figures = Callable[[str], None]


def repair(node: NodeProcess, *words: str, code: int = 0) -> str:
    """`trimaran repair` of a node's directory; what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        found = main(["repair", str(node.data_dir), "--config", str(node.path), *words])
    assert found == code, printed.getvalue()
    return printed.getvalue()


def flip_a_byte_in_the_journal(node: NodeProcess) -> str:
    """In the first frames, which later ones say to be durable."""
    path = sorted((node.data_dir / "journal").glob("*.seg"))[0]
    data = bytearray(path.read_bytes())
    data[64 + 36 + 5] ^= 0x40
    path.write_bytes(data)
    return path.name


def empty_the_directory(node: NodeProcess) -> str:
    shutil.rmtree(node.data_dir)
    return "it was wiped or restored"


@pytest.mark.parametrize("damage", [flip_a_byte_in_the_journal, empty_the_directory])
def test_a_damaged_node_is_repaired_from_its_peers_under_load(
    damage: Callable[[NodeProcess], str], tmp_path: Path, figures: Figures
) -> None:
    with Cluster(tmp_path) as cluster:
        leader = cluster.leader()
        node, other = cluster.others(leader)
        with Load(cluster, writers=6) as load:
            load.wait_for(300)
            node.stop()
            what = damage(node)
            node.start()
            assert node.reap(20) == 70
            assert any(what in line for line in node.lines[-3:]), node.lines[-3:]
            said = repair(node, "--from-peers")
            assert "is kept as" in said
            assert "follows as a learner" in said
            node.restart()
            wait_until(lambda: _votes(cluster, node), 20, lambda: str(cluster.statuses()))
            load.wait_for(100)
            other.kill()  # now the repaired one is needed for every write
            load.wait_for(100)
            other.restart()
        assert load.errors == []
        lost = load.missing(cluster.client(node.id))
        cluster.equal_digest()
        figures(
            f"{damage.__name__}: {load.acked_count:,} writes acknowledged, {len(lost)} lost, "
            f"slowest write {load.slowest_s:.3f} s"
        )
        assert lost == []
        kept = list(tmp_path.glob(f"{node.id}.damaged-*"))
        assert len(kept) == 1


def _votes(cluster: Cluster, node: NodeProcess) -> bool:
    found = cluster.leader().member_list()
    return any(each["id"] == node.id and each["role"] == "voter" for each in found["members"])


def test_repair_says_what_is_wrong_and_touches_nothing_unless_it_is_asked_to(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path) as cluster:
        node = cluster.others(cluster.leader())[0]
        assert "in use" in repair(node, "--from-peers", code=70)
        node.stop()
        assert "nothing was done" in repair(node)
        name = flip_a_byte_in_the_journal(node)
        said = repair(node, code=1)
        assert name in said
        assert "nothing was done" in said
        others = cluster.others(node)
        for other in others:
            other.stop()
        assert "unavailable" in repair(node, "--from-peers", code=3)
        assert not list(tmp_path.glob("*.damaged-*"))
