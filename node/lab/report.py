"""The report: one HTML file that needs nothing else, from what is on disk.

    write_report(DIR)       DIR holds summary.json and runs/001 ...: report.html
    load_run(DIR/runs/001)  a run as it was, from its files

One run is shown in full: a broken one if there is one, else that of the median outage; the
distributions are over all runs.

Proved by: tests/lab/test_report.py
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from node.lab import figures, files
from node.lab.checks import Verdict
from node.lab.history import History
from node.lab.linear import BROKEN, UNDECIDED, VALID
from node.lab.outage import Outage
from node.lab.stage import Run
from node.lab.stats import spread

__all__ = ["load_run", "outages_of", "page", "values_of", "write_report"]

_MARKS: Final = {VALID: "kept", BROKEN: "BROKEN", UNDECIDED: "not decided"}
_STYLE: Final = """
body { font: 15px/1.5 Helvetica, Arial, sans-serif; color: #222; background: #fff;
       max-width: 1000px; margin: 32px auto; padding: 0 20px }
h1 { font-size: 26px; margin: 0 } h2 { font-size: 17px; margin: 34px 0 8px }
p.about { color: #555; margin: 4px 0 18px } svg { width: 100%; height: auto; display: block }
table { border-collapse: collapse; width: 100%; font-size: 14px }
td, th { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid #e6e6e6;
         vertical-align: top }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums }
.valid { color: #00795a; font-weight: bold } .broken { color: #b03a00; font-weight: bold }
.unknown { color: #8a6400; font-weight: bold }
.banner { padding: 10px 14px; border-radius: 4px; margin: 14px 0; background: #f3f6f8 }
.banner.broken { background: #fbeae2 } .banner.unknown { background: #fdf5de }
pre { background: #f6f6f6; padding: 10px 12px; overflow-x: auto; font-size: 12.5px;
      border-radius: 4px; white-space: pre-wrap }
"""


def load_run(directory: Path) -> Run:
    """A run from its files. ValueError, OSError: they are not there or not sound."""
    result = files.read_json(directory / "result.json")
    run = Run(result["experiment"], result["seed"])
    run.operations = History.read(directory / "history.jsonl").operations
    run.events = list(files.read_lines(directory / "events.jsonl"))
    run.records = list(files.read_lines(directory / "faults.jsonl"))
    run.samples = list(files.read_lines(directory / "samples.jsonl"))
    run.verdicts = [Verdict(**each) for each in result["verdicts"]]
    run.outages = outages_of(result)
    run.marks_us, run.notes, run.about = result["marks_us"], result["notes"], result["about"]
    return run


def outages_of(result: dict[str, Any]) -> list[Outage]:
    """The outages of a result.json."""
    derived = ("unavailable_ms", "leaderless_ms", "segments")
    found = []
    for each in result["outages"]:
        fields = {name: value for name, value in each.items() if name not in derived}
        fields["clients"] = {int(name): value for name, value in fields["clients"].items()}
        found.append(Outage(**fields))
    return found


def values_of(results: Sequence[dict[str, Any]], name: str) -> list[float]:
    """One number of all outages of all runs: unavailable_ms, leaderless_ms."""
    found = [each[name] for result in results for each in result["outages"]]
    return [value for value in found if value is not None]


def write_report(directory: Path) -> Path:
    """Make DIR/report.html anew; its path."""
    summary = files.read_json(directory / "summary.json")
    shown = load_run(directory / "runs" / summary["shown"])
    path = directory / "report.html"
    files.save_text(path, _report(summary, shown))
    return path


def _report(summary: dict[str, Any], shown: Run) -> str:
    results, experiment = summary["results"], summary["experiment"]
    parts = [_banner(summary), _numbers(results), _figure_of(summary, results)]
    title = "One run" if len(results) > 1 else "The run"
    parts.append(f"<h2>{title}: {html.escape(summary['shown'])}, seed {shown.seed}</h2>")
    parts.append(figures.timeline(shown))
    bars = [each for each in shown.outages if each.segments()]
    if bars:
        worst = max(bars, key=lambda each: each.unavailable_ms or 0.0)
        parts.append("<h2>Its longest outage</h2>")
        parts.append(figures.outage_bar(worst))
    parts += [_verdicts(results), _faults(shown), _reproduce(summary)]
    return page(experiment["name"], experiment["about"], parts)


def page(title: str, about: str, parts: Sequence[str]) -> str:
    """A whole HTML page around these parts."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>"
        f'<h1>{html.escape(title)}</h1><p class="about">{html.escape(about)}</p>'
        f"{''.join(parts)}</body></html>\n"
    )


def _banner(summary: dict[str, Any]) -> str:
    results, verdict = summary["results"], summary["verdict"]
    counts = [sum(each["verdict"] == kind for each in results) for kind in _MARKS]
    words = {
        VALID: "Every promise was kept",
        BROKEN: "A promise was broken",
        UNDECIDED: "Not decided",
    }
    operations = sum(sum(each["counts"].values()) for each in results)
    return (
        f'<div class="banner {verdict}"><span class="{verdict}">{words[verdict]}.</span> '
        f"{len(results)} run{'s' if len(results) > 1 else ''}: {counts[0]} valid, "
        f"{counts[1]} broken, {counts[2]} not decided; {operations:,} operations, "
        f"{sum(each['counts']['unknown'] for each in results):,} of unknown outcome.</div>"
    )


def _numbers(results: Sequence[dict[str, Any]]) -> str:
    rows = []
    for name, title in (
        ("unavailable_ms", "from the last acknowledged write to the next"),
        ("leaderless_ms", "from the fault to a new leader"),
    ):
        told = spread(values_of(results, name))
        if told is not None:
            cells = (told.count, told.minimum, told.median, told.p95, told.maximum)
            numbers = "".join(f'<td class="number">{each:,.0f}</td>' for each in cells)
            rows.append(f"<tr><td>{title}, ms</td>{numbers}</tr>")
    if not rows:
        return ""
    head = "".join(
        f'<th class="number">{each}</th>' for each in ("n", "min", "median", "p95", "max")
    )
    return f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"


def _figure_of(summary: dict[str, Any], results: Sequence[dict[str, Any]]) -> str:
    """The distributions, when there is more than one outage to speak of."""
    series = {
        "writes unavailable": values_of(results, "unavailable_ms"),
        "no leader": values_of(results, "leaderless_ms"),
    }
    if max(map(len, series.values())) < 3:
        return ""
    drawn = figures.distribution(
        "how long an outage lasts", series, paper=summary["experiment"].get("paper")
    )
    return f"<h2>Over all outages</h2>{drawn}"


def _verdicts(results: Sequence[dict[str, Any]]) -> str:
    """Each check with its worst verdict, and the evidence of the first run that broke it."""
    rows, names = [], dict[str, list[tuple[str, dict[str, Any]]]]()
    for result in results:
        for each in result["verdicts"]:
            names.setdefault(each["name"], []).append((result["run"], each))
    for name, found in names.items():
        bad = [each for each in found if each[1]["verdict"] == BROKEN]
        bad = bad or [each for each in found if each[1]["verdict"] == UNDECIDED]
        run, shown = (bad or found[-1:])[0]
        count = f"in {len(bad)} of {len(found)} runs, first {run}: " if bad else ""
        text = html.escape(count + shown["text"])
        if shown["evidence"]:
            text += f"<pre>{html.escape(chr(10).join(shown['evidence']))}</pre>"
        word = _MARKS[shown["verdict"]]
        rows.append(
            f'<tr><td>{html.escape(name)}</td><td class="{shown["verdict"]}">{word}</td>'
            f"<td>{text}</td></tr>"
        )
    return f"<h2>Promises</h2><table>{''.join(rows)}</table>"


def _faults(run: Run) -> str:
    if not run.records:
        return ""
    rows = []
    for record in run.records[:40]:
        end_us = record["end_us"] if record["end_us"] is not None else record["start_us"]
        cells = (
            record["kind"],
            " ".join(record["nodes"]),
            f"{record['start_us'] / 1000:.0f}",
            f"{(end_us - record['start_us']) / 1000:.0f}",
            str(record.get("note", "")),
        )
        rows.append("<tr>" + "".join(f"<td>{html.escape(each)}</td>" for each in cells) + "</tr>")
    head = "".join(f"<th>{each}</th>" for each in ("fault", "nodes", "at, ms", "for, ms", ""))
    return f"<h2>Faults of this run</h2><table><tr>{head}</tr>{''.join(rows)}</table>"


def _reproduce(summary: dict[str, Any]) -> str:
    facts = [f"{name}: {value}" for name, value in summary["versions"].items()]
    settings = json.dumps(summary["experiment"], indent=1)
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in summary["notes"])
    return (
        f"<h2>To do it again</h2><pre>{html.escape(summary['command'])}</pre>{notes}"
        f"<p>{html.escape('; '.join(facts))}; begun {html.escape(summary['begun'])}</p>"
        f"<details><summary>The experiment</summary><pre>{html.escape(settings)}</pre></details>"
    )
