"""A node that cannot start says why in one place, with the right exit code; the others go on.

    2    configuration: wrong, or a directory that is somebody else's
    3    unavailable: a port is in use
    70   fatal: the directory is locked, or damaged; which file, which byte

Every failure: stderr holds the reason and no traceback; what is on disk is left as it was, so that
undoing the harm (a byte, a port) makes the node start and lose nothing.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.support.cluster import Cluster, NodeProcess
from tests.support.supervised import ROOT, wait_until

pytestmark = pytest.mark.cluster

StartCluster = Callable[..., Cluster]
Figures = Callable[[str], None]


def _trimaran(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "node", *map(str, words)],
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def _refused(code: int, *words: str | Path) -> str:
    """What `trimaran serve` says when it ends at once with `code`; one reason, no traceback."""
    done = _trimaran("serve", *words)
    assert done.returncode == code, done
    assert done.stdout == "", done
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stderr.strip(), "it says nothing"
    return done.stderr


def _fatal_line(said: str) -> str:
    """The one line that says why."""
    lines = [line for line in said.splitlines() if line.startswith("trimaran: ")]
    assert len(lines) == 1, said
    return lines[0]


def _config(directory: Path, text: str = "", **changes: str) -> Path:
    """A configuration file of one node, with `text` behind it."""
    words = {"data_dir": str(directory / "data"), "client": "127.0.0.1:17001"} | changes
    path = directory / "node.toml"
    path.write_text(
        f'[node]\nid = "n1"\ndata_dir = "{words["data_dir"]}"\n'
        f'[[cluster.members]]\nid = "n1"\npeer = "127.0.0.1:18001"\n'
        f'client = "{words["client"]}"\nhttp = "127.0.0.1:19001"\n{text}'
    )
    return path


# Configuration: exit code 2, all problems at once, nothing started.


def test_a_wrong_configuration_is_refused_with_all_its_problems(tmp_path: Path) -> None:
    text = (
        "[raft]\nheartbeat_ms = 0\nelection_timeout_min = 5\n"
        '[wal]\nsync = "sometimes"\n[colour]\nred = 1\n'
    )
    said = _refused(2, "--config", _config(tmp_path, text, client="0.0.0.0:17001"))
    for key in ("raft.heartbeat_ms", "raft.election_timeout_min", "wal.sync", "colour", "client"):
        assert key in said, (key, said)
    assert len(said.splitlines()) == 5, said
    assert not (tmp_path / "data").exists()


def test_a_setting_on_the_command_line_is_checked_like_the_file(tmp_path: Path) -> None:
    config = _config(tmp_path)
    for setting in ("raft.heartbeat_ms=fast", "raft.no_such_key=1", "nonsense", "raft=1"):
        said = _refused(2, "--config", config, "--set", setting)
        assert setting.partition("=")[0] in said, said
    assert not (tmp_path / "data").exists()


def test_a_file_that_is_missing_or_not_toml_is_refused(tmp_path: Path) -> None:
    assert "no such file" in _refused(2, "--config", tmp_path / "none.toml")
    garbage = tmp_path / "garbage.toml"
    garbage.write_bytes(bytes(range(256)))
    assert "not TOML" in _refused(2, "--config", garbage)
    _refused(2, "--config", tmp_path)


# Directories and ports.


def _one_node(start_cluster: StartCluster) -> NodeProcess:
    return start_cluster(nodes=1).nodes[0]


def test_a_port_in_use_is_named_and_the_exit_code_is_3(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    node = _one_node(start_cluster)
    node.stop()
    for port in (node.port, node.peer_port):
        with socket.create_server(("127.0.0.1", port)):
            assert str(port) in _fatal_line(_refused(3, "--config", node.path))
    node.restart()


def test_a_second_process_on_the_same_directory_is_refused(start_cluster: StartCluster) -> None:
    node = _one_node(start_cluster)
    with node.connect() as client:
        client.set("k", "v")
        other = node.path.with_name("other.toml")
        text = node.path.read_text()
        for port in (node.port, node.peer_port, node.port + 2000):
            text = text.replace(f":{port}", f":{port + 10}")
        other.write_text(text)
        line = _fatal_line(_refused(70, "--config", other))
        assert str(node.data_dir) in line
        assert "in use" in line
        assert client.get("k") == b"v"


def test_the_directory_of_another_node_or_cluster_is_refused(start_cluster: StartCluster) -> None:
    cluster = start_cluster()
    n1, n2 = cluster["n1"], cluster["n2"]
    cluster.client("n3").set("k", "v")
    n1.stop()
    n2.stop()
    said = _refused(2, "--config", n1.path, "--set", f"node.data_dir={n2.data_dir}")
    assert "data of node 'n2', not of 'n1'" in said
    alone = _config(n1.path.parent, data_dir=str(n1.data_dir))
    assert "belongs to the cluster n1, n2, n3" in _refused(2, "--config", alone)
    cluster.start()
    cluster.leader()
    assert cluster.client("n1").get("k") == b"v"
    cluster.equal_digest()


def test_a_directory_with_foreign_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "letters.txt").write_text("dear reader")
    said = _refused(2, "--config", _config(tmp_path))
    assert "letters.txt" in said
    assert (data / "letters.txt").read_text() == "dear reader"
    assert not (data / "identity.json").exists()
    file = tmp_path / "file"
    file.write_text("x")
    done = _trimaran("serve", "--config", _config(tmp_path, data_dir=str(file)))
    assert done.returncode in (2, 70)
    assert "Traceback" not in done.stderr
    assert str(file) in done.stderr


# Damage below what was promised: exit code 70, the file and the byte.


def _flip(path: Path, offset_bytes: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset_bytes] ^= 0x40
    path.write_bytes(data)


def _newest(directory: Path, pattern: str) -> Path:
    return max(directory.glob(pattern))


def _journal(node: NodeProcess) -> tuple[Path, int]:
    return _newest(node.data_dir / "journal", "*.seg"), 64 + 50


def _wal(node: NodeProcess) -> tuple[Path, int]:
    # Not the one that was made ahead, which is empty.
    written = [path for path in (node.data_dir / "wal").glob("*.wal") if path.stat().st_size > 64]
    return max(written), 20


def _checkpoint(node: NodeProcess) -> tuple[Path, int]:
    path = _newest(node.data_dir / "checkpoint", "*.img")
    return path, path.stat().st_size // 2


def _term(node: NodeProcess) -> tuple[Path, int]:
    # Both copies; the second is mended by the first when that is whole again.
    _flip(node.data_dir / "journal" / "term.copy", 20)
    return node.data_dir / "journal" / "term", 20


def _identity(node: NodeProcess) -> tuple[Path, int]:
    return node.data_dir / "identity.json", 0


@pytest.mark.parametrize("damaged", [_journal, _wal, _checkpoint, _term, _identity])
def test_damage_below_the_durable_mark_stops_one_node_and_loses_nothing(
    damage_cluster: Cluster, damaged: Callable[[NodeProcess], tuple[Path, int]], figures: Figures
) -> None:
    cluster = damage_cluster
    node = cluster.others(cluster.leader())[0]
    other = cluster.others(node)[0]
    client = cluster.client(other.id)
    name = damaged.__name__
    for number in range(20):
        client.set(f"{name} {number}", "v" * 50)
    wait_until(lambda: bool(list(node.data_dir.glob("checkpoint/*.img"))), 10, "no checkpoint")
    cluster.equal_digest()
    time.sleep(0.7)  # The journal falls idle, and marks how far it is durable.
    node.kill()
    path, offset_bytes = damaged(node)
    _flip(path, offset_bytes)
    before = path.read_bytes()
    line = _fatal_line(_refused(70, "--config", node.path))
    assert str(path) in line, line
    assert client.set(f"{name} without it", "v") is True
    assert path.read_bytes() == before, "it changed what it could not read"
    done = _trimaran("verify", node.data_dir)
    figures(f"{line.removeprefix('trimaran: ').replace(str(cluster.directory), '')}")
    assert done.returncode == 1, done
    assert str(path) in done.stdout, done
    _flip(path, offset_bytes)
    node.restart()
    keys = [f"{name} {number}" for number in range(20)] + [f"{name} without it"]
    assert None not in cluster.client(node.id).mget(keys)
    cluster.equal_digest()


@pytest.mark.parametrize("name", ["term", "term.copy"])
def test_damage_to_one_copy_of_term_and_vote_is_said_and_mended(
    damage_cluster: Cluster, name: str
) -> None:
    node = damage_cluster.others(damage_cluster.leader())[0]
    path = node.data_dir / "journal" / name
    node.kill()
    _flip(path, 20)
    assert "one copy of the term" in _trimaran("verify", node.data_dir).stdout
    assert f"damaged: {path}" in _trimaran("dump", path).stdout
    node.restart()
    assert node.said("one copy of the term is damaged, mended", str(path))
    node.kill()
    assert _trimaran("verify", node.data_dir).stdout == f"{node.data_dir}: sound\n"
    node.restart()


@pytest.fixture
def damage_cluster(_damage_cluster: Cluster) -> Cluster:
    """Checkpoints every few entries, so that there is one to damage."""
    _damage_cluster.heal()
    return _damage_cluster


@pytest.fixture(scope="module")
def _damage_cluster(tmp_path_factory: pytest.TempPathFactory) -> object:
    directory = tmp_path_factory.mktemp("damage")
    with Cluster(directory, settings=["checkpoint.entries=10"]) as cluster:
        yield cluster


def test_a_torn_end_above_the_durable_mark_is_cut_and_reported(
    damage_cluster: Cluster,
) -> None:
    cluster = damage_cluster
    node = cluster.others(cluster.leader())[0]
    client = cluster.client(cluster.others(node)[0].id)
    client.set("k", "v")
    node.kill()
    path, _ = _journal(node)
    wal_path = max(path for path in (node.data_dir / "wal").glob("*.wal") if path.stat().st_size)
    for each, size_bytes in ((path, 100), (wal_path, 90)):
        with each.open("ab") as file:
            file.write(b"\x07" * size_bytes)  # As a crash in the middle of a write leaves it.
    node.restart()
    assert node.said("journal: torn tail cut", "100 bytes")
    assert node.said("wal: torn tail cut", wal_path.name, "90 bytes")
    assert node.said("state recovered")
    assert cluster.client(node.id).get("k") == b"v"
    cluster.equal_digest()


def test_a_wiped_directory_does_not_pass_for_the_old_one(start_cluster: StartCluster) -> None:
    """A node that forgot what it voted and promised must not be counted as if it had not."""
    cluster = start_cluster()
    node, other = cluster.others(cluster.leader())
    client = cluster.client(node.id)
    for number in range(50):
        client.set(f"old {number}", "v")
    node.kill()
    shutil.rmtree(node.data_dir)
    node.start()
    acked = []
    try:
        node.wait_ready()
        with node.connect(timeout_s=3) as client:
            for number in range(50):
                client.set(f"new {number}", "v")
                acked.append(f"new {number}")
    except (AssertionError, redis.RedisError):
        pass  # It may stop before, or lose its clients.
    found = cluster.client(other.id).mget(["none", *acked])[1:]
    assert None not in found, f"acknowledged and lost: {acked[found.index(None)]}"
    assert node.reap(5) == 70
