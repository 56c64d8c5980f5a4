"""Many seeds, in several processes; what was counted in all of them together.

    campaign(first, last, profile, jobs=2) -> Campaign

A seed that ends in an exception of the simulation itself counts as a violation.

Proved by: tests/simulation/test_simulation_seeds.py
"""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.simulation import planted
from tests.simulation.plan import Plan
from tests.simulation.run import Verdict, run

__all__ = ["Campaign", "campaign", "run_seed"]

CPU_S_MAX = 30.0
"""A seed takes 0.1 s. One that takes so long hangs in one callback."""
Job = tuple[int, str, int, float, str]


@dataclass
class Campaign:
    """Sums over seeds."""

    seeds: int = 0
    failed: dict[int, list[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    seeds_with: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    healed_s_max: float = 0.0

    def add(self, verdict: Verdict) -> None:
        self.seeds += 1
        self.counts.update(verdict.counts)
        self.seeds_with.update(verdict.counts.keys())
        self.answers.update(verdict.answers)
        self.virtual_s += verdict.virtual_s
        self.cpu_s += verdict.cpu_s
        self.healed_s_max = max(self.healed_s_max, verdict.healed_s)
        if verdict.violations:
            self.failed[verdict.plan.seed] = verdict.violations


def run_seed(job: Job) -> Verdict:
    """One seed, with a planted bug if one is named."""
    seed, profile, nodes, for_s, bug = job
    plan = Plan.of(seed, profile, nodes, for_s)
    signal.signal(signal.SIGVTALRM, _hangs)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S_MAX)
    try:
        if bug:
            with planted.BUGS[bug].plant():
                return run(plan)
        return run(plan)
    except Exception:  # noqa: BLE001 - a campaign goes on, and tells
        return Verdict(plan, violations=[f"the simulation itself: {traceback.format_exc()}"])
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


class _Hangs(Exception):
    """A seed is at it for far too long, within one callback."""


def _hangs(number: int, frame: object) -> None:
    raise _Hangs


def verdicts(jobs: list[Job], processes: int) -> Iterator[Verdict]:
    """In the order of the seeds."""
    if processes <= 1:
        yield from map(run_seed, jobs)
        return
    with multiprocessing.get_context("fork").Pool(processes, maxtasksperchild=200) as pool:
        yield from pool.imap(run_seed, jobs, chunksize=4)


def campaign(
    first: int,
    last: int,
    profile: str,
    *,
    nodes: int = 0,
    for_s: float = 0.0,
    bug: str = "",
    processes: int = 1,
    stop_at_first: bool = False,
    told: Callable[[Verdict], None] = lambda verdict: None,
) -> Campaign:
    """Run seeds first..last, both included."""
    began_s = time.monotonic()
    found = Campaign()
    jobs = [(seed, profile, nodes, for_s, bug) for seed in range(first, last + 1)]
    for verdict in verdicts(jobs, processes):
        found.add(verdict)
        told(verdict)
        if stop_at_first and verdict.violations:
            break
    found.wall_s = time.monotonic() - began_s
    return found
