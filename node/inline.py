r"""Inline commands: what a person types into a bare connection, cut into arguments.

    set greeting "hello\n" 'it\'s'  ->  set, greeting, hello<newline>, it's

As Redis's sdssplitargs: blanks separate; "..." knows \n \r \t \b \a \xhh and \ before anything
else, '...' knows only \'; a closing quote ends the argument, an opening one may stand inside
it (a"b c" is one argument); a NUL byte ends the line.

Does not do: find the end of the line (node.resp).

Proved by: tests/node/test_resp.py
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["split_inline"]

_ESCAPES: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}
_TOKEN: Final = re.compile(
    rb"""
    [ \t\r\n\v\f]+                                # between arguments
    | "(?P<double> (?: \\. | [^"\\] )* )" (?=\s|$)  # an escape is one of \n \r \t \b \a \xhh
    | '(?P<single> (?: \\' | [^'] )* )' (?=\s|$)    # the only escape is \'
    | (?P<plain> [^ \t\r\n"']+ )
    """,
    re.VERBOSE | re.DOTALL,
)


def split_inline(line: bytes) -> list[bytes] | None:
    """The arguments of an inline command, as Redis's sdssplitargs. None: quotes do not balance."""
    line = line.partition(b"\0")[0]
    if b'"' not in line and b"'" not in line:
        return line.split()
    arguments: list[bytes] = []
    is_open = False  # Whether the next text goes on with the last argument: a"b c" is one.
    at = 0
    while at < len(line):
        token = _TOKEN.match(line, at)
        if token is None:
            return None
        at = token.end()
        if token.lastgroup is None:
            is_open = False
            continue
        text = token.group(token.lastgroup)
        if token.lastgroup == "double":
            text = re.sub(rb"\\(x[0-9a-fA-F]{2}|.)", _unescape, text, flags=re.DOTALL)
        elif token.lastgroup == "single":
            text = text.replace(b"\\'", b"'")
        if is_open:
            arguments[-1] += text
        else:
            arguments.append(text)
        is_open = token.lastgroup == "plain"
    return arguments


def _unescape(match: re.Match[bytes]) -> bytes:
    escape = match.group(1)
    if len(escape) == 3:
        return bytes((int(escape[1:], 16),))
    return _ESCAPES.get(escape, escape)
