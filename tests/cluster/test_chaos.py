"""Everything that can break, for minutes, under clients that remember: scripts/chaos, in CI.

As root in network namespaces, else through proxies. TRIMARAN_CHAOS_MINUTES and TRIMARAN_SEED say
how long and which; what is wrong is printed with the seed, and the nodes' logs, the faults and the
histories are kept in the directory that is named.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.chaos.namespaces import Namespaces
from tests.support.chaos.run import run

pytestmark = [pytest.mark.cluster, pytest.mark.stress]

MINUTES = float(os.environ.get("TRIMARAN_CHAOS_MINUTES", "5"))


@pytest.mark.timeout(MINUTES * 60 + 300)
def test_nothing_is_lost_and_every_history_is_linearizable_whatever_breaks(
    figures: Callable[[str], None],
) -> None:
    seed = int(os.environ.get("TRIMARAN_SEED", time.time_ns() % 100_000))
    directory = Path(tempfile.mkdtemp(prefix="trimaran-chaos-"))
    without = Namespaces.problem()
    verdict = run(
        directory,
        seconds=MINUTES * 60,
        seed=seed,
        say=lambda fault: None,
        namespaces=without is None,
    )
    figures(("in namespaces; " if without is None else f"proxied ({without}); ") + verdict.text())
    assert verdict.problems == [], f"{seed=}, kept in {directory}"
    assert verdict.told["ok"] > 1_000
