"""CLIENT TRACKING: who is told that what it has read is not true any more."""

from __future__ import annotations

from typing import Any

import pytest

from node.commands import COMMANDS
from node.connection import Frontend
from tests.support.fake_service import Client, FakeService, config
from tests.support.listener import Listener


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def frontend(service: FakeService) -> Frontend:
    return Frontend(service, config(), COMMANDS)


class Cache(Listener):
    """A client that keeps what it is told."""

    def told(self) -> list[Any]:
        found = []
        for frame in self.frames():
            assert frame[0] == b"invalidate"
            found.append(frame[1])
        return found


def test_who_has_read_a_key_is_told_once_that_it_changed(
    service: FakeService, frontend: Frontend
) -> None:
    cache, other = Cache(frontend), Client(service, frontend)
    assert cache.ask("CLIENT", "TRACKING", "ON") == b"OK"
    cache.run("GET", "a")
    cache.run("MGET", "b", "c")
    other.run("GET", "d")
    other.run("MSET", "a", "1", "b", "1", "d", "1")
    other.run("SET", "a", "2")
    assert cache.told() == [[b"a", b"b"]]
    cache.run("GET", "a")
    cache.run("GET", "c")
    other.run("PEXPIRE", "a", 100)
    assert cache.told() == [[b"a"]]
    cache.run("GET", "a")
    service.clock_ms += 100
    other.run("SET", "d", "2")
    assert cache.told() == [[b"a"]], "its time was over"
    other.run("FLUSHALL")
    assert cache.told() == [None]
    cache.run("GET", "a")
    assert cache.ask("CLIENT", "TRACKING", "OFF") == b"OK"
    other.run("SET", "a", "1")
    assert cache.told() == []
    assert service.followers == {}


def test_an_own_write_is_told_before_its_answer(frontend: Frontend) -> None:
    cache = Cache(frontend)
    cache.run("CLIENT", "TRACKING", "ON")
    cache.run("GET", "a")
    assert cache.run("SET", "a", "1") == b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n+OK\r\n"


def test_opt_in_and_opt_out_speak_of_the_next_command(
    service: FakeService, frontend: Frontend
) -> None:
    other = Client(service, frontend)
    for mode, word, want in (("OPTIN", "YES", [b"b"]), ("OPTOUT", "NO", [b"a", b"c", b"d"])):
        cache = Cache(frontend)
        cache.run("CLIENT", "TRACKING", "ON", mode)
        cache.run("GET", "a")
        assert cache.ask("CLIENT", "CACHING", word) == b"OK"
        cache.run("GET", "b")
        cache.run("GET", "c")
        cache.run("CLIENT", "CACHING", word)
        cache.run("SET", "x", "1")
        cache.run("GET", "d")
        cache.told()
        other.run("MSET", "a", "1", "b", "1", "c", "1", "d", "1")
        assert cache.told() == [want]


def test_broadcast_tells_of_prefixes_and_remembers_nothing(
    service: FakeService, frontend: Frontend
) -> None:
    cache, everything, other = Cache(frontend), Cache(frontend), Client(service, frontend)
    words = ("PREFIX", "a", "PREFIX", "b:")
    assert cache.ask("CLIENT", "TRACKING", "ON", "BCAST", *words) == b"OK"
    everything.run("CLIENT", "TRACKING", "ON", "BCAST")
    cache.run("GET", "c")
    other.run("MSET", "ab", "1", "b", "1", "b:c", "1", "c", "1")
    assert cache.told() == [[b"ab", b"b:c"]]
    assert everything.told() == [[b"ab", b"b", b"b:c", b"c"]]
    assert frontend.tracker._readers == {}
    refused = cache.ask("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "b:c")
    assert refused.startswith("ERR Prefix 'b:c' overlaps with an existing prefix 'b:'")


def test_in_resp2_another_client_is_told(service: FakeService, frontend: Frontend) -> None:
    listener, cache, other = Cache(frontend, 2), Cache(frontend, 2), Client(service, frontend)
    listener.run("SUBSCRIBE", "__redis__:invalidate")
    number = listener.connection.id
    assert cache.ask("CLIENT", "TRACKING", "ON", "REDIRECT", number) == b"OK"
    assert cache.ask("CLIENT", "GETREDIR") == number
    cache.run("GET", "k")
    other.run("SET", "k", "1")
    head = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n"
    assert listener.take() == head + b"*1\r\n$1\r\nk\r\n"
    other.run("FLUSHALL")
    assert listener.take() == head + b"*-1\r\n"
    assert cache.take() == b""
    cache.run("HELLO", 3)
    cache.run("GET", "k")
    frontend.disconnect(listener.connection)
    other.run("SET", "k", "1")
    assert cache.take() == b">1\r\n$21\r\ntracking-redir-broken\r\n"
    assert b"broken_redirect" in cache.ask("CLIENT", "TRACKINGINFO")[b"flags"]


def test_what_a_writing_transaction_read_is_not_to_be_kept(
    service: FakeService, frontend: Frontend
) -> None:
    cache, other = Cache(frontend), Client(service, frontend)
    cache.run("CLIENT", "TRACKING", "ON")
    for words in (("MULTI",), ("GET", "a"), ("SET", "b", "1")):
        cache.run(*words)
    said = cache.run("EXEC")
    assert said.startswith(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n")
    for words in (("MULTI",), ("GET", "a"), ("EXEC",)):
        cache.run(*words)
    other.run("SET", "a", "1")
    assert cache.told() == [[b"a"]]


def test_a_snapshot_in_place_of_the_log_ends_every_cache(
    service: FakeService, frontend: Frontend
) -> None:
    cache = Cache(frontend)
    cache.run("CLIENT", "TRACKING", "ON")
    cache.run("GET", "a")
    service.machine.revision = 50
    service.history.restart(51)
    Client(service, frontend).run("SET", "b", "1")
    assert cache.told() == [None]


def test_what_is_remembered_is_bounded(
    service: FakeService, frontend: Frontend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.tracking.TRACKED_KEYS_MAX", 3)
    cache = Cache(frontend)
    cache.run("CLIENT", "TRACKING", "ON")
    told = cache.run("MGET", "a", "b", "c", "d", "e")
    assert told.startswith(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n>2\r\n")
    assert list(frontend.tracker._readers) == [b"c", b"d", b"e"]
    frontend.disconnect(cache.connection)
    assert frontend.tracker._readers == {}


@pytest.mark.parametrize(
    ("words", "want"),
    [
        (("TRACKING", "MAYBE"), "ERR syntax error"),
        (("TRACKING", "ON", "NOLOOP"),
         "ERR NOLOOP is not supported: the log does not know who wrote"),
        (("TRACKING", "ON", "REDIRECT", 99),
         "ERR The client ID you want redirect to does not exist"),
        (("TRACKING", "ON", "PREFIX", "a"), "ERR PREFIX option requires BCAST mode to be enabled"),
        (("TRACKING", "ON", "OPTIN", "OPTOUT"),
         "ERR You can't specify both OPTIN mode and OPTOUT mode"),
        (("TRACKING", "ON", "BCAST", "OPTIN"),
         "ERR OPTIN and OPTOUT are not compatible with BCAST"),
        (("CACHING", "YES"), "ERR CLIENT CACHING can be called only when the client is in tracking "
         "mode with OPTIN or OPTOUT mode enabled"),
        (("GETREDIR",), -1),
        (("TRACKINGINFO",), {b"flags": [b"off"], b"redirect": -1, b"prefixes": []}),
    ],
)  # fmt: skip
def test_words_and_refusals(frontend: Frontend, words: tuple[str | int, ...], want: object) -> None:
    found = Cache(frontend).ask("CLIENT", *words)
    if isinstance(found, dict):
        found[b"flags"] = list(found[b"flags"])
    assert found == want
