"""One figure: a load against a system, and what it cost the machine meanwhile.

    row = measure(system, Case(...), settings) -> {"system", "case", "by", "ops_s", "p50_ms", ...}

Who asks runs in a process of its own, behind the words of Settings.under, if any (a lock that
keeps others off the machine, taskset). What it cost is told by meter.py.

Proved by: tests/scripts/test_bench.py
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from typing import Any

from tests.support.bench.bulk import write_bulk
from tests.support.bench.cases import Case, Settings
from tests.support.bench.systems import ROOT, System
from tests.support.bench.tools import PROGRAMS

__all__ = ["fill", "generator", "measure"]

TRIES = 4
_LATEST_S = 900.0
"""Beyond what was asked for: others may hold the lock of Settings.under for long."""


def fill(system: System, settings: Settings) -> None:
    """Write every key once."""
    if system.wire == "resp":
        write_bulk(system.leader[0], settings.keys, settings.value_bytes, "key:")
        return
    _ask("load", system, settings, {"test": "set", "servers": system.leader, "fill": True})


def generator(system: System, case: Case) -> str:
    """Who asks: "load", or "tools" where the wire has one."""
    if case.by == "tools" and system.wire in PROGRAMS and not case.share:
        return "tools" if shutil.which(PROGRAMS[system.wire][0]) else "load"
    return "load"


def measure(system: System, case: Case, settings: Settings, rate: float = 0.0) -> dict[str, Any]:
    """Carry it out. RuntimeError: it could not be."""
    by = generator(system, case)
    words: dict[str, Any] = {
        "test": case.test,
        "servers": system.servers if case.everywhere else system.leader,
    }
    words |= {"rate": rate, "seconds": settings.seconds, "pids": system.pids}
    words |= {"clients": case.clients, "pipeline": case.pipeline}
    found = _ask(by, system, settings, words, shlex.split(settings.under))
    for _ in range(TRIES - 1):
        if not settings.calm or not found["cpu_others"] or found["cpu_others"] <= settings.calm:
            break
        again = _ask(by, system, settings, words, shlex.split(settings.under))
        found = min(found, again, key=lambda each: float(each["cpu_others"]))
    return {
        "system": system.name,
        "case": case.name,
        "by": PROGRAMS[system.wire][0] if by == "tools" else "python",
        "clients": case.clients,
        "pipeline": case.pipeline,
        "rate": rate,
        **found,
    }


def _ask(
    by: str,
    system: System,
    settings: Settings,
    words: dict[str, Any],
    under: list[str] | None = None,
) -> dict[str, Any]:
    """A generator, in a process of its own."""
    told = {"wire": system.wire, "keys": settings.keys, "value_bytes": settings.value_bytes}
    program = [*(under or ()), sys.executable, "-m", f"tests.support.bench.{by}"]
    program.append(json.dumps({**told, **words}))
    limit_s = settings.seconds + _LATEST_S
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=limit_s)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:]
        raise RuntimeError(f"{system.name}: {' '.join(said)}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
