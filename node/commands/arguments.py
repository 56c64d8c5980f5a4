"""Syntax, as a person reads it -> arguments, as COMMAND DOCS tells them to redis-cli.

    key value [NX|XX] [EX seconds]

    [{name: key, type: key}, {name: value, type: string},
     {name: nx|xx, type: oneof, flags: [optional], arguments: [...]},
     {name: seconds, type: integer, token: EX, flags: [optional]}]

Does not do: judge a request (the handlers do).

Proved by: tests/node/test_commands_docs.py
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

from node.replies import Names

__all__ = ["Argument", "arguments_of"]

Argument = dict[str, Any]

_TOKENS: Final = re.compile(r"\.\.\.|[][|<>]|[^][|<>\s]+")
_CLOSING: Final = {"[": "]", "<": ">"}
_KEYS: Final = frozenset({"key", "newkey", "source", "destination", "key1", "key2"})
_INTEGERS: Final = frozenset({
    "seconds", "milliseconds", "count", "start", "end", "offset", "increment", "decrement",
    "timeout", "bit", "numkeys", "index", "cursor", "numreplicas", "numlocal", "slot", "limit",
    "client-id", "lease-id", "watch-id", "revision", "protover", "len", "destination-db",
})  # fmt: skip


@cache
def arguments_of(syntax: str) -> list[Argument]:
    """The arguments of a command. Not to be changed: they are shared."""
    reader = _Reader(_TOKENS.findall(syntax))
    (found,) = reader.alternatives("")
    return found


class _Reader:
    """Reads one syntax from left to right."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._next()
        self._at += 1
        return token

    def alternatives(self, closing: str) -> list[list[Argument]]:
        """What stands between bars, up to and with the closing bracket."""
        found = [self._sequence(closing)]
        while self._next() == "|":
            self._take()
            found.append(self._sequence(closing))
        if closing:
            assert self._take() == closing
        return found

    def _sequence(self, closing: str) -> list[Argument]:
        found: list[Argument] = []
        while self._next() not in ("|", closing, ""):
            word = self._take()
            if word in _CLOSING:
                self._group(word, found)
            elif word.upper() == word and word.lower() != word:
                self._keyword(word, closing, found)
            else:
                found.append(_named(word))
        return found

    def _group(self, opening: str, found: list[Argument]) -> None:
        """[...] or <...>; `[key ...]` says that what stands before it may come again."""
        begin = self._at
        while self._next() not in ("", "...", *"[]|<>"):
            self._take()
        if self._next() == "...":
            count = self._at - begin
            self._take()
            assert self._take() == _CLOSING[opening]
            repeated = found[-count:]
            del found[-count:]
            found.append(_flagged(_block(repeated), "multiple"))
            return
        self._at = begin
        choices = [_block(choice) for choice in self.alternatives(_CLOSING[opening])]
        one = choices[0]
        if len(choices) > 1:
            name = "-or-".join(str(choice["name"]) for choice in choices)
            one = {"name": name, "type": "oneof", "arguments": choices}
        found.append(_flagged(one, "optional") if opening == "[" else one)

    def _keyword(self, word: str, closing: str, found: list[Argument]) -> None:
        """A word that stands for itself, with the arguments that belong to it."""
        own: list[Argument] = []
        while (
            self._next() not in ("|", closing, "", *"[<") and self._next().upper() != self._next()
        ):
            own.append(_named(self._take()))
        if own and self._next() == "[" and "..." in self._tokens[self._at : self._at + 4]:
            self._group(self._take(), own)
        if not own:
            found.append({"name": word.lower(), "type": "pure-token", "token": word})
        else:
            found.append(_block(own) | {"token": word})


def _named(name: str) -> Argument:
    if name in _KEYS:
        return {"name": name, "type": "key", "key_spec_index": 0}
    kind = "integer" if name in _INTEGERS else "pattern" if name == "pattern" else "string"
    return {"name": name, "type": "unix-time" if name.startswith("unix-time") else kind}


def _block(arguments: list[Argument]) -> Argument:
    """Several as one."""
    if len(arguments) == 1:
        return dict(arguments[0])
    name = "-".join(str(one["name"]) for one in arguments)
    return {"name": name, "type": "block", "arguments": arguments}


def _flagged(argument: Argument, flag: str) -> Argument:
    return argument | {"flags": Names((*argument.get("flags", ()), flag))}
