"""Links with certificates: who gets in, who does not, and what both sides are told.

Method: as tests/node/test_links.py, with certificates made for the test; on both event loops.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from node import links as links_room
from node import wire
from node.certificates import make
from node.tls import PeerTls
from statemachine.fs import Disk
from tests.node.test_links import End, Stranger, hello, members, started

DAY_MS = 86_400_000
LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(uvloop.new_event_loop, id="uvloop"),
]
HUNG_UP = "it hung up before the handshake was over: its log says why"


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory, now_ms = tmp_path_factory.mktemp("certs"), int(time.time() * 1000)
    make(directory, ["n1", "n2", "n3"], 30, Disk(), now_ms)
    make(directory / "other", ["n1", "n2"], 30, Disk(), now_ms)
    make(directory / "old", ["n1", "n2"], 1, Disk(), now_ms - 3 * DAY_MS)
    return directory


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    def runner(story: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as loop:
            loop.run(asyncio.wait_for(story, 20))

    return runner


Run = Callable[[Coroutine[Any, Any, None]], None]


def tls(directory: Path, node_id: str, ca: Path | None = None) -> PeerTls:
    authority = (ca or directory) / "ca.crt"
    return PeerTls(directory / f"{node_id}.crt", directory / f"{node_id}.key", authority)


def test_two_nodes_with_certificates_talk_both_ways(certs: Path, run: Run) -> None:
    async def story() -> None:
        group = members()
        one, two = (End(group, i, tls=tls(certs, f"n{i + 1}")) for i in range(2))
        async with started(one, two):
            await one.until(lambda: one.links.is_up("n2") and two.links.is_up("n1"))
            large = bytes(range(256)) * 350
            for _ in range(100):
                assert one.links.send("n2", wire.encode(wire.SNAPSHOT_CHUNK, 1, 0, large))
            assert two.links.send("n1", wire.encode(wire.VOTE, 8))
            await one.until(lambda: len(one.told) == 2 and len(two.told) == 101)
            assert one.told == [("up", "n2"), ("n2", [wire.VOTE, 8])]
            assert two.told[1:] == [("n1", [wire.SNAPSHOT_CHUNK, 1, 0, large])] * 100
            assert one.refusals() == two.refusals() == []

    run(story())


@pytest.mark.parametrize("bad", [0, 1])
@pytest.mark.parametrize(
    ("whose", "at_the_good", "at_the_bad"),
    [
        pytest.param("n3", "shows a certificate of n3", HUNG_UP, id="another node's"),
        pytest.param("other/", "its certificate is refused", "it refuses our", id="another CA"),
        pytest.param("old/", "certificate has expired", "it refuses our", id="expired"),
    ],
)
def test_a_wrong_certificate_opens_nothing_and_each_side_says_why_once(
    certs: Path, run: Run, bad: int, whose: str, at_the_good: str, at_the_bad: str
) -> None:
    """Whichever of the two it is, and whoever of them dials."""
    bad_id, good_id = f"n{bad + 1}", f"n{2 - bad}"
    if whose.endswith("/"):
        bad_tls = tls(certs / whose, bad_id, ca=certs)
        good_tls = tls(certs, good_id, ca=certs / "old" if whose == "old/" else certs)
    else:
        bad_tls, good_tls = tls(certs, whose), tls(certs, good_id)

    async def story() -> None:
        group = members(3)
        ends = {
            bad_id: End(group, bad, tls=bad_tls),
            good_id: End(group, 1 - bad, tls=good_tls),
        }
        for end in ends.values():
            end.links.remove_peer("n3")
        async with started(*ends.values()):
            good, evil = ends[good_id], ends[bad_id]
            await good.until(lambda: good.links.refusals_count > 2)
            assert good.told == evil.told == []
            assert len(good.refusals()) == 1
            assert at_the_good in good.refusals()[0]
            # Who accepts is not told that the dialler hangs up: it is one of many strangers.
            expected = [] if whose == "n3" and bad == 1 else [at_the_bad]
            assert len(evil.refusals()) == len(expected)
            assert all(part in text for part, text in zip(expected, evil.refusals(), strict=True))

    run(story())


@pytest.mark.parametrize("place", [0, 1])
def test_tls_and_plain_tcp_do_not_come_together_and_both_say_so(
    certs: Path, run: Run, place: int
) -> None:
    async def story() -> None:
        group = members()
        ends = [End(group, 0), End(group, 1)]
        ends[place] = End(group, place, tls=tls(certs, f"n{place + 1}"))
        async with started(*ends):
            with_tls, plain = ends[place], ends[1 - place]
            await plain.until(lambda: all(end.links.refusals_count > 2 for end in ends))
            speaks, does_not = "it speaks TLS, this node does not", "it does not speak TLS, this"
            accepting, dialling = (plain, with_tls) if place == 0 else (with_tls, plain)
            (told,) = accepting.refusals()
            assert told.startswith(speaks if accepting is plain else does_not)
            assert dialling.refusals() == [HUNG_UP]
            assert plain.told == with_tls.told == []

    run(story())


def client_context(certs: Path, node_id: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certs / "ca.crt")
    context.check_hostname = False
    if node_id is not None:
        context.load_cert_chain(certs / f"{node_id}.crt", certs / f"{node_id}.key")
    return context


async def dial(port: int, context: ssl.SSLContext) -> Stranger:
    return Stranger(*await asyncio.open_connection("127.0.0.1", port, ssl=context))


def test_a_hello_in_another_node_s_name_is_refused(certs: Path, run: Run) -> None:
    async def story() -> None:
        group = members(3)
        end = End(group, 2, tls=tls(certs, "n3"))
        async with started(end):
            stranger = await dial(group[2].peer.port, client_context(certs, "n2"))
            stranger.say(*hello(me="n1", to="n3"))
            await stranger.heard_end()
            assert end.refusals() == ["n1 shows a certificate of n2"]
            friend = await dial(group[2].peer.port, client_context(certs, "n2"))
            await friend.shake_hands("n2", "n3")
            await end.until(lambda: end.links.is_up("n2"))
            assert end.told == [("up", "n2")]
            await stranger.close()
            await friend.close()

    run(story())


def test_the_secret_is_asked_for_behind_tls_as_well(certs: Path, run: Run) -> None:
    async def story() -> None:
        group = members()
        one = End(group, 0, "guess", tls=tls(certs, "n1"))
        two = End(group, 1, "secret", tls=tls(certs, "n2"))
        async with started(one, two):
            await two.until(lambda: two.links.refusals_count > 0)
            assert two.refusals() == ["wrong proof from n1: is peer.secret the same?"]
            assert one.told == two.told == []

    run(story())


def test_strangers_without_a_certificate_cost_a_line_and_no_memory(certs: Path, run: Run) -> None:
    async def story() -> None:
        group = members()
        end = End(group, 1, tls=tls(certs, "n2"))
        async with started(end):
            for _ in range(20):
                # To who dials TLS 1.3 the connection is up before the other side has seen that
                # there is no certificate: the end comes with the first read.
                stranger = await dial(group[1].peer.port, client_context(certs, None))
                assert await stranger.heard_end() == b""
                await stranger.close()
            assert end.refusals() == ["it shows no certificate"]
            await end.until(lambda: not end.links._connections)
            assert end.told == []

    run(story())


def test_who_knocks_too_often_is_given_no_more_work(
    certs: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each TLS handshake costs the one who is called a signature; a peer never dials so often."""
    monkeypatch.setattr(links_room, "TLS_PER_SECOND_MAX", 10)

    async def story() -> None:
        group = members()
        end = End(group, 1, tls=tls(certs, "n2"))
        async with started(end):
            loop = asyncio.get_running_loop()
            begun_s = loop.time()
            while not any("in a second" in reason for reason in end.refusals()):
                stranger = await Stranger.dial(group[1])
                stranger.say_bytes(b"GET / HTTP/1.1\r\n\r\n")
                await stranger.heard_end()
                await stranger.close()
            assert end.links.refusals_count > 10
            assert len(end.refusals()) == 2
            await asyncio.sleep(1.0 - (loop.time() - begun_s) % 1.0 + 0.1)
            one = End(group, 0, tls=tls(certs, "n1"))
            async with started(one):  # the next second is as good as any
                await end.until(lambda: end.links.is_up("n1"))

    run(story())
