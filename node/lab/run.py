"""One run of an experiment, from the first process to the last verdict.

    start nodes -> prepare -> load: warm up | faults | heal all | after -> final reads -> digests
                -> stop -> judge -> files

    DIR/history.jsonl   events.jsonl   faults.jsonl   samples.jsonl   result.json (last)
    DIR/nodes/n1.toml, n1.log, n1/                    (data directories go when all is valid)

Whatever goes wrong, the nodes are ended; a run that could not be carried out to its end is an
`unknown` verdict that says why, never a valid one.

Proved by: tests/lab/test_end_to_end.py
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from node.lab import files
from node.lab.client import Recorder
from node.lab.clock import RunClock
from node.lab.cluster import OwnCluster
from node.lab.config import Experiment
from node.lab.connection import Server
from node.lab.foreign import Foreign
from node.lab.history import History, sort
from node.lab.linear import VALID
from node.lab.stage import Progress, Run, Stage
from node.lab.workloads import WORKLOADS

__all__ = ["run_once", "write_run"]


async def run_once(
    experiment: Experiment,
    directory: Path,
    *,
    seed: str,
    against: Sequence[Server] = (),
    progress: Progress = lambda phase, share, counts: None,
) -> Run:
    """Carry it out, judge it, write it down.

    Raises:
        ClusterFailed, CannotRun: it could not begin.
    """
    files.remove_tree(directory)  # a run begins with nothing
    clock = RunClock()
    rng = random.Random(f"{seed} faults")
    run = Run(experiment.name, seed)
    cluster: Foreign = (
        Foreign(list(against))
        if against
        else OwnCluster(
            experiment.cluster,
            directory / "nodes",
            clock,
            wires=experiment.needs_wires,
            doors=experiment.needs_doors,
            rng=random.Random(f"{seed} wires"),
        )
    )
    stage = Stage(experiment, run, cluster, Recorder(clock), rng, progress)
    workload = WORKLOADS[experiment.workload.kind](experiment.workload)
    if against:
        workload.prefix = f"lab:{seed}:{clock.wall_zero()}:"
    try:
        progress("starting", 0.0, stage.recorder.counts)
        await cluster.start()
        await workload.prepare(cluster.servers[0])
        run.notes += workload.notes
        await stage.play(workload)
    finally:
        await cluster.stop()
    run.events = sorted(cluster.events, key=lambda each: int(each["at_us"]))
    run.operations = sort(stage.recorder.operations)
    progress("judging", 1.0, stage.recorder.counts)
    stage.judge()
    run.about |= {
        "wall_zero": clock.wall_zero(),
        "clock_drift_us": clock.drift_us(),
        "against": [server.id for server in against],
        "prefix": workload.prefix,
    }
    write_run(run, experiment, directory)
    if not against and run.verdict == VALID:
        for name in cluster.nodes:
            files.remove_tree(directory / "nodes" / name)
    return run


def write_run(run: Run, experiment: Experiment, directory: Path) -> None:
    """All of its files; result.json last."""
    files.make_dir(directory)
    about = {"workload": experiment.workload.kind, "seed": run.seed, "experiment": run.name}
    claim = {"claim": experiment.workload.claim, "keys": experiment.workload.keys}
    History(run.operations, {**about, **claim, **run.about}).write(directory / "history.jsonl")
    files.write_lines(directory / "events.jsonl", run.events)
    files.write_lines(directory / "faults.jsonl", run.records)
    files.write_lines(directory / "samples.jsonl", run.samples)
    files.write_json(
        directory / "result.json",
        {
            "experiment": run.name,
            "seed": run.seed,
            "verdict": run.verdict,
            "verdicts": [
                {"name": v.name, "verdict": v.verdict, "text": v.text, "evidence": v.evidence}
                for v in run.verdicts
            ],
            "outages": [outage.as_json() for outage in run.outages],
            "marks_us": run.marks_us,
            "notes": run.notes,
            "about": run.about,
        },
    )
