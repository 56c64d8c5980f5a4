"""A chaos run from the first node to the verdict.

    run(directory, seconds=300, seed=7)  ->  Verdict: what was done, what is wrong (nothing)

The verdict, when everything is mended and settled:
    0 acknowledged writes lost, 0 refused writes there, 0 applied twice, all counts exact,
    every register's history linearizable, leases gone and none early, states equal on all nodes;
    no leader of a term at or below an earlier leader's but itself, no term that fell while a
    node lived; no traceback, no truncated applied entry, no stop but for a full disk.

With a failure the directory keeps the histories, the faults and every node's log.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.chaos.clients import (
    Appends,
    Client,
    Counters,
    Leases,
    Registers,
    Unique,
    clients_of,
)
from tests.support.chaos.namespaces import Namespaces
from tests.support.chaos.nemesis import Nemesis, door_of
from tests.support.chaos.proxy import Network
from tests.support.cluster import FAST, Cluster
from tests.support.doored import CONTROL_VARIABLE

__all__ = ["Verdict", "run"]

SMALL = (
    "journal.compact_bytes=262144",
    "journal.retain_bytes=16384",
    "journal.segment_bytes_max=65536",
    "journal.memory_bytes=65536",
    "wal.segment_bytes_max=262144",
    "checkpoint.entries=2000",
)
"""Nodes come back by journal, by files behind memory, by checkpoint and by snapshot in turns."""

_FORBIDDEN = ("Traceback", "truncating already-applied", "would truncate applied", "disagrees on")
_FULL = "No space left on device"


@dataclass(slots=True)
class Verdict:
    """What became of a run."""

    seed: int
    seconds: float
    faults: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    figures: str = ""

    def text(self) -> str:
        """The whole of it, for a person."""
        lines = [
            f"seed {self.seed}, {self.seconds:.0f} s: {sum(self.faults.values())} faults "
            f"({', '.join(f'{name} {count}' for name, count in sorted(self.faults.items()))})",
            f"clients were told: {dict(self.told)}",
            self.figures,
            *(self.problems[:40] or ["nothing lost, nothing twice, every history linearizable"]),
        ]
        return "\n".join(lines)


class _Terms(threading.Thread):
    """Watches who leads in which term."""

    def __init__(self, cluster: Cluster, stopping: threading.Event) -> None:
        super().__init__(name="terms", daemon=True)
        self._cluster = cluster
        self._stopping = stopping
        self._seen: dict[tuple[str, int], int] = {}
        self.leaders: dict[int, str] = {}
        self.problems: list[str] = []

    def run(self) -> None:
        while not self._stopping.wait(0.1):
            for node in self._cluster:
                life = node.lives
                try:
                    status = node.status()
                except Exception:  # noqa: BLE001 - it is being killed under our hands
                    continue
                if status and node.lives == life:
                    self._note(node.id, life, status["term"], status["role"] == "leader")

    def _note(self, node_id: str, life: int, term: int, leads: bool) -> None:
        last = self._seen.get((node_id, life), 0)
        if term < last:
            self.problems.append(f"{node_id} fell from term {last} to {term}")
        self._seen[node_id, life] = term
        if leads and self.leaders.setdefault(term, node_id) != node_id:
            self.problems.append(f"term {term} has two leaders: {self.leaders[term]}, {node_id}")


def run(
    directory: Path,
    *,
    seconds: float,
    seed: int,
    say: Callable[[str], None] = print,
    namespaces: bool = False,
) -> Verdict:
    """Run it. `say` is told each fault as it comes.

    Args:
        namespaces: cut real packets (root) instead of proxied connections.
    """
    verdict = Verdict(seed, seconds)
    with Namespaces() if namespaces else Network() as network:
        cluster = Cluster(directory, settings=(*SMALL, *network.settings), template=FAST)
        for node in cluster:
            node.module = "tests.support.doored"
            node.environment = {CONTROL_VARIABLE: str(door_of(node))}
        network.join(cluster)
        nemesis = Nemesis(cluster, network, seed)
        with cluster:
            clients = _under_fire(cluster, nemesis, verdict, say)
            verdict.problems += _judge(cluster, clients)
            _describe(cluster, clients, verdict)
        if verdict.problems:
            _keep(directory, cluster, nemesis, clients)
    return verdict


def _under_fire(
    cluster: Cluster, nemesis: Nemesis, verdict: Verdict, say: Callable[[str], None]
) -> list[Client]:
    stopping = threading.Event()
    terms = _Terms(cluster, stopping)
    clients = clients_of(cluster, stopping)
    for thread in [terms, *clients]:
        thread.start()
    end_s = time.monotonic() + verdict.seconds
    try:
        while time.monotonic() < end_s:
            say(nemesis.strike())
            time.sleep(nemesis._rng.choice([0.0, 0.3, 1.5]))
        nemesis.mend()
        cluster.leader()
    finally:
        stopping.set()
        for thread in [terms, *clients]:
            thread.join(40)
    verdict.problems += [f"{thread.name} hangs" for thread in clients if thread.is_alive()]
    for client in clients:
        client.close()
        verdict.told += client.told
        verdict.problems += client.surprises
    verdict.problems += terms.problems
    verdict.faults = nemesis.done
    return clients


def _judge(cluster: Cluster, clients: list[Client]) -> list[str]:
    found: list[str] = []
    time.sleep(4.5)  # the longest lease, and a commit
    for node in cluster:
        client = cluster.client(node.id)
        for each in clients:
            if isinstance(each, Unique | Appends | Leases):
                found += each.problems(client)
        counters = [each for each in clients if isinstance(each, Counters)]
        found += Counters.total_problems(counters, client)
    found += Registers.history_problems([each for each in clients if isinstance(each, Registers)])
    try:
        cluster.equal_digest()
    except AssertionError as error:
        found.append(str(error))
    for node in cluster:
        lines = node.all_lines
        found += [
            f"{node.id}: {line}" for line in lines if any(word in line for word in _FORBIDDEN)
        ]
        fatal = [line for line in lines if "event=fatal" in line and _FULL not in line]
        found += [f"{node.id}: {line}" for line in fatal]
    return found


def _describe(cluster: Cluster, clients: list[Client], verdict: Verdict) -> None:
    unique = sum(len(each.acked) for each in clients if isinstance(each, Unique))
    appended = sum(len(each.acked) for each in clients if isinstance(each, Appends))
    counted = sum(len(each.seen) for each in clients if isinstance(each, Counters))
    leased = sum(len(each.given) for each in clients if isinstance(each, Leases))
    registers = Registers.merged([each for each in clients if isinstance(each, Registers)])
    lines = [line for node in cluster for line in node.all_lines]
    verdict.figures = (
        f"acknowledged: {unique:,} unique writes, {appended:,} appends, {counted:,} counts, "
        f"{leased:,} leases; {sum(map(len, registers.values())):,} register operations on "
        f"{len(registers)} keys; {sum('snapshot installed' in line for line in lines)} snapshots "
        f"installed, {sum(node.lives for node in cluster)} lives, "
        f"{sum('role=leader' in line for line in lines)} elections"
    )


def _keep(directory: Path, cluster: Cluster, nemesis: Nemesis, clients: list[Client]) -> None:
    for node in cluster:
        (directory / f"{node.id}.log").write_text("\n".join(node.all_lines) + "\n")
    (directory / "faults.log").write_text("\n".join(nemesis.log) + "\n")
    Registers.keep(
        [each for each in clients if isinstance(each, Registers)], directory / "history.jsonl"
    )
