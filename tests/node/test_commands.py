"""The commands that redis-server cannot be asked about, and the table itself.

What both have is compared with redis-server in test_differential.py. Here: SET IFEQ and IFNE,
SCAN's cursors, INFO, CONFIG, COMMAND, CLIENT, HELLO, and times to live on a clock that stands
still. Method: one session over the fake service; replies are compared as bytes or parsed.
"""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
import redis.crc

from node.commands import COMMANDS, Kind, find, key_slot
from node.commands.keys import KEYS_MAX, SCAN_KEYS_MAX
from node.connection import NAME_BYTES_MAX, Frontend
from node.cursors import CURSOR_BYTES_MAX, CURSORS_MAX, Cursors
from node.resp import Request
from tests.support.fake_service import START_MS, Client, FakeService, config


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> Client:
    return Client(service)


def ask(client: Client, *arguments: bytes | str | int) -> Any:
    """The reply as a client library sees it."""
    reader = hiredis.Reader()
    reader.feed(client.run(*arguments))
    return reader.gets()


def fill(service: FakeService, count: int, prefix: str = "k") -> list[bytes]:
    names = [f"{prefix}{number:06}".encode() for number in range(count)]
    service.machine.assign_many(names, names)
    return names


# The table.


def rows() -> list[tuple[str, Any]]:
    return [
        (row.name, row)
        for outer in COMMANDS.values()
        for row in (outer, *outer.subcommands.values())
    ]


@pytest.mark.parametrize(("name", "row"), rows())
def test_every_row_is_whole(name: str, row: Any) -> None:
    assert name == name.lower()
    assert row.summary.endswith(".")
    assert row.arity != 0
    assert row.handler is not None or row.subcommands
    assert row.group in {
        "string", "generic", "bitmap", "transactions", "scripting", "pubsub",
        "connection", "server", "cluster", "trimaran",
    }  # fmt: skip
    assert ("write" in row.flags) <= (row.kind is Kind.WRITE)
    assert ("readonly" in row.flags) <= (row.kind is Kind.READ)
    # Channels of a shard are told as keys, so that clients find the shard.
    assert (row.keys[0] + row.numkeys > 0) <= (
        row.kind in (Kind.WRITE, Kind.READ) or row.group == "pubsub"
    )


@pytest.mark.parametrize("name", [b"get", b"GET", b"Get", b"gEt"])
def test_a_command_may_be_spelt_in_any_case(name: bytes) -> None:
    assert find([name, b"k"]) is COMMANDS[b"get"]


@pytest.mark.parametrize(
    ("request_", "want"),
    [
        ([b"nope"], b"-ERR unknown command 'nope', with args beginning with: \r\n"),
        ([b"a\r\nb", b"c"], b"-ERR unknown command 'a  b', with args beginning with: 'c' \r\n"),
        ([b"client", b"x"], b"-ERR unknown subcommand 'x'. Try CLIENT HELP.\r\n"),
        ([b"get"], b"-ERR wrong number of arguments for 'get' command\r\n"),
        ([b"CLIENT"], b"-ERR wrong number of arguments for 'client' command\r\n"),
        ([b"CLIENT", b"id", b"x"], b"-ERR wrong number of arguments for 'client|id' command\r\n"),
    ],
)
def test_what_is_not_in_the_table_is_refused_in_redis_words(request_: Request, want: bytes) -> None:
    assert find(request_) == want


def test_command_tells_the_whole_table_to_cluster_clients(client: Client) -> None:
    told = {row[0].decode(): row for row in ask(client, "COMMAND")}
    assert set(told) == {name.decode() for name in COMMANDS}
    assert ask(client, "COMMAND", "COUNT") == len(COMMANDS)
    assert told["mset"][:6] == [b"mset", -3, told["mset"][2], 1, -1, 2]
    assert set(told["mset"][2]) == {b"write", b"denyoom"}
    assert all(len(row) == 10 for row in told.values())
    assert ask(client, "COMMAND", "INFO", "get", "nope", "client|id")[1] is None
    assert ask(client, "COMMAND", "INFO", "client|id")[0][0] == b"client|id"


def test_command_list_filters(client: Client) -> None:
    assert set(ask(client, "COMMAND", "LIST")) == set(COMMANDS)
    by_pattern = ask(client, "COMMAND", "LIST", "FILTERBY", "PATTERN", "pex*")
    assert set(by_pattern) == {b"pexpire", b"pexpireat", b"pexpiretime"}
    writes = ask(client, "COMMAND", "LIST", "FILTERBY", "ACLCAT", "write")
    assert b"set" in writes
    assert b"get" not in writes
    assert ask(client, "COMMAND", "LIST", "FILTERBY", "MODULE", "x") == []


def test_docs_and_help_say_what_every_command_is_for(client: Client) -> None:
    docs = ask(client, "COMMAND", "DOCS")
    assert len(docs) == 2 * len(COMMANDS)
    fields = dict(zip(docs[1][::2], docs[1][1::2], strict=True))
    assert fields[b"summary"] == b"Returns the value of a key."
    lines = ask(client, "CLIENT", "HELP")
    assert b"SETNAME" in lines
    assert b"    Names the connection." in lines


# SET with conditions.


def test_set_ifeq_and_ifne_compare_with_the_stored_value(client: Client) -> None:
    assert ask(client, "SET", "k", "new", "IFEQ", "old") is None
    assert ask(client, "GET", "k") is None  # An absent key is not created by IFEQ,
    assert ask(client, "SET", "k", "a", "IFNE", "x") == b"OK"  # but by IFNE it is.
    assert ask(client, "SET", "k", "b", "IFEQ", "wrong") is None
    assert ask(client, "SET", "k", "b", "IFEQ", "a") == b"OK"
    assert ask(client, "SET", "k", "c", "IFNE", "b") is None
    assert ask(client, "SET", "k", "c", "IFEQ", "b", "GET", "PX", "5000") == b"b"
    assert ask(client, "PTTL", "k") == 5000


@pytest.mark.parametrize(
    "options",
    [
        ("IFEQ",), ("IFNE",), ("IFEQ", "a", "NX"), ("NX", "IFEQ", "a"), ("XX", "IFNE", "a"),
        ("IFEQ", "a", "IFEQ", "b"), ("IFEQ", "a", "IFNE", "b"), ("NX", "XX"),
        ("EX", "1", "PX", "1"), ("EX", "1", "KEEPTTL"), ("KEEPTTL", "EX", "1"), ("EX",),
    ],
)  # fmt: skip
def test_conditions_and_expirations_exclude_each_other(
    client: Client, options: tuple[str, ...]
) -> None:
    assert client.run("SET", "k", "v", *options) == b"-ERR syntax error\r\n"


# Time.


def test_times_to_live_are_told_on_the_clusters_clock(client: Client, service: FakeService) -> None:
    client.run("SET", "k", "v", "PX", "10000")
    service.clock_ms += 3_400
    assert (ask(client, "PTTL", "k"), ask(client, "TTL", "k")) == (6_600, 7)
    assert ask(client, "PEXPIRETIME", "k") == START_MS + 10_000
    service.clock_ms += 7_000
    assert ask(client, "PTTL", "k") == 0  # Due, and not yet expired by the log.
    client.run("SET", "other", "v")
    assert ask(client, "PTTL", "k") == -2
    assert ask(client, "PTTL", "other") == -1


def test_xx_with_lt_needs_a_later_deadline(client: Client) -> None:
    client.run("SET", "k", "v")
    assert ask(client, "EXPIRE", "k", "10", "XX", "LT") == 0
    client.run("EXPIRE", "k", "100")
    assert ask(client, "EXPIRE", "k", "200", "XX", "LT") == 0
    assert ask(client, "EXPIRE", "k", "10", "XX", "LT") == 1


def test_xx_with_gt_is_gt(client: Client) -> None:
    client.run("SET", "k", "v", "EX", "100")
    assert ask(client, "EXPIRE", "k", "50", "XX", "GT") == 0
    assert ask(client, "EXPIRE", "k", "500", "XX", "GT") == 1
    client.run("PERSIST", "k")
    assert ask(client, "EXPIRE", "k", "900", "XX", "GT") == 0


def test_time_is_the_clusters(client: Client, service: FakeService) -> None:
    service.clock_ms = 1_234_567
    assert ask(client, "TIME") == [b"1234", b"567000"]


# SCAN and KEYS.


def scan_all(client: Client, *options: bytes | str | int) -> list[bytes]:
    found: list[bytes] = []
    cursor = b"0"
    for _ in range(10_000):
        cursor, page = ask(client, "SCAN", cursor, *options)
        found += page
        if cursor == b"0":
            return found
    raise AssertionError("the scan does not end")


def test_a_scan_returns_every_key_that_is_there_throughout(
    client: Client, service: FakeService
) -> None:
    names = fill(service, 500)
    found: list[bytes] = []
    cursor = b"0"
    added = 0
    while True:
        cursor, page = ask(client, "SCAN", cursor, "COUNT", "7")
        found += page
        if cursor == b"0":
            break
        client.run("SET", f"a{added}", "v")
        client.run("DEL", f"k{499 - added:06}")
        added += 1
    assert set(names[: 500 - added]) <= set(found)
    assert len(found) == len(set(found))


def test_scan_filters_what_it_looked_at(client: Client, service: FakeService) -> None:
    fill(service, 100)
    fill(service, 100, prefix="z")
    assert len(scan_all(client, "COUNT", "3", "MATCH", "z*")) == 100
    assert scan_all(client, "TYPE", "hash") == []
    assert len(scan_all(client, "TYPE", "STRING")) == 200
    cursor, page = ask(client, "SCAN", "0", "COUNT", "5", "MATCH", "nothing")
    assert (page, cursor != b"0") == ([], True)


def test_a_cursor_that_is_not_known_starts_over(client: Client, service: FakeService) -> None:
    names = fill(service, 30)
    for cursor in ("123", "18446744073709551615"):
        assert ask(client, "SCAN", cursor, "COUNT", "100")[1] == names
    other = Cursors("another process").new(b"k000020")
    assert ask(client, "SCAN", other, "COUNT", "100")[1] == names


def test_cursors_fit_64_bits_differ_between_nodes_and_are_bounded() -> None:
    one, two = Cursors("n1 1"), Cursors("n2 1")
    cursor = one.new(b"a")
    assert 0 < cursor < 2**64
    assert cursor != two.new(b"a")
    for number in range(CURSORS_MAX):
        one.new(b"%d" % number)
    assert one.key(cursor) is None
    large = b"x" * 65_536
    cursors = [two.new(large) for _ in range(2 * CURSOR_BYTES_MAX // len(large))]
    assert sum(two.key(one) is not None for one in cursors) == CURSOR_BYTES_MAX // len(large)


def test_one_call_looks_at_a_bounded_number_of_keys(client: Client, service: FakeService) -> None:
    fill(service, SCAN_KEYS_MAX + 5)
    assert len(ask(client, "SCAN", "0", "COUNT", str(2**62))[1]) == SCAN_KEYS_MAX
    fill(service, KEYS_MAX + 1)
    refused = f"-ERR KEYS is refused above {KEYS_MAX} keys: use SCAN\r\n"
    assert client.run("KEYS", "*") == refused.encode()


def test_a_page_of_long_keys_ends_early(client: Client, service: FakeService) -> None:
    service.machine.assign_many([b"%05d" % n + b"x" * 60_000 for n in range(300)], [b""] * 300)
    cursor, page = ask(client, "SCAN", "0", "COUNT", "300")
    assert cursor != b"0"
    assert len(page) == 100


def test_a_reply_over_the_output_limit_is_an_error(client: Client, service: FakeService) -> None:
    client.frontend.output_bytes_max = 5_000
    service.machine.assign(b"a", b"x" * 3_000)
    assert client.run("MGET", "a", "a").startswith(b"-ERR reply of 6000 bytes")
    fill(service, 1_000)
    assert client.run("KEYS", "*").startswith(b"-ERR the keys are more than")


# About this node.


def info(client: Client, *sections: str) -> dict[str, str]:
    lines = ask(client, "INFO", *sections).decode().split("\r\n")
    return dict(line.split(":", 1) for line in lines if line and not line.startswith("#"))


def test_info_has_what_stock_clients_read_and_the_raft_section(
    client: Client, service: FakeService
) -> None:
    client.run("SET", "a", "1", "PX", 60_000)
    told = info(client)
    assert told["redis_version"].startswith("7.")
    assert (told["redis_mode"], told["cluster_enabled"], told["arch_bits"]) == (
        "cluster",
        "1",
        "64",
    )
    assert (told["role"], told["connected_slaves"], told["db0"]) == (
        "master",
        "2",
        "keys=1,expires=1,avg_ttl=0",
    )
    assert told["raft_id"] == "n1"
    assert {name for name in told if name.startswith("raft_")} == set(service.info())
    assert set(info(client, "Raft")) == set(service.info())
    assert info(client, "nothing") == {}
    assert set(info(client, "keyspace", "cluster")) == {"db0", "cluster_enabled"}


def test_info_tells_of_leases_watches_tracking_and_history(
    client: Client, service: FakeService
) -> None:
    client.run("HELLO", "3")
    client.run("TRI.LEASE", "GRANT", 1000)
    client.run("TRI.WATCH", "KEY", "a")
    client.run("CLIENT", "TRACKING", "ON")
    client.run("GET", "a")
    other = Client(service, client.frontend)
    told = info(other, "clients", "stats", "trimaran")
    names = ("leases", "watches", "watches_behind", "tracking_clients", "tracking_total_keys")
    assert [told[name] for name in names] == ["1", "1", "0", "1", "1"]
    assert (told["history_keys"], told["history_first_revision"]) == ("0", "1")
    other.run("SET", "b", "2")
    assert info(other, "trimaran")["history_keys"] == "1"


def test_a_follower_says_who_leads(client: Client, service: FakeService) -> None:
    service.leader_id, service.is_leader = "n3", False
    told = info(client, "replication")
    assert (told["role"], told["master_port"], told["master_link_status"]) == (
        "slave",
        "7003",
        "up",
    )
    assert ask(client, "ROLE") == [b"slave", b"127.0.0.1", 7003, b"connected", 0]
    service.dead.add("n3")
    assert info(client, "replication")["master_link_status"] == "down"
    service.leader_id = None
    assert ask(client, "ROLE") == [b"slave", b"", 0, b"connect", 0]


def test_the_leaders_role_lists_the_replicas_that_are_there(
    client: Client, service: FakeService
) -> None:
    service.dead.add("n2")
    assert ask(client, "ROLE") == [b"master", 0, [[b"127.0.0.1", b"7003", b"0"]]]


def test_config_get_knows_what_benchmarks_ask_for_and_no_password(client: Client) -> None:
    assert ask(client, "CONFIG", "GET", "save") == [b"save", b""]
    assert ask(client, "CONFIG", "GET", "APPENDONLY", "maxcl*") == [
        b"appendonly", b"yes", b"maxclients", b"10000",
    ]  # fmt: skip
    assert ask(client, "CONFIG", "GET", "requirepass") == []
    assert b"pass" not in client.run("CONFIG", "GET", "*")
    assert client.run("CONFIG", "SET", "appendonly", "yes") == b"+OK\r\n"
    assert b"can't set immutable config" in client.run("CONFIG", "SET", "appendonly", "no")


def test_wait_answers_what_a_majority_makes_certain(service: FakeService) -> None:
    assert ask(Client(service), "WAIT", "2", "100") == 1
    assert ask(Client(FakeService(count=1)), "WAIT", "0", "0") == 0


def test_counters_count_and_are_reset(client: Client) -> None:
    client.run("PING")
    client.run("SET", "a", "1")
    assert info(client, "stats")["total_commands_processed"] == "2"
    client.run("CONFIG", "RESETSTAT")
    assert info(client, "stats")["total_commands_processed"] == "1"


# The connection.


def test_hello_3_is_a_map_with_proto_3_and_changes_the_nulls(client: Client) -> None:
    client.run("HELLO", "2")
    assert client.run("GET", "nope") == b"$-1\r\n"
    told = ask(client, "HELLO", "3", "SETNAME", "me")
    assert (told[b"proto"], told[b"server"], told[b"role"]) == (3, b"redis", b"master")
    assert client.run("GET", "nope") == b"_\r\n"
    assert client.run("SET", "k", "v", "XX") == b"_\r\n"
    assert ask(client, "CLIENT", "GETNAME") == b"me"
    assert ask(client, "CONFIG", "GET", "save") == {b"save": b""}
    assert client.run("INFO", "cluster").startswith(b"=")
    client.run("RESET")
    assert client.run("GET", "nope") == b"$-1\r\n"


def test_a_hello_that_fails_changes_nothing(client: Client) -> None:
    assert client.run("HELLO", "3", "SETNAME", "a b").startswith(b"-ERR Client names")
    assert client.run("HELLO", "3", "AUTH", "who", "x").startswith(b"-WRONGPASS")
    assert client.run("HELLO", "3", "AUTH", "x").startswith(b"-ERR Syntax error in HELLO option")
    assert client.run("CLIENT", "GETNAME") == b"$-1\r\n"


def test_names_are_printable_and_bounded(client: Client) -> None:
    for name in ("a b", "a\n", "\x7f", "x" * (NAME_BYTES_MAX + 1)):
        assert client.run("CLIENT", "SETNAME", name).startswith(b"-ERR Client names cannot")
    assert client.run("CLIENT", "SETNAME", "x" * NAME_BYTES_MAX) == b"+OK\r\n"
    assert client.run("CLIENT", "SETINFO", "lib-name", "a b").startswith(b"-ERR lib-name cannot")
    assert client.run("CLIENT", "SETINFO", "other", "x").startswith(b"-ERR Unrecognized option")


def test_client_list_tells_who_is_connected(service: FakeService) -> None:
    frontend = Frontend(service, config(), COMMANDS)
    one, two = Client(service, frontend), Client(service, frontend)
    one.run("CLIENT", "SETNAME", "first")
    one.run("CLIENT", "SETINFO", "LIB-NAME", "redis-py")
    two.run("READONLY")
    lines = ask(two, "CLIENT", "LIST").decode().splitlines()
    assert len(lines) == 2
    assert "id=1 " in lines[0]
    assert "name=first" in lines[0]
    assert "lib-name=redis-py" in lines[0]
    assert "flags=r" in lines[1]
    assert "cmd=client|list" in lines[1]
    assert ask(two, "CLIENT", "LIST", "ID", "1").decode().count("\n") == 1
    assert ask(two, "CLIENT", "LIST", "TYPE", "pubsub") == b""
    two.session.lost()
    assert ask(one, "CLIENT", "LIST").decode().count("\n") == 1
    assert ask(one, "CLIENT", "ID") == 1


def test_consistency_is_told_and_refused_in_words(client: Client) -> None:
    assert ask(client, "TRI.CONSISTENCY") == b"linearizable"
    client.run("TRI.CONSISTENCY", "EVENTUAL")
    assert ask(client, "TRI.CONSISTENCY") == b"eventual"
    reply = client.run("TRI.CONSISTENCY", "strong")
    assert reply == b"-ERR consistency is one of linearizable, lease, eventual\r\n"


@pytest.mark.parametrize(
    "key", [b"", b"foo", b"123456789", b"{foo}bar", b"a{}b", b"a{}{b}", b"a{{b}}c", b"a}b{c", b"{"]
)
def test_hash_slots_are_those_that_redis_py_computes(key: bytes) -> None:
    assert key_slot(key) == redis.crc.key_slot(key)
    assert key_slot(b"123456789") == 12739  # The check value of the CRC.
