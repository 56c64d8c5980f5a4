"""All nodes of a running cluster are restarted one by one, while clients write to each of them.

Goal: no client is told an error, none of its writes is lost, and writers notice a hand-over, no
election. Method: `trimaran rolling-restart` on a supervised cluster; stock redis-py clients, whose
own retries reach the node again when it is back.
"""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from node.cli import main
from tests.support.supervised import ROOT, Supervised

pytestmark = pytest.mark.cluster

Figures = Callable[[str], None]


class StockWriter(threading.Thread):
    """A redis-py client that reconnects by itself; it writes numbers until it is stopped."""

    def __init__(self, number: int, port: int, stopping: threading.Event) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.acked: list[int] = []
        self.errors: list[str] = []
        self.slowest_s = 0.0
        self._stopping = stopping
        self._client = redis.Redis(
            port=port, socket_timeout=20, retry=Retry(ConstantBackoff(0.05), 400)
        )

    def run(self) -> None:
        next_number = 0
        while not self._stopping.is_set():
            begun_s = time.monotonic()
            try:
                self._client.set(f"w{self.number}-{next_number}", next_number)
                self.acked.append(next_number)
            except redis.RedisError as error:
                self.errors.append(repr(error))
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun_s)
            next_number += 1
            self._stopping.wait(0.002)
        self._client.close()


def rolling_restart(data_dir: Path) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = main(["rolling-restart", "--data-dir", str(data_dir)])
    assert code == 0, printed.getvalue()
    return printed.getvalue()


def _restart_all(tmp_path: Path, figures: Figures, nodes: int, rounds: int) -> None:
    fast = str(ROOT / "configs" / "fast.toml")
    with Supervised(tmp_path, "--nodes", str(nodes), "--config", fast) as cluster:
        cluster.wait_for_line("cluster ready", 60)
        ports = [int(str(each["client"]).rpartition(":")[2]) for each in cluster.state()]
        before = cluster.pids()
        stopping = threading.Event()
        writers = [StockWriter(number, port, stopping) for number, port in enumerate(ports * 2)]
        for writer in writers:
            writer.start()
        begun_s = time.monotonic()
        for _ in range(rounds):
            time.sleep(0.5)
            said = rolling_restart(cluster.data_dir)
            assert f"all {nodes} nodes restarted" in said
        took_s = time.monotonic() - begun_s
        time.sleep(0.5)
        stopping.set()
        for writer in writers:
            writer.join(30)
            assert not writer.is_alive()
        assert not set(before) & set(cluster.pids())
        errors = [error for writer in writers for error in writer.errors]
        assert errors == []
        client = redis.Redis(port=ports[0])
        for writer in writers:
            names = [f"w{writer.number}-{number}" for number in writer.acked]
            assert client.exists(*names) == len(names)
        client.close()
        figures(
            f"{rounds} rolling restarts of {nodes} nodes in {took_s:.1f} s: "
            f"{sum(len(writer.acked) for writer in writers):,} writes, {len(errors)} errors, "
            f"slowest {max(writer.slowest_s for writer in writers):.3f} s"
        )


def test_a_rolling_restart_of_three_nodes_fails_no_write(tmp_path: Path, figures: Figures) -> None:
    _restart_all(tmp_path, figures, 3, 1)


@pytest.mark.stress
def test_rolling_restarts_of_five_nodes_fail_no_write(tmp_path: Path, figures: Figures) -> None:
    _restart_all(tmp_path, figures, 5, 3)


def test_without_a_supervisor_nothing_is_stopped(tmp_path: Path) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        assert main(["rolling-restart", "--data-dir", str(tmp_path)]) == 2
    assert "no cluster.json" in printed.getvalue()
