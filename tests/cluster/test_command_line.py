"""`trimaran` from end to end: a cluster that it supervises, and every command against it.

    trimaran cluster (real nodes)  <---  status get set del cas transfer snapshot
    its data, afterwards           <---  verify dump

Words and exit codes as in the Contract (DESIGN.md): 0 done, 1 no, 2 usage, 3 unavailable, 4 outcome
unknown, 70 fatal. What each command does with each kind of answer: tests/node/test_cli.py.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cluster import FAST, Cluster
from tests.support.supervised import ROOT, Supervised, is_running, wait_until

pytestmark = pytest.mark.cluster

StartCluster = Callable[..., Cluster]
Figures = Callable[[str], None]


@pytest.fixture(scope="module")
def supervised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    """`trimaran cluster` with three real nodes."""
    directory = tmp_path_factory.mktemp("supervised")
    with Supervised(directory, "--config", str(FAST)) as cluster:
        cluster.wait_for_line("cluster ready", 40)
        yield cluster


class _Shell:
    """Runs `trimaran`, connected to the given ports."""

    def __init__(self, *ports: int) -> None:
        self.connect = ",".join(f"127.0.0.1:{port}" for port in ports)

    def run(self, *words: str | Path, text: bytes = b"") -> tuple[int, bytes, str]:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "node", *map(str, words)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            input=text,
            capture_output=True,
            timeout=40,
            check=False,
        )
        said = done.stderr.decode()
        assert "Traceback" not in said, said
        return done.returncode, done.stdout, said

    def __call__(self, command: str, *words: str, text: bytes = b"") -> tuple[int, bytes]:
        """Exit code and stdout of a client command."""
        code, out, _ = self.run(command, "--connect", self.connect, *words, text=text)
        return code, out


@pytest.fixture
def shell(supervised: Supervised) -> _Shell:
    """The command line, connected to all three."""
    return _Shell(*(supervised.base_port + number for number in range(3)))


def test_the_cluster_says_where_it_is_and_that_it_is_ready(supervised: Supervised) -> None:
    assert supervised.lines.count("cluster ready") == 1
    for number, entry in enumerate(supervised.state()):
        port = supervised.base_port + number
        assert entry["id"] == f"n{number + 1}"
        assert is_running(int(str(entry["pid"])))
        assert entry["client"] == f"127.0.0.1:{port}"
        assert entry["peer"] == f"127.0.0.1:{port + 1000}"
        assert entry["http"] == f"127.0.0.1:{port + 2000}"
        assert (Path(str(entry["data_dir"])) / "identity.json").is_file()
        assert f"redis-cli -p {port}" in supervised.text


def test_keys_are_set_read_swapped_and_removed(shell: _Shell) -> None:
    assert shell("get", "k") == (1, b"")
    assert shell("set", "k", "v 1") == (0, b"OK\n")
    assert shell("get", "k") == (0, b"v 1")
    assert shell("get", "k", "--consistency", "eventual")[0] == 0
    assert shell("cas", "k", "other", "v2") == (1, b"not swapped\n")
    assert shell("cas", "k", "v 1", "v2") == (0, b"swapped\n")
    assert shell("cas", "k", "v3", "--absent") == (1, b"not swapped\n")
    assert shell("cas", "k2", "v3", "--absent") == (0, b"swapped\n")
    assert shell("del", "k", "k2", "none") == (0, b"2\n")
    assert shell("del", "k") == (1, b"0\n")
    value = bytes(range(256)) * 100
    assert shell("set", "binary", "-", text=value) == (0, b"OK\n")
    assert shell("get", "binary") == (0, value)
    assert shell("set", "short", "v", "--ttl-ms", "1") == (0, b"OK\n")
    time.sleep(0.3)
    assert shell("get", "short") == (1, b"")


def test_wrong_words_are_exit_code_2(shell: _Shell) -> None:
    for words in (("no-such",), ("set", "k"), ("cas", "k", "a"), ("get", "k", "--connect", "x")):
        code, out, said = shell.run(*words)
        assert (code, out) == (2, b""), (words, said)
        assert said
    code, out = shell("set", "k", "v", "--ttl-ms", "-5")
    assert (code, out) == (2, b"")


def test_status_shows_every_node_as_a_table_and_as_json(shell: _Shell) -> None:
    fields = {
        *("id", "role", "term", "leader", "commit_index", "applied_index"),
        *("durable_index", "journal_bytes", "keys", "alive"),
    }
    code, out = shell("status", "--json")
    nodes = json.loads(out)["nodes"]
    assert code == 0
    assert [node["id"] for node in nodes] == ["n1", "n2", "n3"]
    assert all(set(node) == fields for node in nodes)
    assert sorted(node["role"] for node in nodes) == ["follower", "follower", "leader"]
    assert len({(node["term"], node["leader"]) for node in nodes}) == 1
    assert all(node["alive"] for node in nodes)
    code, out = shell("status")
    assert code == 0
    text = out.decode()
    assert "3 of 3 nodes answer" in text
    assert all(name in text for name in ("n1", "n2", "n3", "leader", "follower", "applied"))


def _leader(shell: _Shell) -> str:
    found: list[str] = []

    def look() -> bool:
        nodes = json.loads(shell("status", "--json")[1])["nodes"]
        leaders = {node["leader"] for node in nodes if node["alive"]}
        if len(leaders) == 1 and None not in leaders:
            found.append(leaders.pop())
        return bool(found)

    wait_until(look, 20, "a leader")
    return found[0]


def test_transfer_moves_the_leader_to_whom_it_is_told(shell: _Shell) -> None:
    leader = _leader(shell)
    target = next(name for name in ("n1", "n2", "n3") if name != leader)
    assert shell("transfer", target) == (0, f"{target} leads\n".encode())
    assert _leader(shell) == target
    code, out = shell("transfer")
    assert code == 0
    assert re.fullmatch(rb"n[123] leads\n", out)
    assert shell("transfer", "n9")[0] == 2


def test_a_node_that_is_killed_is_reported_and_restarted_and_has_everything(
    supervised: Supervised, shell: _Shell
) -> None:
    assert shell("set", "before", "1")[0] == 0
    victim = _leader(shell)
    pid = supervised.pid(victim)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert shell("set", "while", "2") == (0, b"OK\n")
    supervised.wait_for_line(f"{victim} was killed by SIGKILL; restarting", 10)
    wait_until(lambda: supervised.pid(victim) not in (None, pid), 10, "a new pid")
    own = _Shell(supervised.base_port + int(victim[1:]) - 1)
    wait_until(lambda: own("get", "while") == (0, b"2"), 20, "it serves again")
    assert own("get", "before") == (0, b"1")


def test_snapshot_verify_and_dump_show_what_is_on_disk(
    supervised: Supervised, shell: _Shell
) -> None:
    assert shell("set", "shown", "in the dump")[0] == 0
    code, out = shell("snapshot")
    assert code == 0
    index, term = out.decode().strip().split("-")
    data_dir = next(iter(supervised.data_dir.glob(f"n?/snapshot/{int(index):020d}@*")))
    code, out, _ = shell.run("dump", data_dir / "snapshot.bin")
    assert code == 0
    assert out.decode().startswith(f"image last={index}@{term} ")
    assert b"shown=in\\x20the\\x20dump" in out
    code, out, _ = shell.run("dump", max((supervised.data_dir / "n1/journal").glob("*.seg")))
    assert code == 0
    assert b"put shown=in\\x20the\\x20dump" in out
    code, out, _ = shell.run("dump", min((supervised.data_dir / "n1/wal").glob("*.wal")))
    assert code == 0
    assert out.startswith(b"wal segment ")
    assert shell.run("dump", supervised.data_dir / "none")[0] == 2
    assert shell.run("verify", supervised.data_dir / "none")[0] == 2


def test_a_stopped_cluster_is_sound_and_starts_with_everything(
    tmp_path: Path, figures: Figures
) -> None:
    with Supervised(tmp_path, "--config", str(FAST)) as first:
        first.wait_for_line("cluster ready", 40)
        shell = _Shell(*(first.base_port + number for number in range(3)))
        assert shell("set", "k", "kept")[0] == 0
        first.process.send_signal(signal.SIGINT)
        begun_s = time.monotonic()
        assert first.wait(5) == 0
        figures(f"stopped {time.monotonic() - begun_s:.2f} s after Ctrl-C")
    assert shell("get", "k") == (3, b"")
    assert shell("set", "k", "v") == (3, b"")
    assert shell("status", "--json") == (3, b"")
    for name in ("n1", "n2", "n3"):
        code, out, _ = shell.run("verify", first.data_dir / name)
        assert (code, out) == (0, f"{first.data_dir / name}: sound\n".encode())
    with Supervised(tmp_path, "--config", str(FAST), base_port=first.base_port) as second:
        second.wait_for_line("cluster ready", 40)
        assert shell("get", "k") == (0, b"kept")
        # And another one cannot have the ports, nor the directory.
        with Supervised(tmp_path, base_port=first.base_port) as third:
            assert third.wait(20) == 3
            assert "already in use" in third.text
        with Supervised(tmp_path) as fourth:
            assert fourth.wait(20) == 3
            assert "another `trimaran cluster` runs there" in fourth.text


@pytest.mark.stress
def test_a_write_whose_majority_is_gone_is_exit_code_4(start_cluster: StartCluster) -> None:
    # A leader that goes on leading for 20 s: the write is appended, and nobody else has it.
    cluster = start_cluster(settings=["raft.election_timeout_max_ms=10000"])
    leader = cluster.leader()
    for node in cluster.others(leader):
        node.pause()
    assert _Shell(leader.port)("set", "k", "v") == (4, b"")
