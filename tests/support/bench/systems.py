"""What is measured: this program's nodes, and peers from their Debian packages, on loopback.

    with start("etcd", directory, base_port) as system:
        system.servers, system.leader(), system.pids

    trimaran  three nodes, configs/node.toml's defaults, unless told otherwise (Ours)
    etcd      three members, all defaults: every acknowledged write fsynced by a majority
    redis     one redis-server, appendonly with appendfsync always: not replicated
    nats      three servers with JetStream, a file bucket of three replicas. NOT fsynced before
              it answers (sync_interval is 2 minutes by default): faster, and less

Ports: ours take free ones, peers the first 20 free ones from base_port on. Everything
ends with the `with`.

Proved by: tests/scripts/test_bench.py
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.bench.wires import create_bucket
from tests.support.cluster import Cluster

__all__ = ["PACKAGES", "Ours", "System", "connect", "missing", "slow_down", "start"]

ROOT: Final = Path(__file__).resolve().parents[3]
HOST: Final = "127.0.0.1"
READY_S: Final = 40.0
PACKAGES: Final = {
    "etcd": ("etcd", "etcd-server"),
    "redis": ("redis-server", "redis-server"),
    "nats": ("nats-server", "nats-server"),
}
"""Program and Debian package of each peer."""

Address = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Ours:
    """How this program's nodes are run."""

    nodes: int = 3
    config: str = ""
    settings: Sequence[str] = ()
    """`--set` words for every node."""
    doors: bool = False
    """With the laboratory's doors (see `slow_down`)."""


@dataclass
class System:
    """Something that runs and can be asked."""

    name: str
    wire: str
    servers: list[Address]
    pids: list[int]
    version: str
    promise: str
    """What an acknowledged write is."""
    _leader: int = 0
    cluster: Cluster | None = None
    """Of ours, when it was started here."""

    @property
    def leader(self) -> list[Address]:
        """Where writes go."""
        return [self.servers[self._leader]]


def missing(name: str) -> str | None:
    """Why it cannot be started here; None: it can."""
    program, package = PACKAGES.get(name, (sys.executable, ""))
    if shutil.which(program) is None:
        return f"{name}: {program} is not installed (Debian: apt-get install {package})"
    return None


@contextmanager
def start(name: str, directory: Path, base_port: int, ours: Ours | None = None) -> Iterator[System]:
    """Run it; RuntimeError when it does not come up."""
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if name == "trimaran":
            system = _trimaran(stack, directory, ours or Ours())
        else:
            kind = {"etcd": _etcd, "redis": _redis, "nats": _nats}[name]
            system = kind(stack, directory, _free_from(base_port))
        yield system


def connect(address: str) -> System:
    """A cluster of ours that runs already; nobody's processor time is known of it."""
    host, _, port = address.rpartition(":")
    text = _say((host, int(port)), b"INFO\r\n", b"raft_leader_addr:").decode()
    line = next(word for word in text.split() if word.startswith("raft_leader_addr:"))
    leader_host, leader_port = line.removeprefix("raft_leader_addr:").rsplit(":", 1)
    server = (leader_host, int(leader_port))
    return System("trimaran", "resp", [server], [], "running", "fsynced by a majority")


def _free_from(port: int) -> int:
    """The first of 20 ports that nobody listens at, from this one on."""
    for first in range(port, port + 2_000, 20):
        with contextlib.suppress(OSError), ExitStack() as stack:
            for each in range(first, first + 20):
                stack.enter_context(socket.create_server((HOST, each)))
            return first
    raise RuntimeError(f"no 20 free ports from {port} on")


def _process(
    stack: ExitStack, words: Sequence[str], directory: Path, name: str
) -> subprocess.Popen[bytes]:
    """A process that ends with the stack; what it says is in DIRECTORY/NAME.log."""
    log = stack.enter_context((directory / f"{name}.log").open("wb"))
    process = subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
    )
    stack.callback(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _until(what: str, ask: Any) -> Any:
    """What `ask` gives once it gives something; errors of a server that starts are passed over."""
    deadline_s = time.monotonic() + READY_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(OSError, ValueError, KeyError, urllib.error.URLError):
            if (found := ask()) is not None:
                return found
        time.sleep(0.1)
    raise RuntimeError(f"{what} did not come up within {READY_S:g} s")


def _say(address: Address, words: bytes, until: bytes) -> bytes:
    """Send, and read until something stands in the answer."""
    with socket.create_connection(address, timeout=2) as connection:
        connection.sendall(words)
        heard = b""
        while until not in heard:
            data = connection.recv(65_536)
            if not data:
                break
            heard += data
    return heard


def _version(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[0]


class Nodes(Cluster):
    """Ours, in silence: what the nodes said is in their `lines`."""

    def print_logs(self) -> None:
        """Nobody reads them."""


def _trimaran(stack: ExitStack, directory: Path, ours: Ours) -> System:
    settings = list(ours.settings)
    template = Path(ours.config) if ours.config else None
    cluster = Nodes(directory, nodes=ours.nodes, settings=settings, template=template)
    if ours.doors:
        for node in cluster.nodes:
            node.settings.append(f"lab.door={directory / node.id}.door")
    stack.enter_context(cluster)
    members = [node.config.member.client for node in cluster.nodes]
    servers = [(each.host, each.port) for each in members]
    place = cluster.nodes.index(cluster.leader())
    pids = [node.process.pid for node in cluster.nodes if node.process is not None]
    pids += [each for pid in pids for each in _children(pid)]  # client.workers
    version = _version(sys.executable, "-m", "node", "--version")
    promise = f"fsynced by {ours.nodes // 2 + 1} of {ours.nodes}"
    return System("trimaran", "resp", servers, pids, version, promise, place, cluster)


def _children(pid: int) -> list[int]:
    """Of its first thread."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    except OSError:
        return []
    return list(map(int, text.split()))


def slow_down(system: System, sync_delay_ms: int) -> None:
    """Each fsync of ours takes so much longer, at the laboratory's door (node.labdoor)."""
    assert system.cluster is not None
    for node in system.cluster.nodes:
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(10)
            door.connect(str(system.cluster.directory / f"{node.id}.door"))
            door.sendall(json.dumps({"sync_delay_ms": sync_delay_ms}).encode() + b"\n")
            if door.recv(100) != b"ok\n":
                raise RuntimeError(f"{node.id}: its laboratory door refused")


def _etcd(stack: ExitStack, directory: Path, base_port: int) -> System:
    servers = [(HOST, base_port + number) for number in range(3)]
    peers = [f"e{n}=http://{HOST}:{base_port + 10 + n}" for n in range(3)]
    pids = []
    for number, (host, port) in enumerate(servers):
        client, peer = f"http://{host}:{port}", peers[number].partition("=")[2]
        words = ["etcd", "--name", f"e{number}", "--data-dir", str(directory / f"e{number}")]
        words += ["--listen-client-urls", client, "--advertise-client-urls", client]
        words += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        words += ["--initial-cluster", ",".join(peers), "--initial-cluster-state", "new"]
        words += ["--logger", "zap", "--log-level", "error"]
        pids.append(_process(stack, words, directory, f"e{number}").pid)

    def leader() -> int | None:
        found = None
        for number, (host, port) in enumerate(servers):
            request = urllib.request.Request(
                f"http://{host}:{port}/v3/maintenance/status", data=b"{}", method="POST"
            )
            with urllib.request.urlopen(request, timeout=2) as answer:
                status = json.load(answer)
            if status.get("leader") == status["header"]["member_id"]:
                found = number
        return found

    place = _until("etcd", leader)
    promise = "fsynced by two of three"
    return System("etcd", "etcd", servers, pids, _version("etcd", "--version"), promise, place)


def _redis(stack: ExitStack, directory: Path, base_port: int) -> System:
    words = ["redis-server", "--port", str(base_port), "--dir", str(directory), "--save", ""]
    words += ["--appendonly", "yes", "--appendfsync", "always", "--bind", HOST]
    process = _process(stack, words, directory, "redis")
    server = (HOST, base_port)
    _until("redis-server", lambda: _say(server, b"PING\r\n", b"PONG"))
    version = _version("redis-server", "--version")
    return System("redis", "resp", [server], [process.pid], version, "fsynced by one of one")


def _nats(stack: ExitStack, directory: Path, base_port: int) -> System:
    servers = [(HOST, base_port + number) for number in range(3)]
    routes = ",".join(f"nats://{HOST}:{base_port + 10 + number}" for number in range(3))
    pids = []
    for number, (host, port) in enumerate(servers):
        words = ["nats-server", "-a", host, "-p", str(port), "-n", f"s{number}", "-js"]
        words += ["-sd", str(directory / f"s{number}"), "--cluster_name", "bench"]
        words += ["--cluster", f"nats://{HOST}:{base_port + 10 + number}", "--routes", routes]
        pids.append(_process(stack, words, directory, f"s{number}").pid)
    made = create_bucket(3)
    _until("nats", lambda: b'"config"' in _say(servers[0], made, b"type") or None)
    version = _version("nats-server", "--version")
    return System("nats", "nats", servers, pids, version, "written by two of three, not fsynced")
