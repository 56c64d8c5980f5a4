"""The request parser: cuts, limits, Redis's words, and the two readers against each other.

Goal: whatever arrives, cut however, gives the same requests and the same error, and takes no
more memory than the limit. Method: tables of streams, each fed whole, by byte and by pieces; and
random streams, for which the fast reader (hiredis) must agree with the exact one.
"""

from __future__ import annotations

import random
import re

import pytest

import node.resp as resp
from node.inline import split_inline
from node.resp import (
    BULK_BYTES_MAX,
    INLINE_BYTES_MAX,
    OversizedRequest,
    Request,
    RequestParser,
)
from tests.support.fake_service import wire

LIMIT = 1 << 20
PING = b"*1\r\n$4\r\nPING\r\n"


def read(data: bytes, cut_bytes: int = 1 << 30, limit: int = LIMIT) -> tuple[list[Request], object]:
    parser = RequestParser(limit)
    found: list[Request] = []
    for at in range(0, len(data), cut_bytes):
        found += parser.feed(data[at : at + cut_bytes])
    return found, parser.error


LONG = b"x" * 70_000
STREAMS = [
    pytest.param(PING, [[b"PING"]], id="one"),
    pytest.param(PING * 3, [[b"PING"]] * 3, id="pipelined"),
    pytest.param(wire("SET", b"\r\n*1"), [[b"SET", b"\r\n*1"]], id="CRLF is data"),
    pytest.param(wire("GET", b"\x00\xff\xfe"), [[b"GET", b"\x00\xff\xfe"]], id="binary key"),
    pytest.param(wire("GET", b""), [[b"GET", b""]], id="empty argument"),
    pytest.param(b"*0\r\n" + PING, [[b"PING"]], id="empty request is none"),
    pytest.param(b"*-1\r\n" + PING, [[b"PING"]], id="null request is none"),
    pytest.param(b"PING\r\n", [[b"PING"]], id="inline"),
    pytest.param(b"PING\n", [[b"PING"]], id="inline, bare newline"),
    pytest.param(b"\r\n\r\n" + PING, [[b"PING"]], id="empty lines are none"),
    pytest.param(PING + b"GET 'b'\r\n" + PING, [[b"PING"], [b"GET", b"b"], [b"PING"]], id="mixed"),
    pytest.param(PING + b"*12345\r\n", [[b"PING"]], id="a large count that never comes"),
    pytest.param(PING * 2 + PING[:9], [[b"PING"]] * 2, id="half a request"),
    pytest.param(wire("SET", LONG) * 2, [[b"SET", LONG]] * 2, id="long"),
]  # fmt: skip


@pytest.mark.parametrize("cut_bytes", [1, 3, 7, 1000, 1 << 16, 1 << 30])
@pytest.mark.parametrize(("stream", "want"), STREAMS)
def test_requests_do_not_depend_on_the_cuts(
    stream: bytes, want: list[Request], cut_bytes: int
) -> None:
    assert read(stream, cut_bytes) == (want, None)


ERRORS = [
    pytest.param(b"*abc\r\n", "invalid multibulk length", id="count is no number"),
    pytest.param(b"*01\r\n", "invalid multibulk length", id="leading zero"),
    pytest.param(b"*+1\r\n", "invalid multibulk length", id="plus"),
    pytest.param(b"*1048577\r\n", "invalid multibulk length", id="count too large"),
    pytest.param(b"*99999999999999999999\r\n", "invalid multibulk length", id="count over 64 bits"),
    pytest.param(b"*1\r\n:1\r\n", "expected '$', got ':'", id="a number for an argument"),
    pytest.param(b"*1\r\n+PING\r\n", "expected '$', got '+'", id="a status for an argument"),
    pytest.param(b"*1\r\n*1\r\n$1\r\na\r\n", "expected '$', got '*'", id="nested"),
    pytest.param(b"*1\r\n%1\r\n$1\r\na\r\n", "expected '$', got '%'", id="a map for an argument"),
    pytest.param(b"*1\r\n$-1\r\n", "invalid bulk length", id="null argument"),
    pytest.param(b"*1\r\n$x\r\n", "invalid bulk length", id="length is no number"),
    pytest.param(b"*1\r\n$%d\r\n" % (BULK_BYTES_MAX + 1), "invalid bulk length", id="too long"),
    pytest.param(b"*1\r\n$" + b"1" * 65_537, "too big bulk count string", id="long $"),
    pytest.param(b"*" + b"1" * (INLINE_BYTES_MAX + 1), "too big mbulk count string", id="long *"),
    pytest.param(b"a" * (INLINE_BYTES_MAX + 1), "too big inline request", id="long line"),
    pytest.param(b'SET "a\r\n', "unbalanced quotes in request", id="open quote"),
    pytest.param(b"SET 'a'b\r\n", "unbalanced quotes in request", id="text behind a quote"),
]  # fmt: skip


@pytest.mark.parametrize("cut_bytes", [1, 5, 1 << 30])
@pytest.mark.parametrize(("stream", "want"), ERRORS)
def test_a_bad_stream_gives_what_came_before_it_and_one_error_in_redis_words(
    stream: bytes, want: str, cut_bytes: int
) -> None:
    cut_bytes = max(cut_bytes, len(stream) // 1_000)  # Long ones byte by byte take seconds.
    assert read(PING + stream + PING, cut_bytes) == ([[b"PING"]], f"Protocol error: {want}")


def test_a_status_is_no_argument_and_a_set_no_request() -> None:
    assert read(b"*1\r\n+PING\r\n")[1] == "Protocol error: expected '$', got '+'"
    assert read(b"~1\r\n$4\r\nPING\r\n")[0] == [[b"~1"], [b"$4"], [b"PING"]]  # Inline lines.


def test_nothing_is_read_behind_an_error() -> None:
    parser = RequestParser(LIMIT)
    parser.feed(b"*x\r\n")
    assert parser.feed(PING) == []
    assert parser.error == "Protocol error: invalid multibulk length"


def random_stream(rng: random.Random) -> bytes:
    """Requests with awkward arguments, sometimes with noise or a bent header in between."""
    pieces = [
        wire(*(rng.choice(ARGUMENTS) for _ in range(rng.randrange(1, 5))))
        for _ in range(rng.randrange(1, 8))
    ]
    if rng.random() < 0.5:
        at = rng.randrange(len(pieces) + 1)
        pieces.insert(at, rng.choice(NOISE))
    data = b"".join(pieces)
    if rng.random() < 0.3:
        at = rng.randrange(len(data))
        data = data[:at] + bytes((rng.randrange(256),)) + data[at + 1 :]
    return data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data


ARGUMENTS = [b"SET", b"k", b"", b"\r\n", b"*1\r\n$4\r\nPING\r\n", b"\r\n*3\r\n", b"x" * 300, b"-1"]
NOISE = [b"PING\r\n", b"\r\n", b"*0\r\n", b"*-1\r\n", b"%1\r\n$1\r\na\r\n$1\r\nb\r\n", b":0\r\n",
         b"*1\r\n:5\r\n", b"*1\r\n*1\r\n$1\r\na\r\n", b"*99999\r\n", b"*2\r\n$1\r\na\r\n",
         b"-ERR x\r\n", b"_\r\n", b"*1\r\n_\r\n", b"*1\r\n#t\r\n"]  # fmt: skip


def test_the_fast_reader_agrees_with_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # Left out: `+` or `=` for `$` and `~` for `*`; the header of resp.py names that leniency.
    rng = random.Random(20261122)
    compared = fast = 0
    for _ in range(2_500):
        stream = random_stream(rng)
        if re.search(rb"(\A|\n)[+=(~]", stream):
            continue
        cut_bytes = rng.choice([1 << 30, 1 << 30, 40, 11])
        found = read(stream, cut_bytes)
        with monkeypatch.context() as patch:
            patch.setattr(resp, "hiredis", None)
            assert read(stream, 1) == found, stream
        compared += 1
        fast += len(found[0])
    assert compared > 1_500
    assert fast > 4_000


def test_hiredis_reads_a_plain_pipeline_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("the exact reader was asked")

    monkeypatch.setattr(RequestParser, "_step", refuse)
    stream = b"".join(wire("SET", f"k{number}", b"v" * 256) for number in range(16))
    assert len(RequestParser(LIMIT).feed(stream)) == 16


def test_hiredis_never_sees_a_count_of_five_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    # It would make the list for all of them at once.
    parser = RequestParser(LIMIT)
    monkeypatch.setattr(RequestParser, "_read", lambda *_: pytest.fail("fed to hiredis"))
    assert parser.feed(PING + b"*999999\r\n") == [[b"PING"]]


def test_a_request_over_the_limit_is_read_over_and_the_next_one_is_read() -> None:
    for cut_bytes in (1 << 30, 4096, 977):
        stream = wire("SET", "k", b"x" * 50_000) + PING
        found, error = read(stream, cut_bytes, limit=40_000)
        assert error is None
        assert [type(one) for one in found] == [OversizedRequest, list]
        assert found[1] == [b"PING"]


def test_the_bytes_of_a_request_over_the_limit_are_not_kept() -> None:
    parser = RequestParser(10_000)
    parser.feed(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000000\r\n")
    for _ in range(1_000):
        assert parser.feed(b"x" * 100_000) == []
        assert len(parser._buffer) == 0
    assert [type(one) for one in parser.feed(b"\r\n" + PING)] == [OversizedRequest, list]


def test_many_small_arguments_count_against_the_limit_too() -> None:
    found, error = read(wire(*[b"a"] * 5_000) + PING, limit=20_000)
    assert error is None
    assert isinstance(found[0], OversizedRequest)
    assert found[1] == [b"PING"]


@pytest.mark.parametrize(
    ("stream", "want"),
    [
        (b"*11\r\n", "Protocol error: unauthenticated multibulk length"),
        (b"*1\r\n$16385\r\n", "Protocol error: unauthenticated bulk length"),
    ],
)
def test_before_auth_requests_are_small(stream: bytes, want: str) -> None:
    parser = RequestParser(LIMIT, authenticated=False)
    assert parser.feed(stream) == []
    assert parser.error == want


def test_before_auth_requests_come_one_at_a_time() -> None:
    parser = RequestParser(LIMIT, authenticated=False)
    large = wire("MSET", *["k"] * 20)
    assert parser.feed(wire("AUTH", "x") + large) == [[b"AUTH", b"x"]]
    parser.authenticated = True
    assert parser.has_rest
    assert [len(one) for one in parser.feed(b"")] == [21]
    assert not parser.has_rest


@pytest.mark.parametrize(
    ("line", "want"),
    [
        (b'set "a b" c', [b"set", b"a b", b"c"]),
        (rb'"\n\r\t\b\a\x41\"\\\q"', [b'\n\r\t\b\aA"\\q']),
        (rb"'it\'s \n'", [b"it's \\n"]),
        (b'a"b c"', [b"ab c"]),
        (b"'' \"\"", [b"", b""]),
        (b"  \t ", []),
        (b'a "b', None),
        (b"a 'b", None),
        (b'"a"b', None),
        (b"a\x00b", [b"a"]),
    ],
)
def test_an_inline_command_is_cut_as_redis_cuts_it(line: bytes, want: Request | None) -> None:
    assert split_inline(line) == want
