"""From a table of text and numbers to frozen dataclasses, with every problem named.

    TOML table ----------> read_section(Section, table, "wal", problems) -> Section
    "wal.sync=always" ---> apply_overrides(document, [...], sections, problems)

Knows no section: which keys exist, their types and their bounds stand at the
fields themselves (`setting`), in node.config. So a key cannot be readable and
unchecked, or checked and undocumented.

Invariants:
  Nothing is raised for what a person wrote. Each problem is appended as
  (key, what is wrong), the field keeps its default, and reading goes on: a bad
  file is complained about once, whole.
  An unknown key is a problem, never ignored: a misspelt limit is no limit.

A crash leaves nothing behind: nothing is written here.

Does not do: open files, know defaults, judge one key by another.

Proved by: tests/node/test_config.py
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

__all__ = [
    "Problems",
    "apply_overrides",
    "bounds_problems",
    "read_section",
    "setting",
    "unknown_key",
]

Problems = list[tuple[str, str]]
"""(key, what is wrong with it), in the order they were found."""

SectionT = TypeVar("SectionT")

_TYPE_NAMES = {int: "a whole number", bool: "true or false", str: "text", Path: "a path (text)"}


def setting(
    default: Any = dataclasses.MISSING,
    *,
    low: int | None = None,
    high: int | None = None,
    choices: Sequence[str] = (),
    secret: bool = False,
) -> Any:
    """A field of a section: its default, and what else may stand there.

    Args:
        low, high: the least and the greatest value, both allowed.
        choices: the words that may stand there.
        secret: kept out of repr(), and so out of logs and tracebacks.
    """
    return dataclasses.field(
        default=default,
        repr=not secret,
        metadata={"low": low, "high": high, "choices": tuple(choices)},
    )


def unknown_key(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Why an unknown key was refused, with the known one that it looks like."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"unknown key; did you mean {prefix}{close[0]}?" if close else "unknown key"


def read_section(
    section: type[SectionT], table: object, name: str, problems: Problems
) -> SectionT | None:
    """Make a `section` of a TOML table; None when a field without a default is missing or bad."""
    if not isinstance(table, Mapping):
        problems.append((name, f"must be a table: write [{name}]"))
        table = {}
    hints = typing.get_type_hints(section)
    fields = {field.name: field for field in dataclasses.fields(section)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            problems.append((f"{name}.{key}", unknown_key(key, fields, f"{name}.")))
    values: dict[str, Any] = {}
    whole = True
    for key, field in fields.items():
        required = field.default is dataclasses.MISSING
        if key not in table:
            if required:
                problems.append((f"{name}.{key}", "is missing"))
                whole = False
            continue
        value, problem = _convert(table[key], hints[key])
        if problem is None:
            values[key] = value
        else:
            problems.append((f"{name}.{key}", problem))
            whole = whole and not required
    return section(**values) if whole else None


def bounds_problems(section: object, name: str) -> Problems:
    """What the fields of a section say of themselves: least, greatest, allowed words."""
    problems: Problems = []
    for field in dataclasses.fields(section):  # type: ignore[arg-type]
        value, rules = getattr(section, field.name), field.metadata
        low, high, choices = rules.get("low"), rules.get("high"), rules.get("choices")
        if low is not None and value < low:
            problems.append((f"{name}.{field.name}", f"is {value}, must be at least {low}"))
        elif high is not None and value > high:
            problems.append((f"{name}.{field.name}", f"is {value}, must be at most {high}"))
        elif choices and value not in choices:
            problems.append(
                (f"{name}.{field.name}", f"is {value!r}, must be one of {', '.join(choices)}")
            )
    return problems


def apply_overrides(
    document: dict[str, Any],
    overrides: Sequence[str],
    sections: Mapping[str, type],
    problems: Problems,
) -> None:
    """Put `section.key=value` words over what the file says. The field's type reads the value."""
    for word in overrides:
        key, equals, text = word.partition("=")
        name, dot, field_name = key.strip().partition(".")
        if not equals or not dot:
            problems.append((word, "must look like section.key=value"))
            continue
        if name not in sections:
            problems.append((key, unknown_key(name, sections)))
            continue
        hint = typing.get_type_hints(sections[name]).get(field_name)
        if hint is None:
            known = [field.name for field in dataclasses.fields(sections[name])]
            problems.append((key, unknown_key(field_name, known, f"{name}.")))
            continue
        table = document.setdefault(name, {})
        if isinstance(table, dict):  # Otherwise read_section says what is wrong with it.
            table[field_name] = _from_word(text.strip(), hint)


def _from_word(text: str, hint: Any) -> object:
    """The value of a --set word; left as text where it is none, so that _convert complains."""
    if hint in (int, bool):
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text
    return text


def _convert(value: object, hint: Any) -> tuple[Any, str | None]:
    """(value of the field's type, None), or (None, what is wrong)."""
    if hint is Path and isinstance(value, str) and value:
        return Path(value), None
    # NB: bool is an int to isinstance; `entries = true` must not become 1.
    if hint in _TYPE_NAMES and type(value) is hint:
        return value, None
    if hint not in _TYPE_NAMES:  # A field of a type of node.config: it reads text by itself.
        try:
            return hint.parse(value), None
        except ValueError as error:
            return None, str(error)
    return None, f"is {value!r}, must be {_TYPE_NAMES[hint]}"
