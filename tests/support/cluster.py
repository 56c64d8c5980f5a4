"""A cluster of real node processes that a test can kill, pause and start again, one by one.

    with Cluster(tmp_path) as cluster:            three nodes, configs/fast.toml, all ready
        leader = cluster.leader()
        leader.kill()                             kill -9, reaped
        cluster.client("n2").set("k", "v")        redis-py, no retries of its own
        leader.start(); leader.wait_ready()
        cluster.equal_digest()                    TRI.DIGEST of all nodes, once it is the same

Each node is `python -m node serve --config FILE` with the configuration that `trimaran cluster`
would give it (node.cluster_plan); the supervisor itself is left out, so that nothing restarts
a node but the test.

Invariants: only processes started here are signalled, by pid; leaving the `with` ends them all,
paused ones too, and if pytest itself is killed the kernel ends them (node.orphan), which is why
nodes are started from the main thread only. Every wait is bounded and says what it saw.

Proved by: whatever in tests/cluster uses it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from node.cluster_plan import Options, certify, plan
from node.config import Config
from node.orphan import SUPERVISOR_VARIABLE
from statemachine.fs import Disk
from tests.support.ports import free_base_port
from tests.support.supervised import ROOT, wait_until

FAST = ROOT / "configs" / "fast.toml"
READY_S = 30.0
SAID_WITHIN_S = 10.0
"""A start takes about a second; a busy machine may need many."""


class NodeProcess:
    """One node: its configuration, and the process that runs it now, if any."""

    def __init__(self, config: Config, path: Path, settings: Sequence[str]) -> None:
        self.config = config
        self.id = config.node.id
        self.port = config.member.client.port
        self.peer_port = config.member.peer.port
        self.data_dir = config.node.data_dir
        self.path = path
        self.settings = list(settings)
        self.module = "node"
        """What is run: tests.support.doored has a disk that a test can slow down."""
        self.environment: dict[str, str] = {}
        self.prefix: list[str] = []
        """Words before the interpreter's: whoever runs it in another place."""
        self.process: subprocess.Popen[str] | None = None
        self.lives = 0
        """How often it was started."""
        self.lines: list[str] = []
        """What it printed in this life, stdout and stderr."""
        self.earlier: list[str] = []
        """What it printed in earlier lives."""
        self._is_meant_to_run = False
        self._reader: threading.Thread | None = None

    def start(self, *settings: str) -> None:
        """Start it; does not wait. `settings` are --set words of this life alone."""
        assert self.process is None, f"{self.id} runs"
        path = str(ROOT)
        # NB: the module `node` is found by PYTHONPATH; -P keeps the directory we stand in out.
        words = [*self.prefix, sys.executable, "-P", "-m", self.module, "serve"]
        words += ["--config", str(self.path)]
        for setting in [*self.settings, *settings]:
            words += ["--set", setting]
        self.earlier += self.lines
        self.lines = []
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=os.environ
            | {
                "PYTHONPATH": path,
                "PYTHONUNBUFFERED": "1",
                SUPERVISOR_VARIABLE: str(os.getpid()),
            }
            | self.environment,
        )
        self._reader = threading.Thread(
            target=_read, args=(self.process, self.lines), name=f"read-{self.id}", daemon=True
        )
        self._reader.start()
        self.lives += 1
        self._is_meant_to_run = True

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Until it prints `ready`."""
        wait_until(
            lambda: self.is_ready or self._has_ended(),
            timeout_s,
            lambda: f"{self.id} is not ready:\n" + "\n".join(self.lines[-40:]),
        )
        assert self.is_ready, f"{self.id} ended at its start:\n" + "\n".join(self.lines[-40:])

    @property
    def is_ready(self) -> bool:
        """Whether it said so in this life."""
        return "ready" in self.lines

    def _has_ended(self) -> bool:
        if self.process is None or self.process.poll() is None:
            return False
        assert self._reader is not None
        self._reader.join(2)
        return True

    def is_up(self, life: int) -> bool:
        """Whether a client that connected in this life has a right to be served."""
        return self._is_meant_to_run and self.lives == life and self.is_ready

    def kill(self) -> None:
        """kill -9, and wait for the end. Clients may know that it is about to happen."""
        self.doom()
        self.reap()

    def doom(self) -> None:
        """kill -9, without waiting (for several nodes at one moment)."""
        assert self.process is not None
        self._is_meant_to_run = False
        self.process.send_signal(signal.SIGKILL)

    def reap(self, timeout_s: float = 10) -> int:
        """Wait for the end of the process; its exit code."""
        assert self.process is not None
        assert self._reader is not None
        code = self.process.wait(timeout_s)
        self._reader.join(5)
        self.process = None
        return code

    def stop(self, timeout_s: float = 10) -> int:
        """SIGTERM, and wait for the end; the exit code."""
        assert self.process is not None
        self._is_meant_to_run = False
        self.process.send_signal(signal.SIGTERM)
        return self.reap(timeout_s)

    def pause(self) -> None:
        """SIGSTOP; returns when the process stands still."""
        assert self.process is not None
        pid = self.process.pid
        self.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: _state(pid) == "T", 5, f"{self.id} does not stop")

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Start it and wait until it is ready."""
        self.start()
        self.wait_ready()

    def connect(self, protocol: int = 3, timeout_s: float = 20) -> redis.Redis:
        """A redis-py client of this node. It retries nothing. The caller closes it."""
        return redis.Redis(
            port=self.port,
            protocol=protocol,
            socket_timeout=timeout_s,
            socket_connect_timeout=5,
            retry=Retry(NoBackoff(), 0),
        )

    def status(self) -> dict[str, Any]:
        """TRI.STATUS; {} when it does not answer."""
        if self.process is None:
            return {}
        with self.connect(2, timeout_s=2) as client:
            try:
                return dict(json.loads(client.execute_command("TRI.STATUS")))
            except (redis.ConnectionError, redis.TimeoutError):
                return {}

    def member_list(self) -> dict[str, Any]:
        """TRI.MEMBER LIST."""
        with self.connect() as client:
            found: dict[str, Any] = json.loads(client.execute_command("TRI.MEMBER", "LIST"))
            return found

    def digest(self) -> tuple[int, str]:
        """TRI.DIGEST: index and SHA-256 of the whole state."""
        with self.connect(2) as client:
            index, text = client.execute_command("TRI.DIGEST")
        return int(index), text.decode()

    @property
    def all_lines(self) -> list[str]:
        """What it printed in all its lives."""
        return self.earlier + self.lines

    def said(self, *parts: str) -> bool:
        """Whether it says, or says within a moment, a line with all these parts.

        What a node writes reaches us through a pipe and a thread, a little after it happened.
        """
        deadline_s = time.monotonic() + SAID_WITHIN_S
        while time.monotonic() < deadline_s:
            if any(all(part in line for part in parts) for line in self.all_lines):
                return True
            time.sleep(0.01)
        return False

    def find(self, part: str) -> list[str]:
        """The lines of this life that hold `part`."""
        return [line for line in self.lines if part in line]


def _read(process: subprocess.Popen[str], lines: list[str]) -> None:
    assert process.stdout is not None
    with process.stdout as stream:
        for line in stream:
            lines.append(line.rstrip("\n"))  # noqa: PERF401 - as it comes, not at the end


def _state(pid: int) -> str:
    """R, S, T, Z ... as in /proc."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0]


class Cluster:
    """Some nodes on loopback, with the timings of configs/fast.toml unless told otherwise.

    Args:
        directory: where data and configurations lie.
        settings: --set words for every node.
        template: a configuration for all of them; None for the defaults.
        founders: so many are members from the start; the others wait to be seated, and are
            started by the test. None: all.
        tls: the peers have certificates (directory/certs).
    """

    def __init__(
        self,
        directory: Path,
        *,
        nodes: int = 3,
        settings: Sequence[str] = (),
        template: Path | None = FAST,
        founders: int | None = None,
        tls: bool = False,
    ) -> None:
        self.directory = directory
        self.base_port = free_base_port(nodes)
        options = Options(
            nodes=nodes,
            data_dir=directory,
            base_port=self.base_port,
            template=template,
            tls=tls,
        )
        self.nodes: list[NodeProcess] = []
        configs = plan(options)
        if tls:
            certify(options, configs, Disk())
        known = configs[0].members[: founders or nodes]
        for config in configs:
            if config.member in known:
                config = dataclasses.replace(config, members=known)
            else:
                waiting = dataclasses.replace(config.node, join=True)
                config = dataclasses.replace(config, node=waiting, members=(*known, config.member))
            path = directory / f"{config.node.id}.toml"
            path.write_text(config.render())
            self.nodes.append(NodeProcess(config, path, settings))
        self._clients: list[redis.Redis] = []

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[NodeProcess]:
        return iter(self.nodes)

    def __getitem__(self, node_id: str) -> NodeProcess:
        return next(node for node in self.nodes if node.id == node_id)

    def start(self) -> None:
        """Start every node that does not run; all are ready when it returns."""
        founders = [node for node in self.nodes if not node.config.node.join]
        for node in founders:
            if node.process is None:
                node.start()
        for node in founders:
            node.wait_ready()

    def heal(self) -> None:
        """Resume and start what a test paused or killed; there is a leader when it returns."""
        self._close_clients()
        for node in self.nodes:
            if node.process is not None:
                node.resume()
        self.start()
        self.leader()

    def close(self) -> None:
        """End every process and client, and print what the nodes said."""
        self._close_clients()
        for node in self.nodes:
            if node.process is not None:
                node.doom()
        for node in self.nodes:
            if node.process is not None:
                node.reap()
        self.print_logs()

    def _close_clients(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()

    def print_logs(self) -> None:
        """The last lines of each node; pytest shows them when the test fails."""
        for node in self.nodes:
            print(f"---- {node.id}, {node.lives} lives; the last lines")
            print("\n".join([*node.earlier, "--", *node.lines][-60:]))

    def client(self, node_id: str, protocol: int = 3, timeout_s: float = 20) -> redis.Redis:
        """A client of a node, closed with the cluster."""
        client = self[node_id].connect(protocol, timeout_s)
        self._clients.append(client)
        return client

    def others(self, *nodes: NodeProcess) -> list[NodeProcess]:
        """All nodes but these."""
        return [node for node in self.nodes if node not in nodes]

    def statuses(self) -> dict[str, dict[str, Any]]:
        """TRI.STATUS of every running node."""
        return {node.id: node.status() for node in self.nodes if node.process is not None}

    def find_leader(self, among: Sequence[NodeProcess] | None = None) -> NodeProcess | None:
        """The node that all of these (running, not paused) name as the leader; None: not yet."""
        asked = [node for node in among or self.nodes if node.process is not None]
        found = [node.status() for node in asked]
        leaders = {status.get("leader") for status in found}
        if len(leaders) != 1 or (name := leaders.pop()) is None:
            return None
        leader = self[name]
        is_one = any(each.get("id") == name and each.get("role") == "leader" for each in found)
        return leader if is_one else None

    def leader(
        self, among: Sequence[NodeProcess] | None = None, timeout_s: float = 20
    ) -> NodeProcess:
        """Wait until all of these nodes agree on a leader among them."""
        found: list[NodeProcess] = []

        def look() -> bool:
            leader = self.find_leader(among)
            if leader is not None:
                found.append(leader)
            return leader is not None

        wait_until(look, timeout_s, lambda: f"a leader in {self.statuses()}")
        return found[0]

    def equal_digest(self, timeout_s: float = 30) -> tuple[int, str]:
        """Wait until all nodes are at the same index; their states must be the same there."""
        digests: dict[str, tuple[int, str]] = {}

        def look() -> bool:
            digests.clear()
            digests.update({node.id: node.digest() for node in self.nodes})
            by_index: dict[int, set[str]] = {}
            for index, text in digests.values():
                by_index.setdefault(index, set()).add(text)
            split = {index: texts for index, texts in by_index.items() if len(texts) > 1}
            assert not split, f"states differ at the same index: {digests}"
            return len(by_index) == 1

        wait_until(look, timeout_s, lambda: f"equal digests: {digests}; {self.statuses()}")
        return next(iter(digests.values()))
