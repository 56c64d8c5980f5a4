"""The report: whole, self-contained, and readable in a real browser; the PNG beside it."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from node.lab.charts import Panel, figure, ticks
from node.lab.picture import has_matplotlib, write_picture
from node.lab.report import load_run, write_report
from node.lab.stats import ecdf, over_time, percentile, spread
from tests.lab.made import a_result, a_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(a_result(tmp_path_factory.mktemp("result")))


def test_it_needs_nothing_but_itself(html: Path) -> None:
    text = html.read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)\s*=|@import|url\(|<script|https?:", text)
    assert "made-up &lt;&amp;&gt;" in text
    assert "made-up <&>" not in text


def test_every_picture_is_well_formed_and_says_what_it_is(html: Path) -> None:
    pictures = re.findall(r"<svg.*?</svg>", html.read_text(encoding="utf-8"), re.DOTALL)
    assert len(pictures) == 3  # distribution, timeline, outage
    for picture in pictures:
        root = ElementTree.fromstring(picture)
        assert root.find("title") is not None
        width, height = (float(each) for each in root.attrib["viewBox"].split()[2:])
        for text in root.iter("text"):
            if "x" in text.attrib:
                assert 0 <= float(text.attrib["x"]) <= width
        assert height > 100
    words = " ".join(pictures)
    for word in ("throughput", "latency", "leader", "kill n1", "detection", "median", "p95"):
        assert word in words, word


def test_verdicts_and_how_to_do_it_again_are_there(html: Path) -> None:
    text = html.read_text(encoding="utf-8")
    for word in (
        "Every promise was kept",
        "linearizable",
        "terms",
        "trimaran lab run made-up.toml",
    ):
        assert word in text, word


def test_a_run_is_loaded_as_it_was_written(html: Path) -> None:
    loaded, made = load_run(html.parent / "runs" / "002"), a_run(2)
    assert sorted(each.start_us for each in loaded.operations) == sorted(
        each.start_us for each in made.operations
    )
    assert (loaded.events, loaded.records, loaded.samples) == (
        made.events,
        made.records,
        made.samples,
    )
    assert (loaded.outages, loaded.verdicts) == (made.outages, made.verdicts)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.timeout(120)
def test_a_browser_shows_it_all(html: Path, tmp_path: Path) -> None:
    """Headless Chromium, offline: every panel is laid out with a size, nothing runs over."""
    probe = tmp_path / "probe.html"
    script = """<script>
      const boxes = [...document.querySelectorAll('svg')].map(each => each.getBoundingClientRect());
      const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
      document.title = 'seen ' + boxes.length + ' ' + boxes.every(b => b.height > 80) + ' ' + wide;
    </script></body>"""
    text = html.read_text(encoding="utf-8").replace("</body>", script)
    probe.write_text(text, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += [f"--disable-{each}" for each in ("background-networking", "component-update", "sync")]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1060,900"]
    assert CHROMIUM is not None
    words = [CHROMIUM, *flags, "--dump-dom", probe.as_uri()]
    shown = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert "<title>seen 3 true false</title>" in shown.stdout


@pytest.mark.skipif(not has_matplotlib(), reason="needs matplotlib (the extra `lab`)")
def test_the_png_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "report.png"
    assert write_picture(path, a_run(1), {"writes unavailable": [210.0, 240.0, 260.0]})
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) > 20_000


def test_numbers_are_those_that_were_seen() -> None:
    values = [float(each) for each in range(1, 101)]
    assert [percentile(values, each) for each in (0, 50, 95, 99, 100)] == [1, 50, 95, 99, 100]
    told = spread([3.0, 1.0, 2.0])
    assert told is not None
    assert (told.count, told.minimum, told.median, told.p95, told.maximum) == (3, 1, 2, 3, 3)
    assert spread([]) is None
    assert ecdf([3.0, 1.0]) == [(1.0, 0.5), (3.0, 1.0)]
    buckets = over_time(a_run(1).operations, 3_000_000, 100_000)
    assert buckets[5].rate("ok") > 100
    assert sum(each.counts["unknown"] for each in buckets) == 1
    assert buckets[11].counts["ok"] == 0  # the outage


def test_axes_have_round_numbers() -> None:
    assert ticks(0, 100, 5) == [0, 20, 40, 60, 80, 100]
    assert ticks(0.13, 0.9, 4) == [0.2, 0.4, 0.6, 0.8]
    assert ticks(5, 5) == [5]
    panel = Panel("t", "", x=(1, 1000), log_x=True)
    assert panel.px(1) < panel.px(10) < panel.px(1000)
    assert "<title>x</title>" in figure([panel], "x")
