"""scripts/soak: it counts its steps, and a failure can be seen again by the words it prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.scripts.load import SCRIPTS, script

SCRIPT = SCRIPTS / "soak"


@pytest.fixture
def soak() -> ModuleType:
    return script("soak")


def test_a_short_soak_says_how_many_steps_found_nothing() -> None:
    words = [sys.executable, str(SCRIPT), "--steps", "200", "--seed", "5"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(
        r"^soak: (\d+) steps without a difference in \d+ s, seed 5$", done.stdout, re.M
    )
    assert found is not None
    assert int(found[1]) >= 200


def test_a_failure_is_shown_and_how_to_see_it_again(
    soak: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts: list[object] = []

    def fails_in_the_third_part(machine: type, histories: int, steps: int, **_: object) -> None:
        parts.append(machine._hypothesis_internal_use_seed)  # type: ignore[attr-defined]
        machine.steps += histories * steps  # type: ignore[attr-defined]
        assert len(parts) < 3, "a difference"

    monkeypatch.setattr(soak, "run", fails_in_the_third_part)
    monkeypatch.setattr(sys, "argv", ["soak", "--seed", "9", "--real"])
    assert soak.main() == 1
    printed = capsys.readouterr()
    assert "a difference" in printed.err
    assert "See it again: scripts/soak --seed 9 --part 2 --real" in printed.out
    # And those words run the same part: the same seed.
    words = printed.out.split("scripts/soak ")[-1].split()
    monkeypatch.setattr(sys, "argv", ["soak", *words])
    monkeypatch.setattr(
        soak, "run", lambda machine, *_, **__: parts.append(machine._hypothesis_internal_use_seed)
    )
    assert soak.main() == 0
    assert parts[-1] == parts[2] != parts[1]


def test_a_run_in_pieces_is_the_run_in_one_go(
    soak: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    seeds: list[object] = []

    def runs(machine: type, histories: int, steps: int, **_: object) -> None:
        seeds.append(machine._hypothesis_internal_use_seed)  # type: ignore[attr-defined]
        machine.steps += histories * steps  # type: ignore[attr-defined]

    monkeypatch.setattr(soak, "run", runs)
    whole = ["soak", "--steps", "35000", "--seed", "4"]
    monkeypatch.setattr(sys, "argv", whole)
    assert soak.main() == 0
    in_one_go, seeds[:] = seeds.copy(), []
    assert len(in_one_go) == 4
    assert "39,980 steps without a difference" in capsys.readouterr().out

    # The first piece is given its seed and time for one part only; the others find where it was.
    now_s = iter(range(1_000_000))
    monkeypatch.setattr(soak.time, "monotonic", lambda: float(next(now_s)))
    log = str(tmp_path / "log")
    piece = ["soak", "--steps", "35000", "--log", log, "--seconds", "2"]
    monkeypatch.setattr(sys, "argv", [*piece, "--seed", "4"])
    assert soak.main() == 0
    assert "to be gone on with" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", piece)
    for _ in in_one_go:
        assert soak.main() == 0
        if "without a difference" in (said := capsys.readouterr().out):
            break
    assert "39,980 steps without a difference" in said
    assert seeds == in_one_go


def test_a_part_without_its_seed_is_a_usage_error() -> None:
    words = [sys.executable, str(SCRIPT), "--part", "3"]
    assert subprocess.run(words, capture_output=True, timeout=50, check=False).returncode == 2
