"""Redis's long doubles by whole numbers: texts, rounding and limits.

The oracle is redis-server (test_differential.py compares INCRBYFLOAT with it); here are the
places where a float turns: ties, the largest, the smallest, what is no number.
"""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine.longdouble import INFINITE, TEXT_BYTES_MAX, add, parse, text


def number(word: bytes) -> Fraction:
    found = parse(word)
    assert isinstance(found, Fraction)
    return found


@pytest.mark.parametrize(
    ("word", "want"),
    [
        (b"3.0", b"3"), (b"-0", b"0"), (b".5", b"0.5"), (b"5.", b"5"), (b"+1e2", b"100"),
        (b"5.0e3", b"5000"), (b"0x10", b"16"), (b"0x1.8p1", b"3"), (b"1e-18", b"0"),
        (b"0.1", b"0.1"), (b"1e0000000000000000000000002", b"100"),
        # 64 bits of mantissa: 2**64 + 1 is a tie, and goes to the even one.
        (b"18446744073709551615", b"18446744073709551615"),
        (b"18446744073709551617", b"18446744073709551616"),
        (b"18446744073709551619", b"18446744073709551620"),
        (b"0.3", b"0.3"), (b"1e20", b"100000000000000000000"),
    ],
)  # fmt: skip
def test_a_text_is_read_rounded_and_written_as_redis_does(word: bytes, want: bytes) -> None:
    assert text(number(word)) == want


@pytest.mark.parametrize(
    "word",
    [b"", b" 1", b"1 ", b"1e", b"e5", b".", b"0x", b"1_0", b"nan", b"--1", b"1\0", b"1e5000",
     b"1e-5000", b"1e99999999999999999999", b"1" * (TEXT_BYTES_MAX + 1)],
)  # fmt: skip
def test_what_is_no_float_is_none(word: bytes) -> None:
    assert parse(word) is None


def test_infinity_is_a_number_that_nothing_is_made_of() -> None:
    assert {parse(word) for word in (b"inf", b"-INF", b"+Infinity")} == {INFINITE}
    largest = number(b"1.18973149535723176502e+4932")
    assert add(largest, largest) is None
    assert len(text(largest)) == 4933
    assert parse(b"1.2e4932") is None


def test_the_smallest_is_told_from_nothing() -> None:
    assert number(b"3.7e-4951") == Fraction(1, 2**16445)
    assert parse(b"1e-4952") is None


@given(st.integers(-(2**64) + 1, 2**64 - 1), st.integers(-(2**64) + 1, 2**64 - 1))
def test_whole_numbers_of_64_bits_are_exact(one: int, other: int) -> None:
    assert text(number(b"%d" % one)) == b"%d" % one
    total = add(Fraction(one), Fraction(other))
    assert total is not None
    assert abs(total - (one + other)) <= 1  # 65 bits: the lowest may be lost.


@given(st.integers(-(10**17), 10**17), st.integers(17, 17))
def test_what_is_below_one_and_has_few_digits_comes_back_as_it_was_written(
    digits: int, decimals: int
) -> None:
    exact = Fraction(digits, 10**decimals)
    shown = text(number(f"{digits}e-{decimals}".encode()))
    assert Fraction(shown.decode()) == exact
    assert not (b"." in shown and shown.endswith((b"0", b".")))
