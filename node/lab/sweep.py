"""One experiment for each value of a sweep, and the picture of all.

    DIR/<label>/            node.lab.series, for each value
    DIR/sweep.json          the outages of all values, and how to do it again
    DIR/report.html, .png   their distributions: a panel for each list of [sweep] panels, with what
                            somebody published, if anything, beside them

Proved by: tests/lab/test_sweep.py, tests/lab/test_end_to_end.py
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from node.lab import figures, files, picture, report
from node.lab.config import Experiment
from node.lab.linear import BROKEN, VALID
from node.lab.report import values_of
from node.lab.series import Setting, run_series
from node.lab.stage import Progress, worst
from node.lab.stats import spread

__all__ = ["published", "run_sweep", "write_sweep_report"]

_MEASURES: Final = {
    "leaderless_ms": "time without a leader",
    "unavailable_ms": "time without an acknowledged write",
}


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
                **{name: values_of(summary["results"], name) for name in _MEASURES},
            }
        )
        if summary["interrupted"]:
            break
    swept = {
        "name": experiment.name,
        "about": experiment.about,
        "key": key,
        "points": points,
        "panels": experiment.sweep.get("panels", []),
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


def published(paper: Mapping[str, float], labels: Iterable[str]) -> dict[str, float]:
    """Of {"150-155, median": 287.0} what is about these values."""
    known = set(labels)
    return {name: ms for name, ms in paper.items() if name.partition(",")[0] in known}


def write_sweep_report(directory: Path, swept: dict[str, Any]) -> None:
    """report.html and report.png of a sweep."""
    parts, drawn = [], list[picture.Distribution]()
    for name, title in _MEASURES.items():
        series = {point["label"]: point[name] for point in swept["points"] if point[name]}
        if not series:
            continue
        paper = swept["paper"] if name == "leaderless_ms" else {}
        parts.append(f"<h2>{title}</h2>")
        for labels in swept.get("panels") or [list(series)]:
            some = {label: series[label] for label in labels if label in series}
            if not some:
                continue
            beside = published(paper, some)
            # As the paper has it: logarithmic where seconds and milliseconds meet.
            log = max(max(values) for values in [*some.values(), beside.values()] if values) > 1_000
            parts.append(figures.distribution(title, some, paper=beside, log=log))
            if name == "leaderless_ms":
                drawn.append((some, beside, log))
        parts.append(_table(series, paper))
    if drawn:
        title = f"{swept['name']}: {_MEASURES['leaderless_ms']}"
        picture.write_distributions(directory / "report.png", title, drawn)
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


def _table(series: Mapping[str, Sequence[float]], paper: Mapping[str, float]) -> str:
    rows, titles = [], ["n", "min", "mean", "median", "p95", "max", *(["the paper"] * bool(paper))]
    for label, values in series.items():
        told = spread(values)
        assert told is not None
        mean = sum(values) / len(values)
        cells = [f"{told.count}"]
        shown = (told.minimum, mean, told.median, told.p95, told.maximum)
        cells += [f"{each:,.0f}" for each in shown]
        if paper:
            beside = published(paper, [label])
            cells.append(
                "; ".join(f"{name.partition(', ')[2]} {beside[name]:,.0f}" for name in beside)
            )
        numbers = "".join(f'<td class="number">{each}</td>' for each in cells)
        rows.append(f"<tr><td>{label}</td>{numbers}</tr>")
    head = "".join(f'<th class="number">{each}</th>' for each in titles)
    return f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"
