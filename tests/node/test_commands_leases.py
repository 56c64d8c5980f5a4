"""TRI.LEASE and SET ... LEASE: the words, the replies, and what each command does to the keys."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from tests.support.fake_service import START_MS, Client, FakeService


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> Client:
    return Client(service)


def ask(client: Client, *arguments: bytes | str | int) -> Any:
    reader = hiredis.Reader(replyError=str)
    reader.feed(client.run(*arguments))
    return reader.gets()


def lease(client: Client, *arguments: bytes | str | int) -> Any:
    return ask(client, "TRI.LEASE", *arguments)


def test_a_lease_is_granted_shown_kept_alive_and_revoked(
    client: Client, service: FakeService
) -> None:
    assert lease(client, "GRANT", 1000) == 1
    assert lease(client, "GRANT", 500, "ID", 7) == 7
    assert lease(client, "GRANT", 500, "ID", 7) == "LEASEEXISTS lease 7 is there already"
    for key in ("b", "a"):
        assert ask(client, "SET", key, "v", "LEASE", 1) == b"OK"
    service.clock_ms += 400
    client.run("SET", "tick", "1")
    assert lease(client, "TTL", 1) == [600, 1000, 2]
    assert lease(client, "TTL", 1, "KEYS") == [600, 1000, 2, [b"a", b"b"]]
    assert lease(client, "LIST") == [[1, 600, 1000, 2], [7, 100, 500, 0]]
    assert lease(client, "LIST", "AFTER", 1) == [[7, 100, 500, 0]]
    assert lease(client, "LIST", "LIMIT", 1) == [[1, 600, 1000, 2]]
    assert lease(client, "KEEPALIVE", 1) == 1000
    assert (ask(client, "PTTL", "a"), lease(client, "TTL", 1)) == (1000, [1000, 1000, 2])
    assert ask(client, "PEXPIRETIME", "a") == START_MS + 1400
    assert lease(client, "REVOKE", 1) == 1
    assert ask(client, "MGET", "a", "b") == [None, None]
    assert lease(client, "REVOKE", 1) == 0
    assert lease(client, "TTL", 1) is None
    assert lease(client, "KEEPALIVE", 1) == "NOLEASE there is no lease 1"
    assert ask(client, "SET", "k", "v", "LEASE", 1) == "NOLEASE there is no lease 1"
    assert lease(client, "GRANT", 500, "ID", 1) == 1


def test_all_keys_go_when_the_lease_falls_due(client: Client, service: FakeService) -> None:
    lease(client, "GRANT", 1000)
    for number in range(20):
        client.run("SET", f"k{number}", "v", "LEASE", 1)
    service.clock_ms += 999
    client.run("SET", "tick", "1")
    assert ask(client, "DBSIZE") == 21
    service.clock_ms += 1
    client.run("SET", "tick", "1")
    assert ask(client, "DBSIZE") == 1
    assert lease(client, "LIST") == []


@pytest.mark.parametrize(
    ("command", "stays"),
    [
        (("SET", "k", "w"), False),
        (("MSET", "k", "w"), False),
        (("SET", "k", "w", "KEEPTTL"), True),
        (("SET", "k", "w", "LEASE", 2), False),
        (("INCR", "k"), True),
        (("APPEND", "k", "1"), True),
        (("SETRANGE", "k", 0, "x"), True),
        (("SETBIT", "k", 0, 1), True),
        (("INCRBYFLOAT", "k", 1), True),
        (("GETEX", "k"), True),
        (("GETEX", "k", "PERSIST"), False),
        (("PERSIST", "k"), False),
        (("PEXPIRE", "k", 5000), False),
        (("PEXPIRE", "k", 900, "GT"), True),
        (("PEXPIRE", "k", 900, "NX"), True),
        (("PEXPIRE", "k", 900, "LT"), False),
        (("DEL", "k"), False),
        (("FLUSHALL",), False),
        (("COPY", "k", "l"), True),
    ],
)
def test_what_a_command_does_to_a_key_on_a_lease(
    client: Client, command: tuple[str | int, ...], stays: bool
) -> None:
    lease(client, "GRANT", 1000)
    lease(client, "GRANT", 9000)
    client.run("SET", "k", "1", "LEASE", 1)
    assert not isinstance(ask(client, *command), str)
    assert (b"k" in lease(client, "TTL", 1, "KEYS")[3]) is stays
    assert lease(client, "TTL", 2, "KEYS")[2:] == [
        int("LEASE" in command), [b"k"] if "LEASE" in command else []
    ]  # fmt: skip


def test_a_key_takes_its_lease_along(client: Client, service: FakeService) -> None:
    lease(client, "GRANT", 1000)
    client.run("SET", "a", "1", "LEASE", 1)
    client.run("RENAME", "a", "b")
    client.run("COPY", "b", "c")
    assert lease(client, "TTL", 1, "KEYS")[3] == [b"b", b"c"]
    assert ask(client, "TRI.GET", "b") == [b"1", 3, 3, START_MS + 1000, 1]
    assert ask(client, "TRI.GET", "c")[3:] == [START_MS + 1000, 1]
    client.run("PERSIST", "c")
    assert ask(client, "TRI.GET", "c")[3:] == [-1, 0]
    service.clock_ms += 1000
    client.run("SET", "tick", "1")
    assert ask(client, "MGET", "b", "c") == [None, b"1"]


def test_a_transaction_may_grant_and_use(client: Client) -> None:
    client.run("MULTI")
    assert client.run("TRI.LEASE", "GRANT", 500, "ID", 5) == b"+QUEUED\r\n"
    assert client.run("SET", "k", "v", "NX", "LEASE", 5) == b"+QUEUED\r\n"
    assert ask(client, "EXEC") == [5, b"OK"]
    assert ask(client, "PTTL", "k") == 500


@pytest.mark.parametrize(
    ("command", "want"),
    [
        (("TRI.LEASE", "GRANT", 0), "ERR invalid time to live of a lease"),
        (("TRI.LEASE", "GRANT", "x"), "ERR value is not an integer or out of range"),
        (("TRI.LEASE", "GRANT", 2**63 - 1), "ERR invalid time to live of a lease"),
        (("TRI.LEASE", "GRANT", 5, "ID"), "ERR syntax error"),
        (("TRI.LEASE", "GRANT", 5, "ID", 0), "ERR lease id is out of range"),
        (("TRI.LEASE", "KEEPALIVE", -1), "ERR lease id is out of range"),
        (("TRI.LEASE", "REVOKE", "a"), "ERR value is not an integer or out of range"),
        (("TRI.LEASE", "TTL", 1, "ALL"), "ERR syntax error"),
        (("TRI.LEASE", "LIST", "LIMIT"), "ERR value is not an integer or out of range"),
        (("TRI.LEASE", "LIST", "FROM", 1), "ERR syntax error"),
        (("TRI.LEASE", "NONE"), "ERR unknown subcommand 'NONE'. Try TRI.LEASE HELP."),
        (("SET", "k", "v", "LEASE"), "ERR value is not an integer or out of range"),
        (("SET", "k", "v", "LEASE", 1, "EX", 5), "ERR syntax error"),
        (("SET", "k", "v", "EX", 5, "LEASE", 1), "ERR syntax error"),
        (("SET", "k", "v", "KEEPTTL", "LEASE", 1), "ERR syntax error"),
        (("SET", "k", "v", "LEASE", 1, "KEEPTTL"), "ERR syntax error"),
    ],
)
def test_mistakes_are_told(client: Client, command: tuple[str | int, ...], want: str) -> None:
    assert ask(client, *command) == want
    assert client.service.index == 0 or command[:2] == ("TRI.LEASE", "GRANT")
