"""A leader dies, again and again, while clients write: nothing acknowledged is lost.

    8 writers ----> n1 n2 n3        kill -9 of the leader, a new one, the old one comes back
    each write once, remembered when it is acknowledged

Goal: 0 acknowledged writes lost, equal states at the end, no error at a client of a node that
lives (its writes are slow, not failed), and how long nobody was acknowledged.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import pytest

from tests.cluster.load import Counters, Load
from tests.support.cluster import Cluster

pytestmark = pytest.mark.cluster

Figures = Callable[[str], None]

KILLS = int(os.environ.get("TRIMARAN_KILLS", "12"))


def _kill_leaders(cluster: Cluster, load: Load | Counters, times: int) -> list[float]:
    """Kill the leader, wait for the next one, start the old one; the gaps in seconds."""
    moments = []
    for _ in range(times):
        leader = cluster.leader()
        load.wait_for(20)
        moments.append(time.monotonic())
        leader.kill()
        load.wait_for(20)
        cluster.leader(cluster.others(leader))
        leader.restart()
    load.wait_for(20)
    return [load.gap_s(moment, moment + 2) for moment in moments]


def _check_failover(cluster: Cluster, figures: Figures, kills: int) -> list[float]:
    with Load(cluster) as load:
        gaps = _kill_leaders(cluster, load, kills)
    assert load.errors == []
    lost = load.missing(cluster.client("n1"))
    index, digest = cluster.equal_digest()
    figures(
        f"{kills} kills of the leader, {load.acked_count:,} writes acknowledged, {len(lost)} lost, "
        f"{load.unknown_count} unknown; gap median {statistics.median(gaps):.3f} s, "
        f"max {max(gaps):.3f} s; slowest write {load.slowest_s:.3f} s; "
        f"equal digest {digest[:12]} at {index}"
    )
    assert lost == []
    return gaps


def test_nothing_acknowledged_is_lost_when_the_leader_is_killed_three_times(
    cluster: Cluster, figures: Figures
) -> None:
    gaps = _check_failover(cluster, figures, 3)
    assert statistics.median(gaps) < 2.0


@pytest.mark.stress
@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost_when_the_leader_is_killed_twenty_times(
    cluster: Cluster, figures: Figures
) -> None:
    gaps = _check_failover(cluster, figures, 20)
    assert statistics.median(gaps) < 1.0


def test_an_incr_counts_once_however_many_leaders_die_under_it(
    cluster: Cluster, figures: Figures
) -> None:
    with Counters(cluster) as counters:
        _kill_leaders(cluster, counters, 2)
    assert counters.errors == []
    cluster.equal_digest()
    counters.check(cluster.client("n2"))
    figures(f"{counters.acked_count:,} acknowledged, {counters.unknown_count} unknown, total exact")


@pytest.mark.stress
@pytest.mark.timeout(60 + 15 * KILLS)
def test_an_incr_counts_once_through_many_dead_leaders(cluster: Cluster, figures: Figures) -> None:
    """TRIMARAN_KILLS=200 for the long run."""
    with Counters(cluster, 8) as counters:
        gaps = _kill_leaders(cluster, counters, KILLS)
    figures(f"{KILLS} kills; gap median {statistics.median(gaps):.3f} s, max {max(gaps):.3f} s")
    assert counters.errors == []
    cluster.equal_digest()
    counters.check(cluster.client("n2"))
    figures(f"{counters.acked_count:,} acknowledged, {counters.unknown_count} unknown, total exact")


def test_a_hand_over_under_load_costs_no_writer_an_error(
    cluster: Cluster, figures: Figures
) -> None:
    waits, gaps = [], []
    with Load(cluster) as load:
        load.wait_for(50)
        for _ in range(6):
            leader = cluster.leader()
            target = cluster.others(leader)[0]
            client = leader.connect()
            begun_s = time.monotonic()
            with client:
                assert client.execute_command("TRI.TRANSFER", target.id) == target.id.encode()
            waits.append(time.monotonic() - begun_s)
            load.wait_for(30)
            gaps.append(load.gap_s(begun_s, begun_s + 0.5))
            assert cluster.leader() is target
    assert load.errors == []
    assert load.missing(cluster.client("n3")) == []
    cluster.equal_digest()
    figures(
        f"6 hand-overs: TRI.TRANSFER answered after median {statistics.median(waits):.3f} s "
        f"(max {max(waits):.3f} s); writers waited median {statistics.median(gaps):.3f} s "
        f"(max {max(gaps):.3f} s); {load.acked_count:,} acknowledged, 0 errors"
    )
    assert statistics.median(gaps) < 1.0
