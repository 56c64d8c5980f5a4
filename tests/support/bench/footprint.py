"""What our nodes cost and how soon they are back. Not rates: a figure and its goal for each.

    idle       cores that each node uses when nobody asks                      goal <= 2 %
    memory     bytes of RSS for each of 1M keys, beyond key and 64-byte value  goal <= 400
    restart    from start to `ready` with 1M keys x 256 B: one node, then all  goal <= 3 s
    catch up   a node that 1M writes passed by, while the leader is loaded:    goal <= 10 s,
               until it has applied what the leader had a moment before;       and >= 80 %
               and the leader's rate meanwhile, over its rate before

Memory is that of the process after a snapshot was made and the journal was cut, so its own caches
are in it (journal.memory_bytes, 32 MiB of entries, is 34 bytes a key).

Proved by: tests/scripts/test_bench.py
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis

from tests.support.bench.bulk import write_bulk
from tests.support.bench.meter import Meter
from tests.support.bench.systems import System
from tests.support.cluster import Cluster, NodeProcess
from tests.support.supervised import wait_until

__all__ = ["PARTS", "goal_text"]

KEY_BYTES: Final = 16
_WAIT_S: Final = 120.0
Row = dict[str, Any]


def _row(name: str, value: float, unit: str, goal: float, *, at_least: bool = False) -> Row:
    met = value >= goal if at_least else value <= goal
    return {"figure": name, "value": round(value, 3), "unit": unit, "goal": goal,
            "at_least": at_least, "met": met}  # fmt: skip


def goal_text(row: Row) -> str:
    """One line."""
    sign = ">=" if row["at_least"] else "<="
    verdict = "met" if row["met"] else "MISSED"
    value = f"{row['value']:>10,.2f} {row['unit']:5}"
    return f"{row['figure']:70} {value} {sign} {row['goal']:g}: {verdict}"


def _cluster(system: System) -> Cluster:
    assert system.cluster is not None
    return system.cluster


def _pid(node: NodeProcess) -> int:
    assert node.process is not None
    return node.process.pid


def _address(node: NodeProcess) -> tuple[str, int]:
    client = node.config.member.client
    return client.host, client.port


def rss_bytes(pid: int) -> int:
    """Resident memory of a process now."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no process {pid}")


def _settle(cluster: Cluster) -> None:
    """All at the same index, a snapshot of it, and the journal cut."""
    for node in cluster:
        client: Any = cluster.client(node.id, timeout_s=_WAIT_S)
        client.execute_command("TRI.SNAPSHOT")
    time.sleep(2.0)


def idle(system: System, _keys: int, seconds: float) -> Iterator[Row]:
    """Nobody asks."""
    time.sleep(2.0)
    meter = Meter(system.pids)
    meter.begin()
    time.sleep(max(seconds, 1.0) * 4)
    for node, cores in zip(_cluster(system), meter.told()["cpu_per_node"], strict=False):
        yield _row(f"idle: {node.id}, of one core", cores * 100, "%", 2.0)


def memory(system: System, keys: int, _seconds: float) -> Iterator[Row]:
    """Before and after so many keys."""
    cluster, value_bytes = _cluster(system), 64
    before = {node.id: rss_bytes(_pid(node)) for node in cluster}
    write_bulk(_address(cluster.leader()), keys, value_bytes)
    _settle(cluster)
    for node in cluster:
        each = (rss_bytes(_pid(node)) - before[node.id]) / keys - KEY_BYTES - value_bytes
        yield _row(f"memory: {node.id}, for each of {keys:,} keys beyond it", each, "bytes", 400)


def restart(system: System, keys: int, _seconds: float) -> Iterator[Row]:
    """One node, killed; then all of them."""
    cluster = _cluster(system)
    write_bulk(_address(cluster.leader()), keys, 256)
    _settle(cluster)
    one = cluster.others(cluster.leader())[0]
    one.kill()
    yield _row(f"restart: one node, {keys:,} keys x 256 B", _until_ready(one), "s", 3.0)
    for node in cluster:
        node.kill()
    begun_s = time.monotonic()
    for node in cluster:
        node.start()
    for node in cluster:
        node.wait_ready(_WAIT_S)
    seconds = time.monotonic() - begun_s
    yield _row(f"restart: all three at once, {keys:,} keys x 256 B", seconds, "s", 3.0)


def _until_ready(node: NodeProcess) -> float:
    begun_s = time.monotonic()
    node.start()
    node.wait_ready(_WAIT_S)
    return time.monotonic() - begun_s


def catch_up(system: System, keys: int, seconds: float) -> Iterator[Row]:
    """Killed, passed by, started again under load."""
    cluster = _cluster(system)
    leader = cluster.leader()
    late = cluster.others(leader)[0]
    late.kill()
    write_bulk(_address(leader), keys, 256, "late")
    with _load(_address(leader)):
        asked = cluster.client(leader.id)
        time.sleep(1.0)
        before = _rate(asked, max(seconds, 1.0))
        done, begun_s = _commands(asked), time.monotonic()
        late.start()
        told = "it does not catch up"
        wait_until(lambda: _is_level(leader, late), _WAIT_S, lambda: told)
        took_s = time.monotonic() - begun_s
        meanwhile = (_commands(asked) - done) / took_s
    name = f"catch up: a node that {keys:,} writes passed by, from its start"
    yield _row(name, took_s, "s", 10.0)
    name = f"catch up: the leader's rate meanwhile ({meanwhile:,.0f} of {before:,.0f}/s)"
    yield _row(name, 100 * meanwhile / before, "%", 80, at_least=True)


def _is_level(leader: NodeProcess, late: NodeProcess) -> bool:
    if not late.is_ready:
        return False
    wanted = leader.status().get("applied_index", 0)
    return bool(late.status().get("applied_index", -1) >= wanted - 4)  # what flies meanwhile


def _commands(client: redis.Redis) -> int:
    return int(client.info("stats")["total_commands_processed"])


def _rate(client: redis.Redis, seconds: float) -> float:
    done, begun_s = _commands(client), time.monotonic()
    time.sleep(seconds)
    return (_commands(client) - done) / (time.monotonic() - begun_s)


@contextmanager
def _load(server: tuple[str, int]) -> Iterator[None]:
    """SET from 64 clients, without an end."""
    words = ["redis-benchmark", "-h", server[0], "-p", str(server[1]), "-t", "set", "-l", "-q"]
    words += ["-c", "64", "-d", "256", "-r", "10000", "-n", "1000000"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


PARTS: Final[dict[str, Callable[[System, int, float], Iterator[Row]]]] = {
    "idle": idle,
    "memory": memory,
    "restart": restart,
    "catch up": catch_up,
}
"""Each with systems of its own."""
