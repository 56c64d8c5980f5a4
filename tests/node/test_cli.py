"""The command line: exit codes of the Contract, raw bytes, one clear line for each failure."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node import cli, cli_status
from node.cli_parser import build_parser
from node.client import NodeStatus
from node.config import Address
from tests.support.ports import free_base_port
from tests.support.scripted_server import ScriptedServer
from tests.support.supervised import ROOT, Supervised


def trimaran(*words: str | bytes, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command as a person would."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "node", *words],
        input=stdin,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=30,
    )


# --- against one real node ---------------------------------------------------------------


@pytest.fixture(scope="module")
def connect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("cli")
    with Supervised(directory, "--nodes", "1") as cluster:
        cluster.wait_for_line("cluster ready")
        yield f"--connect=127.0.0.1:{cluster.base_port}"


@pytest.mark.cluster
def test_a_value_goes_in_and_comes_out_as_the_same_bytes(connect: str) -> None:
    key, value = b"k\xff ey", b"\x00\xfe\r\n-"
    assert trimaran("set", connect, key, "-", stdin=value).returncode == 0
    answer = trimaran("get", connect, key)
    assert (answer.returncode, answer.stdout) == (0, value)
    assert trimaran("set", connect, "empty", "").returncode == 0
    answer = trimaran("get", connect, "empty")
    assert (answer.returncode, answer.stdout) == (0, b"")


@pytest.mark.cluster
def test_an_absent_key_is_exit_code_1_and_prints_nothing(connect: str) -> None:
    answer = trimaran("get", connect, "absent")
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, b"", b"")
    answer = trimaran("del", connect, "absent")
    assert (answer.returncode, answer.stdout) == (1, b"0\n")


@pytest.mark.cluster
@pytest.mark.parametrize("level", ["linearizable", "lease", "eventual"])
def test_get_reads_at_the_level_that_is_asked_for(connect: str, level: str) -> None:
    assert trimaran("set", connect, "a", "1").returncode == 0
    assert trimaran("get", connect, "a", "--consistency", level).stdout == b"1"


@pytest.mark.cluster
def test_cas_swaps_once(connect: str) -> None:
    assert trimaran("cas", connect, "c", "one", "--absent").stdout == b"swapped\n"
    assert trimaran("cas", connect, "c", "one", "--absent").returncode == 1
    assert trimaran("cas", connect, "c", "one", "two").returncode == 0
    answer = trimaran("cas", connect, "c", "one", "two")
    assert (answer.returncode, answer.stdout) == (1, b"not swapped\n")
    assert trimaran("cas", connect, "c", "two", "-", stdin=b"3").returncode == 0
    assert trimaran("get", connect, "c").stdout == b"3"
    answer = trimaran("cas", connect, "c", "one")
    assert answer.returncode == 2
    assert b"takes KEY EXPECTED NEW" in answer.stderr


@pytest.mark.cluster
def test_a_ttl_in_milliseconds_ends_a_key(connect: str) -> None:
    assert trimaran("set", connect, "t", "1", "--ttl-ms", "60000").returncode == 0
    assert trimaran("get", connect, "t").returncode == 0
    assert trimaran("set", connect, "t", "1", "--ttl-ms", "1").returncode == 0
    time.sleep(0.05)
    assert trimaran("get", connect, "t").returncode == 1
    answer = trimaran("set", connect, "t", "1", "--ttl-ms", "0")
    assert answer.returncode == 2
    assert b"invalid expire time" in answer.stderr


@pytest.mark.cluster
def test_status_is_a_table_for_people_and_json_for_programs(connect: str) -> None:
    answer = trimaran("status", connect, "--json")
    (node,) = json.loads(answer.stdout)["nodes"]
    assert list(node) == list(cli_status.FIELDS)
    assert node["id"] == node["leader"] == "n1"
    assert node["role"] == "leader"
    assert node["alive"] is True
    table = trimaran("status", connect).stdout.decode()
    assert "n1 leads · 1 of 1 nodes answer" in table
    assert "127.0.0.1" in table


@pytest.mark.cluster
def test_snapshot_says_what_it_holds_and_transfer_to_nobody_is_refused(connect: str) -> None:
    answer = trimaran("snapshot", connect)
    assert answer.returncode == 0
    index, _, term = answer.stdout.decode().strip().partition("-")
    assert int(index) > 0
    assert int(term) > 0
    answer = trimaran("transfer", connect, "n9")
    assert answer.returncode == 2
    assert b"n9" in answer.stderr


# --- failures ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["get", "k"],
        ["set", "k", "v"],
        ["del", "k"],
        ["cas", "k", "a", "b"],
        ["status"],
        ["transfer"],
        ["snapshot"],
    ],
    ids=lambda words: words[0],
)
def test_no_node_at_all_is_exit_code_3(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_base_port()
    assert cli.main([*words, "--connect", f"127.0.0.1:{port}"]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("trimaran: unavailable, nothing was done: ")
    assert f"127.0.0.1:{port}: " in captured.err


@pytest.mark.parametrize(
    ("reply", "code", "part"),
    [
        pytest.param(b"-CLUSTERDOWN no leader\r\n", 3, "nothing was done", id="no leader"),
        pytest.param(b"-UNKNOWN write may or may not\r\n", 4, "may or may not", id="unknown"),
        pytest.param(None, 4, "the connection broke", id="broken"),
        pytest.param(b"-ERR value is too long\r\n", 2, "refused: value is too long", id="refused"),
    ],
)
def test_a_write_that_fails_has_the_exit_code_of_its_family(
    reply: bytes | None, code: int, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with ScriptedServer({b"SET": reply}) as server:
        assert cli.main(["set", "k", "v", "--connect", str(server.address)]) == code
    assert part in capsys.readouterr().err


def test_the_password_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMARAN_PASSWORD", "s3cret")
    with ScriptedServer({b"DEL": b":1\r\n"}) as server:
        assert cli.main(["del", "k", "--connect", str(server.address)]) == 0
        assert [b"AUTH", b"s3cret"] in server.seen


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["get"],
        ["nonsense"],
        ["get", "k", "--connect", "7001"],
        ["get", "k", "--consistency", "x"],
        ["set", "k", "v", "--ttl-ms", "soon"],
        ["serve"],
    ],
    ids=" ".join,
)
def test_wrong_words_are_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    assert "usage: trimaran" in capsys.readouterr().err


def test_serve_names_every_problem_of_its_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "n1.toml"
    path.write_text("[raft]\nheartbeat = 1\n")
    assert cli.main(["serve", "--config", str(path), "--set", "wal.sync=never"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "trimaran: raft.heartbeat: unknown key; did you mean raft.heartbeat_ms?" in lines
    assert "trimaran: wal.sync: is 'never', must be one of always, interval, checkpoint" in lines
    assert "trimaran: node.id: is missing" in lines


@pytest.mark.cluster
@pytest.mark.parametrize("port", ["client", "peer"])
def test_serve_says_which_port_is_in_use(tmp_path: Path, port: str) -> None:
    base = free_base_port(1)
    addresses = {"client": base, "peer": base + 1000, "http": base + 2000}
    config = tmp_path / "n1.toml"
    config.write_text(
        f'[node]\nid = "n1"\ndata_dir = "{tmp_path}/n1"\n[[cluster.members]]\nid = "n1"\n'
        + "".join(f'{name} = "127.0.0.1:{number}"\n' for name, number in addresses.items())
    )
    with socket.create_server(("127.0.0.1", addresses[port])):
        answer = trimaran("serve", "--config", str(config))
    assert answer.returncode == 3, answer
    assert str(addresses[port]).encode() in answer.stderr
    assert b"Traceback" not in answer.stderr


def test_verify_and_dump_of_nothing_are_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["verify", str(tmp_path / "absent")]) == 2
    assert cli.main(["dump", str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err.count("no such") == 2


def test_certs_are_made_once_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["certs", str(tmp_path / "c"), "--nodes", "n1, n2", "--days", "30"]
    assert cli.main(words) == 0
    made = capsys.readouterr().out.split()
    assert [Path(path).name for path in made] == [
        *("ca.key", "ca.crt"),
        *("n1.key", "n1.crt", "n2.key", "n2.crt"),
    ]
    assert all(Path(path).stat().st_mode & 0o777 == 0o600 for path in made)
    assert cli.main(words) == 2
    assert "n2.crt: is there already; it is not overwritten" in capsys.readouterr().err
    assert cli.main([*words[:3], "n4,../x"]) == 2
    assert "'../x' is no id of a node" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        pytest.param(
            ["peer.tls_cert=absent.crt", "peer.tls_key=absent.key", "peer.tls_ca=ca.crt"],
            "peer.tls_cert: absent.crt: no such file",
            id="no such file",
        ),
        pytest.param(
            ["peer.tls_cert=n1.crt"],
            "peer.tls_key: is missing: peer.tls_cert needs it",
            id="half of it",
        ),
    ],
)
def test_serve_says_what_its_certificates_lack(
    tmp_path: Path, settings: list[str], part: str
) -> None:
    path = tmp_path / "n1.toml"
    base = free_base_port(1)
    path.write_text(
        f'[node]\nid = "n1"\ndata_dir = "{tmp_path}/n1"\n[[cluster.members]]\nid = "n1"\n'
        f'client = "127.0.0.1:{base}"\npeer = "127.0.0.1:{base + 1000}"\n'
        f'http = "127.0.0.1:{base + 2000}"\n'
    )
    words = [word for setting in settings for word in ("--set", setting)]
    result = trimaran("serve", "--config", str(path), *words)
    assert result.returncode == 2
    assert part in result.stderr.decode()


def test_a_reader_that_has_read_enough_is_no_failure(tmp_path: Path) -> None:
    command = f"{sys.executable} -P -m node --help | true; exit ${{PIPESTATUS[0]}}"
    answer = subprocess.run(
        ["bash", "-c", command],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=30,
    )
    assert (answer.returncode, answer.stderr) == (0, b"")


# --- help and the table ------------------------------------------------------------------


def test_every_option_has_help() -> None:
    parser = build_parser()
    commands = parser._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    for name, command in commands.items():  # type: ignore[union-attr]
        assert command.description
        for action in command._actions:
            if action.option_strings:
                assert action.help, f"{name} {action.option_strings}"


def test_every_word_of_the_parser_is_carried_out_by_somebody() -> None:
    commands = build_parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    assert set(commands) == set(cli._HANDLERS)  # type: ignore[arg-type]


def member(number: int, **fields: object) -> NodeStatus:
    alive = bool(fields)
    problem = "" if alive else "connection refused"
    common = {"id": f"n{number}", "alive": alive}
    return NodeStatus(Address("127.0.0.1", 7000 + number), common | fields, problem)


def shown(*found: NodeStatus) -> str:
    stream = io.StringIO()
    cli_status.show(found, stream)
    return stream.getvalue()


def test_the_table_shows_lag_behind_the_leader_and_who_is_down() -> None:
    text = shown(
        member(1),
        member(2, role="leader", term=7, commit_index=41_230, applied_index=41_230, keys=312),
        member(3, role="follower", term=7, applied_index=41_200, journal_bytes=1_258_291),
    )
    assert "term 7 · n2 leads · 2 of 3 nodes answer" in text
    table = text.partition("does not answer")[0].splitlines()[:-1]
    rows = {words[0]: words for words in map(str.split, table) if words}
    assert rows["n1"][1] == "down"
    assert rows["n2"][1:6] == ["leader", "7", "41,230", "41,230", "0"]
    assert rows["n3"][4:6] == ["41,200", "30"]
    assert "1.2 MiB" in text
    assert "n1 does not answer: connection refused" in text


def test_the_table_says_when_there_is_no_leader_and_no_majority() -> None:
    text = shown(member(1), member(2), member(3, role="candidate", term=9))
    assert "term 9 · no leader · 1 of 3 nodes answer · no majority" in text


def test_json_of_a_silent_node_has_nulls_and_its_id() -> None:
    (node,) = json.loads(cli_status.as_json([member(1)]))["nodes"]
    assert node == dict.fromkeys(cli_status.FIELDS) | {"id": "n1", "alive": False}
