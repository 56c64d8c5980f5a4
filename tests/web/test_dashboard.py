"""The dashboard in a real browser: a cluster is watched, and broken by its buttons.

Method: headless Chromium against `trimaran cluster --lab`, with real nodes. What the page says is
compared with what the nodes say. DASHBOARD_PICTURE=path keeps a screenshot (docs/dashboard.png).
"""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.client import find_leader, statuses
from node.config import Address
from tests.support.supervised import ROOT, Supervised
from tests.web.chromium import Chromium, needs_chromium

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.stress,
    needs_chromium,
    pytest.mark.timeout(120),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    directory = tmp_path_factory.mktemp("dashboard")
    fast = str(ROOT / "configs/fast.toml")
    with Supervised(directory, "--lab", "--config", fast) as cluster:
        cluster.wait_for_line("cluster ready")
        yield cluster


@pytest.fixture(scope="module")
def browser(cluster: Supervised, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as browser:
        browser.size(1360, 1000)
        # A node's own page leads to the laboratory's.
        browser.open(f"http://127.0.0.1:{cluster.base_port + 2001}/")
        browser.wait("document.title.includes('leads')")
        yield browser
        assert browser.problems == []


def leader_of(cluster: Supervised) -> str:
    found = find_leader(
        statuses([Address("127.0.0.1", cluster.base_port + each) for each in range(3)])
    )
    return found.id if found is not None else ""


def text_of(browser: Chromium, selector: str) -> str:
    return str(browser.run(f"document.querySelector('{selector}').innerText"))


def test_it_shows_what_the_nodes_say(cluster: Supervised, browser: Chromium) -> None:
    leader = leader_of(cluster)
    browser.wait(f"document.getElementById('state').innerText.startsWith('{leader} leads')")
    for name in ("n1", "n2", "n3"):
        card = text_of(browser, f'article[aria-label="node {name}"]')
        assert ("leader" if name == leader else "follower") in card
    browser.wait("document.getElementById('keys').innerText.includes('trimaran:lab:0')")
    browser.wait("document.querySelectorAll('#ops path.area').length == 3")
    assert "leader ready" in text_of(browser, "#log")
    assert browser.run("document.querySelectorAll('.link.up').length") == 3


def test_the_leader_is_killed_by_the_button_and_the_gap_is_seen(
    cluster: Supervised, browser: Chromium
) -> None:
    """By keyboard, as a person without a mouse would."""
    leader = leader_of(cluster)
    browser.wait("probe && probe.ok > 0")
    browser.run("setSpan(60); outages.length = 0")
    browser.run(f"document.getElementById('kill-{leader}').focus()")
    browser.press("Enter")
    browser.wait(
        f"leader() && leader().id !== '{leader}' && stateOf(nodes.get('{leader}')) === 'down'"
    )
    successor = str(browser.run("leader().id"))
    assert successor == leader_of(cluster)
    # A busy machine has gaps of its own: it is the one after the button that counts.
    found = f"(outages.find(each => each.cause === 'kill {leader}') || {{}}).ms"
    assert browser.wait(found) >= 100
    browser.wait("document.querySelectorAll('#lanes rect.gapline').length > 0")
    browser.wait("document.querySelectorAll('#ops rect.gap').length > 0")
    log = browser.wait("document.getElementById('log').innerText")
    for words in (f"kill {leader}", "does not answer", "writes failed or waited for"):
        assert words in log, words
    # It stays down until it is started: the same button, now with another word.
    assert browser.run("document.activeElement.id") == f"kill-{leader}"
    browser.wait(f"document.getElementById('kill-{leader}').innerText === 'Start'")
    picture = os.environ.get("DASHBOARD_PICTURE")
    if picture:
        time.sleep(4)
        browser.screenshot(Path(picture))
    browser.press("Enter")
    browser.wait(f"stateOf(nodes.get('{leader}')) === 'up' && last(nodes.get('{leader}')).ready")


def test_a_node_is_isolated_and_a_link_cut_and_all_is_healed(
    cluster: Supervised, browser: Chromium
) -> None:
    leader = leader_of(cluster)
    browser.wait(f"leader() && leader().id === '{leader}'")
    browser.run(f"document.getElementById('isolate-{leader}').click()")
    browser.wait(f"leader() && leader().id !== '{leader}'")
    browser.wait("document.querySelectorAll('.link.down').length === 2")
    others = [name for name in ("n1", "n2", "n3") if name != leader]
    browser.run(f"links.get('{others[0]} {others[1]}').group.dispatchEvent(new Event('click'))")
    browser.wait("lab.cut.length === 1")
    browser.wait("!leader()", 30)
    browser.wait("document.getElementById('state').className === 'bad'")
    browser.run("document.body.focus(); document.activeElement.blur()")
    browser.press("h")
    browser.wait("lab.cut.length === 0 && leader()", 30)
    browser.wait("probe && probe.ok > 0 && probe.since < 1000")


def test_a_node_is_paused_and_another_restarted_and_leadership_handed_over(
    cluster: Supervised, browser: Chromium
) -> None:
    browser.wait("leader() && ordered().every(each => stateOf(each) === 'up' && last(each).ready)")
    leader = str(browser.run("leader().id"))
    paused, successor = [name for name in ("n1", "n2", "n3") if name != leader]
    browser.run(f"document.getElementById('pause-{paused}').click()")
    browser.wait(f"stateOf(nodes.get('{paused}')) === 'paused'")
    browser.wait("probe && probe.ok > 0 && probe.since < 1000")  # the others go on
    browser.run(f"document.getElementById('pause-{paused}').click()")
    browser.wait(f"stateOf(nodes.get('{paused}')) === 'up' && !nodes.get('{paused}').down")
    browser.run(f"document.getElementById('transfer-{successor}').click()")
    browser.wait(f"leader() && leader().id === '{successor}'", 30)
    before = cluster.pid(paused)
    browser.run(f"document.getElementById('restart-{paused}').click()")
    browser.wait("document.getElementById('log').innerText.includes('answers again')", 30)
    browser.wait("ordered().every(each => stateOf(each) === 'up' && last(each).ready)", 30)
    assert cluster.pid(paused) != before


def test_it_fits_a_phone_and_both_themes(browser: Chromium) -> None:
    for width in (390, 768, 1360):
        browser.size(width, 844, phone=width == 390)
        for theme in ("dark", "light"):
            browser.run(f"setTheme('{theme}')")
            wide = browser.run(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert wide == 0, (width, theme)
    assert browser.run("getComputedStyle(document.body).color") == "rgb(21, 32, 54)"
    buttons = "[...document.querySelectorAll('button')].filter(b => b.offsetParent)"
    assert browser.run(f"{buttons}.length") >= 17
    assert browser.run(f"{buttons}.every(b => b.innerText)")


def test_what_the_node_itself_serves_has_no_power(cluster: Supervised) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{cluster.base_port + 2000}/order",
        data=b'{"do": "kill", "node": "n1"}',
        headers={"Origin": f"http://127.0.0.1:{cluster.base_port + 2000}"},
        method="POST",
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=5)
    assert caught.value.code == 403
    caught.value.close()
