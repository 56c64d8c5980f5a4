"""TRI.WATCH and TRI.LEASE through real nodes: one order everywhere, over the death of a leader.

A watcher of each node is a thread with a socket; when its node dies it goes on at another one with
FROM the next revision. All of them must have been told the same, nothing twice, nothing left out.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.cluster.load import Counters
from tests.support.cluster import Cluster, NodeProcess
from tests.support.live_server import Wire
from tests.support.supervised import wait_until

pytestmark = pytest.mark.cluster


class Watcher(threading.Thread):
    """Keeps what it is told of a prefix, whichever node tells it."""

    def __init__(self, nodes: list[NodeProcess], prefix: str, after: int) -> None:
        super().__init__(daemon=True)
        self.nodes = nodes
        self.prefix = prefix
        self.after = after
        self.events: list[tuple[int, bytes, bytes, bytes | None]] = []
        self.connections = 0
        self.error: BaseException | None = None
        self.is_stopped = False

    def run(self) -> None:
        try:
            while not self.is_stopped:
                node = self.nodes[self.connections % len(self.nodes)]
                self.connections += 1
                try:
                    with Wire(node.port) as wire:
                        self._watch(wire)
                except OSError:
                    time.sleep(0.02)
                except EOFError:
                    continue
        except BaseException as error:
            self.error = error
            raise

    def _watch(self, wire: Wire) -> None:
        wire.socket.settimeout(10)
        words = ("TRI.WATCH", "PREFIX", self.prefix, "FROM", self.after + 1)
        reply = wire.run(*words)
        if not isinstance(reply, list):
            assert str(reply).startswith(("CLUSTERDOWN", "LOADING")), reply
            return
        assert reply[1] == self.after
        while not self.is_stopped:
            word, _, revision, events = wire.reply()
            assert word == b"tri.watch"
            assert revision > self.after or (revision == self.after and not events)
            self.after = revision
            self.events += [(revision, *event) for event in events]


def watch_all(cluster: Cluster, prefix: str) -> list[Watcher]:
    after, _ = cluster.equal_digest()
    nodes = list(cluster)
    watchers = [Watcher(nodes[at:] + nodes[:at], prefix, after) for at in range(len(nodes))]
    for watcher in watchers:
        watcher.start()
    return watchers


def settled(watchers: list[Watcher], count: int) -> list[list[Any]]:
    """What all were told, once each was told so much."""
    wait_until(
        lambda: all(len(watcher.events) >= count or watcher.error for watcher in watchers),
        20,
        lambda: f"{count} events at each of {[(len(w.events), w.error) for w in watchers]}",
    )
    for watcher in watchers:
        watcher.is_stopped = True
    assert [watcher.error for watcher in watchers] == [None] * len(watchers)
    return [list(watcher.events) for watcher in watchers]


def test_every_change_is_told_once_and_in_order_though_the_leader_dies(cluster: Cluster) -> None:
    watchers = watch_all(cluster, "c")
    with cluster.client("n1") as client:
        client.set("other", "x")
    with Counters(cluster) as load:
        for _ in range(2):
            load.wait_for(100)
            leader = cluster.leader()
            leader.kill()
            load.wait_for(100)
            leader.restart()
        load.wait_for(50)
    _, _ = cluster.equal_digest()
    client = cluster.client("n2")
    keys = list(client.scan_iter("c*"))
    totals = {key: int(client.get(key)) for key in keys}
    told = settled(watchers, sum(totals.values()))
    assert told[0] == told[1] == told[2]
    for key, total in totals.items():
        values = [int(value or 0) for _, _, name, value in told[0] if name == key]
        assert values == list(range(1, total + 1)), key
    assert sum(watcher.connections for watcher in watchers) >= len(watchers) + 2


def test_the_keys_of_a_lease_go_together_everywhere_and_are_told(cluster: Cluster) -> None:
    watchers = watch_all(cluster, "job:")
    pipe = cluster.client("n1").pipeline(transaction=True)
    pipe.execute_command("TRI.LEASE", "GRANT", 1_500, "ID", 77)
    for number in range(50):
        pipe.execute_command("SET", f"job:{number:02d}", "x", "LEASE", 77)
    pipe.execute_command("TRI.LEASE", "KEEPALIVE", 77)
    assert pipe.execute() == [77, *[True] * 50, 1_500]
    cluster.leader().kill()
    cluster.heal()
    told = settled(watchers, 100)
    assert told[0] == told[1] == told[2]
    gone = [(operation, key) for _, operation, key, _ in told[0][50:]]
    assert gone == [(b"expire", b"job:%02d" % number) for number in range(50)]
    assert len({revision for revision, *_ in told[0][50:]}) == 1
    for node in cluster:
        with node.connect() as reader:
            assert reader.execute_command("TRI.LEASE", "TTL", 77) is None
            assert list(reader.scan_iter("job:*")) == []
