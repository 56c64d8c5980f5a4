"""N runs of one experiment, and what they come to.

    DIR/summary.json        every run's verdict and outages, and how to do it again
    DIR/runs/001 ...        node.lab.run
    DIR/report.html, .png   node.lab.report, node.lab.picture

A series that is resumed keeps the runs whose result.json (written last) is there, if they are
of this experiment: its runs are the same, however often it was interrupted.

Proved by: tests/lab/test_end_to_end.py
"""

from __future__ import annotations

import asyncio
import dataclasses
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.lab import files, picture, report
from node.lab.clock import RunClock
from node.lab.config import Experiment
from node.lab.connection import Server
from node.lab.foreign import ClusterFailed
from node.lab.linear import BROKEN, UNDECIDED
from node.lab.report import values_of, write_report
from node.lab.run import run_once
from node.lab.stage import Progress, Run, worst
from node.version import TRIMARAN_VERSION

__all__ = ["Setting", "result_of", "run_series"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What does not change between the runs."""

    command: str
    seed: int
    against: Sequence[Server] = ()
    runner: Callable[[], asyncio.Runner] = asyncio.Runner
    """Makes the event loop of a run."""
    resume: bool = False


def run_series(
    experiment: Experiment,
    directory: Path,
    setting: Setting,
    progress_of: Callable[[int], Progress],
) -> dict[str, Any]:
    """All runs, and the report; the summary.

    Raises:
        CannotRun: the server lacks what the workload needs.
        ValueError: to be resumed is a series of another experiment.
    """
    begun = RunClock().wall_zero()
    results: list[dict[str, Any]] = []
    last: Run | None = None
    interrupted = False
    try:
        for number in range(1, experiment.runs + 1):
            name = f"{number:03d}"
            path, seed = directory / "runs" / name, f"{setting.seed}.{number}"
            if setting.resume and (path / "result.json").exists():
                last = _kept(path, experiment, seed)
                results.append(result_of(name, last))
                continue
            try:
                with setting.runner() as runner:
                    last = runner.run(
                        run_once(
                            experiment,
                            path,
                            seed=seed,
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
        interrupted = True
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
        "interrupted": interrupted,
        "results": results,
    }
    files.write_json(files.make_dir(directory) / "summary.json", summary)
    if summary["shown"]:
        write_report(directory)
        run = report.load_run(directory / "runs" / summary["shown"])
        picture.write_picture(directory / "report.png", run, _series(results))
    return summary


def _kept(path: Path, experiment: Experiment, seed: str) -> Run:
    run = report.load_run(path)
    if (run.name, run.seed) != (experiment.name, seed):
        raise ValueError(f"{path}: is {run.name}, seed {run.seed}: not to be resumed here")
    return run


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
