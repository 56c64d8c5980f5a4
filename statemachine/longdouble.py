"""Redis's 80-bit floating point numbers, by integers: the same on every machine.

    text --parse--> exact fraction --round to 64 bits of mantissa--> number
    number + number --round-->  number          number --17 decimals--> text

INCRBYFLOAT adds `long double`s: 64 bits of mantissa, exponents from -16445 to 16383, ties to even.
What those do on x86 is done here by whole numbers, so no replica's processor, compiler or
libc has a say in it. A number is an exact Fraction that such a float can hold.

Invariants: `parse`, `add` and `text` depend on their arguments alone. Nothing takes more
than some 17000 bits, whatever a client sends.

Does not do: NaN and infinities: whatever would be one is None.

Proved by: tests/statemachine/test_longdouble.py, tests/node/test_differential.py (redis-server)
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

__all__ = ["INFINITE", "TEXT_BYTES_MAX", "add", "parse", "text"]

TEXT_BYTES_MAX: Final = 5 * 1024 - 1
"""Longer texts are no numbers to Redis."""

_MANTISSA_BITS: Final = 64
_EXPONENT_MAX: Final = 16_383
_QUANTUM_EXPONENT_MIN: Final = -16_445
_DECIMALS: Final = 17
# Beyond this, any text of TEXT_BYTES_MAX is infinite or nothing at all.
_POWER_MAX: Final = 30_000

_DECIMAL: Final = re.compile(rb"([+-]?)(?:(\d+)\.?(\d*)|\.(\d+))(?:[eE]([+-]?\d+))?")
_HEX: Final = re.compile(
    rb"([+-]?)0[xX](?:([0-9a-fA-F]+)\.?([0-9a-fA-F]*)|\.([0-9a-fA-F]+))(?:[pP]([+-]?\d+))?"
)
_INFINITE: Final = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE)

INFINITE: Final = "infinite"
"""What `parse` makes of "inf": a number, that no sum can be made of."""

# NB: Python refuses to convert long texts to int and back, at a limit that the environment sets.
_CHUNK_DIGITS: Final = 600
_CHUNK: Final = 10**_CHUNK_DIGITS


def parse(word: bytes) -> Fraction | str | None:
    """The number that a text stands for, rounded; INFINITE; or None: Redis calls it no float."""
    if len(word) > TEXT_BYTES_MAX:
        return None
    if _INFINITE.fullmatch(word):
        return INFINITE
    match, base = _DECIMAL.fullmatch(word), 10
    if match is None:
        match, base = _HEX.fullmatch(word), 16
    if match is None:
        return None
    sign, whole, part, only_part, power_text = match.groups()
    part = part or only_part or b""
    digits = (whole or b"") + part
    mantissa = _integer(digits) if base == 10 else int(digits, 16)
    if mantissa == 0:
        return Fraction(0)
    power = _power(power_text)
    if abs(power) > _POWER_MAX:
        return None  # Out of range, either way.
    exact = Fraction(mantissa)
    if base == 10:
        shift = power - len(part)
        exact = exact * 10**shift if shift >= 0 else exact / 10**-shift
    else:
        shift = power - 4 * len(part)
        exact = exact * 2**shift if shift >= 0 else exact / 2**-shift
    rounded = _round(-exact if sign == b"-" else exact)
    return rounded or None  # Too small is out of range as well.


def add(one: Fraction, other: Fraction) -> Fraction | None:
    """The sum, rounded; None: it would be infinite."""
    return _round(one + other)


def text(number: Fraction) -> bytes:
    """Redis's "human" form: 17 decimals, and no zeros behind them."""
    scaled = _nearest(abs(number.numerator) * 10**_DECIMALS, number.denominator)
    whole, part = divmod(scaled, 10**_DECIMALS)
    shown = _digits(whole)
    if part:
        shown += "." + str(part).zfill(_DECIMALS).rstrip("0")
    return (("-" if number < 0 and scaled else "") + shown).encode()


def _round(exact: Fraction) -> Fraction | None:
    """To 64 bits of mantissa, or fewer near zero; ties to even. None: too large."""
    if exact == 0:
        return exact
    numerator, denominator = abs(exact.numerator), exact.denominator
    exponent = numerator.bit_length() - denominator.bit_length()
    if numerator << max(0, -exponent) < denominator << max(0, exponent):
        exponent -= 1
    quantum = max(exponent - _MANTISSA_BITS + 1, _QUANTUM_EXPONENT_MIN)
    mantissa = _nearest(numerator << max(0, -quantum), denominator << max(0, quantum))
    if mantissa.bit_length() + quantum > _EXPONENT_MAX + 1:
        return None
    rounded = Fraction(mantissa << quantum) if quantum >= 0 else Fraction(mantissa, 1 << -quantum)
    return -rounded if exact < 0 else rounded


def _nearest(numerator: int, denominator: int) -> int:
    """The quotient, to the nearest whole number, ties to even."""
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient & 1))


def _power(digits: bytes | None) -> int:
    if not digits:
        return 0
    if len(digits.lstrip(b"+-").lstrip(b"0")) > 9:
        return -_POWER_MAX - 1 if digits.startswith(b"-") else _POWER_MAX + 1
    return int(digits.lstrip(b"+-").lstrip(b"0") or b"0") * (-1 if digits[:1] == b"-" else 1)


def _integer(digits: bytes) -> int:
    number = 0
    for start in range(0, len(digits), _CHUNK_DIGITS):
        chunk = digits[start : start + _CHUNK_DIGITS]
        number = number * 10 ** len(chunk) + int(chunk)
    return number


def _digits(number: int) -> str:
    chunks: list[str] = []
    while number >= _CHUNK:
        number, low = divmod(number, _CHUNK)
        chunks.append(str(low).zfill(_CHUNK_DIGITS))
    return str(number) + "".join(reversed(chunks))
