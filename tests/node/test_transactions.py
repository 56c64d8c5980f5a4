"""MULTI, EXEC, WATCH: one operation, one moment, one reply.

What Redis answers for random mixtures is compared in test_differential.py. Here: what goes to the
log, what is read from where, what stops a transaction, and the bounds.
"""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from node.commands import COMMANDS, key_slot
from node.config import LimitsSection
from node.connection import Frontend
from node.errors import NotLeader, OutcomeUnknown, Unavailable
from tests.support.fake_service import START_MS, Client, FakeService, config, wire

QUEUED = b"+QUEUED\r\n"


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


def transact(client: Client, *commands: tuple[bytes | str | int, ...]) -> Any:
    client.run("MULTI")
    for command in commands:
        assert client.run(*command) == QUEUED
    return ask(client, "EXEC")


def test_a_transaction_is_one_submit_and_its_reads_see_their_own_place(
    client: Client, service: FakeService
) -> None:
    client.run("SET", "n", "1", "PX", "5000")
    submits = service.submits
    replies = transact(
        client,
        ("GET", "n"), ("INCR", "n"), ("GET", "n"), ("MGET", "n", "none"), ("PTTL", "n"),
        ("SET", "a", "x"), ("STRLEN", "a"), ("EXISTS", "a", "n", "none"), ("DBSIZE",),
        ("KEYS", "*"), ("TYPE", "a"), ("DEL", "a"), ("GETRANGE", "a", "0", "-1"), ("PING", "hi"),
        ("TTL", "a"),
    )  # fmt: skip
    assert replies == [
        b"1", 2, b"2", [b"2", None], 5000, b"OK", 1, 2, 2, [b"a", b"n"],
        b"string", 1, b"", b"hi", -2,
    ]  # fmt: skip
    assert service.submits == submits + 1


def test_a_transaction_tells_the_revision_of_its_own_writes(client: Client) -> None:
    client.run("SET", "old", "1")
    before = ask(client, "TRI.GET", "old")[2]
    _, new, _, old, none = transact(
        client, ("SET", "new", "v"), ("TRI.GET", "new"), ("INCR", "old"), ("TRI.GET", "old"),
        ("TRI.GET", "none"),
    )  # fmt: skip
    assert new == [b"v", before + 1, before + 1, -1, 0]
    assert old == [b"2", before, before + 1, -1, 0]
    assert none is None
    assert ask(client, "TRI.GET", "new") == new  # nobody else has changed it since


def test_a_transaction_of_reads_is_one_read_and_nothing_in_the_log(
    client: Client, service: FakeService
) -> None:
    client.run("MSET", "a", "1", "b", "2")
    index, reads = service.index, service.reads
    assert transact(client, ("GET", "a"), ("PING",), ("TIME",), ("SCAN", "0")) == [
        b"1", b"PONG", [b"%d" % (START_MS // 1000), b"0"], [b"0", [b"a", b"b"]],
    ]  # fmt: skip
    assert (service.index, service.reads) == (index, reads + 1)
    assert transact(client) == []
    assert service.reads == reads + 1


def test_a_scan_inside_a_transaction_of_writes_can_be_gone_on_with(
    client: Client, service: FakeService
) -> None:
    names = [b"k%03d" % number for number in range(25)]
    service.machine.assign_many(names, names)
    _, (cursor, page) = transact(client, ("SET", "z", "1"), ("SCAN", "0", "COUNT", "10"))
    assert page == names[:10]
    cursor, page = ask(client, "SCAN", cursor, "COUNT", "10")
    assert page == names[10:20]
    (_, (cursor, page)) = transact(client, ("DEL", "z"), ("SCAN", cursor, "COUNT", "10"))
    assert (cursor, page) == (b"0", names[20:])


def test_nothing_is_carried_out_before_exec_and_nothing_after_discard(
    client: Client, service: FakeService
) -> None:
    client.run("MULTI")
    client.run("SET", "a", "1")
    assert len(service.machine) == 0
    assert client.run("DISCARD") == b"+OK\r\n"
    assert len(service.machine) == 0
    assert client.run("EXEC") == b"-ERR EXEC without MULTI\r\n"
    assert client.run("DISCARD") == b"-ERR DISCARD without MULTI\r\n"


@pytest.mark.parametrize("wrong", [("NOPE",), ("GET",), ("TRI.SNAPSHOT",), ("SHUTDOWN",)])
def test_a_mistake_while_queueing_spoils_the_transaction(
    client: Client, service: FakeService, wrong: tuple[str, ...]
) -> None:
    client.run("MULTI")
    client.run("SET", "a", "1")
    assert client.run(*wrong).startswith(b"-ERR")
    assert client.run("SET", "b", "1") == QUEUED
    want = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
    assert client.run("EXEC") == want
    assert len(service.machine) == 0
    assert client.run("SET", "a", "1") == b"+OK\r\n"


def test_multi_and_watch_inside_are_refused_without_spoiling_it(client: Client) -> None:
    client.run("MULTI")
    assert client.run("MULTI") == b"-ERR MULTI calls can not be nested\r\n"
    assert client.run("WATCH", "a") == b"-ERR WATCH inside MULTI is not allowed\r\n"
    client.run("SET", "a", "1")
    assert ask(client, "EXEC") == [b"OK"]


def test_a_command_that_fails_when_it_runs_does_not_stop_the_others(client: Client) -> None:
    client.run("MULTI")
    for command in (("SET", "a", "x"), ("INCR", "a"), ("SET", "a", "1", "EX", "0"), ("INCR", "n")):
        client.run(*command)
    assert client.run("EXEC") == (
        b"*4\r\n+OK\r\n-ERR value is not an integer or out of range\r\n"
        b"-ERR invalid expire time in 'set' command\r\n:1\r\n"
    )


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_watched_key_that_changed_stops_it(service: FakeService, protocol: int) -> None:
    one, other = Client(service), Client(service)
    one.run("HELLO", protocol)
    one.run("SET", "k", "1")
    nothing = {2: b"*-1\r\n", 3: b"_\r\n"}[protocol]
    for change in (("SET", "k", "2"), ("DEL", "k"), ("SET", "k", "3")):
        one.run("WATCH", "k", "unused")
        other.run(*change)
        one.run("MULTI")
        one.run("SET", "k", "mine")
        assert one.run("EXEC") == nothing
        one.run("WATCH", "k")
        other.run(*change)
        other.run("SET", "k", "again")
        one.run("MULTI")
        one.run("GET", "k")
        assert one.run("EXEC") == nothing
    one.run("MULTI")
    one.run("SET", "k", "mine")
    assert one.run("EXEC") == b"*1\r\n+OK\r\n"


def test_a_change_on_its_way_when_exec_comes_stops_it_too(service: FakeService) -> None:
    """The comparison is made where the transaction is applied, not where it was asked for."""
    one, other = Client(service), Client(service)
    one.run("SET", "k", "1")
    one.run("WATCH", "k")
    other.send(wire("SET", "k", "2"))
    one.send(wire("MULTI") + wire("SET", "k", "mine") + wire("EXEC"))
    service.settle_all()
    assert one.take().endswith(b"+QUEUED\r\n*-1\r\n")
    assert service.machine.get(b"k") == b"2"


@pytest.mark.parametrize("reads_only", [False, True])
def test_a_key_that_came_and_went_has_changed(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, reads_only: bool
) -> None:
    one, other = Client(service), Client(service)
    queued = ("GET", "x") if reads_only else ("SET", "mine", "1")
    for gone in (
        ("DEL", "k"),
        ("GETDEL", "k"),
        ("RENAME", "k", "l"),
        ("FLUSHALL",),
        ("EXPIRE", "k", 0),
    ):
        one.run("WATCH", "k")
        other.run("SET", "k", "1")
        other.run(*gone)
        assert transact(one, queued) is None, gone
        one.run("WATCH", "k")
        other.run("SET", "other", "1")
        other.run("DEL", "other", "k")
        assert transact(one, queued) is not None, gone
    one.run("WATCH", "k")
    other.run("SET", "k", "1", "PX", "10")
    service.clock_ms += 10
    other.run("SET", "other", "1")
    assert transact(one, queued) is None
    other.run("SET", "k", "1", "PX", "10")
    service.clock_ms += 10
    with monkeypatch.context() as patch:
        patch.setattr("statemachine.keyspace.EXPIRE_PER_BATCH_MAX", 0)
        other.run("SET", "other", "2")
        one.run("WATCH", "k")  # It has fallen due, and no batch has removed it yet.
    assert transact(one, queued) is not None


def test_unwatch_exec_discard_and_reset_forget_what_was_watched(service: FakeService) -> None:
    one, other = Client(service), Client(service)
    for number, forget in enumerate((("UNWATCH",), ("EXEC",), ("DISCARD",), ("RESET",))):
        one.run("WATCH", "k")
        if forget[0] in ("EXEC", "DISCARD"):
            one.run("MULTI")
        one.run(*forget)
        other.run("SET", "k", number)
        assert transact(one, ("SET", "mine", "1")) == [b"OK"]


def test_a_key_that_expired_has_changed(client: Client, service: FakeService) -> None:
    client.run("SET", "k", "1", "PX", "100")
    client.run("WATCH", "k")
    service.clock_ms += 200
    assert transact(client, ("SET", "mine", "1")) is None


def test_a_transaction_is_bounded_in_commands_and_bytes(service: FakeService) -> None:
    limits = LimitsSection(multi_commands_max=3, watch_keys_max=2, watch_bytes_max=7)
    client = Client(service, Frontend(service, config(limits=limits), COMMANDS))
    client.run("MULTI")
    client.send(wire("PING") * 3)
    assert client.take() == QUEUED * 3
    assert client.run("PING") == (
        b"-ERR transaction of more than limits.multi_commands_max (3 commands)\r\n"
    )
    assert client.run("EXEC").startswith(b"-EXECABORT")
    assert client.run("WATCH", "a", "b") == b"+OK\r\n"
    assert client.run("WATCH", "c").startswith(b"-ERR more watched keys than limits.watch_keys_max")
    assert client.run("UNWATCH") == b"+OK\r\n"
    assert client.run("WATCH", "a" * 9).startswith(b"-ERR watched keys of more than limits.watch_b")
    limits = LimitsSection(key_bytes_max=100, value_bytes_max=1000, entry_bytes_max=4096)
    client = Client(service, Frontend(service, config(limits=limits), COMMANDS))
    client.run("MULTI")
    for _ in range(3):
        assert client.run("SET", "k", "x" * 1000) == QUEUED
    assert client.run("SET", "k", "x" * 1000).startswith(b"-ERR transaction of more than limits.")


def test_what_did_not_come_about_is_said_once(client: Client, service: FakeService) -> None:
    for error, want in (
        (Unavailable("no leader"), b"-CLUSTERDOWN no leader\r\n"),
        (OutcomeUnknown("write may"), b"-UNKNOWN write may or may not have been applied\r\n"),
    ):
        service.next_failures.append(error)
        client.run("MULTI")
        client.run("SET", "a", "1")
        assert client.run("EXEC") == want
        assert client.run("PING") == b"+PONG\r\n"


def test_a_transaction_is_sent_to_where_its_first_key_belongs(
    client: Client, service: FakeService
) -> None:
    for request in (("SET", "foo", "1"), ("GET", "foo")):
        service.next_failures.append(NotLeader("127.0.0.1:7002"))
        client.run("MULTI")
        client.run("PING")
        client.run(*request)
        assert client.run("EXEC") == b"-MOVED %d 127.0.0.1:7002\r\n" % key_slot(b"foo")


def test_watched_keys_are_bounded(client: Client) -> None:
    long = [b"%06d" % number + b"x" * 60_000 for number in range(20)]
    assert client.run("WATCH", *long).startswith(b"-ERR watched keys of more than")
    assert client.run("WATCH", *range(9_000)) == b"+OK\r\n"
    assert client.run("WATCH", *range(9_000)).startswith(b"-ERR more watched keys than limits.")


def test_a_pipeline_around_a_transaction_keeps_its_order(
    client: Client, service: FakeService
) -> None:
    client.send(
        b"".join(
            wire(*words)
            for words in (
                ("SET", "a", "1"), ("GET", "a"), ("MULTI",), ("INCR", "a"), ("GET", "a"), ("EXEC",),
                ("GET", "a"), ("SET", "a", "9"), ("WATCH", "a"), ("MULTI",), ("GET", "a"),
                ("EXEC",), ("PING",),
            )
        )
    )  # fmt: skip
    service.settle_all()
    assert client.take() == (
        b"+OK\r\n$1\r\n1\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:2\r\n$1\r\n2\r\n"
        b"$1\r\n2\r\n+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n$1\r\n9\r\n+PONG\r\n"
    )
