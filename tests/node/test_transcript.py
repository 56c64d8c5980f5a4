"""Transcripts: any bytes come back, and nothing that was cut, joined or edited is taken."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import transcript
from node.errors import Rejected
from node.transcript import LeaseRow, Row
from statemachine import BatchBuilder, LogId, stamp
from statemachine.commands import WriteCommand
from statemachine.image import Image
from statemachine.layer import Columns
from statemachine.store import Store, StoreParts


def image(pairs: dict[bytes, tuple[bytes, int | None]]) -> Image:
    values = {key: value for key, (value, _) in sorted(pairs.items())}
    deadlines = {key: at for key, (_, at) in pairs.items() if at is not None}
    columns = Columns.of(values, dict.fromkeys(values, 4), {}, deadlines)
    return Image(LogId(index=9, term=2), [(1, 1)], StoreParts(columns, 1_000, {}))


def keys_of(lines: list[bytes]) -> list[Row]:
    return [row for row in transcript.rows(lines) if isinstance(row, Row)]


SMALL = image({b"a": (b"1", None), b"b\xff": (b"\x00\xfe", 5_000), b"c": (b"\xc3\xa9", None)})


@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=8),
        st.tuples(st.binary(max_size=8), st.none() | st.integers(1_001, 2**62)),
        max_size=8,
    )
)
def test_every_key_value_and_deadline_comes_back_as_it_was(
    pairs: dict[bytes, tuple[bytes, int | None]],
) -> None:
    lines = list(transcript.lines(image(pairs)))
    assert transcript.check(lines) == len(pairs)
    found = {row.key: (row.value, row.deadline_ms) for row in keys_of(lines)}
    assert found == pairs
    assert all(line.isascii() and line.count(b"\n") == 1 for line in lines)


def test_text_stands_as_text_and_bytes_in_base64() -> None:
    lines = [json.loads(line) for line in transcript.lines(SMALL)]
    assert lines[0] == {
        "trimaran": "export",
        "format": 2,
        "revision": 9,
        "clock_ms": 1_000,
        "keys": 3,
    }
    assert lines[1] == {"key": "a", "value": "1", "created": 4, "modified": 4}
    assert lines[2]["key_base64"] == "Yv8="
    assert lines[2]["value_base64"] == "AP4="
    assert lines[2]["deadline_ms"] == 5_000
    assert lines[3]["value"] == "é"


def test_a_key_whose_time_is_over_is_left_out() -> None:
    lines = list(transcript.lines(image({b"a": (b"1", 999), b"b": (b"2", 1_001)})))
    assert [row.key for row in keys_of(lines)] == [b"b"]


def test_only_the_keys_of_a_prefix() -> None:
    lines = list(transcript.lines(SMALL, b"b"))
    assert transcript.check(lines) == 1
    assert list(transcript.rows(lines)) == [Row(b"b\xff", b"\x00\xfe", 5_000)]


def leased() -> Image:
    """Leases 7 (of a and b) and 9 (of none); 8 is over, with c."""
    store = Store()
    builder = BatchBuilder()
    for lease_id, ttl_ms in ((7, 5_000), (8, 10), (9, 6_000)):
        grant = WriteCommand.GrantLease(id=lease_id, ttl_ms=ttl_ms)
        builder.add(WriteCommand(grant_lease=grant))
    for key, lease_id in ((b"a", 7), (b"b", 7), (b"c", 8), (b"d", 0)):
        builder.add(WriteCommand(insert=WriteCommand.Insert(key=key, value=b"v", lease=lease_id)))
    store.apply_batch(stamp(builder.build(), now_ms=1_000), 1)
    builder = BatchBuilder()
    builder.put(b"e", b"v")
    store.apply_batch(stamp(builder.build(), now_ms=2_000), 2)
    return Image(LogId(index=2, term=2), [(1, 2)], store.freeze())


def test_leases_stand_before_their_keys_and_what_is_over_is_left_out() -> None:
    lines = list(transcript.lines(leased()))
    assert transcript.check(lines) == 6
    assert list(transcript.rows(lines)) == [
        LeaseRow(7, 5_000, 6_000),
        LeaseRow(9, 6_000, 7_000),
        Row(b"a", b"v", 6_000, 7),
        Row(b"b", b"v", 6_000, 7),
        Row(b"d", b"v"),
        Row(b"e", b"v"),
    ]
    assert list(transcript.rows(transcript.lines(leased(), b"a"))) == [
        LeaseRow(7, 5_000, 6_000),
        Row(b"a", b"v", 6_000, 7),
    ]


def test_whatever_was_done_to_a_transcript_is_seen() -> None:
    lines = list(transcript.lines(SMALL))
    for number in range(len(lines)):
        with pytest.raises(Rejected):
            transcript.check(lines[:number])
        with pytest.raises(Rejected):
            transcript.check(lines[:number] + lines[number + 1 :])
        with pytest.raises(Rejected):
            transcript.check([*lines[: number + 1], lines[number], *lines[number + 1 :]])
    with pytest.raises(Rejected, match="behind the end"):
        transcript.check(lines + lines)
    edited = [line.replace(b'"value": "1"', b'"value": "2"') for line in lines]
    with pytest.raises(Rejected, match="SHA-256"):
        transcript.check(edited)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"not json\n", "no JSON"),
        (b"[1]\n", "no JSON object"),
        (b'{"value": "v"}\n', "has no key"),
        (b'{"key": "k"}\n', "has no value"),
        (b'{"key": "k", "value": 1}\n', "has no value"),
        (b'{"key": "k", "value_base64": "?"}\n', "value_base64"),
        (b'{"key": "k", "value": "v", "value_base64": "dg=="}\n', "has no value"),
        (b'{"key": "k", "value": "v", "deadline_ms": "soon"}\n', "deadline_ms"),
        (b'{"key": "k", "value": "v", "lease": 7}\n', "lease 7 is not before it"),
        (b'{"lease": 7, "ttl_ms": "long", "deadline_ms": 9}\n', "ttl_ms is no integer"),
    ],
)
def test_a_line_that_is_no_key_is_refused_by_its_number(line: bytes, error: str) -> None:
    head = next(transcript.lines(SMALL))
    with pytest.raises(Rejected, match=f"line 2.*{error}"):
        list(transcript.rows([head, line]))


def test_a_newer_format_and_a_foreign_file_are_refused() -> None:
    with pytest.raises(Rejected, match="newer"):
        transcript.check([b'{"trimaran": "export", "format": 3}\n'])
    with pytest.raises(Rejected, match="no transcript"):
        transcript.check([b'{"some": "json"}\n'])
