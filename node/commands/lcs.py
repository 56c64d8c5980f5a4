"""LCS: the longest common subsequence of two values, as Redis finds it.

    LCS key1 key2 [LEN] [IDX [MINMATCHLEN n] [WITHMATCHLEN]]

A row of the usual table is one whole number: bit j says that the longest subsequence grows at
byte j of the second value (Hyyro's bit-vectors), so a row costs a few operations on long
numbers instead of a step for each byte. Walking back through the rows takes the same turns as
Redis's: the same string, and the same ranges.

Invariants: refused where the table would have more than CELLS_MAX cells, or BYTES_MAX rows and
columns: the loop that works it out also sends the heartbeats.

Proved by: tests/node/test_commands_strings.py (redis-server is the oracle)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from node.commands.spec import NOT_AN_INTEGER, SYNTAX_ERROR, parse_integer
from node.connection import Connection
from node.replies import bulk, encode, error_line, integer
from node.resp import Request

__all__ = ["lcs"]

CELLS_MAX: Final = 16 * 1024 * 1024
BYTES_MAX: Final = 16 * 1024
"""Of both together. With this about 30 ms at the most."""


@dataclass(slots=True)
class _Options:
    is_len: bool = False
    is_idx: bool = False
    with_length: bool = False
    length_min: int = 0


def lcs(connection: Connection, request: Request) -> bytes:
    options = _options(request[3:])
    if isinstance(options, bytes):
        return options
    if options.is_len and options.is_idx:
        return error_line("ERR If you want both the length and indexes, please just use IDX.")
    one = connection.machine.get(request[1]) or b""
    two = connection.machine.get(request[2]) or b""
    if len(one) * len(two) > CELLS_MAX or len(one) + len(two) > BYTES_MAX:
        return error_line(f"ERR LCS of values of more than {BYTES_MAX} bytes together")
    rows = _rows(one, two)
    if options.is_len:
        return integer(rows[-1].bit_count())
    common, ranges = _walk_back(one, two, rows)
    if not options.is_idx:
        return bulk(common)
    matches = [
        [list(first), list(second), first[1] - first[0] + 1]
        if options.with_length
        else [list(first), list(second)]
        for first, second in ranges
        if first[1] - first[0] + 1 >= options.length_min
    ]
    return encode({"matches": matches, "len": len(common)}, connection.protocol)


def _options(words: Request) -> _Options | bytes:
    found = _Options()
    options = iter(words)
    for word in options:
        option = word.upper()
        if option == b"IDX":
            found.is_idx = True
        elif option == b"LEN":
            found.is_len = True
        elif option == b"WITHMATCHLEN":
            found.with_length = True
        elif option == b"MINMATCHLEN":
            argument = next(options, None)
            if argument is None:
                return SYNTAX_ERROR
            number = parse_integer(argument)
            if number is None:
                return NOT_AN_INTEGER
            found.length_min = max(0, number)
        else:
            return SYNTAX_ERROR
    return found


def _rows(one: bytes, two: bytes) -> list[int]:
    """Row i: at which bytes of `two` the subsequence with one[:i] grows."""
    places: dict[int, int] = {}
    for at, byte in enumerate(two):
        places[byte] = places.get(byte, 0) | 1 << at
    everywhere = (1 << len(two)) - 1
    rows, still = [0], everywhere  # `still`: where it does not grow.
    for byte in one:
        here = still & places.get(byte, 0)
        still = ((still + here) | (still - here)) & everywhere
        rows.append(everywhere & ~still)
    return rows


_Range = tuple[int, int]


def _walk_back(
    one: bytes, two: bytes, rows: list[int]
) -> tuple[bytes, list[tuple[_Range, _Range]]]:
    """The subsequence, and its runs of neighbours, the last first."""
    found = bytearray()
    ranges: list[tuple[_Range, _Range]] = []
    open_one: _Range | None = None
    open_two: _Range = (0, 0)
    i, j = len(one), len(two)
    while i > 0 and j > 0:
        if one[i - 1] == two[j - 1]:
            i, j = i - 1, j - 1
            found.append(one[i])
            if open_one is not None and (open_one[0], open_two[0]) == (i + 1, j + 1):
                open_one, open_two = (i, open_one[1]), (j, open_two[1])
            else:
                if open_one is not None:
                    ranges.append((open_one, open_two))
                open_one, open_two = (i, i), (j, j)
            continue
        mask = (1 << j) - 1
        above = (rows[i - 1] & mask).bit_count()
        left = (rows[i] & (mask >> 1)).bit_count()
        if above > left:
            i -= 1
        else:
            j -= 1
    if open_one is not None:
        ranges.append((open_one, open_two))
    found.reverse()
    return bytes(found), ranges
