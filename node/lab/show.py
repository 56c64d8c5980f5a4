"""What the laboratory prints: a bar while it runs, one screen at its end.

Proved by: tests/lab/test_cli.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from node.lab.config import Experiment
from node.lab.linear import BROKEN, UNDECIDED, VALID
from node.lab.report import values_of
from node.lab.stage import Progress as Told
from node.lab.stats import spread

__all__ = [
    "Screen",
    "print_comparison",
    "print_experiments",
    "print_summary",
    "print_sweep",
    "print_verdicts",
]

_STYLES: Final = {VALID: "bold green", BROKEN: "bold red", UNDECIDED: "bold yellow"}
_WORDS: Final = {VALID: "kept", BROKEN: "BROKEN", UNDECIDED: "not decided"}
_EVIDENCE_SHOWN: Final = 6


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=110)


class Screen:
    """The bar. On stderr, and only for a terminal."""

    def __init__(self, experiment: Experiment) -> None:
        console = _console(stderr=True)
        points = len(experiment.sweep["values"]) if experiment.sweep else 1
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(
            experiment.name, total=experiment.runs * points, counts=""
        )
        self._runs = experiment.runs
        self._labels: list[str] = []

    def __enter__(self) -> Screen:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def progress_of(self, number: int, label: str = "", before: int = 0) -> Told:
        """What a run tells its progress to."""

        def told(phase: str, share: float, counts: dict[str, int]) -> None:
            self._progress.update(
                self._task,
                completed=before + number - 1 + share,
                description=f"{label} run {number} of {self._runs}: {phase}".strip(),
                counts=" ".join(f"{count} {name}" for name, count in counts.items()),
            )

        return told

    def progress_of_point(self, label: str, number: int) -> Told:
        """The same of a sweep."""
        if label not in self._labels:
            self._labels.append(label)
        return self.progress_of(number, label, self._labels.index(label) * self._runs)


def print_summary(summary: dict[str, Any], directory: Path) -> None:
    """One screen: verdicts, outages, where the report is."""
    console, results = _console(), summary["results"]
    counts = {name: sum(each["counts"][name] for each in results) for name in ("ok", "fail")}
    unknown = sum(each["counts"]["unknown"] for each in results)
    line = Text(f"{summary['experiment']['name']}: ", style="bold")
    line.append(_WORDS[summary["verdict"]], _STYLES[summary["verdict"]])
    line.append(f" · {len(results)} runs · {counts['ok']:,} ok, {counts['fail']:,} fail, ")
    console.print(line.append(f"{unknown:,} unknown"))
    print_verdicts(_worst_of_each(results))
    for name, title in (("unavailable_ms", "no write"), ("leaderless_ms", "no leader")):
        told = spread(values_of(results, name))
        if told is not None:
            console.print(f" {title:<10} {told.show()}")
    if summary["shown"]:
        console.print(f"\n {directory / 'report.html'}", soft_wrap=True)


def _worst_of_each(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each check once: as it came out worst, and how often."""
    found: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        for each in result["verdicts"]:
            found.setdefault(each["name"], []).append(each)
    rows = []
    for verdicts in found.values():
        bad = next(
            (some for kind in (BROKEN, UNDECIDED) if (some := _of(verdicts, kind))), verdicts
        )
        shown = dict(bad[-1])
        if len(results) > 1:
            shown["text"] = f"{len(bad)} of {len(verdicts)} runs: {shown['text']}"
        rows.append(shown)
    return rows


def _of(verdicts: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in verdicts if each["verdict"] == kind]


def print_verdicts(verdicts: Sequence[dict[str, Any]]) -> None:
    """A row for each; evidence below what was broken."""
    console = _console()
    table = Table(box=None, show_header=False, pad_edge=True)
    for each in verdicts:
        word = Text(_WORDS[each["verdict"]], style=_STYLES[each["verdict"]])
        table.add_row(each["name"], word, Text(each["text"]))
        if each["verdict"] != VALID:
            for line in each["evidence"][:_EVIDENCE_SHOWN]:
                table.add_row("", "", Text(line, style="dim"))
    console.print(table)


def print_sweep(swept: dict[str, Any], directory: Path) -> None:
    """A row for each value."""
    console = _console()
    line = Text(f"{swept['name']}: ", style="bold")
    console.print(line.append(_WORDS[swept["verdict"]], _STYLES[swept["verdict"]]))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in (swept["key"], "promises", "n", "no leader, ms: median", "p95", "max"):
        table.add_column(name)
    table.add_column("no write, ms: median")
    for point in swept["points"]:
        cells = [str(point["label"]), _WORDS[point["verdict"]]]
        leaderless, unavailable = spread(point["leaderless_ms"]), spread(point["unavailable_ms"])
        if leaderless is None:
            cells += ["0", "-", "-", "-"]
        else:
            numbers = (leaderless.median, leaderless.p95, leaderless.maximum)
            cells += [str(leaderless.count), *(f"{each:.0f}" for each in numbers)]
        cells.append("-" if unavailable is None else f"{unavailable.median:.0f}")
        table.add_row(*cells)
    console.print(table)
    for name, value in swept["paper"].items():
        console.print(f" paper: {name} {value:g} ms")
    console.print(f"\n {directory / 'report.html'}", soft_wrap=True)


def print_experiments(found: Sequence[tuple[Path, Experiment]]) -> None:
    """What there is to run."""
    console, table = _console(), Table(box=None, show_header=False, pad_edge=True)
    for path, experiment in found:
        table.add_row(str(path), experiment.about.strip().split("\n")[0])
    console.print(table)


def print_comparison(summaries: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """Numbers of two results, and their ratio."""
    console, table = _console(), Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in (*names, "second / first"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_row("experiment", *(each["experiment"]["name"] for each in summaries), "")
    table.add_row("runs", *(str(len(each["results"])) for each in summaries), "")
    table.add_row("promises", *(_WORDS[each["verdict"]] for each in summaries), "")
    for key, title in (("unavailable_ms", "no write"), ("leaderless_ms", "no leader")):
        told = [spread(values_of(each["results"], key)) for each in summaries]
        for attribute in ("median", "p95", "maximum"):
            values = [None if each is None else getattr(each, attribute) for each in told]
            cells = ["-" if value is None else f"{value:.1f}" for value in values]
            first, second = values
            ratio = f"{second / first:.2f}" if first and second is not None else ""
            table.add_row(f"{title}, {attribute}, ms", *cells, ratio)
    console.print(table)
