"""`trimaran lab ...`: words, exit codes, one screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.cli import main
from node.lab.history import OK, History, Operation
from tests.lab.made import a_result
from tests.support.supervised import ROOT


def write(value: str, start: int, end: int) -> Operation:
    return Operation("write", 1, "n1", "k", value, start, end, OK)


def read(value: str, start: int, end: int) -> Operation:
    return Operation("read", 2, "n2", "k", None, start, end, OK, value)


GOOD = [write("a", 0, 10), read("a", 20, 30)]
STALE = [write("a", 0, 10), write("b", 20, 30), read("a", 40, 50)]


@pytest.mark.parametrize(("operations", "code"), [(GOOD, 0), (STALE, 1), ([], 2)])
def test_check_judges_a_history(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], operations: list[Operation], code: int
) -> None:
    History(operations, {"workload": "register"}).write(tmp_path / "h.jsonl")
    assert main(["lab", "check", str(tmp_path / "h.jsonl")]) == code
    shown = capsys.readouterr().out
    assert "linearizable" in shown
    assert ("BROKEN" in shown) == (code == 1)


def test_list_names_every_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "list", str(ROOT / "configs/lab")]) == 0
    shown = capsys.readouterr().out
    for path in (ROOT / "configs/lab").glob("*.toml"):
        assert path.stem in shown


def test_report_and_compare_read_what_a_run_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = a_result(tmp_path / "a"), a_result(tmp_path / "b", runs=2)
    assert main(["lab", "report", str(first)]) == 0
    assert (first / "report.html").exists()
    assert main(["lab", "compare", str(first), str(second)]) == 0
    assert "no write, median" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["run", "nothing.toml"],
        ["run", str(ROOT / "configs/lab/kill-leader.toml"), "--set", "workload.kind=dance"],
        ["run", str(ROOT / "configs/lab/kill-leader.toml"), "--against", "127.0.0.1:1"],
        ["sweep", str(ROOT / "configs/lab/kill-leader.toml")],
        ["list", "nowhere"],
        ["check", "nothing.jsonl"],
        ["report", "nowhere"],
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["lab", *words]) == 2
    said = capsys.readouterr()
    assert said.err or "not decided" in said.out
    assert "Traceback" not in said.err
