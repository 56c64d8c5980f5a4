"""Our replies against those of redis-server 7, for the same random commands.

Goal: a client cannot tell the difference, errors and their words included. Method: random pipelines
from hypothesis, in RESP2 and RESP3, sent to both; every reply is compared, those inside EXEC too.
Where one differs, hypothesis looks for the shortest pipeline that shows it. Times to live are
compared to the second, as the two machines do not look at their clocks at one moment.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import hiredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.fake_service import wire
from tests.support.live_server import LiveServer, Wire, live_server, redis_oracle

KEYS = [b"a", b"b", b"c", b"k{x}", b"bin\x00\r\n\xff", b""]
VALUES = [b"", b"1", b"-7", b"10", b"hello", b"9223372036854775807", b"01", b"x" * 600, b"\r\n\x00"]
NUMBERS = [b"1", b"-1", b"0", b"100", b"3000", b"9223372036854775807", b"-9223372036854775808",
           b"abc", b"", b" 1", b"1.5", b"9223372036854775808", b"+1"]  # fmt: skip
TIMES = [b"100", b"1000", b"0", b"-1", b"99999999999999999", b"9223372036854775807", b"x"]
INSTANTS = [b"1", b"4000000000", b"4000000000000", b"-5", b"0", b"9223372036854775807", b"x"]
CLOSE_ENOUGH = {b"TTL": 1, b"PTTL": 1_500, b"EXPIRETIME": 1, b"PEXPIRETIME": 1_500}


@pytest.fixture(scope="module")
def redis_port() -> Iterator[int]:
    with redis_oracle() as port:
        yield port


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as running:
        yield running


def random_set(rng: random.Random) -> list[bytes]:
    options: list[bytes] = []
    for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
        word = rng.choice(
            [b"NX", b"xx", b"GET", b"KEEPTTL", b"EX", b"px", b"EXAT", b"PXAT", b"FOO"]
        )
        options.append(word)
        if word.upper() in (b"EX", b"PX") and rng.random() < 0.9:
            options.append(rng.choice(TIMES))
        if word in (b"EXAT", b"PXAT") and rng.random() < 0.9:
            options.append(rng.choice(INSTANTS))
    return [b"SET", rng.choice(KEYS), rng.choice(VALUES), *options]


FLOATS = [b"1", b"0.1", b"-2.5e3", b"3.0", b"abc", b"", b"inf", b"nan", b"1e4932", b"0x1p3", b" 1",
          b"1e-4950", b"10.50"]  # fmt: skip
PLACES = [b"0", b"1", b"-1", b"5", b"-3", b"100", b"-100", b"x", b"1.5", b"9223372036854775807",
          b"-9223372036854775808", b"599", b"4294967295", b"4294967296"]  # fmt: skip


def later_commands(
    rng: random.Random, key: bytes, value: bytes, number: bytes, many: list[bytes],
    pairs: list[bytes],
) -> list[list[bytes]]:  # fmt: skip
    """Parts, bits, floats, moves, transactions: what is put next to random_command's."""
    other, place, place2 = rng.choice(KEYS), rng.choice(PLACES), rng.choice(PLACES)
    # As large as a value may be here, which Redis allows: the offsets stay far below it.
    offset = rng.choice([b"0", b"3", b"700", b"-1", b"x", b"99999999999999999999"])
    bit = rng.choice([b"0", b"7", b"8", b"5000", b"-1", b"x", b"4294967296"])
    when = [rng.choice([b"EX", b"px", b"EXAT", b"PXAT"]), rng.choice(TIMES + INSTANTS)]
    getex = rng.choice([[], [b"PERSIST"], when, [*when, b"PERSIST"], [b"PERSIST", *when],
                        [b"EX"], [b"NX"], [*when, *when]])  # fmt: skip
    copy = rng.choice([[], [b"REPLACE"], [b"DB", b"0"], [b"DB", b"x"], [b"DB"], [b"NOPE"]])
    unit = rng.choice([[], [b"BYTE"], [b"bit"], [b"FOO"], [b"BIT", b"BIT"]])
    lcs = rng.choice([[], [b"LEN"], [b"IDX"], [b"IDX", b"WITHMATCHLEN"], [b"LEN", b"IDX"],
                      [b"IDX", b"MINMATCHLEN", rng.choice([b"2", b"-1", b"x"])],
                      [b"MINMATCHLEN"], [b"FOO"]])  # fmt: skip
    return [
        [b"APPEND", key, value], [b"APPEND", key], [b"GETDEL", key], [b"GETEX", key, *getex],
        [b"GETRANGE", key, place, place2], [b"SUBSTR", key, place, place2],
        [b"SETRANGE", key, offset, value], [b"SETRANGE", key, offset, b""],
        [b"SETBIT", key, bit, rng.choice([b"0", b"1", b"2", b"x"])], [b"GETBIT", key, bit],
        [b"BITCOUNT", key], [b"BITCOUNT", key, place], [b"BITCOUNT", key, place, place2, *unit],
        [b"INCRBYFLOAT", key, rng.choice(FLOATS)], [b"INCRBYFLOAT", key, number],
        [b"MSETNX", *pairs], [b"MSETNX", *pairs, key], [b"LCS", key, other, *lcs],
        [b"RENAME", key, other], [b"RENAMENX", key, other], [b"COPY", key, other, *copy],
        [b"OBJECT", b"REFCOUNT", b"nope"], [b"OBJECT", b"NOPE", key], [b"OBJECT", b"FREQ", b"nope"],
        [b"MULTI"], [b"EXEC"], [b"EXEC"], [b"DISCARD"], [b"WATCH", *many], [b"WATCH"], [b"UNWATCH"],
        [b"MULTI", b"x"], [b"EVALSHA", b"0" * 40, b"1", key], [b"EVALSHA", b"0" * 40, b"x"],
        [b"EVALSHA", b"0" * 40, b"5", key], [b"EVALSHA", b"0" * 40, b"-1"],
        [b"SCRIPT", b"EXISTS", b"0" * 40], [b"SCRIPT", b"FLUSH", b"NOW"], [b"SCRIPT", b"NOPE"],
        [b"PUBLISH", key, value], [b"PUBSUB", b"CHANNELS"], [b"PUBSUB", b"NUMSUB", key],
        [b"PUBSUB", b"NUMPAT"], [b"PUBSUB", b"CHANNELS", b"a", b"b"], [b"UNSUBSCRIBE"],
        [b"PUNSUBSCRIBE", key], [b"ACL", b"WHOAMI"], [b"MEMORY", b"USAGE", b"nope"],
        [b"MEMORY", b"USAGE", b"nope", b"SAMPLES", b"x"], [b"MEMORY", b"NOPE"],
        [b"CLIENT", b"KILL", b"ID", rng.choice([b"0", b"x", b"999999"])],
        [b"CLIENT", b"KILL", b"TYPE", b"nope"], [b"CLIENT", b"KILL", b"1.2.3.4:5"],
        [b"CLIENT", b"KILL", b"SKIPME", b"maybe"], [b"CLIENT", b"KILL", b"FOO", b"bar"],
        [b"CLIENT", b"UNBLOCK", rng.choice([b"x", b"99999"])], [b"CLIENT", b"GETREDIR"],
        [b"CLIENT", b"REPLY", b"MAYBE"], [b"CLIENT", b"PAUSE", rng.choice([b"x", b"-1"])],
        [b"CLIENT", b"PAUSE", b"1", b"NOPE"], [b"CLIENT", b"TRACKINGINFO"],
        [b"CONFIG", b"SET", b"notify-keyspace-events", rng.choice([b"", b"KEA", b"Kx"])],
        [b"CONFIG", b"GET", b"notify-keyspace-events"],
        [b"CONFIG", b"SET", b"timeout", rng.choice([b"0", b"x", b"-1"])],
        [b"COMMAND", b"GETKEYS", b"EVAL", b"s", b"2", b"a", b"b", b"c"],
        [b"SHUTDOWN", b"MAYBE"], [b"BGSAVE", b"NOW"],
    ]  # fmt: skip


def random_command(rng: random.Random) -> list[bytes]:
    key, value, number = rng.choice(KEYS), rng.choice(VALUES), rng.choice(NUMBERS)
    many = [rng.choice(KEYS) for _ in range(rng.randrange(1, 5))]
    pairs = [one for name in many for one in (name, rng.choice(VALUES))]
    flags = rng.choices([b"NX", b"XX", b"GT", b"lt", b"ZZ"], k=rng.choice([0, 0, 1, 2]))
    commands = [
        [b"GET", key], [b"get", key], [b"GeT", key], [b"SET", key, value], [b"SET", key, value],
        random_set(rng), random_set(rng), random_set(rng),
        [b"SETNX", key, value], [b"SETEX", key, rng.choice(TIMES), value],
        [b"PSETEX", key, rng.choice(TIMES), value], [b"GETSET", key, value],
        [b"MGET", *many], [b"MSET", *pairs], [b"MSET", *pairs, key], [b"STRLEN", key],
        [b"INCR", key], [b"DECR", key], [b"INCRBY", key, number], [b"DECRBY", key, number],
        [b"DEL", *many], [b"UNLINK", *many], [b"EXISTS", *many], [b"TOUCH", *many], [b"TYPE", key],
        [b"TTL", key], [b"PTTL", key], [b"EXPIRETIME", key], [b"PEXPIRETIME", key],
        [b"EXPIRE", key, rng.choice(TIMES), *flags], [b"PEXPIRE", key, rng.choice(TIMES), *flags],
        [b"EXPIREAT", key, rng.choice(INSTANTS), *flags],
        [b"PEXPIREAT", key, rng.choice(INSTANTS), *flags], [b"PERSIST", key],
        *later_commands(rng, key, value, number, many, pairs),
        [b"DBSIZE"], [b"KEYS", rng.choice([b"*", b"[a-b]", b"k*", b"?", b"[^a]", b""])],
        [b"SCAN", b"0", b"COUNT", b"1000"], [b"SCAN", b"0", b"COUNT", b"1000", b"MATCH", b"?"],
        [b"SCAN", rng.choice([b"x", b"1.5", b"18446744073709551616", b"0x"])],
        [b"SCAN", b"0", rng.choice([b"COUNT", b"MATCH", b"FOO"])],
        [b"SCAN", b"0", b"COUNT", rng.choice([b"0", b"-1", b"x", b"100"])],
        [b"SCAN", b"0", b"TYPE", rng.choice([b"string", b"hash"]), b"COUNT", b"1000"],
        [b"PING"], [b"PING", value], [b"PING", value, value], [b"ECHO", value], [b"ECHO"],
        [b"SELECT", rng.choice([b"0", b"x", b"99"])], [b"FLUSHALL", b"NOW"],
        [b"GET"], [b"SET", key], [b"TTL"], [b"MGET"], [b"DEL"], [b"DBSIZE", b"x"], [b"EXPIRE", key],
        [b"NOPE"], [b"nope", value, b"x" * 200, b"y"], [b""], [b"CLIENT"], [b"CLIENT", b"NOPE"],
        [b"CLIENT", b"SETNAME", rng.choice([b"me", b"a b", b""])], [b"CLIENT", b"GETNAME"],
        [b"CLIENT", b"SETNAME"], [b"CLIENT", b"ID", b"x"], [b"CLIENT", b"NO-EVICT", b"maybe"],
        [b"CONFIG", b"GET"], [b"CONFIG", b"SET", b"nope", b"1"], [b"CONFIG", b"NOPE"],
        [b"CONFIG", b"SET", b"databases", b"9"], [b"CONFIG", b"RESETSTAT"],
        [b"CONFIG", b"GET", b"save"],
        [b"COMMAND", b"NOPE"], [b"COMMAND", b"INFO", b"nope"],
        [b"COMMAND", b"GETKEYS", b"MSET", b"a", b"1", b"b", b"2"],
        [b"COMMAND", b"GETKEYS", b"nope"], [b"COMMAND", b"GETKEYS", b"ping"],
        [b"COMMAND", b"GETKEYS", b"get"], [b"WAIT", b"x", b"0"], [b"WAIT", b"0", b"-1"],
        [b"WAIT", b"0", b"y"], [b"HELLO", b"9"], [b"HELLO", b"x"], [b"HELLO", b"3", b"FOO"],
        [b"AUTH", b"secret"], [b"AUTH", b"a", b"b", b"c"], [b"AUTH", b"who", b"secret"],
    ]  # fmt: skip
    return rng.choice(commands)


def plain(command: list[bytes], reply: Any) -> Any:
    """The reply, without what the two may differ in."""
    if isinstance(reply, hiredis.ReplyError):
        return f"error: {reply}"
    if command[0] == b"KEYS" and isinstance(reply, list):
        return sorted(reply)
    if command[0] == b"SCAN" and isinstance(reply, list):
        return [reply[0], sorted(reply[1])]
    return reply


def same(command: list[bytes], ours: Any, theirs: Any) -> bool:
    slack = CLOSE_ENOUGH.get(command[0])
    if slack is not None and isinstance(ours, int) and isinstance(theirs, int) and theirs > 0:
        return abs(ours - theirs) <= slack
    if command[0] == b"DBSIZE" and isinstance(ours, int):
        return bool(ours <= theirs)  # Redis counts what is due and was not touched since.
    return bool(plain(command, ours) == plain(command, theirs))


class Pair:
    """One connection to each of the two, which are sent the same and must answer the same."""

    def __init__(self, ours: Wire, theirs: Wire, protocol: int) -> None:
        self.both = (ours, theirs)
        self.count = 0
        self._queued: list[list[bytes]] = []
        for wire_ in self.both:
            wire_.run("RESET")
            wire_.run("HELLO", protocol)
            assert wire_.run("FLUSHALL") in (b"OK", "OK")

    def run(self, commands: list[list[bytes]]) -> None:
        """In one pipeline."""
        data = b"".join(wire(*command) for command in commands)
        for wire_ in self.both:
            wire_.send(data)
        replies = [wire_.replies(len(commands)) for wire_ in self.both]
        for command, our, their in zip(commands, *replies, strict=True):
            self.count += 1
            self._compare(command, our, their)

    def _compare(self, command: list[bytes], our: Any, their: Any) -> None:
        if their in (b"QUEUED", "QUEUED"):
            self._queued.append(command)
        elif command[0].upper() in (b"EXEC", b"DISCARD") and len(command) == 1:
            queued, self._queued = self._queued, []
            if isinstance(our, list) and isinstance(their, list):
                for inner, one, other in zip(queued, our, their, strict=True):
                    self._compare(inner, one, other)
                return
        assert same(command, our, their), (command, our, their)


def commands_of(seeds: list[int]) -> list[list[bytes]]:
    """A command for each number, the same for the same number."""
    return [random_command(random.Random(seed)) for seed in seeds]


_SEEDS = st.integers(0, 2**24)
_SHORT = st.lists(_SEEDS, max_size=20)  # What a difference is cut down to.
_LONG = st.lists(_SEEDS, min_size=40, max_size=100)


def compare(server: LiveServer, redis_port: int, protocol: int, examples: int) -> int:
    """Random pipelines until so many were the same; how many commands that were. Or the
    shortest that hypothesis finds to differ."""
    total = 0
    with Wire(server.port) as ours, Wire(redis_port) as theirs:

        @settings(max_examples=examples, deadline=None, database=None, derandomize=True,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(_SHORT | _LONG, st.integers(1, 30))
        def run(seeds: list[int], pipeline: int) -> None:
            nonlocal total
            pair = Pair(ours, theirs, protocol)
            commands = commands_of(seeds)
            for start in range(0, len(commands), pipeline):
                pair.run(commands[start : start + pipeline])
            total += pair.count

        run()
    return total


@pytest.mark.parametrize("protocol", [2, 3])
def test_random_pipelines_are_answered_as_redis_answers_them(
    server: LiveServer, redis_port: int, protocol: int
) -> None:
    assert compare(server, redis_port, protocol, 100) > 1_500


@pytest.mark.stress
@pytest.mark.timeout(900)
@pytest.mark.parametrize("protocol", [2, 3])
def test_100_000_random_commands_are_answered_as_redis_answers_them(
    server: LiveServer, redis_port: int, protocol: int, capsys: pytest.CaptureFixture[str]
) -> None:
    total = compare(server, redis_port, protocol, 2_500)
    with capsys.disabled():
        print(f"\n    RESP{protocol}: {total} commands, each answered as redis-server did")
    assert total > 50_000


@pytest.mark.parametrize(
    "stream",
    [
        b"*x\r\n", b"*1\r\n:1\r\n", b"*1\r\n$-1\r\n", b"*1\r\n$x\r\n", b"*9999999999\r\n",
        b'GET "a\r\n', b"x" * 70_000, b"*" + b"1" * 70_000, b"*1\r\n$" + b"1" * 70_000,
        b"*1\r\n$536870913\r\n", b"POST / HTTP/1.1\r\n\r\nSET a b\r\n",
    ],
)  # fmt: skip
def test_a_broken_stream_is_answered_and_closed_as_redis_does(
    server: LiveServer, redis_port: int, stream: bytes
) -> None:
    answers = []
    for port in (server.port, redis_port):
        with Wire(port) as client:
            client.send(stream)
            client.socket.shutdown(1)
            try:
                answers.append(client.rest())
            except ConnectionResetError:
                answers.append(b"reset")
    ours, theirs = answers
    assert ours == theirs or theirs == b"reset"


def test_the_table_agrees_with_redis_on_arity_flags_keys_and_group(
    server: LiveServer, redis_port: int
) -> None:
    with Wire(server.port) as ours, Wire(redis_port) as theirs:
        rows = ours.run("COMMAND")
        names = [row[0] for row in rows if not row[0].startswith(b"tri.")]
        assert len(names) > 50
        known = {row[0]: row for row in theirs.run("COMMAND", "INFO", *names) if row is not None}
        # Redis puts its marker "movablekeys" nowhere here; sets come as lists in RESP2.
        for row in rows:
            if row[0] in known:
                assert_same_row(row, known[row[0]])
        docs = fields(theirs.run("COMMAND", "DOCS", *names))
        for name, doc in fields(ours.run("COMMAND", "DOCS", *names)).items():
            if name in docs:
                our, their = fields(doc), fields(docs[name])
                assert (our[b"since"], our[b"group"]) == (their[b"since"], their[b"group"]), name


def fields(flat: list[Any]) -> dict[Any, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def assert_same_row(ours: list[Any], theirs: list[Any]) -> None:
    name, arity, flags, first, last, step = ours[:6]
    assert [name, arity, first, last, step] == [*theirs[:2], *theirs[3:6]]
    assert set(flags) == set(theirs[2]), name
    subcommands = {row[0]: row for row in theirs[9]}
    for row in ours[9]:
        if row[0] in subcommands:
            assert_same_row(row, subcommands[row[0]])
