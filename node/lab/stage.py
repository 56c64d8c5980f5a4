"""The phases of one run: load, faults, healing, final reads, digests; and its judgement.

    load: warm up | faults | heal all | after -> final reads -> digests

Proved by: tests/lab/test_end_to_end.py
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from node.lab.checks import Observed, Verdict, judge
from node.lab.client import Recorder
from node.lab.cluster import OwnCluster
from node.lab.config import Experiment, FaultConfig
from node.lab.connection import Server, ask
from node.lab.driver import Driver
from node.lab.events import Event
from node.lab.faults import Breaker, Record
from node.lab.foreign import ClusterFailed, Foreign, status_of
from node.lab.leases import judge_leases
from node.lab.linear import BROKEN, UNDECIDED, VALID
from node.lab.nodechecks import judge_nodes, write_gap
from node.lab.outage import Outage, find
from node.lab.revisions import judge_revisions
from node.lab.workload import Workload
from node.lab.workloads import BANK_TOTAL_EACH

__all__ = ["Progress", "Run", "Stage", "worst"]

Progress = Callable[[str, float, dict[str, int]], None]
"""Told of: the phase, the share of the run that is over, operations by outcome."""

_SAMPLE_S: Final = 0.05
_DIGEST_S: Final = 8.0


@dataclass
class Run:
    """One run and what came of it."""

    name: str
    seed: str
    operations: list[Any] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    marks_us: dict[str, int] = field(default_factory=dict)
    """When the load began, faults began, all was healed, the load ended."""

    @property
    def verdict(self) -> str:
        """The worst of all."""
        return worst([each.verdict for each in self.verdicts])


def worst(verdicts: Sequence[str]) -> str:
    """broken before unknown before valid; unknown of none."""
    if not verdicts:
        return UNDECIDED
    return next((each for each in (BROKEN, UNDECIDED) if each in verdicts), VALID)


class Stage:
    """The phases of one run."""

    def __init__(
        self,
        experiment: Experiment,
        run: Run,
        cluster: Foreign,
        recorder: Recorder,
        rng: random.Random,
        progress: Progress,
    ) -> None:
        self.recorder = recorder
        self._experiment = experiment
        self._run = run
        self._cluster = cluster
        self._rng = rng
        self._progress = progress
        self._breaker = Breaker(cluster, recorder.clock.now_us, rng)
        self._digests: dict[str, list[Any]] | None = None
        self._failure = ""

    async def play(self, workload: Workload) -> None:
        """The load, and what is done to the nodes under it."""
        times = self._experiment.times
        driver = Driver(
            self._experiment.workload,
            workload,
            self._cluster.servers,
            self.recorder,
            seed=self._run.seed,
        )
        sampler = asyncio.create_task(self._sample())
        try:
            driver.start()
            self._mark("load")
            await self._pass_time("warming up", times.warmup_s, 0.0)
            self._mark("faults")
            await self._break()
            self._mark("healed")
            await self._heal()
            await self._pass_time("after", times.after_s, 0.8)
            await driver.stop()
            self._mark("end")
            await driver.finish()
            if isinstance(self._cluster, OwnCluster):
                await self._compare_digests()
        finally:
            sampler.cancel()
            driver.close()

    def _mark(self, name: str) -> None:
        self._run.marks_us[name] = self.recorder.clock.now_us()

    async def _pass_time(self, phase: str, seconds: float, share: float) -> None:
        until_us = self.recorder.clock.now_us() + seconds * 1_000_000
        while (left_us := until_us - self.recorder.clock.now_us()) > 0:
            self._progress(phase, share, self.recorder.counts)
            await asyncio.sleep(min(left_us / 1_000_000, 0.2))

    async def _break(self) -> None:
        """All planned and random faults, and at least run_s."""
        tasks = [asyncio.create_task(self._plan(fault)) for fault in self._experiment.faults]
        if self._experiment.chaos is not None:
            rows = range(self._experiment.chaos.at_once)
            tasks += [asyncio.create_task(self._chaos()) for _ in rows]
        tasks.append(asyncio.create_task(self._wait_run()))
        try:
            await asyncio.gather(*tasks)
        except (ClusterFailed, TimeoutError) as error:
            self._failure = str(error)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait_run(self) -> None:
        await self._pass_time("breaking", self._experiment.times.run_s, 0.3)

    async def _plan(self, fault: FaultConfig) -> None:
        await asyncio.sleep(self._rng.uniform(*fault.at_s))
        for number in range(fault.repeat):
            if number:
                await self._until_whole()
                await asyncio.sleep(self._rng.uniform(*fault.every_s))
            await self._breaker.apply(fault)

    async def _until_whole(self) -> None:
        """Before the next repetition: all nodes are back, and somebody leads."""
        cluster = self._cluster
        if isinstance(cluster, OwnCluster):
            await cluster.wait_ready(cluster.nodes, self._experiment.times.heal_s)

    async def _chaos(self) -> None:
        chaos, clock = self._experiment.chaos, self.recorder.clock
        assert chaos is not None
        until_us = clock.now_us() + self._experiment.times.run_s * 1_000_000
        kinds, weights = zip(*sorted(chaos.weights.items()), strict=True)
        while True:
            await asyncio.sleep(self._rng.uniform(*chaos.gap_s))
            if clock.now_us() > until_us:
                return
            kind = self._rng.choices(kinds, weights)[0]
            ms = {"delay": (5.0, 60.0), "slow_fsync": (20.0, 200.0), "clock": (-8e3, 8e3)}
            target = self._rng.choice(("leader", "leader", "follower", "any", "minority"))
            fault = FaultConfig(
                kind=kind, target=target, for_s=chaos.for_s, ms=ms.get(kind, (80.0, 300.0))
            )
            try:
                await self._breaker.apply(fault)
            except TimeoutError:
                if chaos.at_once == 1:
                    raise
                # Faults of other rows left nobody to lead for a while: nothing to aim at.

    async def _heal(self) -> None:
        try:
            await self._breaker.heal_all()
            if isinstance(self._cluster, OwnCluster):
                await self._cluster.wait_ready(self._cluster.nodes, self._experiment.times.heal_s)
        except ClusterFailed as error:
            self._failure = self._failure or f"after healing: {error}"

    async def _compare_digests(self) -> None:
        """Of all nodes, once they stand at the same index (or the last that was seen)."""
        clock = self.recorder.clock
        until_us = clock.now_us() + _DIGEST_S * 1_000_000
        while clock.now_us() < until_us:
            self._progress("comparing", 0.95, self.recorder.counts)
            try:
                answers = [await ask(server, "TRI.DIGEST") for server in self._cluster.servers]
            except OSError as error:
                self._failure = self._failure or f"digests: {error}"
                return
            self._digests = {
                server.id: [answer[0], answer[1].decode()]
                for server, answer in zip(self._cluster.servers, answers, strict=True)
                if isinstance(answer, list)
            }
            if len({digest[0] for digest in self._digests.values()}) == 1:
                return
            await asyncio.sleep(0.05)

    async def _sample(self) -> None:
        """Commit and applied index of every node, for the picture of the lag."""
        await asyncio.gather(*(self._sample_one(server) for server in self._cluster.servers))

    async def _sample_one(self, server: Server) -> None:
        # Each by itself: one that is paused must not hold up what is seen of the others.
        while True:
            now_us = self.recorder.clock.now_us()
            status = await status_of(server)
            if status is not None:
                self._run.samples.append(
                    {
                        "at_us": now_us,
                        "node": server.id,
                        "commit": status.get("commit_index"),
                        "applied": status.get("applied_index"),
                        "term": status.get("term"),
                        "role": status.get("role"),
                    }
                )
            await asyncio.sleep(_SAMPLE_S)

    def judge(self) -> None:
        """All verdicts, from what was recorded."""
        run, experiment = self._run, self._experiment
        run.records = self._breaker.records
        observed = Observed(
            experiment.workload,
            experiment.bounds,
            run.operations,
            run.events,
            run.records,
            run.marks_us.get("healed") if run.records else None,
            self._digests,
            BANK_TOTAL_EACH * experiment.workload.keys,
        )
        run.outages = find(run.operations, run.events, run.records, run.marks_us.get("end", 0))
        run.verdicts = [*judge(observed), *judge_revisions(observed), *judge_leases(observed)]
        run.verdicts += judge_nodes(observed)
        gap = write_gap(run.outages, experiment.bounds.write_gap_ms)
        if gap is not None:
            run.verdicts.append(gap)
        if self._failure:
            run.verdicts.append(Verdict("carried out", UNDECIDED, self._failure))
