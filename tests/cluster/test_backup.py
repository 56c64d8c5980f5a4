"""Everything is deleted, and comes back: backup under load, restore, export and import.

Goal: a backup from any node holds every write that was acknowledged before it, and a cluster made
of it has exactly those keys, on every node, goes on, and hands out no revision a second time.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from node.cli import main
from node.client import Compacted, Store
from tests.support.supervised import Supervised, wait_until

pytestmark = pytest.mark.cluster

Figures = Callable[[str], None]


def trimaran(*words: str | Path, code: int = 0) -> str:
    """Run a command in this process; what it printed."""
    printed, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complained):
        found = main([str(word) for word in words])
    assert found == code, (words, found, printed.getvalue(), complained.getvalue())
    return printed.getvalue() + complained.getvalue()


class Counting:
    """A client that counts up a key of its own until it is told to stop; what was acknowledged."""

    def __init__(self, port: int) -> None:
        self.acked = 0
        self._stop = threading.Event()
        self._client = redis.Redis(port=port, socket_timeout=10)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.acked = int(self._client.incr("counter"))

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)
        self._client.close()


def test_what_was_backed_up_under_load_comes_back_after_everything_was_deleted(
    tmp_path: Path,
) -> None:
    file, transcript = tmp_path / "backup.img", tmp_path / "export.jsonl"
    with Supervised(tmp_path) as cluster:
        cluster.wait_for_line("cluster ready")
        ports = [cluster.base_port + number for number in range(3)]
        connect = f"--connect=127.0.0.1:{ports[2]}"  # most likely a follower
        with redis.Redis(port=ports[0]) as client:
            client.mset({f"key{number}": f"value {number}" for number in range(1000)})
            client.set(b"\xff\x00binary", b"\x00\xfe" * 100)
            client.set("leased", "x", px=3_600_000)
            client.execute_command("TRI.LEASE", "GRANT", 3_600_000, "ID", 77)
            client.execute_command("SET", "worker", "1", "LEASE", 77)
            deadline_ms = int(client.execute_command("PEXPIRETIME", "leased"))
        counting = Counting(ports[1])
        wait_until(lambda: counting.acked > 20, 20, "nothing is counted")
        before = counting.acked
        said = trimaran("backup", connect, file)
        counted = counting.acked
        assert "1004 keys, leases: 1, as of" in trimaran("export", connect, transcript)
        counting.stop()
        assert trimaran("verify", file).startswith(f"{file}: sound: ")
        revision = int(said.split("revision ")[1].split(",")[0])
        assert "runs there" in trimaran("restore", file, "--data-dir", cluster.data_dir, code=3)
        base_port = cluster.base_port
    holds = "holds the data of n1, n2, n3"
    assert holds in trimaran("restore", file, "--data-dir", tmp_path / "data", code=2)
    shutil.rmtree(tmp_path / "data")

    trimaran("restore", file, "--data-dir", tmp_path / "data", "--base-port", str(base_port))
    with Supervised(tmp_path, base_port=base_port) as cluster:
        cluster.wait_for_line("cluster ready", timeout_s=30)
        for port in ports:
            with redis.Redis(port=port) as client:
                assert client.dbsize() == 1004
                assert client.get(b"\xff\x00binary") == b"\x00\xfe" * 100
                assert client.get("key999") == b"value 999"
                assert client.execute_command("PEXPIRETIME", "leased") == deadline_ms
                assert client.execute_command("TRI.LEASE", "TTL", 77, "KEYS")[2:] == [
                    1,
                    [b"worker"],
                ]
                assert before <= int(client.get("counter")) <= counted + 1
        with Store(f"127.0.0.1:{ports[2]}") as store:
            watch = store.watch(prefix="", from_revision=revision)
            with pytest.raises(Compacted):  # what came behind the backup never happened
                next(iter(watch))
            watch.close()
        with redis.Redis(port=ports[1]) as client:
            client.incr("counter")
            facts = client.execute_command("TRI.GET", "counter")
            assert facts[2] > revision + 1_000_000, "a revision was handed out twice"
            client.flushall()
            client.execute_command("TRI.LEASE", "REVOKE", 77)
            client.set("key1", "newer")
        connect = f"--connect=127.0.0.1:{ports[1]}"
        assert "1003 keys written, 1 kept" in trimaran("import", connect, "--keep", transcript)
        with redis.Redis(port=ports[2]) as client:
            assert client.get("key1") == b"newer"
            assert client.execute_command("PEXPIRETIME", "leased") == deadline_ms
            remaining_ms, *rest = client.execute_command("TRI.LEASE", "TTL", 77, "KEYS")
            assert rest == [3_600_000, 1, [b"worker"]]
            assert remaining_ms > 3_500_000
        # The id is somebody's now: nothing is hung on a stranger's lease.
        said = trimaran("import", connect, transcript)
        assert "1004 keys written\nlease 77 is " in said
        here = int(said.split("lease 77 is ")[1].split()[0])
        with redis.Redis(port=ports[2]) as client:
            assert client.execute_command("TRI.LEASE", "TTL", here, "KEYS")[2:] == [1, [b"worker"]]
            assert client.execute_command("TRI.LEASE", "TTL", 77)[2] == 0
        trimaran("export", connect, tmp_path / "again.jsonl", "--prefix", "key")
        pairs = [json.loads(line) for line in (tmp_path / "again.jsonl").read_text().splitlines()]
        assert {row["key"]: row["value"] for row in pairs[1:-1]} == {
            f"key{number}": f"value {number}" for number in range(1000)
        }


def test_a_backup_that_fails_leaves_the_one_before_and_says_so_by_its_exit_code(
    tmp_path: Path,
) -> None:
    file = tmp_path / "backup.img"
    file.write_bytes(b"the one before")
    assert "unavailable" in trimaran("backup", "--connect=127.0.0.1:9", file, code=3)
    assert "is no directory" in trimaran("backup", tmp_path / "nowhere" / "file", code=2)
    assert file.read_bytes() == b"the one before"
    assert "image is cut" in trimaran("verify", file, code=1)
    assert "nothing was restored" in trimaran(
        "restore", file, "--data-dir", tmp_path / "data", code=2
    )
    assert not (tmp_path / "data" / "n1").exists()
