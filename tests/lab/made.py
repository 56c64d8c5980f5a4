"""A result that was made up, small, with everything in it that a report can show."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

from node.lab import files
from node.lab.checks import Observed, judge
from node.lab.clock import RunClock
from node.lab.config import Bounds, Experiment
from node.lab.events import Event
from node.lab.history import OK, UNKNOWN, Operation
from node.lab.nodechecks import judge_nodes
from node.lab.outage import find
from node.lab.run import write_run
from node.lab.stage import Run

EXPERIMENT = Experiment.from_document(
    {"name": "made-up <&>", "about": "Not measured: a test of the report.", "runs": 4}
)


def a_run(number: int) -> Run:
    """Three seconds; the leader dies at 1,000 ms and n2 leads some 250 ms later."""
    rng = random.Random(number)
    run = Run(EXPERIMENT.name, f"1.{number}")
    elected = 1_230_000 + rng.randrange(80_000)
    at = 0
    while at < 3_000_000:
        at += rng.randrange(1_000, 6_000)
        if 1_000_000 <= at < elected + 9_000:
            continue
        each = Operation("write", number, "n2", "r0", str(at), at, at + rng.randrange(500, 4_000))
        each.outcome = OK
        run.operations.append(each)
    lost = Operation("write", 3, "n1", "r0", "lost", 999_000, 1_001_000, UNKNOWN)
    run.operations.append(lost)
    run.events = [
        _event(0, "n1", "role", role="leader", term=1),
        _event(0, "n2", "role", role="follower", term=1),
        _event(1_000_000, "n1", "ended", code=-9),
        _event(elected - 20_000, "n2", "role", role="candidate", term=2),
        _event(elected, "n2", "role", role="leader", term=2),
        _event(elected + 5_000, "n2", "leader ready", term=2),
        _event(2_000_000, "n1", "started", pid=1),
        _event(2_300_000, "n1", "role", role="follower", term=2),
    ]
    run.records = [
        {
            "kind": "kill",
            "target": "leader",
            "nodes": ["n1"],
            "start_us": 1_000_000,
            "end_us": 2_000_000,
        }
    ]
    run.samples = [
        {"at_us": at_us, "node": node, "commit": at_us // 100, "applied": at_us // 110}
        for at_us in range(0, 3_000_000, 100_000)
        for node in ("n1", "n2")
    ]
    run.marks_us = {"load": 0, "faults": 500_000, "healed": 2_000_000, "end": 3_000_000}
    run.outages = find(run.operations, run.events, run.records, 3_000_000)
    observed = Observed(
        EXPERIMENT.workload, Bounds(), run.operations, run.events, run.records, 2_000_000
    )
    run.verdicts = [*judge(observed), *judge_nodes(observed)]
    return run


def _event(at_us: int, node: str, event: str, **fields: object) -> Event:
    return {"at_us": at_us, "node": node, "event": event, **fields}


def a_result(directory: Path, runs: int = 4) -> Path:
    """A directory as `lab run` leaves it, without its report."""
    from node.lab.series import result_of

    results = []
    for number in range(1, runs + 1):
        run = a_run(number)
        write_run(run, EXPERIMENT, directory / "runs" / f"{number:03d}")
        results.append(result_of(f"{number:03d}", run))
    summary = {
        "experiment": dataclasses.asdict(EXPERIMENT),
        "verdict": "valid",
        "command": "trimaran lab run made-up.toml",
        "begun": RunClock().wall_zero(),
        "versions": {"trimaran": "0"},
        "notes": ["nothing of this was measured"],
        "shown": "001",
        "results": results,
    }
    files.write_json(directory / "summary.json", summary)
    return directory
