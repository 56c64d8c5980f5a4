"""Bugs that are put in on purpose: each defence of PYSYNCOBJ.md that can be switched off, and more.

    with BUGS["gate: follower"].plant():
        run(plan)                                    must end in a violation, for some seed

    bug.py          what one is: patches, the profile in whose seeds it is looked for, the defence
    durability.py   consensus.py   answers.py   machine.py

What cannot be switched off stands in docs/simulation.md, with the test that proves its defence.

Proved by: tests/simulation/test_planted.py, scripts/simulate --planted
"""

from __future__ import annotations

from tests.simulation.planted import answers, consensus, durability, machine
from tests.simulation.planted.bug import Bug

__all__ = ["BUGS", "Bug"]

BUGS: dict[str, Bug] = {
    bug.name: bug for part in (durability, consensus, answers, machine) for bug in part.FOUND
}
