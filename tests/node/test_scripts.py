"""The lock scripts that run without Lua, by text and by SHA1; the words for all others."""

from __future__ import annotations

import hashlib

import pytest
from redis.lock import Lock

from tests.support.fake_service import START_MS, Client, FakeService

RELEASE, EXTEND = Lock.LUA_RELEASE_SCRIPT, Lock.LUA_EXTEND_SCRIPT
REACQUIRE = Lock.LUA_REACQUIRE_SCRIPT
DOCUMENTED = (
    'if redis.call("get",KEYS[1]) == ARGV[1]\nthen return redis.call("del",KEYS[1])\n'
    "else return 0 end"
)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> Client:
    client = Client(service)
    client.run("SET", "lock", "token", "PX", "1000")
    return client


def sha1(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("script", [RELEASE, DOCUMENTED])
def test_release_deletes_for_the_holder_alone(client: Client, script: str) -> None:
    assert client.run("EVAL", script, "1", "lock", "other") == b":0\r\n"
    assert client.run("EXISTS", "lock") == b":1\r\n"
    assert client.run("EVAL", script, "1", "lock", "token") == b":1\r\n"
    assert client.run("EVAL", script, "1", "lock", "token") == b":0\r\n"
    assert client.run("EXISTS", "lock") == b":0\r\n"


def test_extend_adds_to_the_deadline_or_replaces_it(client: Client, service: FakeService) -> None:
    by_sha = sha1(EXTEND)
    service.clock_ms += 400
    assert client.run("EVALSHA", by_sha, "1", "lock", "other", "500", "0") == b":0\r\n"
    assert client.run("EVALSHA", by_sha, "1", "lock", "token", "500", "0") == b":1\r\n"
    assert service.machine.deadline_ms(b"lock") == START_MS + 1_500
    assert client.run("EVALSHA", by_sha, "1", "lock", "token", "500", "1") == b":1\r\n"
    assert service.machine.deadline_ms(b"lock") == START_MS + 900
    client.run("PERSIST", "lock")
    for replace in ("0", "1"):
        assert client.run("EVALSHA", by_sha, "1", "lock", "token", "500", replace) == b":0\r\n"


def test_reacquire_sets_the_deadline(client: Client, service: FakeService) -> None:
    assert client.run("EVAL", REACQUIRE, "1", "lock", "token", "7000") == b":1\r\n"
    assert service.machine.deadline_ms(b"lock") == START_MS + 7_000
    assert client.run("EVAL", REACQUIRE, "1", "lock", "token", "x").startswith(b"-ERR value is not")
    assert client.run("EVAL", REACQUIRE, "1", "none", "token", "9") == b":0\r\n"


def test_those_of_redis_py_are_known_on_every_node_and_stay(client: Client) -> None:
    known = [sha1(script) for script in (RELEASE, EXTEND, REACQUIRE)]
    assert client.run("SCRIPT", "EXISTS", *known, "0" * 40) == b"*4\r\n:1\r\n:1\r\n:1\r\n:0\r\n"
    loaded = client.run("SCRIPT", "LOAD", DOCUMENTED)
    assert loaded == b"$40\r\n%b\r\n" % sha1(DOCUMENTED).encode()
    assert client.run("EVALSHA", sha1(DOCUMENTED), "1", "lock", "token") == b":1\r\n"
    assert client.run("SCRIPT", "FLUSH") == b"+OK\r\n"
    assert client.run("EVALSHA", sha1(DOCUMENTED), "1", "lock", "token") == (
        b"-NOSCRIPT No matching script. Please use EVAL.\r\n"
    )
    assert client.run("EVALSHA", known[0], "1", "lock", "token") == b":0\r\n"


@pytest.mark.parametrize(
    "request_",
    [("EVAL", "return 1", "0"), ("SCRIPT", "LOAD", "return 1")],
)
def test_any_other_script_is_refused_in_words(client: Client, request_: tuple[str, ...]) -> None:
    assert client.run(*request_).startswith(b"-ERR this server runs no Lua")


def test_a_script_with_too_few_arguments_is_refused(client: Client) -> None:
    for request in (
        (RELEASE, "1", "lock"),
        (EXTEND, "1", "lock", "token", "5"),
        (RELEASE, "0", "x"),
    ):
        assert client.run("EVAL", *request).startswith(b"-ERR this script takes one key")


def test_a_script_runs_in_its_place_in_a_transaction(client: Client) -> None:
    client.run("MULTI")
    client.run("EVAL", RELEASE, "1", "lock", "token")
    client.run("EXISTS", "lock")
    assert client.run("EXEC") == b"*2\r\n:1\r\n:0\r\n"
