"""The parser under a coverage-guided fuzzer: scripts/fuzz_parser, for as long as CI can spare."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60


@pytest.mark.stress
@pytest.mark.timeout(300)
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed (the `dev` extra, where there is a wheel)",
)
def test_the_readers_of_the_parser_agree_on_whatever_the_fuzzer_finds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [sys.executable, str(ROOT / "scripts" / "fuzz_parser"), "--seconds", str(SECONDS)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    assert runs is not None
    with capsys.disabled():
        print(f"\n    {runs[1]} inputs in {SECONDS} s, all read alike")
    assert int(runs[1]) > 10_000
