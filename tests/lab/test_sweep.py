"""A sweep's report: its panels, what was published beside what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from node.lab.config import Experiment, ExperimentError
from node.lab.picture import has_matplotlib
from node.lab.sweep import published, write_sweep_report
from tests.support.supervised import ROOT

FIGURE_16 = ROOT / "configs/lab/raft-figure-16.toml"
PAPER = {"slow, median": 287.0, "slow, max": 513.0, "fast, mean": 35.0}


def swept(**words: Any) -> dict[str, Any]:
    """What `lab sweep` leaves of two values."""
    measures = {
        "slow": [160.0, 170.0, 900.0, 1_200.0],
        "fast": [20.0, 31.0, 44.0],
    }
    points = [
        {"label": label, "verdict": "valid", "leaderless_ms": values, "unavailable_ms": values}
        for label, values in measures.items()
    ]
    panels = [["slow", "fast"], ["fast"]]
    rest = {"name": "made-up", "about": "", "paper": PAPER, "command": "x", "verdict": "valid"}
    return {"points": points, "panels": panels, **rest, **words}


def test_what_was_published_stands_beside_its_own_value(tmp_path: Path) -> None:
    assert published(PAPER, ["fast"]) == {"fast, mean": 35.0}
    write_sweep_report(tmp_path, swept())
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.count("<svg") == 4  # two panels of each measure
    first, second = html.split("<svg")[1:3]
    assert "paper: slow, median 287 ms" in first
    assert "paper: slow" not in second
    assert "paper: fast, mean 35 ms" in second
    assert '<td class="number">median 287; max 513</td>' in html
    assert '<td class="number">32</td>' in html  # the mean of the fast ones
    assert (tmp_path / "report.png").exists() == has_matplotlib()


def test_without_panels_all_values_are_in_one(tmp_path: Path) -> None:
    write_sweep_report(tmp_path, swept(panels=[], paper={}))
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.count("<svg") == 2
    assert "the paper" not in html


def test_figure_16_draws_what_it_measures() -> None:
    sweep = Experiment.load(FIGURE_16).sweep
    assert {label for panel in sweep["panels"] for label in panel} == set(sweep["values"])
    for label, settings in sweep["values"].items():
        shortest, longest = map(int, label.split("-"))
        assert settings["raft.election_timeout_min_ms"] == shortest
        assert settings["raft.election_timeout_max_ms"] == longest
        assert settings["raft.heartbeat_ms"] == shortest // 2  # as in the paper
        assert settings.get("lab.equal_timeouts", False) == (shortest == longest)
    assert set(published(Experiment.load(FIGURE_16).paper, sweep["values"])) == set(
        Experiment.load(FIGURE_16).paper
    )


@pytest.mark.parametrize(
    "sweep", [{"key": "runs"}, {"key": "runs", "values": {"1": 1}, "panels": [["2"]]}]
)
def test_a_sweep_that_makes_no_sense_is_refused(sweep: dict[str, Any]) -> None:
    with pytest.raises(ExperimentError, match="sweep"):
        Experiment.from_document({"name": "x", "sweep": sweep})
