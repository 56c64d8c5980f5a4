"""Without a majority nothing is promised: CLUSTERDOWN, UNKNOWN or a late OK, never a false OK.

n1 alone     write, read -> parked 2.5 s -> -CLUSTERDOWN: certainly not applied, ever
leader alone write just appended -> nobody acknowledges -> slow OK when they are back,
                                    -UNKNOWN after 10 s when they are not
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import redis

from tests.support.cluster import Cluster, NodeProcess
from tests.support.supervised import wait_until

pytestmark = pytest.mark.cluster

Figures = Callable[[str], None]

PARK_S = 2.5


class _Call(threading.Thread):
    """One command on a connection of its own, under way while the test goes on."""

    def __init__(self, node: NodeProcess, *words: object) -> None:
        super().__init__(daemon=True)
        self._client = node.connect()
        self._words = words
        self.outcome: object = None
        self.took_s = 0.0
        self._client.ping()
        self.start()

    def run(self) -> None:
        begun_s = time.monotonic()
        try:
            self.outcome = self._client.execute_command(*self._words)
        except redis.RedisError as error:
            self.outcome = error
        self.took_s = time.monotonic() - begun_s

    def result(self, timeout_s: float = 20) -> object:
        self.join(timeout_s)
        assert not self.is_alive(), f"{self._words} hangs"
        self._client.close()
        return self.outcome


def test_a_node_without_a_majority_refuses_after_parking_and_serves_again_later(
    cluster: Cluster, figures: Figures
) -> None:
    alone = cluster.leader()  # The harder one: it has to step down first.
    cluster.client(alone.id).set("k", "old")
    for node in cluster.others(alone):
        node.kill()
    wait_until(lambda: alone.status().get("leader") is None, 10, "it still leads")
    calls = {
        "set": _Call(alone, "SET", "k", "new"),
        "incr": _Call(alone, "INCR", "n"),
        "get": _Call(alone, "GET", "k"),
        "mget": _Call(alone, "MGET", "k", "n"),
    }
    for name, call in calls.items():
        outcome = call.result()
        assert isinstance(outcome, redis.exceptions.ClusterDownError), (name, outcome)
        assert PARK_S - 0.1 < call.took_s < PARK_S + 5.0, (name, call.took_s)
    figures(
        "CLUSTERDOWN after "
        + ", ".join(f"{call.took_s:.2f} s ({name})" for name, call in calls.items())
    )
    client = cluster.client(alone.id)
    client.readonly()
    assert client.get("k") == b"old"  # What this node remembers is there for who asks for it.
    assert client.ping() is True
    cluster.start()
    cluster.leader()
    client.readwrite()
    assert (client.get("k"), client.get("n")) == (b"old", None)  # Refused is refused.
    assert client.set("k", "served again") is True
    for node in cluster:
        assert cluster.client(node.id).get("k") == b"served again"
        assert cluster.client(node.id).get("n") is None
    cluster.equal_digest()


def test_writes_parked_without_a_leader_go_through_when_it_comes_in_time(
    cluster: Cluster, figures: Figures
) -> None:
    alone = cluster.leader()
    others = cluster.others(alone)
    for node in others:
        node.pause()
    wait_until(lambda: alone.status().get("leader") is None, 10, "it still leads")
    parked = [_Call(alone, "SET", f"parked {number}", number) for number in range(5)]
    time.sleep(0.5)
    for node in others:
        node.resume()
    assert [call.result() for call in parked] == [True] * 5
    for number in range(5):
        assert cluster.client(others[0].id).get(f"parked {number}") == b"%d" % number
    figures(f"parked writes answered OK after {max(call.took_s for call in parked):.2f} s")


def test_a_write_that_a_lone_leader_appended_is_a_slow_ok_when_the_others_are_back(
    cluster: Cluster, figures: Figures
) -> None:
    leader = cluster.leader()
    for node in cluster.others(leader):
        node.pause()
    calls = [_Call(leader, "INCR", f"n{number}") for number in range(5)]
    time.sleep(1.2)  # Longer than it takes to step down.
    assert not any(call.outcome for call in calls), "a false OK"
    for node in cluster.others(leader):
        node.resume()
    assert [call.result() for call in calls] == [1] * 5
    for number in range(5):
        assert cluster.client("n1").get(f"n{number}") == b"1"
    figures(f"slow OK after {max(call.took_s for call in calls):.2f} s")
    cluster.equal_digest()


@pytest.mark.stress
def test_a_write_that_a_lone_leader_appended_is_unknown_when_nobody_comes_back(
    cluster: Cluster, figures: Figures
) -> None:
    leader = cluster.leader()
    others = cluster.others(leader)
    for node in others:
        node.pause()
    call = _Call(leader, "INCR", "n")
    outcome = call.result()
    assert isinstance(outcome, redis.ResponseError)
    assert str(outcome) == "UNKNOWN write may or may not have been applied"
    for node in others:
        node.resume()
    cluster.leader()
    found = cluster.client(others[0].id).get("n")
    assert found in (None, b"1")
    figures(f"-UNKNOWN after {call.took_s:.2f} s; later it was {found!r}")
    cluster.equal_digest()


def test_a_paused_leaders_clients_get_a_true_ok_or_none(cluster: Cluster, figures: Figures) -> None:
    """The leader sleeps with writes in its socket; the others go on; it wakes up."""
    leader = cluster.leader()
    others = cluster.others(leader)
    waiting = [leader.connect() for _ in range(5)]
    for client in waiting:
        client.ping()
    leader.pause()
    calls = [_write_later(client, f"p{number}") for number, client in enumerate(waiting)]
    cluster.leader(others)
    cluster.client(others[0].id).set("meanwhile", "1")
    time.sleep(0.3)
    assert all(not call for call in calls), "a paused node answered"
    leader.resume()
    wait_until(lambda: all(calls), 15, "a client of the old leader hangs")
    for number, answers in enumerate(calls):
        assert answers == [True]
        for node in cluster:
            assert cluster.client(node.id).get(f"p{number}") == b"v"
    for client in waiting:
        client.close()
    figures("5 writes to a paused leader: 5 OK, all there on every node")
    cluster.equal_digest()


def _write_later(client: redis.Redis, key: str) -> list[object]:
    """Send SET in a thread; the list holds the answer once it has come."""
    answers: list[object] = []

    def write() -> None:
        try:
            answers.append(client.set(key, "v"))
        except redis.RedisError as error:
            answers.append(error)

    threading.Thread(target=write, daemon=True).start()
    return answers
