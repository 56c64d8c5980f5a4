"""Replies as bytes, in both protocols, and what a client library makes of them."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from node.errors import Fatal
from node.replies import Names, Status, Text, encode, error_line, error_reply


@pytest.mark.parametrize(
    ("value", "resp2", "resp3"),
    [
        (None, b"$-1\r\n", b"_\r\n"),
        (b"\r\n\x00", b"$3\r\n\r\n\x00\r\n", b"$3\r\n\r\n\x00\r\n"),
        ("ä", b"$2\r\n\xc3\xa4\r\n", b"$2\r\n\xc3\xa4\r\n"),
        (-7, b":-7\r\n", b":-7\r\n"),
        (True, b":1\r\n", b"#t\r\n"),
        (False, b":0\r\n", b"#f\r\n"),
        (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
        ([1, None], b"*2\r\n:1\r\n$-1\r\n", b"*2\r\n:1\r\n_\r\n"),
        ((), b"*0\r\n", b"*0\r\n"),
        ({"a": 1}, b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
        (Status("OK"), b"+OK\r\n", b"+OK\r\n"),
        (Names(("x", "y")), b"*2\r\n+x\r\n+y\r\n", b"~2\r\n+x\r\n+y\r\n"),
        (Text(b"hi"), b"$2\r\nhi\r\n", b"=6\r\ntxt:hi\r\n"),
    ],
)
def test_every_value_has_its_bytes_in_both_protocols(
    value: Any, resp2: bytes, resp3: bytes
) -> None:
    assert encode(value, 2) == resp2
    assert encode(value, 3) == resp3


def test_a_client_library_reads_nested_replies_back() -> None:
    value = {b"a": [1, b"x", None, [b""]], b"b": {b"c": 2}}
    reader = hiredis.Reader()
    reader.feed(encode(value, 3))
    assert reader.gets() == value


def test_a_value_that_has_no_reply_is_a_bug_and_says_so() -> None:
    with pytest.raises(TypeError, match="no reply for a object"):
        encode(object(), 2)


def test_what_a_client_sent_cannot_end_an_error_line() -> None:
    assert error_line(b"ERR a\r\n+OK\r\nb") == b"-ERR a  +OK  b\r\n"
    assert error_line("ERR \udcff") == b"-ERR \xff\r\n"


def test_a_node_that_fails_in_the_middle_of_a_write_does_not_say_that_nothing_was_done() -> None:
    """The batch may be at a peer already: an ERR would promise that it was not applied."""
    assert error_reply(Fatal("write failed on x")).startswith(b"-UNKNOWN write may or may not")
