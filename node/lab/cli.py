"""`trimaran lab ...`: the laboratory's commands.

    run EXPERIMENT      start nodes, load and break them, judge, report
    sweep EXPERIMENT    the same for each value of one setting
    list [DIR]          the experiments in a directory
    check HISTORY       judge a history again
    report DIR          write the report of a run's files again
    compare DIR DIR     two results side by side

Exit codes: 0 every promise kept, 1 one broken, 2 not decided, or it could not be run.

Proved by: tests/lab/test_cli.py, tests/lab/test_end_to_end.py
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from node.lab import files, show
from node.lab.checks import Observed, judge
from node.lab.clock import file_stamp
from node.lab.config import Bounds, Experiment, ExperimentError
from node.lab.connection import Server
from node.lab.history import History
from node.lab.leases import judge_leases
from node.lab.linear import BROKEN, UNDECIDED, VALID
from node.lab.report import write_report
from node.lab.revisions import judge_revisions
from node.lab.series import Setting, run_series
from node.lab.stage import worst
from node.lab.sweep import run_sweep, write_sweep_report
from node.lab.workload import CannotRun
from node.lab.workloads import BANK_TOTAL_EACH

__all__ = ["main"]

_EXITS: Final = {VALID: 0, BROKEN: 1, UNDECIDED: 2}


def main(
    options: argparse.Namespace,
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    password: str = "",
) -> int:
    """Run one of the commands; its exit code."""
    try:
        if options.lab in ("run", "sweep"):
            return _run(options, loop_factory, password)
        return {"list": _list, "check": _check, "report": _report, "compare": _compare}[
            options.lab
        ](options)
    except ExperimentError as error:
        for line in str(error).splitlines():
            print(f"trimaran lab: {line}", file=sys.stderr)
    except KeyboardInterrupt:
        print("trimaran lab: interrupted; what was started has ended", file=sys.stderr)
    except CannotRun as error:
        print(f"trimaran lab: cannot be run there: {error}", file=sys.stderr)
    except (OSError, ValueError, KeyError) as error:
        print(f"trimaran lab: {error}", file=sys.stderr)
    return _EXITS[UNDECIDED]


def _run(
    options: argparse.Namespace,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
    password: str,
) -> int:
    experiment = _experiment(options)
    directory = options.out or Path("lab-results") / f"{experiment.name}-{file_stamp()}"
    directory = directory.absolute()
    setting = Setting(
        command=_command(options),
        seed=options.seed,
        against=[replace(Server.parse(each), password=password) for each in options.against],
        runner=lambda: asyncio.Runner(loop_factory=loop_factory),
        resume=options.resume,
    )
    if options.against and (experiment.faults or experiment.chaos):
        print("trimaran lab: nothing is broken there: the faults are left out", file=sys.stderr)
        experiment = replace(experiment, faults=(), chaos=None)
    with show.Screen(experiment) as screen:
        if experiment.sweep:
            found = run_sweep(experiment, directory, setting, screen.progress_of_point)
        else:
            found = run_series(experiment, directory, setting, screen.progress_of)
    if experiment.sweep:
        show.print_sweep(found, directory)
    else:
        show.print_summary(found, directory)
    return _EXITS[found["verdict"]]


def _experiment(options: argparse.Namespace) -> Experiment:
    """The file, and what the words say otherwise."""
    path: Path = options.experiment
    try:
        document = tomllib.loads(files.load_text(path))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ExperimentError(f"{path}: {error}") from error
    document.setdefault("name", path.stem)
    for word in options.set:
        name, equals, text = word.partition("=")
        if not equals:
            raise ExperimentError(f"--set {word}: must be KEY=VALUE")
        _put(document, name.split("."), _value(text))
    if options.runs is not None:
        document["runs"] = options.runs
    if options.lab == "sweep" and options.key:
        values = [each.strip() for each in (options.values or "").split(",") if each.strip()]
        document["sweep"] = {
            "key": options.key,
            "values": {each.replace("/", "_"): _value(each) for each in values},
        }
    if options.lab == "sweep" and not document.get("sweep"):
        raise ExperimentError("sweep: takes --key and --values, or a file with a [sweep]")
    return Experiment.from_document(document, path.parent)


def _put(document: dict[str, Any], places: Sequence[str], value: Any) -> None:
    for place in places[:-1]:
        document = document.setdefault(place, {})
    document[places[-1]] = value


def _value(text: str) -> Any:
    """A TOML value; what is none is text."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def _command(options: argparse.Namespace) -> str:
    words = ["trimaran", "lab", options.lab, str(options.experiment), "--seed", str(options.seed)]
    if options.runs is not None:
        words += ["--runs", str(options.runs)]
    for word in options.set:
        words += ["--set", word]
    if options.resume:
        words.append("--resume")
    if options.against:
        words += ["--against", ",".join(options.against)]
    if options.lab == "sweep" and options.key:
        words += ["--key", options.key, "--values", options.values]
    return shlex.join(words)


def _list(options: argparse.Namespace) -> int:
    paths = sorted(options.directory.glob("*.toml"))
    if not paths:
        raise ValueError(f"{options.directory}: no experiments there")
    show.print_experiments([(path, Experiment.load(path)) for path in paths])
    return 0


def _check(options: argparse.Namespace) -> int:
    history = History.read(options.history)
    kind = history.about.get("workload", "register")
    told = {"kind": kind, "claim": history.about.get("claim", "")}
    told["keys"] = history.about.get("keys", 5)
    try:
        workload = Experiment.from_document({"name": kind, "workload": told}).workload
    except ExperimentError as error:
        raise ValueError(f"{options.history}: its first line: {error}") from error
    observed = Observed(workload, Bounds(), history.operations)
    observed.bank_total = BANK_TOTAL_EACH * workload.keys
    try:
        verdicts = [*judge(observed), *judge_revisions(observed), *judge_leases(observed)]
    except (TypeError, ValueError, LookupError) as error:
        # A line may be an operation, and none that this workload has.
        raise ValueError(f"{options.history}: no history of {kind!r}: {error}") from error
    show.print_verdicts([asdict(each) for each in verdicts])
    return _EXITS[worst([each.verdict for each in verdicts])]


def _report(options: argparse.Namespace) -> int:
    directory = options.directory
    if (directory / "sweep.json").exists():
        write_sweep_report(directory, files.read_json(directory / "sweep.json"))
        print(directory / "report.html")
    else:
        _summary(directory)
        print(write_report(directory))
    return 0


def _compare(options: argparse.Namespace) -> int:
    names = [options.first, options.second]
    summaries = [_summary(each) for each in names]
    first, second = (each["experiment"]["name"] for each in summaries)
    if first != second:
        print(f"trimaran lab: two experiments: {first} and {second}", file=sys.stderr)
    show.print_comparison(summaries, [str(each) for each in names])
    return 0


def _summary(directory: Path) -> dict[str, Any]:
    path = directory / "summary.json"
    summary = files.read_json(path)
    if not isinstance(summary, dict) or not {"experiment", "results", "verdict"} <= set(summary):
        raise ValueError(f"{path}: not what a run of an experiment leaves")
    return summary
