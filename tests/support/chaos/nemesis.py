"""What is broken: one fault after the other, each for a while, each mended; by a seed.

    network   minority, leader alone, nobody hears anybody, one way out of or into the leader,
              leader to one follower, ring (each hears one), flapping
    process   SIGSTOP of leader or follower, kill -9 of one, two, all
    disk      syncs of up to 2 s on one node or all, no free space left, writes that fail
    orders    hand-over, snapshot

Every fault returns with everything mended, but not settled: the next may come upon it.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import redis

from tests.support.chaos.namespaces import Namespaces
from tests.support.chaos.proxy import Network
from tests.support.cluster import Cluster, NodeProcess
from tests.support.doored import control

__all__ = ["Nemesis"]


class Nemesis:
    """Breaks one cluster."""

    def __init__(self, cluster: Cluster, network: Network | Namespaces, seed: int) -> None:
        self._cluster = cluster
        self._network = network
        self._rng = random.Random(seed)
        self._leader = cluster.nodes[0]
        self._ids = [node.id for node in cluster]
        self.done: Counter[str] = Counter()
        self.log: list[str] = []
        self._faults: dict[str, Callable[[float], None]] = {
            "minority": lambda for_s: self._cut_off(self._follower(), for_s),
            "leader alone": lambda for_s: self._cut_off(self._leader, for_s),
            "nobody hears anybody": self._all_apart,
            "one way out of the leader": self._one_way_out,
            "one way into the leader": self._one_way_in,
            "leader to one follower": self._leader_to_one,
            "ring": self._ring,
            "flapping": self._flapping,
            "pause the leader": lambda for_s: self._pause(self._leader, for_s),
            "pause a follower": lambda for_s: self._pause(self._follower(), for_s),
            "kill the leader": lambda for_s: self._kill([self._leader], for_s),
            "kill two": lambda for_s: self._kill(self._rng.sample(cluster.nodes, 2), for_s),
            "kill all": lambda for_s: self._kill(cluster.nodes, for_s / 4),
            "a slow disk": lambda for_s: self._slow([self._any()], for_s),
            "slow disks": lambda for_s: self._slow(cluster.nodes, for_s),
            "no free space": self._no_space,
            "a full disk": self._full,
            "hand over": lambda for_s: self._ask(self._leader, "TRI.TRANSFER"),
            "snapshot": lambda for_s: self._ask(self._any(), "TRI.SNAPSHOT"),
        }

    def strike(self) -> str:
        """One fault; its name."""
        self._leader = self._find_leader()
        name = self._rng.choice(list(self._faults))
        for_s = self._rng.choice([0.3, 1.0, 2.0, 4.0]) * self._rng.uniform(0.7, 1.3)
        self.log.append(
            f"{time.monotonic():.3f} {name} for {for_s:.2f} s, leader {self._leader.id}"
        )
        try:
            self._faults[name](for_s)
        finally:
            self.mend()
        self.done[name] += 1
        return name

    def mend(self) -> None:
        """Everything whole, every node runs and is ready."""
        self._network.heal()
        for node in self._cluster:
            self._door(node)
            if node.process is not None and node.process.poll() is not None:
                node.doom()
                node.reap()
            if node.process is None:
                node.start()
            else:
                node.resume()
        for node in self._cluster:
            node.wait_ready()

    def _find_leader(self) -> NodeProcess:
        return self._cluster.find_leader() or self._any()

    def _any(self) -> NodeProcess:
        return self._rng.choice(self._cluster.nodes)

    def _follower(self) -> NodeProcess:
        return self._rng.choice(self._cluster.others(self._leader))

    def _door(self, node: NodeProcess, **settings: object) -> None:
        control(door_of(node), **settings)

    # -- network --------------------------------------------------------------------------------

    def _cut_off(self, node: NodeProcess, for_s: float) -> None:
        self._network.split(self._ids, {node.id})
        time.sleep(for_s)

    def _all_apart(self, for_s: float) -> None:
        for one in self._ids:
            self._network.split(self._ids, {one})
        time.sleep(for_s)

    def _one_way_out(self, for_s: float) -> None:
        for other in self._cluster.others(self._leader):
            self._network.cut(self._leader.id, other.id)
        time.sleep(for_s)

    def _one_way_in(self, for_s: float) -> None:
        for other in self._cluster.others(self._leader):
            self._network.cut(other.id, self._leader.id)
        time.sleep(for_s)

    def _leader_to_one(self, for_s: float) -> None:
        self._network.cut_both(self._leader.id, self._follower().id)
        time.sleep(for_s)

    def _ring(self, for_s: float) -> None:
        for one, other in zip(self._ids, self._ids[1:] + self._ids[:1], strict=True):
            self._network.cut(one, other)
        time.sleep(for_s)

    def _flapping(self, for_s: float) -> None:
        end_s = time.monotonic() + for_s
        while time.monotonic() < end_s:
            self._network.split(self._ids, {self._any().id})
            time.sleep(self._rng.uniform(0.02, 0.4))
            self._network.heal()
            time.sleep(self._rng.uniform(0.02, 0.2))

    # -- processes ------------------------------------------------------------------------------

    def _pause(self, node: NodeProcess, for_s: float) -> None:
        node.pause()
        time.sleep(for_s)

    def _kill(self, nodes: list[NodeProcess], for_s: float) -> None:
        for node in nodes:
            node.doom()
        for node in nodes:
            node.reap()
        time.sleep(for_s)

    # -- disks ----------------------------------------------------------------------------------

    def _slow(self, nodes: list[NodeProcess], for_s: float) -> None:
        for node in nodes:
            self._door(node, sync_ms=self._rng.choice([20, 200, 1_000, 2_000]))
        time.sleep(for_s)

    def _no_space(self, for_s: float) -> None:
        self._door(self._any(), free_bytes=0)
        time.sleep(max(for_s, 1.5))  # it looks once a second

    def _full(self, for_s: float) -> None:
        """The node stops by itself at the first write that fails (exit code 70)."""
        self._door(self._any(), full=True)
        time.sleep(for_s)

    # -- orders ---------------------------------------------------------------------------------

    def _ask(self, node: NodeProcess, word: str) -> None:
        with node.connect() as client:
            try:
                client.execute_command(word)
            except redis.RedisError:
                pass  # The last fault is not over yet: a fair answer.


def door_of(node: NodeProcess) -> Path:
    """The control file of its disk."""
    return node.path.with_suffix(".door.json")
