"""`trimaran cluster`: what it promises of processes, files and lines, with stand-in nodes.

The supervisor is the real program; its nodes are tests/support/standin_node.py, which can be
told to misbehave. tests/cluster runs it with real nodes.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from node import cluster as supervisor
from node.client import Client, find_leader, statuses
from node.cluster_child import environment
from node.cluster_plan import Options, certify, plan
from node.config import Address, Config
from node.errors import ConfigError
from statemachine.fs import Disk
from tests.support.ports import free_base_port
from tests.support.supervised import ROOT, Supervised, is_running, wait_until

pytestmark = pytest.mark.cluster


def behave(tmp_path: Path, text: str) -> None:
    """Tell the stand-ins what to do at their next start."""
    data_dir = tmp_path / "data"
    data_dir.mkdir(exist_ok=True)
    (data_dir / "behaviour").write_text(text)


def test_ports_ids_and_directories_are_those_of_the_contract() -> None:
    configs = plan(Options(data_dir=Path("/d"), base_port=7001))
    assert [config.node.id for config in configs] == ["n1", "n2", "n3"]
    third = configs[2]
    assert third.node.data_dir == Path("/d/n3")
    assert str(third.member.client) == "127.0.0.1:7003"
    assert str(third.member.peer) == "127.0.0.1:8003"
    assert str(third.member.http) == "127.0.0.1:9003"


def test_a_template_sets_everything_but_ids_and_addresses() -> None:
    configs = plan(Options(template=ROOT / "configs/fast.toml", nodes=1))
    assert configs[0].raft.election_timeout_min_ms == 150
    filled = plan(Options(template=ROOT / "configs/cluster/n2.toml"))
    assert [config.node.id for config in filled] == ["n1", "n2", "n3"]


def test_with_tls_each_node_is_told_its_own_certificate_and_they_are_made_once(
    tmp_path: Path,
) -> None:
    options = Options(data_dir=tmp_path, base_port=7001, tls=True)
    configs = plan(options)
    assert configs[1].peer.tls_cert == str(tmp_path / "certs/n2.crt")
    assert configs[1].peer.tls_key == str(tmp_path / "certs/n2.key")
    assert {config.peer.tls_ca for config in configs} == {str(tmp_path / "certs/ca.crt")}
    certify(options, configs, Disk())
    made = {path.name: path.read_bytes() for path in (tmp_path / "certs").iterdir()}
    assert len(made) == 8
    more = Options(data_dir=tmp_path, base_port=7001, tls=True, nodes=4)
    certify(more, plan(more), Disk())
    now = {path.name: path.read_bytes() for path in (tmp_path / "certs").iterdir()}
    assert set(now) - set(made) == {"n4.crt", "n4.key"}
    assert now | made == now


def test_options_that_cannot_be_are_refused_together() -> None:
    with pytest.raises(ConfigError) as caught:
        plan(Options(nodes=0, base_port=65_000))
    assert [key for key, _ in caught.value.problems] == ["--nodes", "--base-port"]


def test_it_says_ready_on_a_line_of_its_own_and_ctrl_c_stops_all(tmp_path: Path) -> None:
    with Supervised(tmp_path, standin=True) as cluster:
        cluster.wait_for_line("cluster ready")
        assert "cluster ready" in cluster.lines
        assert {"n1 | ready", "n2 | ready", "n3 | ready"} <= set(cluster.lines)
        assert f"redis-cli -p {cluster.base_port}" in cluster.text
        pids = cluster.pids()
        assert len(pids) == 3
        assert all(map(is_running, pids))
        started = time.monotonic()
        cluster.process.send_signal(signal.SIGINT)
        assert cluster.wait(6) == 0
        assert time.monotonic() - started < 5
        assert not any(map(is_running, pids))
        assert [entry["pid"] for entry in cluster.state()] == [None, None, None]


def test_cluster_json_has_the_fields_of_the_contract(tmp_path: Path) -> None:
    with Supervised(tmp_path, "--nodes", "1", standin=True) as cluster:
        cluster.wait_for_line("cluster ready")
        base = cluster.base_port
        assert cluster.state() == [
            {
                "id": "n1",
                "pid": cluster.pid("n1"),
                "client": f"127.0.0.1:{base}",
                "peer": f"127.0.0.1:{base + 1000}",
                "http": f"127.0.0.1:{base + 2000}",
                "data_dir": str(tmp_path / "data/n1"),
            }
        ]
        config = Config.load(tmp_path / "data/n1.toml")
        assert config.node.data_dir == tmp_path / "data/n1"
        assert (tmp_path / "data/n1.toml").stat().st_mode & 0o077 == 0  # It may hold secrets.


def test_a_killed_node_is_reported_and_restarted_with_a_new_pid(tmp_path: Path) -> None:
    with Supervised(tmp_path, standin=True) as cluster:
        cluster.wait_for_line("cluster ready")
        old = cluster.pid("n2")
        assert old is not None
        os.kill(old, signal.SIGKILL)
        cluster.wait_for_line("n2 was killed by SIGKILL; restarting in 0.2 s")
        cluster.wait_for_line("n2 | ready", count=2)
        new = cluster.pid("n2")
        assert new is not None
        assert new != old
        assert is_running(new)
        assert cluster.lines.count("cluster ready") == 1


def test_a_helper_that_a_killed_node_left_behind_does_not_hold_up_its_restart(
    tmp_path: Path,
) -> None:
    behave(tmp_path, "n1 helper\n")
    with Supervised(tmp_path, "--nodes", "1", standin=True) as cluster:
        cluster.wait_for_line("cluster ready")
        behave(tmp_path, "")
        old = cluster.pid("n1")
        assert old is not None
        helpers = Path(f"/proc/{old}/task/{old}/children").read_text().split()
        try:
            os.kill(old, signal.SIGKILL)
            cluster.wait_for_line("n1 | ready", timeout_s=5, count=2)
            assert is_running(int(helpers[0]))
        finally:
            os.kill(int(helpers[0]), signal.SIGKILL)


def test_no_restart_leaves_a_dead_node_dead(tmp_path: Path) -> None:
    with Supervised(tmp_path, "--no-restart", standin=True) as cluster:
        cluster.wait_for_line("cluster ready")
        old = cluster.pid("n3")
        assert old is not None
        os.kill(old, signal.SIGKILL)
        cluster.wait_for_line("n3 was killed by SIGKILL; not restarted (--no-restart)")
        wait_until(lambda: cluster.pid("n3") is None, 2)
        assert len(cluster.pids()) == 2


def test_a_fatal_end_is_reported_with_the_last_line_and_not_tried_in_a_tight_loop(
    tmp_path: Path,
) -> None:
    behave(tmp_path, "n2 exit=70\n")
    with Supervised(tmp_path, standin=True) as cluster:
        cluster.wait_for_line("restarting in 5 s")
        assert "n2 stopped itself (code 70): stand-in of n2 was told to end" in cluster.text
        wait_until(lambda: cluster.pid("n2") is None, 2)
        time.sleep(1.5)  # Goal: see that nothing happens. A tight loop would have tried 7 times.
        assert (tmp_path / "data/n2.starts").read_text() == "x"
        assert len(cluster.pids()) == 2


@pytest.mark.parametrize("code", [2, 3])
def test_a_node_that_cannot_start_at_all_ends_the_command_with_its_code(
    tmp_path: Path, code: int
) -> None:
    behave(tmp_path, f"n3 exit={code}\n")
    with Supervised(tmp_path, standin=True) as cluster:
        assert cluster.wait(8) == code
        assert f"n3 ended, code {code}: stand-in of n3 was told to end" in cluster.text
        assert cluster.pids() == []


def test_a_node_that_is_deaf_to_sigterm_is_killed_within_five_seconds(tmp_path: Path) -> None:
    behave(tmp_path, "n1 deaf\n")
    with Supervised(tmp_path, standin=True) as cluster:
        cluster.wait_for_line("cluster ready")
        pids = cluster.pids()
        started = time.monotonic()
        cluster.process.send_signal(signal.SIGTERM)
        assert cluster.wait(6) == 0
        assert time.monotonic() - started < 5
        assert not any(map(is_running, pids))


def test_a_paused_node_is_killed_within_five_seconds(tmp_path: Path) -> None:
    with Supervised(tmp_path, standin=True) as cluster:
        cluster.wait_for_line("cluster ready")
        pids = cluster.pids()
        os.kill(pids[1], signal.SIGSTOP)
        started = time.monotonic()
        cluster.process.send_signal(signal.SIGTERM)
        assert cluster.wait(6) == 0
        assert time.monotonic() - started < 5
        assert not any(map(is_running, pids))


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    behave(tmp_path, "n1 deaf\n")
    with Supervised(tmp_path, "--nodes", "1", standin=True) as cluster:
        cluster.wait_for_line("cluster ready")
        started = time.monotonic()
        cluster.process.send_signal(signal.SIGINT)
        time.sleep(0.3)  # Two signals of one number that are both pending are one.
        cluster.process.send_signal(signal.SIGINT)
        assert cluster.wait(6) == 0
        assert time.monotonic() - started < 2


def test_nodes_do_not_outlive_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    behave(tmp_path, "n1 deaf\n")
    with Supervised(tmp_path, standin=True) as cluster:
        cluster.wait_for_line("cluster ready")
        pids = cluster.pids()
        os.kill(pids[1], signal.SIGSTOP)  # Not even a paused one.
        cluster.process.kill()
        wait_until(lambda: not any(map(is_running, pids)), 3, "the nodes end")


def test_a_port_in_use_is_said_at_once_and_nothing_is_left_running(tmp_path: Path) -> None:
    base = free_base_port()
    with (
        socket.create_server(("127.0.0.1", base + 1001)),
        Supervised(tmp_path, standin=True, base_port=base) as cluster,
    ):
        assert cluster.wait(5) == 3
        assert f"127.0.0.1:{base + 1001} (n2, peer port)" in cluster.text
    assert not (tmp_path / "data").exists()


def test_a_bad_template_is_said_whole_and_nothing_is_started(tmp_path: Path) -> None:
    template = tmp_path / "bad.toml"
    template.write_text('[raft]\nheartbeat = 1\n[wal]\nsync = "never"\n')
    with Supervised(tmp_path, "--config", str(template), standin=True) as cluster:
        assert cluster.wait(5) == 2
        assert "raft.heartbeat: unknown key; did you mean raft.heartbeat_ms?" in cluster.text
        assert "wal.sync: is 'never', must be one of always, interval, checkpoint" in cluster.text
    assert not (tmp_path / "data").exists()


def test_a_second_cluster_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    with Supervised(tmp_path, standin=True) as first:
        first.wait_for_line("cluster ready")
        before = first.state()
        with Supervised(tmp_path, standin=True) as second:
            assert second.wait(5) == 3
            assert "another `trimaran cluster` runs there" in second.text
        assert first.state() == before


def make_data(tmp_path: Path, node: str) -> Path:
    directory = tmp_path / "data" / node
    directory.mkdir(parents=True)
    (directory / "identity.json").write_text("{}")
    return directory


def test_fresh_removes_the_data_of_all_nodes_even_of_those_not_started_now(tmp_path: Path) -> None:
    old = [make_data(tmp_path, node) for node in ("n1", "n2", "n5")]
    (tmp_path / "data/n1.txt").write_text("not ours")
    with Supervised(tmp_path, "--fresh", standin=True) as cluster:
        cluster.wait_for_line("cluster ready")
        assert not any(directory.exists() for directory in old)
        assert (tmp_path / "data/n1.txt").exists()


def test_fresh_does_not_remove_what_does_not_look_like_a_data_directory(tmp_path: Path) -> None:
    ours = make_data(tmp_path, "n1")
    theirs = tmp_path / "data/n2"
    theirs.mkdir()
    (theirs / "thesis.tex").write_text("years of work")
    with Supervised(tmp_path, "--fresh", standin=True) as cluster:
        assert cluster.wait(5) == 2
        assert "does not look like a data directory: not removed" in cluster.text
    assert (theirs / "thesis.tex").exists()
    assert (ours / "identity.json").exists()


def test_another_number_of_nodes_than_the_data_was_made_for_is_refused(tmp_path: Path) -> None:
    for node in ("n1", "n2", "n3", "n4", "n5"):
        make_data(tmp_path, node)
    with Supervised(tmp_path, "--nodes", "3", standin=True) as cluster:
        assert cluster.wait(5) == 2
        assert "holds the data of 5 nodes: use --nodes 5, or --fresh" in cluster.text


def test_nodes_are_not_held_up_by_a_reader_that_does_not_read(tmp_path: Path) -> None:
    """Goal: a terminal under Ctrl-S must not stop the store. Method: never read the pipe."""
    behave(tmp_path, "n1 chatty\n")
    data_dir = tmp_path / "data"
    with Supervised(tmp_path, "--nodes", "1", standin=True) as idle:
        program, arguments = idle.process.args[:5], idle.process.args[5:]  # type: ignore[index]
        idle.wait_for_line("cluster ready")
    (data_dir / "n1.starts").unlink()
    silent = subprocess.Popen(
        [*program, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        # The stand-in writes 20,000 lines (far more than a pipe holds) and listens after them.
        wait_until(lambda: accepts(idle.base_port), 15, "the node gets through its lines")
        silent.send_signal(signal.SIGTERM)
        assert silent.wait(6) == 0
    finally:
        silent.kill()
        silent.wait()
        assert silent.stdout is not None
        silent.stdout.close()


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_folder_called_node_where_the_user_stands_is_not_run(tmp_path: Path) -> None:
    """Goal: `-m node` means our package. Method: a real `serve` of a config that is refused."""
    (tmp_path / "node").mkdir()
    (tmp_path / "node/__main__.py").write_text("print('not Trimaran')")
    (tmp_path / "node/__init__.py").write_text("")
    config = tmp_path / "bad.toml"
    config.write_text("")
    answer = subprocess.run(
        [*supervisor.NODE_PROGRAM, "--config", str(config)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert answer.returncode == 2, answer
    assert "cluster.members: is missing" in answer.stderr


def test_three_real_nodes_become_ready_replace_a_killed_leader_and_stop(tmp_path: Path) -> None:
    fast = str(ROOT / "configs/fast.toml")
    with Supervised(tmp_path, "--config", fast) as cluster:
        cluster.wait_for_line("cluster ready")
        addresses = [Address.parse(entry["client"]) for entry in cluster.state()]
        with Client.connect(addresses) as client:
            client.write("SET", "before", "1")
        leader = find_leader(statuses(addresses))
        assert leader is not None
        pid = cluster.pid(leader.id)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        survivors = [address for address in addresses if address != leader.address]
        with Client.connect(survivors) as client:
            client.write("SET", "after", "1")  # Waits for the new leader; does not fail.
            assert client.read("MGET", "before", "after") == [b"1", b"1"]
        cluster.wait_for_line(f"{leader.id} | ready", count=2)
        assert all(status.alive for status in statuses(addresses))
        pids = cluster.pids()
    assert cluster.process.returncode == 0
    assert not any(map(is_running, pids))
