"""A session without a socket: order, runs, coverage of reads, bounds, failures.

Method: one session over the fake service, whose writes and reads wait until the test says `settle`;
so a test sees what is in flight, what was submitted together, and what was answered when.
"""

from __future__ import annotations

import json
import random

import pytest

from node.commands import COMMANDS, key_slot
from node.config import ClientSection, LimitsSection
from node.connection import Frontend
from node.errors import Fatal, NotLeader, OutcomeUnknown, Unavailable
from node.reads import Level
from node.session import QUEUE_COMMANDS_MAX, REPLY_BYTES_MAX
from statemachine.errors import Rejected
from statemachine.errors import Unavailable as MachineUnavailable
from tests.support.fake_service import Client, FakeService, config, wire

OK = b"+OK\r\n"


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> Client:
    return Client(service)


def limited(service: FakeService, **limits: int) -> Client:
    sections = LimitsSection(**limits)
    return Client(service, Frontend(service, config(limits=sections), COMMANDS))


# Runs.


def test_a_pipeline_of_sets_is_one_submit_and_one_write(
    client: Client, service: FakeService
) -> None:
    client.send(b"".join(wire("SET", f"k{number}", "v") for number in range(100)))
    assert service.submits == 1
    assert client.written == []
    service.settle()
    assert client.written == [OK * 100]


def test_a_pipeline_of_gets_is_one_read(client: Client, service: FakeService) -> None:
    client.run("MSET", "a", "1", "b", "22")
    client.send(wire("GET", "a") + wire("get", "b") + wire("GET", "c"))
    assert service.reads == 1
    service.settle()
    assert client.written == [b"$1\r\n1\r\n$2\r\n22\r\n$-1\r\n"]


def test_writes_of_all_kinds_share_a_submit_and_keep_their_order(
    client: Client, service: FakeService
) -> None:
    client.send(
        wire("SET", "n", "1") + wire("INCR", "n") + wire("INCR", "n", "x") + wire("SET", "n", "x")
        + wire("INCR", "n") + wire("SET", "n", "5", "BAD") + wire("MSET", "a", "1", "b", "2")
        + wire("DEL", "a", "zz") + wire("SET", "n", "y", "GET")
    )  # fmt: skip
    service.settle_all()
    assert client.take() == (
        b"+OK\r\n:2\r\n-ERR wrong number of arguments for 'incr' command\r\n+OK\r\n"
        b"-ERR value is not an integer or out of range\r\n-ERR syntax error\r\n+OK\r\n:1\r\n"
        b"$1\r\nx\r\n"
    )
    assert service.submits == 2  # A wrong number of arguments is answered by itself.


def test_two_clients_in_one_turn_share_a_batch_and_get_their_own_results(
    service: FakeService,
) -> None:
    frontend = Frontend(service, config(), COMMANDS)
    one, two = Client(service, frontend), Client(service, frontend)
    one.send(wire("SET", "a", "1") + wire("INCR", "n"))
    two.send(wire("INCR", "n") + wire("SET", "b", "2"))
    service.settle()
    assert service.index == 1
    assert (one.take(), two.take()) == (b"+OK\r\n:1\r\n", b":2\r\n+OK\r\n")


def test_a_mistake_alone_submits_nothing(client: Client, service: FakeService) -> None:
    assert client.run("SET", "a", "1", "PX", "0") == (
        b"-ERR invalid expire time in 'set' command\r\n"
    )
    assert service.submits == 0


def test_a_refusal_names_the_command_that_was_sent(client: Client) -> None:
    late = str(2**63 - 1)
    assert b"in 'psetex' command" in client.run("PSETEX", "a", late, "v")
    assert b"in 'set' command" in client.run("SET", "a", "v", "PX", late)
    client.run("SET", "a", "v")
    assert b"in 'pexpire' command" in client.run("PEXPIRE", "a", late)


def test_a_node_that_stops_for_good_answers_nothing_any_more(
    client: Client, service: FakeService
) -> None:
    """An error would say that the write was not done: others may have committed it."""
    client.send(wire("INCR", "n") + wire("PING"))
    client.session.fail(Fatal("write failed"))
    client.send(wire("PING"))
    assert client.take() == b""


# Order.


def test_commands_behind_a_write_in_flight_wait_for_it(
    client: Client, service: FakeService
) -> None:
    client.send(wire("SET", "a", "1"))
    client.send(wire("PING") + wire("GET", "a") + wire("SET", "a", "2") + wire("GET", "a"))
    assert client.take() == b""
    service.settle()
    assert client.take() == b"+OK\r\n+PONG\r\n"
    service.settle_all()
    assert client.take() == b"$1\r\n1\r\n+OK\r\n$1\r\n2\r\n"


def test_the_order_of_replies_survives_any_cut_and_any_settling() -> None:
    rng = random.Random(99)
    for _ in range(60):
        service = FakeService()
        client = Client(service)
        stream, want, stored = b"", [], {}
        for number in range(rng.randrange(1, 40)):
            key = rng.choice(["a", "b"])
            kind = rng.randrange(5)
            if kind == 0:
                stream += wire("SET", key, number)
                stored[key] = number
                want.append(OK)
            elif kind in (1, 2):
                stream += wire("GET", key)
                text = str(stored[key]).encode() if key in stored else None
                want.append(b"$-1\r\n" if text is None else b"$%d\r\n%b\r\n" % (len(text), text))
            elif kind == 3:
                stream += wire("ECHO", number)
                text = str(number).encode()
                want.append(b"$%d\r\n%b\r\n" % (len(text), text))
            else:
                stream += wire("SET", key, number, "KEEPTTL")
                stored[key] = number
                want.append(OK)
        while stream:
            cut = rng.randrange(1, 80)
            client.send(stream[:cut])
            stream = stream[cut:]
            if rng.random() < 0.4:
                service.settle()
        service.settle_all()
        assert client.take() == b"".join(want)


# Reads behind writes.


def test_reads_behind_a_write_need_no_round_once_it_is_applied(
    client: Client, service: FakeService
) -> None:
    client.send(wire("SET", "a", "1") + wire("GET", "a") + wire("STRLEN", "a"))
    service.settle()
    assert service.reads == 0
    assert client.take() == b"+OK\r\n$1\r\n1\r\n:1\r\n"


def test_a_read_that_came_after_the_write_was_submitted_needs_its_own_round(
    client: Client, service: FakeService
) -> None:
    client.send(wire("SET", "a", "1"))
    client.send(wire("GET", "a"))
    service.settle()
    assert client.take() == OK
    assert service.reads == 1
    service.settle()
    assert client.take() == b"$1\r\n1\r\n"


def test_reads_behind_a_write_that_failed_need_their_own_round(
    client: Client, service: FakeService
) -> None:
    service.next_failures.append(Unavailable("no leader"))
    client.send(wire("SET", "a", "1") + wire("GET", "a"))
    assert client.take() == b"-CLUSTERDOWN no leader\r\n"
    assert service.reads == 1
    service.settle()
    assert client.take() == b"$-1\r\n"


def test_a_granted_read_covers_no_read_that_came_later(
    client: Client, service: FakeService
) -> None:
    client.send(wire("GET", "a"))
    client.send(wire("GET", "a"))
    service.settle()
    assert (service.reads, client.take()) == (2, b"$-1\r\n")


def test_the_level_of_a_read_is_the_connections(client: Client, service: FakeService) -> None:
    client.run("GET", "a")
    client.run("READONLY")
    client.run("GET", "a")
    client.run("TRI.CONSISTENCY", "lease")
    client.run("GET", "a")
    client.run("READWRITE")
    client.run("GET", "a")
    linearizable = Level.LINEARIZABLE
    assert service.levels == [linearizable, Level.EVENTUAL, Level.LEASE, linearizable]


# Failures.


@pytest.mark.parametrize(
    ("error", "want"),
    [
        (Unavailable("no leader"), b"-CLUSTERDOWN no leader\r\n"),
        (MachineUnavailable("stopped"), b"-CLUSTERDOWN stopped\r\n"),
        (Unavailable("too much is pending", code="BUSY"), b"-BUSY too much is pending\r\n"),
        (Unavailable("not caught up", code="LOADING"), b"-LOADING not caught up\r\n"),
        (OutcomeUnknown(), b"-UNKNOWN write may or may not have been applied\r\n"),
        (OutcomeUnknown("x"), b"-UNKNOWN write may or may not have been applied: x\r\n"),
        (Rejected("two\r\nlines"), b"-ERR two  lines\r\n"),
    ],
)
@pytest.mark.parametrize("request_", [wire("SET", "a", "1"), wire("INCR", "a"), wire("GET", "a")])
def test_every_family_of_errors_has_its_word(
    client: Client, service: FakeService, error: Exception, want: bytes, request_: bytes
) -> None:
    service.next_failures.append(error)
    client.send(request_ * 3 + wire("PING"))
    assert client.take() == want * 3 + b"+PONG\r\n"


def test_moved_names_the_slot_of_each_commands_first_key(
    client: Client, service: FakeService
) -> None:
    service.next_failures += [NotLeader("127.0.0.1:7002"), NotLeader("127.0.0.1:7002")]
    client.send(wire("INCR", "foo") + wire("INCR", "foo", "x") + wire("SET", "bar", "1", "NOT"))
    client.send(wire("GET", "{foo}x"))
    foo = b"-MOVED %d 127.0.0.1:7002\r\n" % key_slot(b"foo")
    assert key_slot(b"foo") == 12182  # As redis-cli says.
    wrong = b"-ERR wrong number of arguments for 'incr' command\r\n"
    assert client.take() == foo + wrong + b"-ERR syntax error\r\n" + foo


def test_a_mistake_keeps_its_own_error_when_its_run_fails(
    client: Client, service: FakeService
) -> None:
    service.next_failures.append(Unavailable("no leader"))
    client.send(wire("INCR", "a") + wire("SET", "a", "1", "BAD") + wire("INCR", "a"))
    down = b"-CLUSTERDOWN no leader\r\n"
    assert client.take() == down + b"-ERR syntax error\r\n" + down


def test_results_for_a_client_that_has_gone_are_dropped(
    client: Client, service: FakeService
) -> None:
    client.send(wire("SET", "a", "1") + wire("GET", "a"))
    client.session.lost()
    service.settle_all()
    assert client.written == []
    assert client.frontend.connections == {}
    assert service.machine.get(b"a") == b"1"


# Bounds.


def test_a_run_is_closed_before_it_grows_past_its_bytes(
    client: Client, service: FakeService
) -> None:
    client.send(b"".join(wire("SET", f"k{number}", "v" * 50_000) for number in range(12)))
    sizes = []
    while service.batch.width:
        sizes.append(service.batch.width)
        service.settle()
    assert sizes == [5, 5, 2]
    assert client.take() == OK * 12


def test_reading_stops_while_the_queue_is_full_and_goes_on_when_it_is_taken(
    client: Client, service: FakeService
) -> None:
    client.send(wire("SET", "a", "1"))
    client.send(wire("PING") * (QUEUE_COMMANDS_MAX + 1))
    assert not client.is_reading
    service.settle()
    assert client.is_reading
    assert client.take() == OK + b"+PONG\r\n" * (QUEUE_COMMANDS_MAX + 1)


def test_nothing_more_is_made_for_a_client_that_does_not_read(
    client: Client, service: FakeService
) -> None:
    service.machine.assign(b"a", b"x" * 100_000)
    client.session._write = lambda data: (  # The socket says stop at the first bytes.
        client.written.append(data), client.session.pause_writing()
    )  # type: ignore[assignment]  # fmt: skip
    client.send(wire("GET", "a") * 1_000)
    service.settle_all()
    made = sum(map(len, client.written))
    assert REPLY_BYTES_MAX <= made < REPLY_BYTES_MAX + 2 * 110_000
    client.session._write = client.written.append
    client.session.resume_writing()
    service.settle_all()
    assert client.take() == (b"$100000\r\n" + b"x" * 100_000 + b"\r\n") * 1_000
    assert service.reads == 1


def test_keys_and_values_over_their_limits_are_refused_by_either_way(
    service: FakeService,
) -> None:
    client = limited(service, key_bytes_max=10, value_bytes_max=20, entry_bytes_max=4096)
    key, value = "k" * 11, "v" * 21
    key_error = b"-ERR key of 11 bytes: limits.key_bytes_max is 10\r\n"
    value_error = b"-ERR value of 21 bytes: limits.value_bytes_max is 20\r\n"
    client.send(wire("SET", "a", "1") + wire("SET", key, "1") + wire("SET", "a", value))
    service.settle()
    assert client.take() == OK + key_error + value_error
    for request in (("SETNX", "a", value), ("MSET", "b", "1", "a", value), ("GETSET", "a", value),
                    ("SET", "a", value, "NX"), ("SETEX", "a", "9", value)):  # fmt: skip
        assert client.run(*request) == value_error, request
    assert client.run("INCR", key) == key_error
    assert client.run("SET", "k" * 10, "v" * 20) == OK
    assert service.machine.get(b"b") is None


def test_a_value_over_its_limit_is_refused_however_it_is_cut(service: FakeService) -> None:
    client = limited(service, key_bytes_max=100, value_bytes_max=1000, entry_bytes_max=4096)
    stream = wire("SET", "a", "v" * 1001)
    for cut_bytes in (1, 50, 900, 1020):
        for at in range(0, len(stream), cut_bytes):
            client.send(stream[at : at + cut_bytes])
        service.settle_all()
        assert client.take() == b"-ERR value of 1001 bytes: limits.value_bytes_max is 1000\r\n"


def test_a_command_over_the_entry_limit_is_one_error_and_the_connection_lives(
    service: FakeService,
) -> None:
    client = limited(service, key_bytes_max=10, value_bytes_max=20, entry_bytes_max=4096)
    client.send(wire("MSET", *["k"] * 2000) + wire("PING"))
    error = b"-ERR command of more than limits.entry_bytes_max (4096 bytes)\r\n"
    assert client.take() == error + b"+PONG\r\n"


# The end.


def test_a_protocol_error_is_told_after_what_came_before_it_and_closes(
    client: Client, service: FakeService
) -> None:
    client.send(wire("SET", "a", "1") + b"*x\r\n" + wire("PING"))
    assert (client.take(), client.is_closed) == (b"", False)
    service.settle()
    assert client.take() == OK + b"-ERR Protocol error: invalid multibulk length\r\n"
    assert client.is_closed
    client.send(wire("PING"))
    assert client.take() == b""


def test_quit_answers_what_came_before_it_and_nothing_after(
    client: Client, service: FakeService
) -> None:
    client.send(wire("SET", "a", "1") + wire("QUIT") + wire("SET", "a", "2"))
    service.settle_all()
    assert (client.take(), client.is_closed) == (OK + OK, True)
    assert service.machine.get(b"a") == b"1"


def test_a_client_that_ends_its_input_is_still_answered(
    client: Client, service: FakeService
) -> None:
    client.send(wire("SET", "a", "1") + wire("GET", "a"))
    client.session.end_of_input()
    assert not client.is_closed
    service.settle_all()
    assert (client.take(), client.is_closed) == (OK + b"$1\r\n1\r\n", True)


def test_a_web_page_cannot_make_a_browser_write(client: Client, service: FakeService) -> None:
    client.send(b"POST / HTTP/1.1\r\nHost: 127.0.0.1:7001\r\n\r\nSET a 1\r\n")
    service.settle_all()
    assert (client.is_closed, service.submits) == (True, 0)


# Passwords.


def locked(service: FakeService) -> Client:
    section = ClientSection(requirepass="secret")
    return Client(service, Frontend(service, config(client=section), COMMANDS))


def test_before_auth_only_auth_hello_quit_and_reset_are_answered(service: FakeService) -> None:
    client = locked(service)
    noauth = b"-NOAUTH Authentication required.\r\n"
    for request in (("GET", "a"), ("SET", "a", "1"), ("PING",), ("INFO",), ("CLIENT", "ID")):
        assert client.run(*request) == noauth, request
    assert service.submits + service.reads == 0
    assert client.run("AUTH", "wrong").startswith(b"-WRONGPASS")
    assert client.run("AUTH", "who", "secret").startswith(b"-WRONGPASS")
    assert client.run("HELLO", "3").startswith(b"-NOAUTH HELLO must be called")
    assert client.run("RESET") == b"+RESET\r\n"
    assert client.run("AUTH", "secret") == OK
    assert client.run("PING") == b"+PONG\r\n"
    assert client.run("RESET") == b"+RESET\r\n"
    assert client.run("PING") == noauth
    assert client.run("HELLO", "3", "AUTH", "default", "secret").startswith(b"%7\r\n")
    assert client.run("QUIT") == OK


def test_auth_and_a_long_command_may_come_in_one_piece(service: FakeService) -> None:
    client = locked(service)
    client.send(wire("AUTH", "secret") + wire("MSET", *["k"] * 40) + wire("GET", "k"))
    service.settle_all()
    assert client.take() == OK + OK + b"$1\r\nk\r\n"


def test_a_password_is_in_no_reply(service: FakeService) -> None:
    client = locked(service)
    client.run("AUTH", "secret")
    for request in (("CONFIG", "GET", "*"), ("INFO",), ("CLIENT", "LIST"), ("TRI.STATUS",)):
        assert b"secret" not in client.run(*request)
    assert b"secret" not in repr(client.connection).encode()


# Orders.


def test_a_transfer_is_answered_when_it_is_done_and_in_its_place(
    client: Client, service: FakeService
) -> None:
    client.send(wire("TRI.TRANSFER", "n3") + wire("PING"))
    assert client.take() == b""
    service.settle()
    assert client.take() == b"$2\r\nn3\r\n+PONG\r\n"
    service.next_failures.append(Unavailable("nobody to take it"))
    assert client.run("TRI.TRANSFER") == b"-CLUSTERDOWN nobody to take it\r\n"
    assert client.run("TRI.TRANSFER", "n9") == b"-ERR no member is called 'n9'\r\n"
    assert service.transfers == ["n3", None]


def test_a_snapshot_is_answered_when_it_is_durable_and_moves_lastsave(
    client: Client, service: FakeService
) -> None:
    before = client.run("LASTSAVE")
    service.clock_ms += 5_000
    assert client.run("TRI.SNAPSHOT") == b"$3\r\n0-7\r\n"
    assert int(client.run("LASTSAVE")[1:]) == int(before[1:]) + 5


def test_status_is_json_and_digest_is_index_and_hex(client: Client, service: FakeService) -> None:
    client.run("SET", "a", "1")
    status = client.run("TRI.STATUS")
    assert json.loads(status.partition(b"\r\n")[2]) == service.status()
    assert client.run("TRI.DIGEST") == b"*2\r\n:1\r\n$64\r\n%b\r\n" % service.digest()[1].encode()
