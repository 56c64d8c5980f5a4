"""All three nodes die at one moment, under load, and come back: what was said still holds.

    load -> kill -9 n1 n2 n3 -> (down for a while) -> start -> every acknowledged write, every
                                                               deadline, equal states

Deadlines: SET k v PX ms, sent at S and acknowledged at A, falls due between S + ms and A + ms,
whether the nodes ran in between or not; it is gone at most SLACK_S later while there is a leader
(one heartbeat and one commit in DESIGN.md; the rest is this machine, and how often we look).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import redis

from tests.cluster.load import Load
from tests.support.cluster import Cluster
from tests.support.supervised import wait_until

pytestmark = pytest.mark.cluster

Figures = Callable[[str], None]

SLACK_S = 0.5
CLOCK_S = 0.05
"""Between our clock and the leader's, which counts in whole milliseconds from its election."""


class _Leases:
    """Keys with deadlines, and the wall-clock times between which each falls due."""

    def __init__(self, client: redis.Redis, ttls_ms: dict[str, int]) -> None:
        self.due_s: dict[str, tuple[float, float]] = {}
        for key, ttl_ms in ttls_ms.items():
            sent_s = time.time()
            client.set(key, "v", px=ttl_ms)
            self.due_s[key] = (sent_s + ttl_ms / 1000, time.time() + ttl_ms / 1000)

    def check_remaining(self, client: redis.Redis, key: str) -> None:
        """PTTL counts down to the same moment as before."""
        earliest_s, latest_s = self.due_s[key]
        asked_s = time.time()
        remaining_s = client.pttl(key) / 1000
        assert remaining_s > 0, f"{key} is gone"
        assert asked_s + remaining_s <= latest_s + CLOCK_S + (time.time() - asked_s)
        assert asked_s + remaining_s >= earliest_s - CLOCK_S

    def wait_gone(self, client: redis.Redis, key: str) -> float:
        """Wait until it is gone, not early and not late; how late in seconds."""
        earliest_s, latest_s = self.due_s[key]
        while client.get(key) is not None:
            assert time.time() < latest_s + SLACK_S, f"{key} outlives its deadline"
            time.sleep(0.005)
        gone_s = time.time()
        assert gone_s >= earliest_s - CLOCK_S, f"{key} is gone {earliest_s - gone_s:.3f} s early"
        return gone_s - latest_s


def _kill_all_and_start(cluster: Cluster, down_s: float) -> None:
    for node in cluster:
        node.doom()
    for node in cluster:
        node.reap()
    time.sleep(down_s)
    cluster.start()


def test_everything_acknowledged_survives_a_kill_of_all_nodes_under_load(
    cluster: Cluster, figures: Figures
) -> None:
    with Load(cluster) as load:
        for _ in range(2):
            load.wait_for(300)
            _kill_all_and_start(cluster, 0)
        load.wait_for(50)
    assert load.errors == []
    for node in cluster:
        assert load.missing(cluster.client(node.id)) == []
    index, digest = cluster.equal_digest()
    figures(
        f"2 kills of all: {load.acked_count:,} acknowledged, 0 lost, {load.unknown_count} unknown, "
        f"equal digest {digest[:12]} at {index}"
    )


def test_deadlines_stay_where_they_were_through_a_kill_of_all_nodes(
    cluster: Cluster, figures: Figures
) -> None:
    ttls_ms = {"while down": 700, "soon": 5_000, "later": 5_500, "much later": 60_000}
    leases = _Leases(cluster.client("n1"), ttls_ms)
    cluster.client("n1").set("for ever", "v")
    _kill_all_and_start(cluster, 1.0)
    client = cluster.client("n2")
    # Due while nobody lived: gone one heartbeat and one commit after there is a leader again.
    wait_until(lambda: client.get("while down") is None, SLACK_S + 0.5, "it is still there")
    for key in ("soon", "later", "much later"):
        leases.check_remaining(client, key)
    late_s = [leases.wait_gone(client, key) for key in ("soon", "later")]
    leases.check_remaining(client, "much later")
    assert client.get("for ever") == b"v"
    assert client.dbsize() == 2
    cluster.equal_digest()
    figures(f"gone {', '.join(f'{each * 1000:.0f}' for each in late_s)} ms after the deadline")


def test_a_deadline_is_the_same_for_the_next_leader(cluster: Cluster) -> None:
    leader = cluster.leader()
    follower = cluster.others(leader)[0]
    client = cluster.client(follower.id)
    leases = _Leases(client, {"soon": 3_000, "much later": 60_000})
    leader.kill()
    cluster.leader(cluster.others(leader))
    leases.check_remaining(client, "much later")
    leases.wait_gone(client, "soon")
    leader.restart()
    leases.check_remaining(cluster.client(leader.id), "much later")
    cluster.equal_digest()
