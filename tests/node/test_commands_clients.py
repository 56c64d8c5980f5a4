"""CLIENT: KILL, PAUSE, REPLY; SHUTDOWN and snapshots: what one connection does to others.

Method: sessions over the fake service, whose clock stands still; ticks are given by hand.
"""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from node.commands import COMMANDS
from node.connection import Frontend
from node.errors import Unavailable
from tests.support.fake_service import Client, FakeService, config, wire

OK = b"+OK\r\n"


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def frontend(service: FakeService) -> Frontend:
    return Frontend(service, config(), COMMANDS)


def ask(client: Client, *arguments: bytes | str | int) -> Any:
    reader = hiredis.Reader()
    reader.feed(client.run(*arguments))
    return reader.gets()


@pytest.mark.parametrize(
    ("words", "count", "self_too"),
    [
        (("ID", "2"), 1, False), (("ID", "1"), 0, False), (("ID", "1", "SKIPME", "no"), 1, True),
        (("TYPE", "normal"), 2, False), (("TYPE", "pubsub"), 0, False),
        (("ADDR", "127.0.0.1:50000", "SKIPME", "no"), 3, True), (("LADDR", "1.1.1.1:1"), 0, False),
        (("USER", "default", "TYPE", "normal"), 2, False), (("MAXAGE", "100"), 0, False),
    ],
)  # fmt: skip
def test_kill_closes_those_that_fit(
    service: FakeService, frontend: Frontend, words: tuple[str, ...], count: int, self_too: bool
) -> None:
    clients = [Client(service, frontend) for _ in range(3)]
    assert ask(clients[0], "CLIENT", "KILL", *words) == count
    assert clients[0].is_closed is self_too
    assert sum(client.is_closed for client in clients) == count
    assert len(frontend.connections) == 3 - count + self_too


def test_a_killed_client_hears_nothing_more(service: FakeService, frontend: Frontend) -> None:
    victim, killer = Client(service, frontend), Client(service, frontend)
    victim.send(wire("PING") + wire("SET", "a", "1"))
    assert ask(killer, "CLIENT", "KILL", "ID", "1") == 1
    service.settle_all()
    assert victim.take() == b"+PONG\r\n"
    assert service.machine.get(b"a") == b"1"  # It was on its way.
    victim.send(wire("PING"))
    assert victim.take() == b""


def test_a_pause_holds_up_everything_but_client_commands(
    service: FakeService, frontend: Frontend
) -> None:
    one, other = Client(service, frontend), Client(service, frontend)
    assert one.run("CLIENT", "PAUSE", "1000") == OK
    other.send(wire("PING") + wire("SET", "a", "1") + wire("GET", "a"))
    service.settle_all()
    assert other.take() == b""
    assert one.run("CLIENT", "ID") == b":1\r\n"
    service.clock_ms += 999
    frontend.tick()
    assert other.take() == b""
    service.clock_ms += 1
    frontend.tick()
    service.settle_all()
    assert other.take() == b"+PONG\r\n+OK\r\n$1\r\n1\r\n"


def test_a_pause_of_writes_lets_reads_through_and_is_ended_by_unpause(
    service: FakeService, frontend: Frontend
) -> None:
    one, other = Client(service, frontend), Client(service, frontend)
    one.run("CLIENT", "PAUSE", "1000000", "WRITE")
    assert other.run("GET", "a") == b"$-1\r\n"
    other.send(wire("INCR", "a"))
    service.settle_all()
    assert other.take() == b""
    assert one.run("CLIENT", "UNPAUSE") == OK
    service.settle_all()
    assert other.take() == b":1\r\n"


def test_a_client_that_goes_while_it_is_held_up_does_no_harm(
    service: FakeService, frontend: Frontend
) -> None:
    one, other = Client(service, frontend), Client(service, frontend)
    one.run("CLIENT", "PAUSE", "1000")
    other.send(wire("PING"))
    other.session.lost()
    one.run("CLIENT", "UNPAUSE")
    assert other.take() == b""
    assert one.run("PING") == b"+PONG\r\n"


def test_replies_can_be_turned_off_and_on(service: FakeService, frontend: Frontend) -> None:
    client = Client(service, frontend)
    off, on = wire("CLIENT", "REPLY", "OFF"), wire("CLIENT", "REPLY", "ON")
    client.send(wire("PING") + off + wire("PING") + wire("SET", "a", "1") + wire("GET", "a"))
    service.settle_all()
    client.send(wire("NOPE") + wire("INCR", "a") + on + wire("GET", "a"))
    service.settle_all()
    assert client.take() == b"+PONG\r\n+OK\r\n$1\r\n2\r\n"


@pytest.mark.parametrize("skipped", [("PING",), ("SET", "k", "v"), ("GET", "a"), ("NOPE",)])
def test_the_next_reply_alone_can_be_skipped(
    service: FakeService, frontend: Frontend, skipped: tuple[str, ...]
) -> None:
    client = Client(service, frontend)
    client.run("SET", "a", "1")
    skip = wire("CLIENT", "REPLY", "SKIP")
    client.send(wire("GET", "a") + skip + wire(*skipped) + wire("SET", "b", "2") + wire("GET", "b"))
    service.settle_all()
    assert client.take() == b"$1\r\n1\r\n+OK\r\n$1\r\n2\r\n"
    client.send(skip + wire(*skipped))
    service.settle_all()
    assert client.take() == b""
    assert client.run("PING") == b"+PONG\r\n"


def test_client_list_shows_transactions_and_watches(
    service: FakeService, frontend: Frontend
) -> None:
    one, other = Client(service, frontend), Client(service, frontend)
    one.run("WATCH", "a", "b")
    one.run("MULTI")
    one.run("GET", "a")
    line = ask(other, "CLIENT", "LIST", "ID", "1").decode()
    assert "multi=1 watch=2" in line
    assert "flags=x" in line


def test_shutdown_ends_the_process_or_says_that_it_is_not_its_own(
    service: FakeService, frontend: Frontend
) -> None:
    client = Client(service, frontend)
    assert client.run("SHUTDOWN").startswith(b"-ERR this node lives in a process")
    assert client.run("SHUTDOWN", "ABORT") == b"-ERR No shutdown in progress.\r\n"
    stopped: list[bool] = []
    frontend.shutdown = lambda: stopped.append(True)
    assert client.run("SHUTDOWN", "NOSAVE", "NOW") == b""
    assert (stopped, client.is_closed) == ([True], True)


def test_saving_is_a_snapshot_and_lastsave_says_when(
    service: FakeService, frontend: Frontend
) -> None:
    client = Client(service, frontend)
    before_s = ask(client, "LASTSAVE")
    service.clock_ms += 5_000
    assert client.run("SAVE") == OK
    assert ask(client, "LASTSAVE") == before_s + 5
    service.clock_ms += 5_000
    assert client.run("BGSAVE") == b"+Background saving started\r\n"
    assert ask(client, "LASTSAVE") == before_s + 10
    service.next_failures.append(Unavailable("busy"))
    client.run("BGSAVE")
    service.clock_ms += 5_000
    assert ask(client, "LASTSAVE") == before_s + 10


def test_the_number_of_clients_can_be_changed(service: FakeService, frontend: Frontend) -> None:
    client = Client(service, frontend)
    assert client.run("CONFIG", "SET", "maxclients", "7", "timeout", "60") == OK
    assert (frontend.max_clients, frontend.idle_timeout_s) == (7, 60)
    assert b"maxclients:7" in client.run("INFO", "clients")


def test_wait_and_waitaof_say_what_is_certain(service: FakeService, frontend: Frontend) -> None:
    client = Client(service, frontend)
    assert ask(client, "WAITAOF", "1", "1", "0") == [1, 1]
    assert client.run("WAITAOF", "2", "0", "0").startswith(b"-ERR value is out of range")
    assert client.run("WAITAOF", "x", "0", "0").startswith(b"-ERR value is not an integer")
    assert client.run("ACL", "WHOAMI") == b"$7\r\ndefault\r\n"
