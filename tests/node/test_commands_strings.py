"""Commands of strings and keys that the installed redis-server does not have, and large things.

What both have is compared in test_differential.py: LCS, ranges, bits, floats, moves. Here: what
came with Redis 8.4 and Valkey 9, what is Trimaran's own, and limits.
"""

from __future__ import annotations

import random
from typing import Any

import hiredis
import pytest

from node.commands import COMMANDS
from node.commands.keys import SCAN_KEYS_MAX
from node.commands.lcs import BYTES_MAX, CELLS_MAX
from node.config import ClientSection, LimitsSection
from node.connection import Frontend
from tests.support.fake_service import START_MS, Client, FakeService, config


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> Client:
    return Client(service)


def ask(client: Client, *arguments: bytes | str | int) -> Any:
    reader = hiredis.Reader()
    reader.feed(client.run(*arguments))
    return reader.gets()


def test_delex_and_delifeq_compare_before_they_delete(client: Client) -> None:
    for request, want in (
        (("DELEX", "k"), 1), (("DELEX", "k", "IFEQ", "no"), 0), (("DELEX", "k", "ifeq", "v"), 1),
        (("DELEX", "k", "IFNE", "v"), 0), (("DELEX", "k", "IFNE", "no"), 1),
        (("DELIFEQ", "k", "no"), 0), (("DELIFEQ", "k", "v"), 1), (("DELEX", "none"), 0),
        (("DELEX", "none", "IFNE", "x"), 0),
    ):  # fmt: skip
        client.run("SET", "k", "v")
        assert ask(client, *request) == want, request
        assert ask(client, "EXISTS", "k") == (0 if want else 1)
    assert client.run("DELEX", "k", "IFEQ") == (
        b"-ERR wrong number of arguments for 'delex' command\r\n"
    )
    assert client.run("DELEX", "k", "FOO", "v").startswith(b"-ERR Invalid condition.")


def test_msetex_sets_all_or_none(client: Client, service: FakeService) -> None:
    assert ask(client, "MSETEX", "2", "a", "1", "b", "2", "NX", "EX", "10") == 1
    assert service.machine.deadline_ms(b"b") == START_MS + 10_000
    assert ask(client, "MSETEX", "2", "b", "3", "c", "3", "NX") == 0
    assert ask(client, "MSETEX", "2", "b", "3", "c", "3", "XX") == 0
    assert ask(client, "MSETEX", "2", "a", "5", "b", "6", "XX", "KEEPTTL") == 1
    assert ask(client, "MGET", "a", "b", "c") == [b"5", b"6", None]
    assert service.machine.deadline_ms(b"b") == START_MS + 10_000
    assert ask(client, "MSETEX", "1", "a", "7") == 1
    assert service.machine.deadline_ms(b"a") is None
    assert ask(client, "COMMAND", "GETKEYS", "MSETEX", "2", "a", "1", "b", "2", "NX") == [
        b"a",
        b"b",
    ]


@pytest.mark.parametrize(
    ("words", "want"),
    [
        (("0", "a", "1"), b"-ERR invalid numkeys value\r\n"),
        (("x", "a", "1"), b"-ERR invalid numkeys value\r\n"),
        (("2", "a", "1", "b"), b"-ERR wrong number of key-value pairs\r\n"),
        (("1", "a", "1", "NX", "XX"), b"-ERR syntax error\r\n"),
        (("1", "a", "1", "EX", "1", "KEEPTTL"), b"-ERR syntax error\r\n"),
        (("1", "a", "1", "EX"), b"-ERR syntax error\r\n"),
        (("1", "a", "1", "EX", "0"), b"-ERR invalid expire time in 'msetex' command\r\n"),
    ],
)
def test_msetex_refuses_what_it_does_not_know(
    client: Client, words: tuple[str, ...], want: bytes
) -> None:
    assert client.run("MSETEX", *words) == want


def test_values_do_not_grow_past_their_limit(service: FakeService) -> None:
    limits = LimitsSection(key_bytes_max=10, value_bytes_max=20, entry_bytes_max=4096)
    client = Client(service, Frontend(service, config(limits=limits), COMMANDS))
    too_long = b"-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n"
    client.run("SET", "k", "x" * 15)
    assert client.run("APPEND", "k", "y" * 6) == too_long
    assert ask(client, "APPEND", "k", "y" * 5) == 20
    assert client.run("SETRANGE", "k", "19", "ab") == too_long
    assert client.run("SETBIT", "k", "160", "1").startswith(b"-ERR bit offset is not")
    assert ask(client, "STRLEN", "k") == 20
    for request in (
        ("RENAME", "k", "x" * 11),
        ("APPEND", "x" * 11, "v"),
        ("SETBIT", "x" * 11, 0, 1),
    ):
        assert client.run(*request) == b"-ERR key of 11 bytes: limits.key_bytes_max is 10\r\n"
    assert ask(client, "CONFIG", "GET", "proto-max-bulk-len") == [b"proto-max-bulk-len", b"20"]


def test_set_ifrev_writes_if_nobody_did_since(client: Client) -> None:
    client.run("SET", "k", "1")
    _, _, modified, deadline_ms, _ = ask(client, "TRI.GET", "k")
    assert deadline_ms == -1
    assert ask(client, "SET", "k", "2", "IFREV", modified) == b"OK"
    assert ask(client, "SET", "k", "3", "IFREV", modified) is None
    assert ask(client, "SET", "new", "1", "IFREV", "0", "GET") is None
    assert ask(client, "SET", "new", "2", "IFREV", "0") is None
    assert ask(client, "MGET", "k", "new") == [b"2", b"1"]
    assert ask(client, "TRI.GET", "none") is None
    for wrong in (("IFREV",), ("IFREV", "1", "NX"), ("NX", "IFREV", "1")):
        assert client.run("SET", "k", "v", *wrong) == b"-ERR syntax error\r\n"
    assert client.run("SET", "k", "v", "IFREV", "-1").startswith(b"-ERR value is not an integer")


def test_ranges_are_read_in_order(client: Client) -> None:
    client.run("MSET", *(word for name in ("a1", "a2", "a3", "b1") for word in (name, name)))

    def names(*request: bytes | str | int) -> tuple[list[bytes], int]:
        revision, more, rows = ask(client, *request)
        assert isinstance(revision, int)
        assert all(row[0] == row[1] and len(row) == 4 for row in rows)
        return [row[0] for row in rows], more

    assert names("TRI.RANGE", "a1", "a3") == ([b"a1", b"a2"], 0)
    assert names("TRI.RANGE", "a2", "") == ([b"a2", b"a3", b"b1"], 0)
    assert names("TRI.RANGE", "a1", "", "LIMIT", "2") == ([b"a1", b"a2"], 1)
    assert names("TRI.RANGE", "a1", "a3", "REV", "LIMIT", "1") == ([b"a2"], 1)
    assert names("TRI.PREFIX", "a") == ([b"a1", b"a2", b"a3"], 0)
    assert names("TRI.PREFIX", "a", "AFTER", "a1", "LIMIT", "1") == ([b"a2"], 1)
    assert names("TRI.PREFIX", "zz") == ([], 0)
    for wrong in (
        ("TRI.RANGE", "a", "b", "FOO"),
        ("TRI.PREFIX", "a", "LIMIT"),
        ("TRI.PREFIX", "a", "AFTER"),
    ):
        assert client.run(*wrong) == b"-ERR syntax error\r\n"
    assert client.run("TRI.PREFIX", "a", "LIMIT", "0") == b"-ERR LIMIT must be positive\r\n"


def test_randomkey_finds_every_key_of_few_and_some_of_many(
    client: Client, service: FakeService
) -> None:
    assert ask(client, "RANDOMKEY") is None
    client.run("MSET", *(word for name in "abc" for word in (name, "v")))
    assert {ask(client, "RANDOMKEY") for _ in range(100)} == {b"a", b"b", b"c"}
    names = [b"k%06d" % number for number in range(3 * SCAN_KEYS_MAX)]
    service.machine.assign_many(names, names)
    found = {ask(client, "RANDOMKEY") for _ in range(50)}
    assert len(found) > 25
    assert found <= {*names, b"a", b"b", b"c"}


def test_lcs_of_large_values_is_refused(client: Client, service: FakeService) -> None:
    values = [b"x" * 5000, b"y" * (CELLS_MAX // 5000 + 1), b"z" * BYTES_MAX]
    service.machine.assign_many([b"a", b"b", b"c"], values)
    for pair in (("a", "b"), ("c", "a"), ("c", "c")):
        assert client.run("LCS", *pair).startswith(b"-ERR LCS of values of more than")


def test_lcs_finds_a_longest_common_subsequence(client: Client) -> None:
    rng = random.Random(3)
    for _ in range(50):
        one, two = (bytes(rng.choices(b"abcd", k=rng.randrange(0, 30))) for _ in range(2))
        client.run("MSET", "a", one, "b", two)
        rows = [[0] * (len(two) + 1) for _ in range(len(one) + 1)]
        for i, x in enumerate(one):
            for j, y in enumerate(two):
                longest = max(rows[i][j + 1], rows[i + 1][j])
                rows[i + 1][j + 1] = rows[i][j] + 1 if x == y else longest
        common = ask(client, "LCS", "a", "b")
        assert len(common) == ask(client, "LCS", "a", "b", "LEN") == rows[-1][-1]
        for text in (one, two):
            rest = iter(text)
            assert all(byte in rest for byte in common)


def test_object_says_what_redis_would(client: Client) -> None:
    client.run("MSET", "n", "12", "s", "abc", "l", "x" * 45)
    assert [ask(client, "OBJECT", "ENCODING", key) for key in "nsl"] == [b"int", b"embstr", b"raw"]
    assert ask(client, "OBJECT", "ENCODING", "none") is None
    assert (ask(client, "OBJECT", "REFCOUNT", "n"), ask(client, "OBJECT", "IDLETIME", "n")) == (
        1,
        0,
    )
    assert client.run("OBJECT", "FREQ", "n").startswith(b"-ERR An LFU maxmemory policy")
    assert ask(client, "MEMORY", "USAGE", "l") > 45


def test_keys_of_a_slot_are_counted(client: Client) -> None:
    client.run("MSET", "{t}a", "1", "{t}b", "2", "other", "3")
    slot = ask(client, "CLUSTER", "KEYSLOT", "t")
    assert ask(client, "CLUSTER", "COUNTKEYSINSLOT", slot) == 2
    assert ask(client, "CLUSTER", "GETKEYSINSLOT", slot, "1") == [b"{t}a"]
    assert client.run("CLUSTER", "COUNTKEYSINSLOT", "16384") == b"-ERR Invalid slot\r\n"


def test_a_port_that_says_it_is_no_cluster_refuses_cluster(service: FakeService) -> None:
    section = ClientSection(announce="standalone")
    client = Client(service, Frontend(service, config(client=section), COMMANDS))
    for request in (("CLUSTER", "SLOTS"), ("CLUSTER", "NODES"), ("CLUSTER", "KEYSLOT", "a")):
        assert client.run(*request) == b"-ERR This instance has cluster support disabled\r\n"
    assert b"cluster_enabled:0" in client.run("INFO", "cluster")
    assert b"redis_mode:standalone" in client.run("INFO", "server")
    assert ask(client, "HELLO")[9] == b"standalone"
