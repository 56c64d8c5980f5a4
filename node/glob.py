r"""Redis's patterns: h?llo h*llo h[ae]llo h[^e]llo h[a-c]llo \* - on bytes, the whole key.

A pattern is cut at its stars. What stands between two stars has a fixed length, so the first
place where a piece fits is as good as any later one: each piece is looked for once, behind the one
before. So no pattern takes more than its length times the key's; a backtracking match
of `a*a*a*a*a*b` takes days.

Does not do: remember compiled patterns between calls beyond what `re` does.

Proved by: tests/node/test_glob.py (against redis-server's own answers and a reference matcher)
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["compile_glob"]


def compile_glob(pattern: bytes) -> Callable[[bytes], bool]:
    """Whether a key as a whole fits the pattern."""
    pieces = [re.compile(b"".join(piece), re.DOTALL) for piece in _pieces(pattern)]
    if len(pieces) == 1:
        return lambda key: pieces[0].fullmatch(key) is not None
    first, *middle, last = pieces
    last_bytes = len(_pieces(pattern)[-1])

    def matches(key: bytes) -> bool:
        match = first.match(key)
        for piece in middle:
            if match is None:
                return False
            match = piece.search(key, match.end())
        tail = len(key) - last_bytes
        return match is not None and match.end() <= tail and last.match(key, tail) is not None

    return matches


def _pieces(pattern: bytes) -> list[list[bytes]]:
    """What stands between the stars; each element is a regular expression for one byte."""
    pieces: list[list[bytes]] = [[]]
    at = 0
    while at < len(pattern):
        char = pattern[at : at + 1]
        if char == b"*":
            if pieces[-1] or len(pieces) == 1:
                pieces.append([])
            at += 1
        elif char == b"?":
            pieces[-1].append(b".")
            at += 1
        elif char == b"[":
            element, at = _class(pattern, at + 1)
            pieces[-1].append(element)
        else:
            if char == b"\\" and at + 1 < len(pattern):
                at += 1
            pieces[-1].append(re.escape(pattern[at : at + 1]))
            at += 1
    return pieces


def _class(pattern: bytes, at: int) -> tuple[bytes, int]:
    """[...] from behind the bracket: its regular expression, and where it ends."""
    is_negated = pattern[at : at + 1] == b"^"
    at += is_negated
    members: set[int] = set()
    while at < len(pattern) and pattern[at : at + 1] != b"]":
        if pattern[at : at + 1] == b"\\" and at + 1 < len(pattern):
            members.add(pattern[at + 1])
            at += 2
        elif pattern[at + 1 : at + 2] == b"-" and at + 2 < len(pattern):
            low, high = sorted((pattern[at], pattern[at + 2]))
            members.update(range(low, high + 1))
            at += 3
        else:
            members.add(pattern[at])
            at += 1
    if is_negated:
        members = set(range(256)) - members
    # An empty class fits no byte: (?!) never matches, and stands for one all the same.
    element = b"[%b]" % b"".join(b"\\x%02x" % byte for byte in sorted(members))
    return (element if members else b"(?!)"), at + 1
