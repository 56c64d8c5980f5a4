"""scripts/bench_statemachine: that a quick run yields every figure. How fast is not asked here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.scripts.load import SCRIPTS

SCRIPT = SCRIPTS / "bench_statemachine"

IMAGES = ("a checkpoint", "a snapshot")
GOALS = {
    "apply, batches of 1000": 300_000,
    "get, of 10,000 keys": 0.5,
    "boot from the WAL": 2,
    "boot from a checkpoint": 2,
    "snapshot, load": 1,
    **{f"apply of 16 beside {image}, max": 10 for image in IMAGES},
    **{f"apply of 16 beside {image}, p99.9": 10 for image in IMAGES},
    **{f"starting and polling {image}, max": 10 for image in IMAGES},
    "flush of all keys": 10,
    "polls behind a flush, max": 10,
    "all leases due at once, longest apply": 50,
    **{
        f"memory per key beyond key and value, {name}": 400
        for name in ("plain", "overwritten", "with a TTL")
    },
    **{f"write amplification, {size}": 3 for size in ("1x", "10x", "100x")},
}
OTHERS = {
    *(f"apply, batches of {width}{ttl}" for width in (1, 16, 1000) for ttl in ("", ", TTL")),
    *(f"apply, batches of {width}, fsynced" for width in (1, 16, 1000)),
    *("get, of all keys", "get, of all keys, a dict alone"),
    *("get_multi, 100 keys", "scan_prefix, 100 keys", "scan after a write", "digest"),
    *("snapshot, generate", "snapshot, size", "snapshot, load, copied first"),
    *("apply of 16 beside no image, max", "apply of 16 beside no image, p99.9"),
    *(f"{image} beside applies" for image in IMAGES),
    *(f"applies beside {image}" for image in IMAGES),
    *("all leases due at once, batches", "all leases due at once, in all"),
    *(f"one checkpoint, {size}" for size in ("1x", "10x", "100x")),
    *(f"one checkpoint, {size}, size" for size in ("1x", "10x", "100x")),
}


def test_a_quick_run_has_every_figure_and_says_where_it_ran(tmp_path: Path) -> None:
    words = [sys.executable, str(SCRIPT), "--quick", "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert report["machine"].keys() == {"cpu", "cores", "share"}
    assert report["python"].startswith("3.")
    assert report["commit"]
    assert len(report["machine"]["share"]) == 2
    assert all(0 < share <= 1.1 for share in report["machine"]["share"])
    figures = {figure["name"]: figure for figure in report["figures"]}
    assert figures.keys() == GOALS.keys() | OTHERS
    assert {name: figure["goal"] for name, figure in figures.items() if figure["goal"]} == GOALS
    for name, figure in figures.items():
        assert figure["value"] > 0, name
        assert name in done.stdout
        assert (figure["met"] is None) == (figure["goal"] is None)
    # Three images were made by the rule, so their bytes must have been counted.
    assert figures["write amplification, 100x"]["value"] > 1
    # All of it: what 5,000 keys of 256 bytes take at least, and not much more.
    assert 1.2 < figures["snapshot, size"]["value"] < 2
