"""`trimaran top` and `trimaran status --watch`: what they show, and that an outage is shown too."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import re
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from node import cli_top, cli_watch, client
from node.cli_parser import build_parser
from node.client import NodeStatus
from node.config import Address
from node.errors import Unavailable
from tests.support.supervised import ROOT, wait_until
from tests.web.browse import configs, in_loop, running


def a_sample(node: str, at: int, **changed: Any) -> dict[str, Any]:
    sample = {
        "kind": "sample", "node": node, "at": at, "role": "follower", "term": 7, "leader": "n2",
        "commit": 41_230, "applied": 41_230, "ops": 800.0, "write_p50": 1.25, "write_p99": 4.0,
        "lag_p99": 0.5, "keys": 312, "leases": 4, "clients": 12,
    }  # fmt: skip
    return sample | changed


def shown(screen: cli_top.Screen) -> str:
    stream = io.StringIO()
    Console(file=stream, width=140).print(screen.picture())
    return stream.getvalue()


def test_a_picture_of_three_nodes_one_of_them_away() -> None:
    screen = cli_top.Screen(["n1", "n2", "n3"])
    assert "nobody leads" in shown(screen)
    assert not screen.is_whole
    role = {"kind": "event", "node": "n2", "at": 500, "level": "info", "event": "role", "term": 7}
    history = {"kind": "history", "node": "n2", "events": [role]}
    screen.take(history | {"samples": [a_sample("n2", 1_000, ops=100.0, role="leader")]})
    screen.take(a_sample("n2", 2_000, role="leader"))
    screen.take(a_sample("n3", 2_000, applied=41_000))
    screen.take(a_sample("n1", 2_000))
    assert screen.leader() == ("n2", 7)
    screen.take({"kind": "down", "node": "n1", "at": 2_500, "reason": "connection refused"})
    assert screen.is_whole
    text = shown(screen)
    for words in (
        "n2 leads, term 7 · n1 away",
        "down: connection refused",
        "▁█",
        "1.2 / 4.0",
        "role  term=7",
        "does not answer",
    ):
        assert words in text, (words, text)
    (row,) = [line for line in text.splitlines() if line.startswith(" n3") or "  n3 " in line]
    assert re.search(r"n3\s+follower\s+7\s+41,230\s+41,000\s+230\s+800", row)


def test_whom_a_minority_follows_does_not_lead() -> None:
    screen = cli_top.Screen(["n1", "n2", "n3"])
    screen.take(a_sample("n2", 1, role="leader"))
    assert screen.leader() is None
    for name in ("n1", "n3"):
        screen.take(a_sample(name, 2, leader=None))
    assert screen.leader() is None
    screen.take(a_sample("n3", 3, leader="n2"))
    assert screen.leader() == ("n2", 7)


@in_loop
async def test_once_prints_what_real_nodes_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (config,) = configs(tmp_path)
    members = {"n1": config.member.http}
    async with running([config]):
        found = await asyncio.to_thread(cli_watch.http_addresses, [config.member.client], "")
        assert found == members
        await cli_top._top(members, "", once=True)
    assert "n1 leads, term 1" in capsys.readouterr().out
    with pytest.raises(Unavailable):
        await cli_top._top(members, "", once=True)


def test_on_a_terminal_q_ends_it_and_the_terminal_is_as_before(tmp_path: Path) -> None:
    """With nobody to listen to: it shows that, and can be left."""
    code = (
        "from node.cli_top import top; from node.config import Address\n"
        "top({'n1': Address('127.0.0.1', 1)}, '', once=False)"
    )
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "140"},
    )
    os.set_blocking(master, False)
    seen = b""

    def has_shown() -> bool:
        nonlocal seen
        try:
            seen += os.read(master, 65_536)
        except BlockingIOError:
            pass
        return b"n1 away" in re.sub(rb"\x1b\[[0-9;?]*\w", b"", seen)

    wait_until(has_shown, 20, lambda: repr(seen))
    os.write(master, b"q")
    wait_until(lambda: has_shown() and process.poll() is not None, 10, lambda: repr(seen))
    assert process.returncode == 0
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_status_is_shown_again_and_again_also_while_nobody_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = build_parser().parse_args(["status", "--watch", "0.5", "--json"])
    assert options.watch == 0.5
    fields = {"id": "n1", "alive": True, "term": 3, "role": "leader"}
    status = NodeStatus(Address("127.0.0.1", 7001), fields)
    answers: list[Any] = [[status], Unavailable("refused"), [status]]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    def statuses(_addresses: object, _password: str) -> list[NodeStatus]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    monkeypatch.setattr(client, "statuses", statuses)
    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        cli_watch.watch_status([status.address], "", 0.5, as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(line["nodes"]) for line in lines] == [1, 0, 1]
    assert lines[1]["problem"] == "refused"
    answers, slept[:] = [[status], Unavailable("refused"), [status]], []
    with pytest.raises(KeyboardInterrupt):
        cli_watch.watch_status([status.address], "", 0.5, as_json=False)
    text = capsys.readouterr().out
    assert text.count("n1 leads") == 2
    assert "nobody answers: refused" in text


@pytest.mark.parametrize("word", ["0", "x", "1e9"])
def test_times_that_make_no_sense_are_refused(word: str) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["status", "--watch", word])
