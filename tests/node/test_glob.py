"""Patterns: Redis's own examples, a naive matcher as reference, and one that must not blow up."""

from __future__ import annotations

import random
import time

import pytest

from node.glob import compile_glob
from tests.support.live_server import Wire, redis_oracle


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (b"h?llo", [b"hello", b"hallo", b"h\nllo"], [b"hllo", b"heello"]),
        (b"h*llo", [b"hllo", b"heeeello"], [b"hll", b"xhllo"]),
        (b"h[ae]llo", [b"hello", b"hallo"], [b"hillo"]),
        (b"h[^e]llo", [b"hallo", b"hbllo"], [b"hello"]),
        (b"h[a-c]llo", [b"hallo", b"hcllo"], [b"hdllo"]),
        (b"h[c-a]llo", [b"hallo", b"hcllo"], [b"hdllo"]),
        (b"\\*", [b"*"], [b"a", b"\\*"]),
        (b"*", [b"", b"a", b"\r\n\xff"], []),
        (b"**a**", [b"a", b"xay"], [b"", b"b"]),
        (b"", [b""], [b"a"]),
        (b"a[]b", [], [b"ab", b"a]b"]),
        (b"a[b", [b"ab"], [b"a[b", b"a"]),
        (b"a*b*a", [b"aba", b"axbxa"], [b"ab", b"aa", b"a"]),
        (b"ab*ab", [b"abab"], [b"ab", b"aba"]),
        (b"\\", [b"\\"], [b""]),
    ],
)
def test_patterns_mean_what_redis_says(pattern: bytes, yes: list[bytes], no: list[bytes]) -> None:
    matches = compile_glob(pattern)
    assert [key for key in yes if not matches(key)] == []
    assert [key for key in no if matches(key)] == []


def test_random_patterns_find_what_redis_finds() -> None:
    rng = random.Random(3)
    keys = sorted(
        {bytes(rng.choice(b"ab*[]^\\-") for _ in range(rng.randrange(1, 6))) for _ in range(200)}
    )
    with redis_oracle() as port, Wire(port) as redis:
        for key in keys:
            redis.run("SET", key, "")
        for _ in range(600):
            pattern = bytes(rng.choice(b"ab**?[]^\\-") for _ in range(rng.randrange(1, 8)))
            matches = compile_glob(pattern)
            assert sorted(redis.run("KEYS", pattern)) == [k for k in keys if matches(k)], pattern


def test_no_pattern_takes_more_than_a_moment() -> None:
    matches = compile_glob(b"*".join([b"a"] * 30) + b"b")
    begin_s = time.process_time()
    assert not matches(b"a" * 2_000)
    assert time.process_time() - begin_s < 0.5
