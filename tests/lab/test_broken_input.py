"""What is not as it should be: said in one line that names it, exit code 2, never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node.cli import main
from node.lab.history import OK, History, Operation
from tests.lab.made import a_result
from tests.support.supervised import ROOT


def history(path: Path) -> list[str]:
    """A sound one, as lines."""
    first = Operation("write", 1, "n1", "k", "a", 0, 10, OK, revision=7)
    then = Operation("read", 2, "n2", "k", None, 20, 30, OK, "a", revision=7)
    History([first, then], {"workload": "register"}).write(path)
    return path.read_text(encoding="utf-8").splitlines(keepends=True)


def changed(number: int, **fields: Any) -> Callable[[list[str]], str]:
    """The history with other fields in one of its lines; None: without that field."""

    def change(lines: list[str]) -> str:
        line = json.loads(lines[number]) | fields
        for name in [name for name, value in fields.items() if value is None]:
            del line[name]
        lines[number] = json.dumps(line) + "\n"
        return "".join(lines)

    return change


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(lambda lines: "", "its first line must say", id="empty"),
        pytest.param(lambda lines: "".join(lines[1:]), "its first line must say", id="no head"),
        pytest.param(lambda lines: "".join(lines)[:-9], ":3: not a line of JSON", id="a cut line"),
        pytest.param(lambda lines: "".join(lines[:2]), "1 operations of 2", id="cut at a line"),
        pytest.param(lambda lines: lines[0] + "[1, 2]\n", ":2: not an operation", id="a list"),
        pytest.param(changed(1, op=None), ":2: not an operation", id="no op"),
        pytest.param(changed(1, start_us="0"), ":2: not an operation: start_us is '0'", id="text"),
        pytest.param(changed(1, end_us=-5), "it ends at -5, before it starts", id="backwards"),
        pytest.param(changed(1, revision="7"), "revision is '7'", id="no number"),
        pytest.param(changed(1, outcome="maybe"), "outcome is 'maybe'", id="no outcome"),
        pytest.param(changed(1, more=1), ":2: not an operation", id="a field more"),
        pytest.param(changed(1, op="dance"), "a register knows no 'dance'", id="another op"),
        pytest.param(changed(1, op="cas"), "no history of 'register'", id="a value of another op"),
        pytest.param(changed(2, result={"a": 1}), "no history of 'register'", id="no value"),
        pytest.param(changed(0, workload="dance"), "workload.kind: 'dance'", id="no workload"),
        pytest.param(changed(0, keys="x"), "workload.keys: is 'x'", id="keys"),
        pytest.param(changed(0, workload="counter"), "a counter knows no 'write'", id="another's"),
    ],
)
def test_a_damaged_history(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[list[str]], str],
    said: str,
) -> None:
    path = tmp_path / "h.jsonl"
    lines = history(path)
    assert main(["lab", "check", str(path)]) == 0
    capsys.readouterr()
    path.write_text(damage(lines), encoding="utf-8")
    assert main(["lab", "check", str(path)]) == 2
    heard = capsys.readouterr().err
    assert said in heard
    assert str(path) in heard
    assert heard.count("\n") == 1


def test_a_history_cut_at_any_byte_is_never_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "h.jsonl"
    whole = "".join(history(path)).encode()
    for size in range(len(whole) - 1):  # the last newline is nothing
        path.write_bytes(whole[:size])
        assert main(["lab", "check", str(path)]) == 2, size
    path.write_bytes(b"\xff\xfe" + whole)
    assert main(["lab", "check", str(path)]) == 2
    capsys.readouterr()


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("name = [", "Invalid value"),
        ("faults = 3", "faults: must be tables"),
        ("faults = [3]", "faults[0]: must be a table"),
        ("times = 3", "times: must be a table"),
        ("[times]\nrun_s = -1.0", "times.run_s: must not be negative"),
        ("[workload]\nplain_ratio = 2.0", "workload.plain_ratio: must be 0 to 1"),
        ("[workload]\nkinds = 1", "workload.kinds: no such key"),
        ("[workload]\nlevels = 3", "workload.levels: is 3"),
        ("[workload]\nlevels = [3]", "workload.levels: 3"),
        ("runs = true", "runs: is True, must be int"),
        ("[cluster]\nsettings = 3", "cluster.settings: is 3"),
        ('[chaos]\nweights = {kill = "much"}', "chaos.weights"),
        ("sweep = 3", "sweep: is 3"),
        ('[sweep]\nkey = "workload.clients"\nvalues = 3', "sweep.values"),
        ('[sweep]\nkey = "workload.dance"\nvalues = {a = 1}', "sweep, a: workload.dance"),
        ('[sweep]\nkey = "workload.clients"\nvalues = {a = 1, b = 0}', "sweep, b: runs, workload"),
    ],
)
def test_an_experiment_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], toml: str, said: str
) -> None:
    path = tmp_path / "e.toml"
    path.write_text(toml, encoding="utf-8")
    assert main(["lab", "run", str(path), "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_directory_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    words = ["lab", "run", str(ROOT / "configs/lab/kill-leader.toml")]
    assert main([*words, "--out", str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err


def test_results_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, other = a_result(tmp_path / "a"), a_result(tmp_path / "b")
    (other / "summary.json").write_text("{}", encoding="utf-8")
    for words in (["compare", str(good), str(other)], ["report", str(other)]):
        assert main(["lab", *words]) == 2
        assert "not what a run of an experiment leaves" in capsys.readouterr().err


def test_comparing_two_experiments_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = a_result(tmp_path / "a"), a_result(tmp_path / "b")
    summary = json.loads((second / "summary.json").read_text(encoding="utf-8"))
    summary["experiment"]["name"] = "another"
    (second / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    assert main(["lab", "compare", str(first), str(second)]) == 0
    said = capsys.readouterr()
    assert "two experiments" in said.err
    assert "another" in said.out


def test_a_result_of_before_revisions_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its first line says no number of operations, and no operation a revision."""
    directory = a_result(tmp_path / "a", runs=1)
    path = directory / "runs/001/history.jsonl"
    head, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    about = json.loads(head)
    del about["operations"]
    path.write_text(json.dumps(about) + "\n" + "".join(lines), encoding="utf-8")
    assert main(["lab", "report", str(directory)]) == 0
    assert main(["lab", "check", str(path)]) == 0
    assert "revisions" not in capsys.readouterr().out
