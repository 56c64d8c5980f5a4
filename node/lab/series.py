"""N runs of one experiment, or of one for each value of a sweep, and what they come to.

    DIR/summary.json        every run's verdict and outages, and how to do it again
    DIR/runs/001 ...        node.lab.run
    DIR/report.html, .png   node.lab.report, node.lab.picture

    DIR/sweep.json, report.html, .png; DIR/<label>/summary.json ...      of a sweep

Proved by: tests/lab/test_end_to_end.py
"""

from __future__ import annotations

import asyncio
import dataclasses
import html
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.lab import figures, files, picture, report
from node.lab.clock import RunClock
from node.lab.config import Experiment
from node.lab.connection import Server
from node.lab.foreign import ClusterFailed
from node.lab.linear import BROKEN, UNDECIDED, VALID
from node.lab.report import values_of, write_report
from node.lab.run import run_once
from node.lab.stage import Progress, Run, worst
from node.lab.stats import spread
from node.version import TRIMARAN_VERSION

__all__ = ["Setting", "result_of", "run_series", "run_sweep", "write_sweep_report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What does not change between the runs."""

    command: str
    seed: int
    against: Sequence[Server] = ()
    runner: Callable[[], asyncio.Runner] = asyncio.Runner
    """Makes the event loop of a run."""


def run_series(
    experiment: Experiment,
    directory: Path,
    setting: Setting,
    progress_of: Callable[[int], Progress],
) -> dict[str, Any]:
    """All runs, and the report; the summary.

    Raises:
        CannotRun: the server lacks what the workload needs.
    """
    begun = RunClock().wall_zero()
    results: list[dict[str, Any]] = []
    last: Run | None = None
    try:
        for number in range(1, experiment.runs + 1):
            name = f"{number:03d}"
            path = directory / "runs" / name
            try:
                with setting.runner() as runner:
                    last = runner.run(
                        run_once(
                            experiment,
                            path,
                            seed=f"{setting.seed}.{number}",
                            against=setting.against,
                            progress=progress_of(number),
                        )
                    )
            except ClusterFailed as error:
                results.append(_not_run(name, str(error)))
                continue
            results.append(result_of(name, last))
    except KeyboardInterrupt:
        if not results:
            raise
        results.append(_not_run(f"{len(results) + 1:03d}", "interrupted"))
    summary: dict[str, Any] = {
        "experiment": dataclasses.asdict(experiment),
        "verdict": worst([each["verdict"] for each in results]),
        "command": setting.command,
        "begun": begun,
        "versions": {
            "trimaran": TRIMARAN_VERSION,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "notes": list(last.notes) if last is not None else [],
        "shown": _shown(results),
        "results": results,
    }
    files.write_json(files.make_dir(directory) / "summary.json", summary)
    if summary["shown"]:
        write_report(directory)
        run = report.load_run(directory / "runs" / summary["shown"])
        picture.write_picture(directory / "report.png", run, _series(results))
    return summary


def _series(results: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    return {
        "writes unavailable": values_of(results, "unavailable_ms"),
        "no leader": values_of(results, "leaderless_ms"),
    }


def result_of(name: str, run: Run) -> dict[str, Any]:
    """What the summary keeps of a run."""
    counts = {"ok": 0, "fail": 0, "unknown": 0}
    for operation in run.operations:
        counts[operation.outcome] += 1
    return {
        "run": name,
        "seed": run.seed,
        "verdict": run.verdict,
        "verdicts": [dataclasses.asdict(each) for each in run.verdicts],
        "outages": [each.as_json() for each in run.outages],
        "counts": counts,
    }


def _not_run(name: str, why: str) -> dict[str, Any]:
    verdict = {"name": "carried out", "verdict": UNDECIDED, "text": why, "evidence": []}
    counts = {"ok": 0, "fail": 0, "unknown": 0}
    blank: dict[str, Any] = {"run": name, "seed": "", "outages": [], "counts": counts}
    return {**blank, "verdict": UNDECIDED, "verdicts": [verdict], "not_run": True}


def _shown(results: Sequence[dict[str, Any]]) -> str:
    """The run that is drawn: a broken one, else the one of the median outage."""
    done = [each for each in results if not each.get("not_run")]
    for kind in (BROKEN, UNDECIDED):
        for each in done:
            if each["verdict"] == kind:
                return str(each["run"])
    ranked = sorted(done, key=lambda each: max(values_of([each], "unavailable_ms"), default=0.0))
    return str(ranked[(len(ranked) - 1) // 2]["run"]) if ranked else ""


def run_sweep(
    experiment: Experiment,
    directory: Path,
    setting: Setting,
    progress_of: Callable[[str, int], Progress],
) -> dict[str, Any]:
    """The experiment once for each value of [sweep]; the summary of all."""
    key, points = experiment.sweep["key"], []
    for label, value in experiment.sweep["values"].items():
        varied = _varied(experiment, key, value)
        summary = run_series(
            dataclasses.replace(varied, sweep={}),
            directory / label,
            setting,
            lambda number, label=label: progress_of(label, number),  # type: ignore[misc]
        )
        points.append(
            {
                "label": label,
                "value": value,
                "verdict": summary["verdict"],
                **{
                    name: values_of(summary["results"], name)
                    for name in ("unavailable_ms", "leaderless_ms")
                },
            }
        )
    swept = {
        "name": experiment.name,
        "about": experiment.about,
        "key": key,
        "points": points,
        "paper": experiment.paper,
        "command": setting.command,
        "verdict": worst([each["verdict"] for each in points]),
    }
    files.write_json(directory / "sweep.json", swept)
    write_sweep_report(directory, swept)
    return swept


def _varied(experiment: Experiment, key: str, value: Any) -> Experiment:
    """The experiment with one of its values changed; tables are added to."""
    section, _, name = key.partition(".")
    table = getattr(experiment, section)
    if not name:
        return dataclasses.replace(experiment, **{section: value})
    if isinstance(value, dict):
        value = {**getattr(table, name), **value}
    return dataclasses.replace(experiment, **{section: dataclasses.replace(table, **{name: value})})


def write_sweep_report(directory: Path, swept: dict[str, Any]) -> None:
    """report.html and report.png of a sweep."""
    parts = []
    for name, title in (
        ("leaderless_ms", "time without leader"),
        ("unavailable_ms", "time without an acknowledged write"),
    ):
        series = {point["label"]: point[name] for point in swept["points"] if point[name]}
        if not series:
            continue
        paper = swept["paper"] if name == "leaderless_ms" else None
        parts.append(f"<h2>{title}</h2>")
        parts.append(figures.distribution(title, series, paper=paper, log=True))
        parts.append(_table(series))
        if name == "leaderless_ms":
            where = directory / "report.png"
            picture.write_distribution(where, f"{swept['name']}: {title}", series, paper, log=True)
    verdict = swept["verdict"]
    word = {VALID: "Every promise was kept", BROKEN: "A promise was broken"}
    banner = f'<div class="banner {verdict}">{word.get(verdict, "Not decided")}.</div>'
    links = " · ".join(
        f'<a href="{point["label"]}/report.html">{point["label"]}</a>' for point in swept["points"]
    )
    command = html.escape(swept["command"])
    again = f"<h2>To do it again</h2><pre>{command}</pre><p>Each value: {links}</p>"
    page = report.page(swept["name"], swept["about"], [banner, *parts, again])
    files.save_text(directory / "report.html", page)


def _table(series: dict[str, list[float]]) -> str:
    rows = []
    for label, values in series.items():
        told = spread(values)
        assert told is not None
        cells = (told.count, told.minimum, told.median, told.p95, told.maximum)
        numbers = "".join(f'<td class="number">{each:,.0f}</td>' for each in cells)
        rows.append(f"<tr><td>{label}</td>{numbers}</tr>")
    head = "".join(
        f'<th class="number">{each}</th>' for each in ("n", "min", "median", "p95", "max")
    )
    return f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"
