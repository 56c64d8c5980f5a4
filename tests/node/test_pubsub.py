"""Subscriptions and what they are told: messages, keyspace notifications, both protocols.

Method: sessions over the fake service; what one client's command does is looked for in what the
others were sent, byte for byte.
"""

from __future__ import annotations

import pytest

from node.commands import COMMANDS
from node.config import ClientSection
from node.connection import Frontend
from tests.support.fake_service import Client, FakeService, config, wire


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def frontend(service: FakeService) -> Frontend:
    section = ClientSection(notify_keyspace_events="KEA")
    return Frontend(service, config(client=section), COMMANDS)


def told(*words: bytes | int, kind: bytes = b"*") -> bytes:
    parts = [
        b":%d\r\n" % word if isinstance(word, int) else b"$%d\r\n%b\r\n" % (len(word), word)
        for word in words
    ]
    return kind + b"%d\r\n" % len(parts) + b"".join(parts)


@pytest.mark.parametrize(("protocol", "kind"), [(2, b"*"), (3, b">")])
def test_a_message_reaches_those_who_listen_and_nobody_else(
    service: FakeService, frontend: Frontend, protocol: int, kind: bytes
) -> None:
    listener, by_pattern, other = (Client(service, frontend) for _ in range(3))
    for client in (listener, by_pattern, other):
        client.run("HELLO", protocol)
    assert listener.run("SUBSCRIBE", "news", "more") == (
        told(b"subscribe", b"news", 1, kind=kind) + told(b"subscribe", b"more", 2, kind=kind)
    )
    assert by_pattern.run("PSUBSCRIBE", "n?ws") == told(b"psubscribe", b"n?ws", 1, kind=kind)
    assert other.run("PUBLISH", "news", "hello\r\n") == b":2\r\n"
    assert listener.take() == told(b"message", b"news", b"hello\r\n", kind=kind)
    message = told(b"pmessage", b"n?ws", b"news", b"hello\r\n", kind=kind)
    assert by_pattern.take() == message
    assert other.run("PUBLISH", "nobody", "x") == b":0\r\n"
    assert listener.run("UNSUBSCRIBE") == (
        told(b"unsubscribe", b"news", 1, kind=kind) + told(b"unsubscribe", b"more", 0, kind=kind)
    )
    assert other.run("PUBLISH", "news", "again") == b":1\r\n"
    assert listener.take() == b""


def test_unsubscribing_from_nothing_is_answered(service: FakeService, frontend: Frontend) -> None:
    client = Client(service, frontend)
    assert client.run("UNSUBSCRIBE") == b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"
    assert client.run("PUNSUBSCRIBE", "x") == told(b"punsubscribe", b"x", 0)


def test_in_resp2_a_subscriber_may_do_little_else(service: FakeService, frontend: Frontend) -> None:
    client = Client(service, frontend)
    client.run("SUBSCRIBE", "a")
    refused = client.run("GET", "k")
    assert refused == (
        b"-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / "
        b"RESET are allowed in this context\r\n"
    )
    assert client.run("PING") == told(b"pong", b"")
    assert client.run("PING", "x") == told(b"pong", b"x")
    assert client.run("RESET") == b"+RESET\r\n"
    assert client.run("GET", "k") == b"$-1\r\n"
    client.run("HELLO", "3")
    client.run("SUBSCRIBE", "a")
    assert client.run("GET", "k") == b"_\r\n"


def test_a_publisher_that_listens_hears_itself_before_it_is_answered(
    service: FakeService, frontend: Frontend
) -> None:
    client = Client(service, frontend)
    client.run("HELLO", "3")
    client.run("SUBSCRIBE", "a")
    assert client.run("PUBLISH", "a", "x") == told(b"message", b"a", b"x", kind=b">") + b":1\r\n"


def test_changes_of_keys_are_published_as_redis_does(
    service: FakeService, frontend: Frontend
) -> None:
    listener, client = Client(service, frontend), Client(service, frontend)
    listener.run("PSUBSCRIBE", "__key*__:*")

    def events() -> list[bytes]:
        data = listener.take()
        words = data.split(b"\r\n")
        found = [words[at + 6 : at + 9 : 2] for at in range(0, len(words) - 8, 9)]
        return [channel.partition(b"@0__:")[2] + b" " + message for channel, message in found]

    client.run("SET", "a", "1", "PX", "100")
    assert events() == [b"a set", b"set a", b"a expire", b"expire a"]
    service.clock_ms += 200
    client.run("INCRBY", "n", "5")
    assert events() == [b"a expired", b"expired a", b"n incrby", b"incrby n"]
    client.run("MSET", "x", "1", "y", "2")
    assert events() == [b"x set", b"set x", b"y set", b"set y"]
    client.run("RENAME", "x", "y")
    assert events() == [b"x rename_from", b"rename_from x", b"y rename_to", b"rename_to y"]
    client.run("DEL", "y", "none")
    assert events() == [b"y del", b"del y"]
    client.run("GET", "n")
    assert events() == []


@pytest.mark.parametrize(
    ("flags", "want"),
    [
        ("", 0), ("KE", 0), ("K$", 1), ("E$", 1), ("KEg", 0), ("KEA", 2), ("A", 0), ("KEx", 0),
    ],
)  # fmt: skip
def test_the_letters_choose_what_is_published(
    service: FakeService, frontend: Frontend, flags: str, want: int
) -> None:
    listener, client = Client(service, frontend), Client(service, frontend)
    assert client.run("CONFIG", "SET", "notify-keyspace-events", flags) == b"+OK\r\n"
    listener.run("PSUBSCRIBE", "*")
    client.run("SET", "k", "v")
    assert listener.take().count(b"pmessage") == want


def test_letters_that_are_none_are_refused_and_the_rest_of_the_config_set_undone(
    service: FakeService, frontend: Frontend
) -> None:
    client = Client(service, frontend)
    refused = client.run("CONFIG", "SET", "maxclients", "7", "notify-keyspace-events", "Z")
    assert refused.startswith(b"-ERR CONFIG SET failed (possibly related to argument 'notify")
    assert b"10000" in client.run("CONFIG", "GET", "maxclients")
    assert b"AKE" in client.run("CONFIG", "GET", "notify-keyspace-events")


def test_while_nobody_listens_no_changes_are_kept(service: FakeService, frontend: Frontend) -> None:
    client = Client(service, frontend)
    assert service.machine.changes is None
    client.run("SUBSCRIBE", "a")
    assert service.machine.changes == []
    client.run("UNSUBSCRIBE", "a")
    assert service.machine.changes is None
    client.run("PSUBSCRIBE", "a*")
    client.session.lost()
    assert service.machine.changes is None
    assert frontend.pubsub.patterns_count == 0


def test_pubsub_says_who_listens(service: FakeService, frontend: Frontend) -> None:
    one, two, three = (Client(service, frontend) for _ in range(3))
    one.run("SUBSCRIBE", "a", "b")
    two.run("SUBSCRIBE", "a")
    two.run("PSUBSCRIBE", "x*", "y*")
    assert three.run("PUBSUB", "CHANNELS") == told(b"a", b"b")
    assert three.run("PUBSUB", "CHANNELS", "b*") == told(b"b")
    assert three.run("PUBSUB", "NUMSUB", "a", "c") == told(b"a", 2, b"c", 0)
    assert three.run("PUBSUB", "NUMPAT") == b":2\r\n"
    assert b"sub=2 psub=0" in three.run("CLIENT", "LIST", "TYPE", "pubsub")


@pytest.mark.parametrize(("protocol", "kind"), [(2, b"*"), (3, b">")])
def test_shard_channels_are_a_namespace_of_their_own(
    service: FakeService, frontend: Frontend, protocol: int, kind: bytes
) -> None:
    listener, client = Client(service, frontend), Client(service, frontend)
    listener.run("HELLO", protocol)
    listener.run("SUBSCRIBE", "a")
    assert listener.run("SSUBSCRIBE", "a", "b") == (
        told(b"ssubscribe", b"a", 1, kind=kind) + told(b"ssubscribe", b"b", 2, kind=kind)
    )
    assert client.run("SPUBLISH", "b", "x") == b":1\r\n"
    assert listener.take() == told(b"smessage", b"b", b"x", kind=kind)
    assert client.run("PUBLISH", "b", "x") == b":0\r\n"
    assert client.run("PUBSUB", "SHARDCHANNELS") == told(b"a", b"b")
    assert client.run("PUBSUB", "SHARDNUMSUB", "a", "c") == told(b"a", 1, b"c", 0)
    assert listener.run("SUNSUBSCRIBE") == (
        told(b"sunsubscribe", b"a", 1, kind=kind) + told(b"sunsubscribe", b"b", 0, kind=kind)
    )
    assert b"sub=1 psub=0 ssub=0" in client.run("CLIENT", "LIST", "TYPE", "pubsub")
    listener.run("SSUBSCRIBE", "z")
    listener.session.lost()
    assert service.machine.changes is None


def test_a_listener_that_cannot_be_told_disturbs_nobody(
    service: FakeService, frontend: Frontend
) -> None:
    def fail(_data: bytes) -> None:
        raise RuntimeError("the socket has gone")

    broken, listener, client = (Client(service, frontend) for _ in range(3))
    for one in (broken, listener):
        one.run("SUBSCRIBE", "a")
    broken.connection.push = fail
    assert client.run("PUBLISH", "a", "x") == b":1\r\n"
    assert listener.take() == told(b"message", b"a", b"x")
    assert len(frontend.connections) == 2
    assert client.run("PUBLISH", "a", "y") == b":1\r\n"
    assert listener.take() == told(b"message", b"a", b"y")


def test_subscriptions_are_bounded(service: FakeService, frontend: Frontend) -> None:
    client = Client(service, frontend)
    long = [b"%06d" % number + b"x" * 60_000 for number in range(60)]
    for kind in ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"):
        assert client.run(kind, *long[:50]).startswith(b"*3") or kind != "SUBSCRIBE"
        assert client.run(kind, *long).startswith(b"-ERR subscriptions of more than")
    assert client.run("SUBSCRIBE", *range(10_001)).startswith(b"-ERR more than 10000")


def test_a_message_in_a_transaction_is_sent_with_it(
    service: FakeService, frontend: Frontend
) -> None:
    listener, client = Client(service, frontend), Client(service, frontend)
    listener.run("SUBSCRIBE", "a")
    client.send(wire("MULTI") + wire("SET", "k", "v") + wire("PUBLISH", "a", "m") + wire("EXEC"))
    service.settle_all()
    assert client.take().endswith(b"*2\r\n+OK\r\n:1\r\n")
    assert listener.take() == told(b"message", b"a", b"m")


@pytest.mark.parametrize(("protocol", "kind"), [(2, b"*"), (3, b">")])
def test_who_does_not_read_loses_its_subscriptions_and_is_told_so(
    service: FakeService, protocol: int, kind: bytes
) -> None:
    section = ClientSection(output_buffer_bytes_max=64 * 1024)
    frontend = Frontend(service, config(client=section), COMMANDS)
    slow, other = Client(service, frontend), Client(service, frontend)
    slow.run("HELLO", protocol)
    slow.run("SUBSCRIBE", "a")
    slow.run("PSUBSCRIBE", "b*")
    slow.session.pause_writing()
    slow.connection.unsent_bytes = lambda: sum(map(len, slow.written))
    for _ in range(20):
        other.run("PUBLISH", "a", "x" * 5_000)
    data = slow.take()
    assert len(data) < 66 * 1024
    message = told(b"message", b"a", b"x" * 5_000, kind=kind)
    assert data == message * 13 + (
        told(b"message", b"__trimaran__:cancelled",
             b"more than client.output_buffer_bytes_max waits to be read", kind=kind)
        + told(b"unsubscribe", b"a", 0, kind=kind)
        + told(b"punsubscribe", b"b*", 0, kind=kind)
    )  # fmt: skip
    slow.session.resume_writing()
    assert other.run("PUBLISH", "a", "x") == b":0\r\n"
    assert slow.run("GET", "k") == {2: b"$-1\r\n", 3: b"_\r\n"}[protocol]
