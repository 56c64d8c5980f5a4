"""redis-py's own tests, as scripts/redis_py_suite runs them; and the list of those left out.

The long test fetches the suite from the package index; where there is none it is skipped.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
SKIPS = ROOT / "tests" / "redis_py_skips.txt"


def rows() -> list[str]:
    text = SKIPS.read_text(encoding="utf-8")
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_every_test_that_is_left_out_has_its_reason_and_stands_there_once() -> None:
    names = []
    for row in rows():
        what, _, reason = row.partition("  # ")
        where, name = what.split()
        assert where in ("all", "standalone", "cluster"), row
        assert name.startswith("test_"), row
        assert "::" in name, row
        assert len(reason) > 5, row
        names.append(name)
    assert names == sorted(set(names))


@pytest.mark.stress
@pytest.mark.timeout(1_500)
@pytest.mark.parametrize("profile", ["standalone-2", "cluster-3", "newer"])
def test_redis_pys_own_tests_pass(profile: str, figures: Callable[[str], None]) -> None:
    """Both protocols, both modes; the other two pairs by hand: scripts/redis_py_suite."""
    words = [sys.executable, str(ROOT / "scripts" / "redis_py_suite"), profile]
    done = subprocess.run(words, capture_output=True, text=True, timeout=1_400, check=False)
    if "pip" in done.stderr and "CalledProcessError" in done.stderr:
        pytest.skip("the package index cannot be reached: no suite to run")
    assert done.returncode == 0, done.stdout + done.stderr[-2_000:]
    figures(done.stdout.splitlines()[0])
