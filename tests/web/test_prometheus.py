"""What Prometheus makes of it: rules and dashboard by promtool and by name, and a real scrape.

Method: every metric that a rule or a panel names is one that a node has. promtool (Debian's package
`prometheus`) checks rules, runs their own tests, and reads every panel's expression; a real
Prometheus scrapes three nodes under load and answers from what it has stored.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.ports import free_base_port
from tests.support.supervised import ROOT, Supervised, wait_until
from tests.web.test_pages import FAMILIES

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="needs promtool (prometheus)")
RULES = ROOT / "configs/prometheus/trimaran.rules.yml"
DASHBOARD = ROOT / "configs/grafana/trimaran.json"
KNOWN = {*FAMILIES, "peer_lag_entries"}


def expressions() -> Iterator[str]:
    """Of every panel, with Grafana's variables filled in."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$job", "trimaran").replace("$__rate_interval", "1m")


@pytest.mark.parametrize("path", [RULES, DASHBOARD], ids=["rules", "dashboard"])
def test_they_name_only_metrics_that_a_node_has(path: Path) -> None:
    named = set(re.findall(r"\btrimaran_([a-z_]+)", path.read_text(encoding="utf-8")))
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
    assert len(bare) > 5
    assert bare <= KNOWN, bare - KNOWN


@needs_promtool
def test_the_rules_are_sound_and_fire_when_they_should() -> None:
    assert PROMTOOL is not None
    for words in (
        ["check", "rules", RULES],
        ["test", "rules", "tests/web/trimaran.rules.test.yml"],
    ):
        done = subprocess.run([PROMTOOL, *words], cwd=ROOT, capture_output=True, timeout=50)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
    sample = ROOT / "configs/prometheus/prometheus.yml"
    done = subprocess.run([PROMTOOL, "check", "config", sample], capture_output=True, timeout=50)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_panels_do_not_lie_over_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 20
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


@pytest.mark.cluster
@pytest.mark.stress
@pytest.mark.timeout(120)
@pytest.mark.skipif(PROMETHEUS is None, reason="needs prometheus")
def test_a_real_prometheus_scrapes_three_nodes_under_load(tmp_path: Path) -> None:
    port = free_base_port()
    with Supervised(tmp_path, "--config", str(ROOT / "configs/fast.toml")) as cluster:
        cluster.wait_for_line("cluster ready")
        targets = [f"127.0.0.1:{cluster.base_port + 2000 + number}" for number in range(3)]
        settings = tmp_path / "prometheus.yml"
        settings.write_text(
            f"global: {{scrape_interval: 500ms, scrape_timeout: 400ms}}\n"
            f"rule_files: [{RULES}]\n"
            f"scrape_configs: [{{job_name: trimaran, static_configs: [{{targets: {targets}}}]}}]\n"
        )
        assert PROMETHEUS is not None
        with subprocess.Popen(
            [
                PROMETHEUS,
                f"--config.file={settings}",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=error",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                _judge(cluster, port)
            finally:
                process.kill()


def _judge(cluster: Supervised, port: int) -> None:
    def ask(expression: str) -> list[dict[str, Any]]:
        query = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout=5
            ) as answer:
                return json.load(answer)["data"]["result"]  # type: ignore[no-any-return]
        except OSError:
            return []

    def value(expression: str) -> float:
        found = ask(expression)
        return float(found[0]["value"][1]) if found else -1.0

    client = redis.Redis(port=cluster.base_port)
    until_s, sent = time.monotonic() + 8, 0
    while time.monotonic() < until_s:
        for _ in range(50):
            client.set(f"k{sent % 100}", "v")
            client.get(f"k{sent % 100}")
            sent += 1
    client.close()
    wait_until(lambda: value('sum(up{job="trimaran"})') == 3, 20, "three nodes are up")
    wait_until(
        lambda: value('sum(trimaran_command_seconds_count{command="set"})') == sent,
        10,
        f"{sent} SETs counted",
    )
    assert value('sum(trimaran_role{role="leader"})') == 1
    assert value("sum(trimaran_batch_seconds_count)") > 0
    assert value('sum(rate(trimaran_requests_total{job="trimaran"}[1m]))') > 0
    silent = [each for each in expressions() if not ask(each)]
    # Without a checkpoint or a second election there is nothing to draw for these two.
    assert all("image" in each for each in silent), silent
    firing = {each["metric"]["alertname"] for each in ask("ALERTS{alertstate='firing'}")}
    assert firing <= {"TrimaranDiskNearlyFull"}, firing
