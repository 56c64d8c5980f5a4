"""What COMMAND DOCS tells of arguments: as redis-server does, where both know the command."""

from __future__ import annotations

from typing import Any

import pytest

from node.commands import COMMANDS
from node.commands.arguments import arguments_of
from node.commands.syntax import SYNTAX
from tests.support.live_server import Wire, live_server, redis_oracle

# Told differently on purpose: more options than in 7.0, fewer ways to write one, or kept short.
DIFFERENT = {
    "set", "client|kill", "client|list", "command|getkeys", "command|list", "client|reply",
    "hello", "auth", "info", "client|unblock", "incrbyfloat", "psubscribe", "config|get",
    "cluster|keyslot", "client|tracking",
}  # fmt: skip


def test_every_syntax_belongs_to_a_command() -> None:
    names = {
        row.name
        for outer in COMMANDS.values()
        for row in (list(outer.subcommands.values()) or [outer])
    }
    assert SYNTAX.keys() <= names
    for name in names - SYNTAX.keys():
        container, _, subcommand = name.partition("|")
        row = COMMANDS[container.encode()]
        row = row.subcommands[subcommand.encode()] if subcommand else row
        assert abs(row.arity) <= 2 - (not subcommand), f"{name} takes something"


@pytest.mark.parametrize(
    ("syntax", "want"),
    [
        ("key", [("key", None, (), ())]),
        ("key [key ...]", [("key", None, ("multiple",), ())]),
        ("[arg [arg ...]]", [("string", None, ("multiple", "optional"), ())]),
        ("[EX seconds]", [("integer", "EX", ("optional",), ())]),
        (
            "<ON|OFF>",
            [("oneof", None, (), (("pure-token", "ON", (), ()), ("pure-token", "OFF", (), ())))],
        ),
    ],
)
def test_syntax_is_read_as_documented(syntax: str, want: list[Any]) -> None:
    assert [shape(one) for one in arguments_of(syntax)] == want


def shape(argument: dict[Any, Any]) -> tuple[Any, ...]:
    """What a client makes use of; names may differ."""
    plain = {text(key): value for key, value in argument.items()}
    flags = tuple(sorted(text(flag) for flag in plain.get("flags", ())))
    inner = tuple(shape(one) for one in plain.get("arguments", ()))
    token = plain.get("token")
    return text(plain["type"]), None if token is None else text(token), flags, inner


def text(word: Any) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)


def test_arguments_are_told_as_redis_tells_them() -> None:
    compared = 0
    with live_server() as server, redis_oracle() as port:
        with Wire(server.port) as ours, Wire(port) as theirs:
            for client in (ours, theirs):
                client.run("HELLO", "3")
            our_docs, their_docs = (client.run("COMMAND", "DOCS") for client in (ours, theirs))
    for name, doc in our_docs.items():
        if name not in their_docs:
            continue
        pairs = [(name, doc, their_docs[name])]
        inner = their_docs[name].get(b"subcommands", {})
        pairs += [
            (sub, sub_doc, inner[sub])
            for sub, sub_doc in doc.get(b"subcommands", {}).items()
            if sub in inner
        ]
        for sub, one, other in pairs:
            if text(sub) in DIFFERENT or b"subcommands" in one:
                continue
            our, their = (
                [shape(argument) for argument in each.get(b"arguments", ())]
                for each in (one, other)
            )
            assert our == their, text(sub)
            compared += 1
    assert compared > 100
