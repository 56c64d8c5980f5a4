"""`trimaran rolling-restart`: every node of a supervised cluster once, the leader last.

    leader?  hand over  ->  SIGTERM  ->  it drains its clients and ends  ->  the supervisor starts
    it  ->  it has applied all that the leader had committed, and everybody is linked  ->  next

One node is away at a time, and none before the last one is back, so a majority is always there
and no write fails: clients of the node that restarts reconnect, the others notice a pause of
one hand-over at most.

A crash of this command leaves a cluster that runs; start it again.

Does not do: change configurations or programs (put them in place first), run without the
supervisor (`trimaran cluster` starts what ends).

Proved by: tests/cluster/test_rolling.py
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from node.client import Client, NodeStatus, find_leader, statuses
from node.clock import Clock
from node.config_members import Address
from node.errors import ConfigError, KVError, Unavailable
from statemachine.errors import DirectoryInUse
from statemachine.fs import Disk

__all__ = ["rolling_restart"]

POLL_S: Final = 0.05
BACK_WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Cluster:
    data_dir: Path
    password: str

    def nodes(self) -> dict[str, dict[str, Any]]:
        """cluster.json, by id."""
        try:
            found = json.loads(Disk().read_bytes(self.data_dir / "cluster.json"))
        except FileNotFoundError as error:
            problem = f"{self.data_dir} holds no cluster.json: no `trimaran cluster` ran there"
            raise ConfigError([("--data-dir", problem)]) from error
        return {each["id"]: each for each in found["nodes"]}

    def statuses(self) -> list[NodeStatus]:
        """Of every member, by id."""
        addresses = [Address.parse(each["client"]) for each in self.nodes().values()]
        return statuses(addresses, self.password)

    def require_supervisor(self) -> None:
        """Raises: Unavailable when nobody would start again what is stopped."""
        try:
            Disk().lock(self.data_dir / "cluster.lock").release()
        except DirectoryInUse:
            return
        raise Unavailable(f"no `trimaran cluster` runs in {self.data_dir}")


def rolling_restart(data_dir: Path, password: str, say: Callable[[str], None]) -> None:
    """Restart every node, one at a time.

    Raises:
        Unavailable: not all nodes are well at the start, or one did not come back; the rest
            was left alone.
        ConfigError: no cluster was run there.
    """
    cluster = _Cluster(data_dir, password)
    cluster.nodes()
    cluster.require_supervisor()
    _wait(lambda: _all_well(cluster), "all nodes are up and linked", within_s=10.0)
    leader = find_leader(cluster.statuses())
    names = sorted(cluster.nodes(), key=lambda name: leader is not None and name == leader.id)
    for name in names:
        _restart(cluster, name, say)
    say(f"all {len(names)} nodes restarted")


def _all_well(cluster: _Cluster) -> bool:
    """A leader, nobody silent, nobody far behind, and every node linked with all others."""
    found = cluster.statuses()
    leader = find_leader(found)
    if leader is None or not all(status.alive for status in found):
        return False
    committed = int(leader.fields["commit_index"])
    return all(
        status.fields.get("leader") == leader.id
        and int(status.fields["applied_index"]) >= committed - _LAG_ENTRIES
        and _peers_connected(status, cluster.password) == len(found) - 1
        for status in found
    )


_LAG_ENTRIES: Final = 2_000
"""Under load a follower is a little behind at any moment."""


def _peers_connected(status: NodeStatus, password: str) -> int:
    with Client.connect([status.address], password) as client:
        text = client.read("INFO", "raft").decode()
    words = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return int(words.get("raft_peers_connected", 0))


def _restart(cluster: _Cluster, name: str, say: Callable[[str], None]) -> None:
    before = cluster.nodes()[name]
    if before["pid"] is None:
        raise Unavailable(f"{name} does not run")
    if len(cluster.nodes()) > 1:
        _hand_over(cluster, name)
    os.kill(int(before["pid"]), signal.SIGTERM)
    _wait(lambda: cluster.nodes()[name]["pid"] not in (None, before["pid"]), f"{name} is started")
    _wait(lambda: _all_well(cluster), f"{name} is back")
    say(f"{name} restarted")


def _hand_over(cluster: _Cluster, name: str) -> None:
    """If it leads, it shall not when it is stopped; it does the same by itself if this fails."""
    leader = find_leader(cluster.statuses())
    if leader is not None and leader.id == name:
        with Client.connect([leader.address], cluster.password) as client:
            client.write("TRI.TRANSFER")


def _wait(is_so: Callable[[], bool], what: str, within_s: float = BACK_WITHIN_S) -> None:
    clock = Clock()
    deadline_s = clock.monotonic() + within_s
    while True:
        try:
            if is_so():
                return
        except KVError:
            pass  # a node that is just away
        if clock.monotonic() > deadline_s:
            raise Unavailable(f"not within {within_s:.0f} s: {what}")
        time.sleep(POLL_S)
