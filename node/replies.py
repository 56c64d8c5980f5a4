r"""Replies: values -> RESP2 or RESP3 bytes. No sockets, no commands.

    value            RESP2                 RESP3
    None             $-1                   _
    bytes, str       $n                    $n
    int              :n                    :n
    bool             :1 :0                 #t #f
    float            $n (its text)         ,n
    list, tuple      *n                    *n
    dict             *2n (flat)            %n
    Status           +text                 +text
    Names            *n of +text           ~n of +text
    Text             $n                    =n txt: (a person reads it: INFO, CLIENT LIST)

What is sent ten thousand times a second has its own line (`bulk`, `OK`, `NIL`); `encode` is
for everything else. An error is `error_line`: one line whatever is in it, as a line break
would let the text of a client end the reply early.

Invariants: a reply is complete bytes; what a client sent never gets into a line unescaped.

Proved by: tests/node/test_replies.py, tests/node/test_commands.py (against redis-server)
"""

from __future__ import annotations

import re
from typing import Final

from node.errors import NotLeader
from statemachine.errors import Fatal, OutcomeUnknown, Unavailable
from statemachine.store import Refusal

__all__ = [
    "NIL",
    "NIL_ARRAY",
    "OK",
    "Names",
    "Status",
    "Text",
    "bulk",
    "encode",
    "error_line",
    "error_reply",
    "integer",
    "refusal_line",
]

OK: Final = b"+OK\r\n"
NIL: Final = {2: b"$-1\r\n", 3: b"_\r\n"}
"""By protocol version."""
NIL_ARRAY: Final = {2: b"*-1\r\n", 3: b"_\r\n"}
"""No array: an EXEC whose watched keys have changed."""


class Status(str):
    """A word of the protocol rather than data: +OK."""

    __slots__ = ()


class Text(bytes):
    """Lines for a person."""

    __slots__ = ()


class Names(tuple[str, ...]):
    """A set of words: the flags of a command."""

    __slots__ = ()


def bulk(value: bytes) -> bytes:
    """A string that is there."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def integer(number: int) -> bytes:
    """A number."""
    return b":%d\r\n" % number


def error_line(text: str | bytes) -> bytes:
    """An error; `text` begins with its code. Line breaks and other controls become spaces."""
    line = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return b"-%b\r\n" % line.translate(_NO_BREAKS)


_NO_BREAKS: Final = bytes(32 if byte in b"\r\n" else byte for byte in range(256))

_COMMAND_NAME: Final = re.compile(r"in '\w+' command")


def refusal_line(refusal: Refusal, name: str) -> bytes:
    """What the state machine refused, which does not know by which command it was asked."""
    text = _COMMAND_NAME.sub(f"in '{name}' command", refusal.text)
    return error_line(f"{refusal.code} {text}")


_UNKNOWN: Final = "UNKNOWN write may or may not have been applied"


def error_reply(error: Exception, slot: int = 0) -> bytes:
    """What a client is told when its command could not be carried out.

    Args:
        slot: the hash slot of the command's first key, which MOVED has to name.
    """
    if isinstance(error, NotLeader):
        return error_line(f"MOVED {slot} {error.address}")
    if isinstance(error, Unavailable):
        # The state machine's own Unavailable has no code: it knows no protocol.
        return error_line(f"{getattr(error, 'code', 'CLUSTERDOWN')} {error}")
    if isinstance(error, OutcomeUnknown | Fatal):
        # A node that fails in the middle of a write does not know: its peers may have it already.
        # NB: nothing here that a stock client retries by itself: that could apply it twice.
        reason = str(error)
        return error_line(_UNKNOWN if reason in _UNKNOWN else f"{_UNKNOWN}: {reason}")
    return error_line(f"ERR {error}")


def encode(value: object, protocol: int) -> bytes:
    """Any value of the table above, nested as deep as needed.

    Raises: TypeError for a value that is not in it: a bug of a handler.
    """
    parts: list[bytes] = []
    _encode(value, protocol, parts)
    return b"".join(parts)


def _encode(value: object, protocol: int, parts: list[bytes]) -> None:
    match value:
        case None:
            parts.append(NIL[protocol])
        case bool():
            parts.append((b"#t\r\n" if value else b"#f\r\n") if protocol >= 3 else integer(value))
        case int():
            parts.append(integer(value))
        case float():
            number = repr(value).encode()
            parts.append(b",%b\r\n" % number if protocol >= 3 else bulk(number))
        case Status():
            parts.append(b"+%b\r\n" % value.encode())
        case Text():
            text = b"=%d\r\ntxt:%b\r\n" % (len(value) + 4, value)
            parts.append(text if protocol >= 3 else bulk(value))
        case bytes():
            parts.append(bulk(value))
        case str():
            parts.append(bulk(value.encode("utf-8", "surrogateescape")))
        case Names():
            parts.append(b"%b%d\r\n" % (b"~" if protocol >= 3 else b"*", len(value)))
            parts.extend(b"+%b\r\n" % name.encode() for name in value)
        case list() | tuple():
            parts.append(b"*%d\r\n" % len(value))
            for item in value:
                _encode(item, protocol, parts)
        case dict():
            parts.append(
                b"%%%d\r\n" % len(value) if protocol >= 3 else b"*%d\r\n" % (2 * len(value))
            )
            for key, item in value.items():
                _encode(key, protocol, parts)
                _encode(item, protocol, parts)
        case _:
            raise TypeError(f"no reply for a {type(value).__name__}")
