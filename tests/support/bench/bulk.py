"""Many keys into a RESP server, fast: MSET, pipelined, on one connection.

Keys are a word of four letters and twelve digits ("key:" is redis-benchmark's), values one letter.

Proved by: tests/scripts/test_bench.py
"""

from __future__ import annotations

import socket
from typing import Final

__all__ = ["write_bulk"]

_AT_ONCE: Final = 64
_SENT_BYTES: Final = 512 * 1024
"""Of values in one MSET: an entry has a limit."""

_OWED_MAX: Final = 16


def write_bulk(server: tuple[str, int], keys: int, value_bytes: int, word: str = "bulk") -> None:
    """So many keys of a fixed length, by MSET; RuntimeError when one is refused."""
    value = b"$%d\r\n%b\r\n" % (value_bytes, b"x" * value_bytes)
    at_once = min(_AT_ONCE, max(_SENT_BYTES // value_bytes, 1))
    form = b"$16\r\n" + f"{word[:4]:>4}".encode() + b"%012d\r\n" + value
    with socket.create_connection(server, timeout=60) as connection:
        owed, heard = 0, b""
        for start in range(0, keys, at_once):
            some = range(start, min(start + at_once, keys))
            head = b"*%d\r\n$4\r\nMSET\r\n" % (2 * len(some) + 1)
            connection.sendall(head + b"".join([form % number for number in some]))
            owed += 1
            while owed > _OWED_MAX or (owed and some.stop == keys):
                heard += connection.recv(65_536)
                owed -= heard.count(b"+OK\r\n")
                if heard.startswith(b"-") or (heard and heard.strip(b"+OK\r\n")):
                    raise RuntimeError(f"not written: {heard[:200]!r}")
                heard = heard[heard.rfind(b"\n") + 1 :]
