"""Two short experiments on real nodes, from the command to the exit code, the files, the report.

The second plants a bug: its nodes answer reads from their own memory (consistency eventual) while
the experiment claims that they are linearizable, and a follower hears nobody for a second.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.cli import main
from node.lab.history import History
from tests.support.supervised import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]
SHORT = ["--set", "times.warmup_s=0.4", "--set", "times.run_s=1.5", "--set", "times.after_s=0.5"]


def test_a_killed_leader_breaks_no_promise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = str(ROOT / "configs/lab/kill-leader.toml")
    code = main(["lab", "run", experiment, "--runs", "1", "--out", str(tmp_path), *SHORT])
    said = capsys.readouterr()
    assert code == 0, said
    result = json.loads((tmp_path / "runs/001/result.json").read_text(encoding="utf-8"))
    found = {each["name"]: each["verdict"] for each in result["verdicts"]}
    names = {"linearizable", "stale (linearizable)", "revisions", "terms", "nodes", "digests"}
    assert found == dict.fromkeys(names | {"liveness"}, "valid")
    history = History.read(tmp_path / "runs/001/history.jsonl").operations
    told = [each for each in history if each.is_ok and each.revision is not None]
    assert len(told) > len(history) / 2  # the others are plain GET and SET
    (outage,) = result["outages"]
    assert outage["kind"] == "kill"
    assert 100 < outage["leaderless_ms"] < 10_000
    # Told by the nodes and by the clients: the two clocks of an outage differ by a few ms.
    assert outage["leaderless_ms"] - 50 < outage["unavailable_ms"] < 10_000
    assert {name for name, _ in outage["segments"]} >= {"detection", "election"}
    assert outage["ready_us"] >= outage["elected_us"] >= outage["detected_us"]
    assert "throughput" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not (tmp_path / "runs/001/nodes/n1").exists()  # all was well: no data is kept
    # The files alone lead to the same verdict.
    assert main(["lab", "check", str(tmp_path / "runs/001/history.jsonl")]) == 0


def test_a_planted_stale_read_ends_in_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "planted.toml").write_text(
        f"""
        about = "Nodes that answer from memory, and claim more."
        [cluster]
        config = "{ROOT / "configs/fast.toml"}"
        settings = {{ "client.consistency" = "eventual" }}
        [workload]
        clients = 9
        pause_ms = 2.0
        timeout_ms = 1_000
        claim = "linearizable"
        [[faults]]
        kind = "isolate"
        target = "follower"
        at_s = 0.2
        for_s = 1.0
        """,
        encoding="utf-8",
    )
    out = tmp_path / "out"
    code = main(["lab", "run", str(tmp_path / "planted.toml"), "--out", str(out), *SHORT])
    said = capsys.readouterr()
    assert code == 1, said
    assert "BROKEN" in said.out
    result = json.loads((out / "runs/001/result.json").read_text(encoding="utf-8"))
    broken = {each["name"]: each for each in result["verdicts"] if each["verdict"] == "broken"}
    assert set(broken) == {"linearizable", "stale (linearizable)", "revisions"}
    assert 2 <= len(broken["linearizable"]["evidence"]) <= 20
    assert (out / "runs/001/nodes/n1").exists()  # what a person will want to look at
    assert "BROKEN" in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.stress
def test_members_that_leave_and_join_again_at_once_catch_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While the leader still talks to the old self: what that one had acknowledged must not count
    for the new one, which has nothing."""
    experiment = str(ROOT / "configs/lab/membership.toml")
    code = main(["lab", "run", experiment, "--runs", "1", "--out", str(tmp_path)])
    assert code == 0, capsys.readouterr()


@pytest.mark.stress
def test_ctrl_c_leaves_no_process_and_the_rest_can_be_done_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["lab", "run", str(ROOT / "configs/lab/kill-leader.toml"), "--out", str(tmp_path)]
    command = [sys.executable, "-m", "node", *words, "--runs", "3", *SHORT]
    # A group of its own, and the signal to all of it: what a terminal does.
    process = subprocess.Popen(
        command, start_new_session=True, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "runs/002/nodes/n3.toml").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 2
    assert "interrupted" in said
    assert not [each for each in Path("/proc").glob("[0-9]*/cmdline") if _is_of(each, tmp_path)]
    first = (tmp_path / "runs/001/result.json").read_bytes()
    assert main([*words, "--runs", "2", "--resume", *SHORT]) == 0, capsys.readouterr()
    assert (tmp_path / "runs/001/result.json").read_bytes() == first
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert [each["run"] for each in summary["results"]] == ["001", "002"]
    # A series of another seed is another one.
    assert main([*words, "--runs", "2", "--resume", "--seed", "5", *SHORT]) == 2
    assert "not to be resumed" in capsys.readouterr().err


def _is_of(cmdline: Path, directory: Path) -> bool:
    try:
        return str(directory).encode() in cmdline.read_bytes()
    except OSError:
        return False  # it has ended meanwhile


@pytest.fixture
def redis_port(tmp_path: Path) -> Iterator[int]:
    """A plain redis-server of our own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield port
    finally:
        server.terminate()
        server.wait(10)


needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")


@needs_redis
@pytest.mark.parametrize("kind", ["register", pytest.param("bank", marks=pytest.mark.stress)])
def test_any_resp_server_can_be_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], redis_port: int, kind: str
) -> None:
    experiment = str(ROOT / "configs/lab/kill-leader.toml")
    out = ["--out", str(tmp_path / "out"), "--runs", "1", "--set", f"workload.kind={kind}"]
    against = ["--against", f"127.0.0.1:{redis_port}"]
    assert main(["lab", "run", experiment, *out, *against, *SHORT]) == 0
    said = capsys.readouterr()
    assert "nothing is broken there" in said.err
    assert "BROKEN" not in said.out


@needs_redis
@pytest.mark.stress
def test_a_sweep_runs_the_experiment_for_each_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], redis_port: int
) -> None:
    words = ["lab", "sweep", str(ROOT / "configs/lab/kill-leader.toml"), "--runs", "2"]
    words += ["--key", "workload.clients", "--values", "1, 3", "--out", str(tmp_path / "out")]
    words += ["--against", f"127.0.0.1:{redis_port}", *SHORT, "--set", "times.run_s=0.2"]
    assert main(words) == 0
    swept = json.loads((tmp_path / "out/sweep.json").read_text(encoding="utf-8"))
    assert [point["label"] for point in swept["points"]] == ["1", "3"]
    for label in ("1", "3"):
        history = History.read(tmp_path / f"out/{label}/runs/002/history.jsonl")
        assert len({each.process for each in history.operations}) == int(label)
    assert (tmp_path / "out/report.html").exists()
    assert "workload.clients" in capsys.readouterr().out
