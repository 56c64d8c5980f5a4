"""A leader that was paused does not know that it was replaced: it must not answer from memory.

    leader L   |--- SIGSTOP ---------------------------| SIGCONT -> reads that waited for it
    others              elect, acknowledge r = 17                   must see r >= 17

The register `r` only grows, and whoever reads it notes first the highest value that was
acknowledged by then: a linearizable read may not return less (the real-time order of writes to
one register that only grows; the general check is the business of the lab).

Reads at level `lease` are held to the same: a pause outlasts the lease. Reads at level
`eventual` may be old; how many were is printed, as proof that there was something to be
stale about.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest
import redis

from tests.support.cluster import Cluster, NodeProcess

pytestmark = pytest.mark.cluster

Figures = Callable[[str], None]


class _Asker:
    """A raw connection at one consistency level, whose question can be sent before it is read."""

    def __init__(self, node: NodeProcess, level: str) -> None:
        self.level = level
        self._socket = socket.create_connection(("127.0.0.1", node.port), timeout=15)
        self._stream = self._socket.makefile("rb")
        self._socket.sendall(b"TRI.CONSISTENCY %b\r\n" % level.encode())
        assert self._stream.readline() == b"+OK\r\n"

    def ask(self) -> None:
        self._socket.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nr\r\n")

    def answer(self) -> int:
        head = self._stream.readline()
        if head == b"$-1\r\n":
            return 0
        assert head.startswith(b"$"), head
        return int(self._stream.readline())

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


def _rounds(cluster: Cluster, rounds: int) -> dict[str, int]:
    """How many answers of a level were old, after as many pauses of the leader."""
    stale = {"linearizable": 0, "lease": 0, "eventual": 0}
    value = 0
    for _ in range(rounds):
        leader = cluster.leader()
        writer = cluster.others(leader)[0].connect()
        askers = [_Asker(leader, level) for level in stale]
        try:
            value += 1
            writer.set("r", value)
            for asker in askers:  # The lease is as fresh as it gets, and the answer is in memory.
                asker.ask()
                assert asker.answer() >= value or asker.level == "eventual"
            leader.pause()
            value += 1
            writer.set("r", value)  # Waits for the next leader.
            for asker in askers:
                asker.ask()
            leader.resume()
            for asker in askers:
                stale[asker.level] += asker.answer() < value
        finally:
            leader.resume()
            writer.close()
            for asker in askers:
                asker.close()
    return stale


def test_a_leader_that_wakes_up_never_answers_with_an_old_value(
    cluster: Cluster, figures: Figures
) -> None:
    rounds = 8
    stale = _rounds(cluster, rounds)
    figures(f"old answers after {rounds} pauses of the leader: {stale}")
    assert stale["linearizable"] == stale["lease"] == 0


@pytest.mark.stress
@pytest.mark.timeout(240)
def test_a_leader_that_wakes_up_fifty_times_never_answers_with_an_old_value(
    cluster: Cluster, figures: Figures
) -> None:
    rounds = 50
    stale = _rounds(cluster, rounds)
    figures(f"old answers after {rounds} pauses of the leader: {stale}")
    assert stale["linearizable"] == stale["lease"] == 0
    assert stale["eventual"] > 0


class _Register:
    """The register and what was acknowledged of it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.acked = 0
        self.reads = 0
        self.problems: list[str] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._write)]
        self._threads += [
            threading.Thread(target=self._read, args=(node, level))
            for node in cluster
            for level in ("linearizable", "lease")
        ]

    def __enter__(self) -> _Register:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads)

    def _write(self) -> None:
        """INCR through each node in turn; a reply that is late does no harm."""
        clients = [node.connect() for node in self.cluster]
        try:
            while not self._stopping.is_set():
                for client in clients:
                    value = int(client.incr("r"))
                    if value <= self.acked:
                        self.problems.append(f"INCR answered {value} after {self.acked}")
                    self.acked = value
        except redis.RedisError as error:
            self.problems.append(f"writer: {error!r}")
        finally:
            for client in clients:
                client.close()

    def _read(self, node: NodeProcess, level: str) -> None:
        with node.connect() as client:
            pool = client.pipeline(transaction=False)
            try:
                while not self._stopping.is_set():
                    least = self.acked
                    # One connection for both: the level belongs to it.
                    _, found = pool.execute_command("TRI.CONSISTENCY", level).get("r").execute()
                    self.reads += 1
                    if int(found or 0) < least:
                        self.problems.append(f"{level} at {node.id}: {found!r}, acked {least}")
            except redis.RedisError as error:
                self.problems.append(f"{level} at {node.id}: {error!r}")


def test_readers_everywhere_never_go_back_in_time_while_leaders_are_paused(
    cluster: Cluster, figures: Figures
) -> None:
    with _Register(cluster) as register:
        for _ in range(5):
            leader = cluster.leader()
            leader.pause()
            try:
                cluster.leader(cluster.others(leader))
            finally:
                leader.resume()
            time.sleep(0.3)
    figures(f"{register.reads:,} reads beside {register.acked:,} writes over 5 pauses, none old")
    assert register.problems == []
    assert register.acked > 0
    cluster.equal_digest()
