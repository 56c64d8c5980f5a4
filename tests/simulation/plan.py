"""What goes wrong and when: plain data, made of a seed and a profile, written and read as JSON.

    Plan   the size of the world, how busy it is, and its faults
    Fault  at_s, kind, arguments, and a seed of its own for what depends on the moment: leaving one
           fault out changes nothing about the others

    calm        delays, drifting clocks, transfers, snapshots
    swizzle     cuts of every kind, slow and held links, resets, pauses, transfers
    disk        crashes at any moment and any disk operation, power loss, EIO, ENOSPC, bit flips,
                slow disks
    everything  both, with jumping clocks, members that come and go, and machines that lose
                their disks

Proved by: tests/simulation/test_simulation_parts.py
"""

from __future__ import annotations

import dataclasses
import json
import random
from dataclasses import dataclass
from typing import Any

__all__ = ["KINDS", "PROFILES", "Fault", "Plan"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. `args`: what it needs; names of nodes are in it."""

    at_s: float
    kind: str
    args: tuple[Any, ...]
    seed: int

    def show(self) -> str:
        return f"{self.at_s:.3f} {self.kind} {' '.join(map(str, self.args))} (seed {self.seed})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that a run depends on."""

    seed: int
    profile: str
    nodes: int
    founders: int
    clients: int
    for_s: float
    pause_s: float
    padding: int
    election_ms: tuple[int, int]
    heartbeat_ms: int
    tick_s: float
    small_ticks: bool
    delay_s: tuple[float, float]
    repeats: float
    rates: tuple[float, ...]
    faults: tuple[Fault, ...]
    listeners: tuple[str, ...] = ()
    """Who is told things (listeners.py). None of them in plans that are older."""

    def dumps(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)

    @staticmethod
    def loads(text: str) -> Plan:
        fields = json.loads(text)
        for name in ("election_ms", "delay_s", "rates", "listeners"):
            fields[name] = tuple(fields.get(name, ()))
        fields["faults"] = tuple(
            Fault(each["at_s"], each["kind"], tuple(each["args"]), each["seed"])
            for each in fields["faults"]
        )
        return Plan(**fields)

    @staticmethod
    def of(seed: int, profile: str, nodes: int = 0, for_s: float = 0.0) -> Plan:
        """The plan of a seed. nodes, for_s: 0 has the seed decide."""
        chance = random.Random(f"plan {seed} {profile}")
        founders = nodes or chance.choice((3, 3, 3, 3, 5, 2, 1 if profile == "everything" else 3))
        spares = 2 if profile == "everything" and founders < 5 else 0
        total = founders + spares
        length_s = for_s or chance.choice((1.5, 2.5, 3.5))
        short = chance.random() < 0.5
        kinds = PROFILES[profile]
        faults: list[Fault] = []
        at_s, gap_s = 0.1, chance.choice((0.08, 0.15, 0.3)) if kinds else 1.0
        names = [f"n{i}" for i in range(1, total + 1)]
        # Swizzled: each seed leaves some kinds out, so that others get further.
        kinds = {kind: weight for kind, weight in kinds.items() if chance.random() < 0.7} or kinds
        while (at_s := at_s + gap_s * 2 * chance.random()) < length_s:
            kind = chance.choices(list(kinds), weights=list(kinds.values()))[0]
            faults.append(
                Fault(round(at_s, 6), kind, KINDS[kind](chance, names), chance.randrange(1 << 30))
            )
        drift = chance.choice((0, 0, 1))
        return Plan(
            seed=seed,
            profile=profile,
            nodes=total,
            founders=founders,
            clients=chance.choice((3, 5, 7)),
            for_s=length_s,
            pause_s=chance.choice((0.02, 0.04, 0.08)),
            padding=chance.choice((0, 40, 150)),
            election_ms=(150, 300) if short else (300, 600),
            heartbeat_ms=30 if short else 60,
            tick_s=0.02 if chance.random() < 0.7 else 0.01,
            small_ticks=chance.random() < 0.2,
            delay_s=chance.choice(((0.0002, 0.001), (0.001, 0.004), (0.0002, 0.02))),
            repeats=chance.choice((0.0, 0.05, 0.3)),
            rates=tuple(1 + drift * chance.uniform(-0.04, 0.04) for _ in range(total)),
            faults=tuple(faults),
            listeners=tuple(chance.sample(_LISTENERS, chance.choice((0, 1, 1, 2, 3)))),
        )


def _span(chance: random.Random) -> float:
    return round(chance.choice((0.05, 0.2, 0.5, 1.0)) * (0.5 + chance.random()), 4)


def _one(chance: random.Random, names: list[str]) -> str:
    """A node by name, or whoever leads by then."""
    return "leader" if chance.random() < 0.35 else chance.choice(names)


def _pair(chance: random.Random, names: list[str]) -> tuple[str, str]:
    if len(names) < 2:
        return names[0], names[0]
    one, other = chance.sample(names, 2)
    return one, other


_LISTENERS = ("watch", "watch", "cache", "optimist")
KINDS: dict[str, Any] = {
    "cut": lambda c, n: (*_pair(c, n), _span(c), c.choice((0.0, 0.5))),
    "isolate": lambda c, n: (_one(c, n), _span(c) * 2, c.choice((0.0, 0.5))),
    "split": lambda c, n: (c.randrange(1, 1 << len(n)), _span(c) * 2, c.choice((0.0, 0.5))),
    "hold": lambda c, n: (*_pair(c, n), _span(c)),
    "deaf": lambda c, n: (_one(c, n), c.choice(("in", "out")), _span(c)),
    "slow": lambda c, n: (*_pair(c, n), c.choice((0.02, 0.1, 0.3)), _span(c)),
    "reset": lambda c, n: _pair(c, n),
    "double": lambda c, n: _pair(c, n),
    "pause": lambda c, n: (_one(c, n), _span(c)),
    "crash": lambda c, n: (
        _one(c, n),
        c.choice(("ALL", "SYNCED", "MIXED")),
        c.choice((0.0, 0.1, 0.5)),
    ),
    "crash_at": lambda c, n: (
        _one(c, n),
        c.randrange(1, 30),
        c.choice(("ALL", "SYNCED", "MIXED")),
        c.choice((0.0, 0.2)),
    ),
    "power": lambda c, n: (
        c.choice(("SYNCED", "MIXED")),
        c.choice((0.0, 0.02)),
        c.choice((0.0, 0.3)),
    ),
    "slow_disk": lambda c, n: (_one(c, n), c.choice((0.01, 0.05, 0.3)), _span(c) * 2),
    "slow_disks": lambda c, n: (c.choice((0.005, 0.02, 0.1)), _span(c) * 2),
    "eio": lambda c, n: (_one(c, n), c.randrange(1, 20), c.random() < 0.5, c.random() < 0.5),
    "full": lambda c, n: (_one(c, n), _span(c)),
    "flip": lambda c, n: (c.choice(n),),
    "wipe": lambda c, n: (c.choice(n), c.random() < 0.5),
    "jump": lambda c, n: (_one(c, n), c.choice((-2000, -300, -50, 50, 300, 2000))),
    "transfer": lambda c, n: (),
    "stream": lambda c, n: (c.choice(("pause", "reset", "reset", "crash")), _span(c)),
    "there_and_back": lambda c, n: (c.choice(n), _span(c)),
    "hand_over_deaf": lambda c, n: (_span(c),),
    "snapshot": lambda c, n: (_one(c, n),),
    "member": lambda c, n: (c.choice(n),),
}
"""Kind -> what it draws its arguments from."""

_CALM = {"transfer": 1, "snapshot": 2, "slow": 1}
_SWIZZLE = {
    "cut": 4,
    "isolate": 3,
    "split": 3,
    "hold": 2,
    "deaf": 2,
    "slow": 2,
    "reset": 2,
    "double": 1,
    "pause": 2,
    "transfer": 2,
    "hand_over_deaf": 1,
    "there_and_back": 1,
    "stream": 1,
    "snapshot": 1,
}
_DISK = {
    "crash": 4,
    "crash_at": 6,
    "power": 2,
    "slow_disk": 2,
    "slow_disks": 1,
    "eio": 1,
    "full": 1,
    "flip": 1,
    "stream": 1,
    "snapshot": 2,
}
PROFILES: dict[str, dict[str, int]] = {
    "calm": _CALM,
    "swizzle": _SWIZZLE,
    "disk": _DISK,
    "everything": {
        **_SWIZZLE,
        **_DISK,
        "snapshot": 3,
        "stream": 6,
        "jump": 1,
        "member": 3,
        "wipe": 2,
    },
}
