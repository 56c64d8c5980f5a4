"""Clients that write without pause while a test breaks things, and remember what they were told.

    with Load(cluster, writers=8) as load:       client i is connected to node i mod 3
        leader.kill() ...
    load.errors              must be []          error replies, and lost connections to nodes
                                                 that were up
    load.missing(client)     must be []          acknowledged, and not there
    load.gap_s(start, stop)                      longest time without an acknowledgement

Each writer sets keys of its own, w<writer>-<n>, each once, to a value that nobody else writes.
A connection that dies with its node is expected (NodeProcess.is_up): the write that was under
way is unknown, and the writer comes back when the node does.

Counters does the same with INCR, where a write that is applied twice would show.
"""

from __future__ import annotations

import itertools
import threading
import time
from types import TracebackType

import redis

from tests.support.cluster import Cluster, NodeProcess

_GIVE_UP_S = 40.0


class _Worker(threading.Thread):
    """One client of one node: `step` again and again, reconnecting when the node was killed."""

    def __init__(self, node: NodeProcess, number: int, stopping: threading.Event) -> None:
        super().__init__(name=f"client-{number}-of-{node.id}", daemon=True)
        self.node = node
        self.number = number
        self.stopping = stopping
        self.errors: list[str] = []
        self.ack_times: list[float] = []
        self.unknown_count = 0
        self.slowest_s = 0.0
        self._life = 0

    def run(self) -> None:
        while not self.stopping.is_set():
            if not self.node.is_ready:  # not there yet, or not a member yet
                self.stopping.wait(0.05)
                continue
            self._life = self.node.lives
            client = self.node.connect(protocol=2 + self.number % 2)
            try:
                client.ping()
                while not self.stopping.is_set():
                    self._timed_step(client)
            except redis.ResponseError as error:
                self.errors.append(f"{self.node.id}: {error!r}")
            except (redis.ConnectionError, redis.TimeoutError) as error:
                if self.node.is_up(self._life):
                    self.errors.append(f"{self.node.id}, which is up: {error!r}")
                self.stopping.wait(0.05)
            finally:
                client.close()

    def _timed_step(self, client: redis.Redis) -> None:
        begun_s = time.monotonic()
        self.unknown_count += 1
        self.step(client)
        self.unknown_count -= 1
        now_s = time.monotonic()
        self.ack_times.append(now_s)
        self.slowest_s = max(self.slowest_s, now_s - begun_s)

    def step(self, client: redis.Redis) -> None:
        """One write. Returns when it is acknowledged."""
        raise NotImplementedError


class _Writer(_Worker):
    def __init__(
        self, node: NodeProcess, number: int, stopping: threading.Event, pause_s: float
    ) -> None:
        super().__init__(node, number, stopping)
        self.acked: list[int] = []
        self._next = 0
        self._pause_s = pause_s

    def step(self, client: redis.Redis) -> None:
        number = self._next
        self._next += 1
        assert client.set(*pair(self.number, number)) is True
        self.acked.append(number)
        if self._pause_s:
            self.stopping.wait(self._pause_s)


def pair(writer: int, number: int) -> tuple[str, str]:
    """The key and the value of a write."""
    return f"w{writer}-{number}", f"value {number} of writer {writer}"


class _Clients:
    """Threads that are started and stopped together."""

    def __init__(self, workers: list[_Worker], stopping: threading.Event) -> None:
        self._workers = workers
        self._stopping = stopping

    def __enter__(self) -> _Clients:
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Let every client finish what it is at."""
        self._stopping.set()
        deadline_s = time.monotonic() + _GIVE_UP_S
        for worker in self._workers:
            worker.join(max(0.0, deadline_s - time.monotonic()))
        stuck = [worker.name for worker in self._workers if worker.is_alive()]
        assert not stuck, f"clients that hang: {stuck}"

    @property
    def errors(self) -> list[str]:
        """What no client should have been told."""
        return [error for worker in self._workers for error in worker.errors]

    @property
    def unknown_count(self) -> int:
        """Writes whose connection died with its node."""
        return sum(worker.unknown_count for worker in self._workers)

    @property
    def acked_count(self) -> int:
        """Acknowledged so far."""
        return sum(len(worker.ack_times) for worker in self._workers)

    @property
    def slowest_s(self) -> float:
        """The write that took longest."""
        return max(worker.slowest_s for worker in self._workers)

    def wait_for(self, count: int, timeout_s: float = 20) -> None:
        """Until `count` more writes are acknowledged."""
        wanted = self.acked_count + count
        deadline_s = time.monotonic() + timeout_s
        while self.acked_count < wanted:
            assert time.monotonic() < deadline_s, (
                f"{wanted - self.acked_count} of {count} acknowledgements missing after "
                f"{timeout_s} s; {self.errors[:3]}"
            )
            time.sleep(0.01)

    def gap_s(self, start_s: float, stop_s: float) -> float:
        """The longest time without an acknowledgement that touches [start, stop]."""
        times = sorted(at for worker in self._workers for at in list(worker.ack_times))
        return max(
            (
                later - earlier
                for earlier, later in itertools.pairwise(times)
                if later >= start_s and earlier <= stop_s
            ),
            default=0.0,
        )


class Load(_Clients):
    """Writers of unique values.

    Args:
        pause_s: of each writer after each write.
    """

    def __init__(self, cluster: Cluster, writers: int = 8, pause_s: float = 0.0) -> None:
        stopping = threading.Event()
        nodes = cluster.nodes
        self._writers = [
            _Writer(nodes[number % len(nodes)], number, stopping, pause_s)
            for number in range(writers)
        ]
        super().__init__(list(self._writers), stopping)

    def __enter__(self) -> Load:
        super().__enter__()
        return self

    def missing(self, client: redis.Redis) -> list[str]:
        """Keys that were acknowledged and are not there, or hold something else."""
        lost = []
        for writer in self._writers:
            for start in range(0, len(writer.acked), 500):
                pairs = [pair(writer.number, each) for each in writer.acked[start : start + 500]]
                found = client.mget([key for key, _ in pairs])
                lost += [
                    key
                    for (key, value), got in zip(pairs, found, strict=True)
                    if got != value.encode()
                ]
        return lost


class _Counter(_Worker):
    def __init__(self, node: NodeProcess, number: int, stopping: threading.Event) -> None:
        super().__init__(node, number, stopping)
        self.own: list[int] = []
        self.shared: list[int] = []

    def step(self, client: redis.Redis) -> None:
        pipeline = client.pipeline(transaction=False)
        pipeline.incr(f"c{self.number}")
        pipeline.incr("c")
        own, shared = pipeline.execute()
        self.own.append(own)
        self.shared.append(shared)


class Counters(_Clients):
    """Clients that count: each on a key of its own and on one that all share."""

    def __init__(self, cluster: Cluster, clients: int = 6) -> None:
        stopping = threading.Event()
        nodes = cluster.nodes
        self._counters = [
            _Counter(nodes[number % len(nodes)], number, stopping) for number in range(clients)
        ]
        super().__init__(list(self._counters), stopping)

    def __enter__(self) -> Counters:
        super().__enter__()
        return self

    def check(self, client: redis.Redis) -> None:
        """Every acknowledged INCR counted once, in order; an unknown one at most once."""
        shared = [number for counter in self._counters for number in counter.shared]
        assert len(shared) == len(set(shared)), "an INCR was answered twice with the same number"
        for counter in self._counters:
            for earlier, later in itertools.pairwise(counter.own):
                assert later > earlier
            # A number of our own that nobody was told of: a write whose connection died.
            total = int(client.get(f"c{counter.number}") or 0)
            untold = total - len(counter.own)
            assert 0 <= untold <= counter.unknown_count, (counter.name, untold)
            if counter.unknown_count == 0:
                assert counter.own == list(range(1, total + 1))
        total = int(client.get("c") or 0)
        assert 0 <= total - len(shared) <= self.unknown_count
        # Both of a step travel in one batch: applied together or not at all, and once.
        own = sum(int(client.get(f"c{counter.number}") or 0) for counter in self._counters)
        assert own == total
