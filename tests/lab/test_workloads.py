"""Every workload against a server in memory: an honest one is valid, every lie is found out.

What is planted here is what a broken replica would do: a stale read, a lost write, a write that is
applied twice, a lease that ends early. A check that never fails would prove nothing.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from node.lab.config import Experiment
from node.lab.connection import Server
from node.lab.linear import BROKEN, VALID
from node.lab.run import run_once
from node.lab.stage import Run
from tests.lab.liar import LIES, Liar

KINDS = ("register", "counter", "append", "set", "bank", "ttl", "lock", "scan")
FOUND_BY = {
    "stale_read": ("register", {"linearizable", "stale (linearizable)"}),
    "lost_write": ("set", {"unique writes"}),
    "double_apply": ("counter", {"linearizable", "sums"}),
    "early_expiry": ("ttl", {"leases"}),
    "late_expiry": ("ttl", {"leases"}),
    "same_token": ("lock", {"fencing tokens"}),
    "two_holders": ("lock", {"lock"}),
    "torn_move": ("bank", {"bank"}),
    "blind_scan": ("scan", {"scan"}),
    "old_revision": ("register", {"revisions"}),
    "late_revision": ("register", {"revisions"}),
}


def experience(tmp_path: Path, kind: str, lie: str, run_s: float = 0.6, clients: int = 4) -> Run:
    """A short run of a workload against a server with this lie."""
    experiment = Experiment.from_document(
        {
            "name": kind,
            "workload": {
                "kind": kind,
                "clients": clients,
                "keys": 3,
                "ttl_ms": 60,
                "pause_ms": 1.0,
            },
            "times": {"warmup_s": 0.0, "run_s": run_s, "after_s": 0.0},
            "bounds": {"late_ms": 20.0},
        }
    )

    async def against() -> Run:
        async with Liar(lie) as liar:
            servers = [Server.parse(liar.address)]
            return await run_once(experiment, tmp_path, seed=lie, against=servers)

    return asyncio.run(against())


@pytest.mark.parametrize("kind", KINDS)
def test_an_honest_server_keeps_every_promise(tmp_path: Path, kind: str) -> None:
    run = experience(tmp_path, kind, "honest")
    assert {each.name: each.verdict for each in run.verdicts if each.verdict != VALID} == {}
    assert len(run.operations) > 50
    assert all(each.is_ok for each in run.operations)


@pytest.mark.parametrize("lie", LIES)
def test_every_lie_is_found_out(tmp_path: Path, lie: str) -> None:
    kind, checks = FOUND_BY[lie]
    for run_s in (0.6, 4.0):  # a busy machine may not get as far as the first lie
        run = experience(tmp_path, kind, lie, run_s)
        if any(each.verdict == BROKEN for each in run.verdicts):
            break
    broken = {each.name for each in run.verdicts if each.verdict == BROKEN}
    # What was not done, or is old, has an old revision too: if that was asked for.
    assert checks <= broken <= checks | {"revisions"}
    assert all(each.evidence for each in run.verdicts if each.verdict == BROKEN)


def test_a_seed_decides_what_a_client_asks(tmp_path: Path) -> None:
    """Of one client: of several, what each is answered depends on when the others ask."""

    def asked(name: str, lie: str) -> list[tuple[str, str, object]]:
        run = experience(tmp_path / name, "register", lie, clients=1)
        start = len(run.about["prefix"])
        return [(each.op, each.key[start:], each.value) for each in run.operations][:50]

    first = asked("a", "honest")
    assert len(first) == 50
    assert asked("b", "honest") == first
    assert asked("c", "blind_scan") != first  # another seed; of SCAN there is none here


def test_a_lost_write_is_found_in_registers_too(tmp_path: Path) -> None:
    run = experience(tmp_path, "register", "lost_write")
    linearizable = next(each for each in run.verdicts if each.name == "linearizable")
    assert linearizable.verdict == BROKEN
    assert 0 < len(linearizable.evidence) < 20
