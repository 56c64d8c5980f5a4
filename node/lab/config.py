"""An experiment, read from TOML and checked whole before anything is started.

    name = "kill-leader"
    about = "The leader dies by kill -9 ..."
    runs = 10                     how often, each on a new cluster
    [cluster]   nodes, config (settings for all nodes), settings (section.key = value)
    [workload]  kind, clients, keys, rate (0: closed loop), read_ratio, ...
    [times]     warmup_s, run_s, after_s; start_s and heal_s are bounds
    [[faults]]  kind, target, at_s, for_s, repeat, every_s, ...      planned
    [chaos]     from_s, gap_s, for_s, weights                        at random, until run_s is over
    [bounds]    write_gap_ms, early_ms, late_ms                      what is promised

A number that is to be drawn anew for each run is written as [lowest, highest].

Invariants: every problem is reported at once, with its key; a key that is not known is refused.

Proved by: tests/lab/test_config.py
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from node.lab import files
from node.lab.tables import Span, read_table

__all__ = [
    "FAULT_KINDS",
    "Bounds",
    "ChaosConfig",
    "ClusterConfig",
    "Experiment",
    "ExperimentError",
    "FaultConfig",
    "Times",
    "WorkloadConfig",
]

PROCESS_FAULTS: Final = ("kill", "term", "pause", "restart_all", "rolling_restart")
WIRE_FAULTS: Final = ("isolate", "mute", "deaf", "cut_one", "ring", "flap", "delay", "loss")
DOOR_FAULTS: Final = ("slow_fsync", "disk_full", "io_error", "clock")
PLANNED_FAULTS: Final = ("transfer", "snapshot", "member")
FAULT_KINDS: Final = (*PROCESS_FAULTS, *WIRE_FAULTS, *DOOR_FAULTS, *PLANNED_FAULTS)
TARGETS: Final = ("leader", "follower", "majority", "minority", "all", "any")
_WORKLOADS: Final = ("register", "counter", "append", "set", "bank", "ttl", "lock", "scan")
_LEVELS: Final = ("", "linearizable", "lease", "eventual")


class ExperimentError(Exception):
    """The experiment cannot be run as it is written; one line for each problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """[cluster]: the nodes that are started."""

    nodes: int = 3
    config: str = ""
    """A file of settings for all nodes, relative to the experiment's."""
    settings: dict[str, Any] = field(default_factory=dict)
    """`"raft.heartbeat_ms" = 30`: wins over the file."""
    wires: str = "proxy"
    """How wires are cut: "proxy", or "namespaces" (root only)."""
    delay_ms: Span = (0.0, 0.0)
    """How long anything between two nodes takes, one way, all the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadConfig:
    """[workload]: what the clients do."""

    kind: str = "register"
    clients: int = 9
    keys: int = 5
    rate: float = 0.0
    """Operations per second of all clients together; 0: each as fast as it is answered."""
    pause_ms: float = 0.0
    """Closed loop: how long a client rests after each operation."""
    read_ratio: float = 0.5
    cas_ratio: float = 0.1
    plain_ratio: float = 0.25
    """Share of requests that ask for no revision: plain GET and SET, as most clients send."""
    skew: float = 0.0
    value_bytes: int = 16
    ttl_ms: int = 300
    timeout_ms: int = 2_000
    levels: tuple[str, ...] = ("",)
    """Consistency, client by client in turn; "" leaves it to the server."""
    claim: str = ""
    """What reads at level "" are judged as; "" as linearizable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """[times], in seconds."""

    warmup_s: float = 1.0
    """Load before the time of faults begins (at_s counts from its end)."""
    run_s: float = 3.0
    after_s: float = 1.0
    """Load after everything is healed."""
    start_s: float = 30.0
    heal_s: float = 20.0
    """All nodes have to be back, and writes answered, this soon after healing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultConfig:
    """[[faults]]: one thing that is broken, and healed `for_s` later."""

    kind: str
    target: str = "leader"
    at_s: Span = (0.5, 0.5)
    for_s: Span = (1.0, 1.0)
    repeat: int = 1
    every_s: Span = (0.0, 0.0)
    """From the healing of one to the next one."""
    ms: Span = (0.0, 0.0)
    """delay: one way; slow_fsync: each sync; clock: the offset; flap: half a period."""
    share: float = 0.1
    """loss: of the segments."""
    until_leader: bool = False
    """Not healed, after for_s, before somebody leads again: who comes back must not vote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosConfig:
    """[chaos]: faults drawn by weight, one after the other."""

    at_once: int = 1
    """How many such rows of faults run side by side."""

    gap_s: Span = (0.3, 1.0)
    for_s: Span = (0.3, 1.5)
    weights: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """[bounds]: promises in numbers; what is worse is broken."""

    heal_ms: float = 5_000.0
    """After everything is healed a write is acknowledged within this time."""
    write_gap_ms: float = 0.0
    """Longest time without an acknowledged write, 0: not promised."""
    early_ms: float = 0.0
    """A lease may end this much before its deadline (clocks of two leaders differ)."""
    late_ms: float = 2_000.0
    """A read may find a lease's key this long after its deadline, outages included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """The whole of it."""

    name: str
    about: str = ""
    runs: int = 1
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    workload: WorkloadConfig = field(default_factory=WorkloadConfig)
    times: Times = field(default_factory=Times)
    faults: tuple[FaultConfig, ...] = ()
    chaos: ChaosConfig | None = None
    bounds: Bounds = field(default_factory=Bounds)
    sweep: dict[str, Any] = field(default_factory=dict)
    """[sweep] key, values: what `lab sweep` changes, and `lab run` too when it is there; panels:
    which of the values are drawn together (all in one when left out)."""
    paper: dict[str, float] = field(default_factory=dict)
    """[paper]: "value, median" = 287.0: what somebody published, drawn beside ours."""

    @property
    def kinds(self) -> set[str]:
        """Of all faults that may happen."""
        found = {fault.kind for fault in self.faults}
        return found | set(self.chaos.weights if self.chaos else ())

    @property
    def needs_wires(self) -> bool:
        """Whether peers have to talk through proxies."""
        real = self.cluster.wires == "namespaces" or any(self.cluster.delay_ms)
        return real or bool(self.kinds & set(WIRE_FAULTS))

    @property
    def needs_doors(self) -> bool:
        """Whether nodes have to open their laboratory door."""
        return bool(self.kinds & set(DOOR_FAULTS))

    @classmethod
    def load(cls, path: Path) -> Experiment:
        """Read a file. ExperimentError: all that is wrong with it."""
        try:
            document = tomllib.loads(files.load_text(path))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ExperimentError(f"{path}: {error}") from error
        document.setdefault("name", path.stem)
        return cls.from_document(document, path.parent)

    @classmethod
    def from_document(cls, document: dict[str, Any], base: Path = Path()) -> Experiment:
        """Of a parsed document. ExperimentError: all that is wrong with it."""
        problems: list[str] = []
        values: dict[str, Any] = dict(document)
        tables = {"cluster": ClusterConfig, "workload": WorkloadConfig, "times": Times}
        for name, kind in {**tables, "bounds": Bounds, "chaos": ChaosConfig}.items():
            if name in values:
                values[name] = read_table(kind, values[name], name, problems)
        if not isinstance(values.get("faults", []), list):
            problems.append("faults: must be tables, [[faults]]")
        elif "faults" in values:
            values["faults"] = tuple(
                read_table(FaultConfig, table, f"faults[{number}]", problems)
                for number, table in enumerate(values["faults"])
            )
        if problems:
            raise ExperimentError("\n".join(problems))
        experiment: Experiment = read_table(cls, values, "", problems)
        if not problems:
            problems = _judge(experiment)
        if experiment is not None and experiment.sweep and not problems:
            problems = _judge_sweep(experiment.sweep, document)
        if problems:
            raise ExperimentError("\n".join(problems))
        if experiment.cluster.config:
            config = str((base / experiment.cluster.config).resolve())
            cluster = dataclasses.replace(experiment.cluster, config=config)
            experiment = dataclasses.replace(experiment, cluster=cluster)
        return experiment


def _judge(experiment: Experiment) -> list[str]:
    workload, problems = experiment.workload, []
    if workload.kind not in _WORKLOADS:
        problems.append(f"workload.kind: {workload.kind!r}; there are {', '.join(_WORKLOADS)}")
    if workload.clients < 1 or workload.keys < 1 or experiment.runs < 1:
        problems.append("runs, workload.clients, workload.keys: must be at least 1")
    problems += [
        f"times.{each.name}: must not be negative"
        for each in dataclasses.fields(Times)
        if getattr(experiment.times, each.name) < 0
    ]
    if not 0 <= workload.plain_ratio <= 1:
        problems.append("workload.plain_ratio: must be 0 to 1")
    problems += [f"workload.levels: {each!r}" for each in workload.levels if each not in _LEVELS]
    for fault in experiment.faults:
        if fault.kind not in FAULT_KINDS:
            problems.append(f"faults.kind: {fault.kind!r}; there are {', '.join(FAULT_KINDS)}")
        if fault.target not in TARGETS and not fault.target.startswith("n"):
            problems.append(f"faults.target: {fault.target!r}; there are {', '.join(TARGETS)}, n1")
    if experiment.chaos is not None:
        wrong = set(experiment.chaos.weights) - set(FAULT_KINDS)
        problems += [f"chaos.weights: {kind!r} is no fault" for kind in sorted(wrong)]
        numbers = experiment.chaos.weights.values()
        if any(not isinstance(each, int | float) or each <= 0 for each in numbers):
            problems.append("chaos.weights: must be numbers above 0")
        if not experiment.chaos.weights or experiment.chaos.at_once < 1:
            problems.append("chaos: weights must not be empty, at_once be at least 1")
    if experiment.cluster.wires not in ("proxy", "namespaces"):
        problems.append("cluster.wires: must be proxy or namespaces")
    if not 1 <= experiment.cluster.nodes <= 9:
        problems.append("cluster.nodes: must be 1 to 9")
    return problems


def _judge_sweep(sweep: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """Each value has to make a sound experiment of its own."""
    if not {"key", "values"} <= set(sweep) <= {"key", "values", "panels"}:
        return ["sweep: takes key, values, and panels"]
    if not isinstance(sweep["values"], dict) or not sweep["values"]:
        return ["sweep.values: must be a table: label = value"]
    section, _, name = str(sweep["key"]).partition(".")
    problems = []
    for label, value in sweep["values"].items():
        varied = {**document, "sweep": {}}
        varied[section] = {**varied.get(section, {}), name: value} if name else value
        try:
            Experiment.from_document(varied)
        except ExperimentError as error:
            problems += [f"sweep, {label}: {line}" for line in str(error).splitlines()]
    drawn = [label for panel in sweep.get("panels", ()) for label in panel]
    return problems + [
        f"sweep.panels: {each!r} is no value" for each in drawn if each not in sweep["values"]
    ]
