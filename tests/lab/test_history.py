"""The file of a history: what is written is read again; what is none is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.lab.history import FAIL, OK, UNKNOWN, History, Operation


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    told = Operation("cas", 1, "n1", "k", ["a", None], 5, 9, OK, True, 4, "lease", 7)
    lost = Operation("write", 2, "n2", "k", "é\n", 1, 2, UNKNOWN, error="connection lost")
    refused = Operation("write", 3, "n3", "k", "x", 2, 3, FAIL, error="CLUSTERDOWN")
    history = History([lost, refused, told], {"workload": "register", "seed": 7})
    history.write(tmp_path / "history.jsonl")
    again = History.read(tmp_path / "history.jsonl")
    assert again == history
    assert told.latency_us == 5
    assert "(unknown connection lost)" in lost.show()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "no history", id="empty"),
        pytest.param('{"format": "other"}\n', "no history", id="another format"),
        pytest.param('{"format": "trimaran-lab-history/1"}\n{"op"\n', ":2:", id="torn line"),
        pytest.param(
            '{"format": "trimaran-lab-history/1"}\n{"op": "x"}\n', "not an operation", id="short"
        ),
        pytest.param(
            '{"format": "trimaran-lab-history/1"}\n{"op": "x", "process": 1, "node": "", "key": '
            '"k", "value": 1, "start_us": 1, "outcome": "perhaps"}\n',
            "perhaps",
            id="no outcome",
        ),
    ],
)
def test_what_is_no_history_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=problem):
        History.read(path)
