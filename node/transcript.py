"""Transcripts: a whole store as lines of JSON, for people, other programs and other stores.

    {"trimaran": "export", "format": 2, "revision": 57, "clock_ms": 1764034000123, "keys": 3}
    {"lease": 7, "ttl_ms": 10000, "deadline_ms": 1764034009000}
    {"key": "greeting", "value": "hello", "created": 41, "modified": 57}
    {"key": "session", "value_base64": "AP+A", "deadline_ms": 1764034030000, "created": ...}
    {"key": "worker", "value": "1", "lease": 7, "deadline_ms": 1764034009000, "created": ...}
    {"end": 4, "sha256": "..."}                lines between, and of every byte before this line

What is UTF-8 stands as text, anything else in base64 under key_base64 or value_base64; keys in
order of their bytes. `deadline_ms` is absolute, on the clock that `clock_ms` is of (the leader's).
`created` and `modified` are of the cluster that was exported; importing gives new ones. Leases
stand before all keys; with a prefix only those that have a key in it. What its time is over for is
left out. Format 1 knew no leases, and is read.

Invariants: any bytes come back as they were; a transcript that was cut, joined or edited is
refused whole (count and SHA-256 at its end), before anything of it is used.

Does not do: files, nodes (node.cli_keep).

Proved by: tests/node/test_transcript.py
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from node.errors import Rejected
from statemachine.image import Image
from statemachine.store import Store

__all__ = ["LeaseRow", "Row", "check", "lines", "rows"]

_FORMAT: Final = 2


@dataclass(frozen=True, slots=True)
class Row:
    """One key."""

    key: bytes
    value: bytes
    deadline_ms: int | None = None
    lease: int | None = None
    """The id of the lease that it hangs on, whose deadline this is."""


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """One lease that holds keys."""

    id: int
    ttl_ms: int
    deadline_ms: int


def lines(image: Image, prefix: bytes = b"") -> Iterator[bytes]:
    """The transcript of a state, of the keys that begin with `prefix`, and of their leases."""
    store = Store()  # which knows what a deadline is, and a lease of many keys
    store.restore(image.parts)
    leases = store.grants.page(0, len(image.parts.grants.by_serial), store.clock_ms)
    keys = [
        key
        for key in image.parts.columns.order
        if key.startswith(prefix) and store.facts(key) is not None
    ]
    if prefix:
        used = {record.lease for key in keys if (record := store.facts(key)) is not None}
        leases = [lease for lease in leases if lease.id in used]
    sha256 = hashlib.sha256()

    def line(fields: dict[str, Any]) -> bytes:
        data = json.dumps(fields).encode() + b"\n"
        sha256.update(data)
        return data

    head = {"revision": image.last.index, "clock_ms": image.parts.clock_ms, "keys": len(keys)}
    yield line({"trimaran": "export", "format": _FORMAT} | head)
    for lease in leases:
        times = {"ttl_ms": lease.ttl_ms, "deadline_ms": lease.deadline_ms}
        yield line({"lease": lease.id} | times)
    for key in keys:
        record = store.facts(key)
        assert record is not None
        fields = _shown("key", key) | _shown("value", record.value)
        if record.lease:
            fields["lease"] = record.lease
        if record.deadline_ms is not None:
            fields["deadline_ms"] = record.deadline_ms
        yield line(fields | {"created": record.created, "modified": record.modified})
    yield line({"end": len(leases) + len(keys), "sha256": sha256.hexdigest()})


def _shown(name: str, data: bytes) -> dict[str, Any]:
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def check(transcript: Iterable[bytes]) -> int:
    """Read all lines; how many leases and keys they hold.

    Raises: Rejected: they are not, all of them, what `lines` gave.
    """
    sha256, count, end = hashlib.sha256(), -1, None
    for number, line in enumerate(transcript, 1):
        if end is not None:
            raise Rejected(f"line {number}: there is something behind the end")
        if line.startswith(b'{"end"'):
            end = _parsed(line, number)
        else:
            sha256.update(line)
            count += 1
            if number == 1:
                _check_head(_parsed(line, number))
    if end is None:
        raise Rejected("it has no end: it was cut short")
    if end.get("end") != count or end.get("sha256") != sha256.hexdigest():
        raise Rejected("it is not as it was written: its count or its SHA-256 differs")
    return count


def _check_head(head: dict[str, Any]) -> None:
    if head.get("trimaran") != "export" or not isinstance(head.get("format"), int):
        raise Rejected("line 1: it is no transcript of `trimaran export`")
    if head["format"] > _FORMAT:
        raise Rejected(f"format {head['format']} is newer than this version ({_FORMAT})")


def rows(transcript: Iterable[bytes]) -> Iterator[LeaseRow | Row]:
    """The leases and keys of lines that were checked.

    Raises: Rejected: a line is neither after all, or a key hangs on no lease before it.
    """
    leases: set[int] = set()
    for number, line in enumerate(transcript, 1):
        if number == 1 or line.startswith(b'{"end"'):
            continue
        fields = _parsed(line, number)
        lease = _integer(fields, "lease", number)
        deadline_ms = _integer(fields, "deadline_ms", number)
        ttl_ms = _integer(fields, "ttl_ms", number)
        if lease is not None and ttl_ms is not None and deadline_ms is not None:
            leases.add(lease)
            yield LeaseRow(lease, ttl_ms, deadline_ms)
            continue
        if lease is not None and lease not in leases:
            raise Rejected(f"line {number}: lease {lease} is not before it")
        key, value = _bytes(fields, "key", number), _bytes(fields, "value", number)
        yield Row(key, value, deadline_ms, lease)


def _parsed(line: bytes, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Rejected(f"line {number}: no JSON: {error}") from error
    if not isinstance(found, dict):
        raise Rejected(f"line {number}: no JSON object")
    return found


def _bytes(fields: dict[str, Any], name: str, number: int) -> bytes:
    text, coded = fields.get(name), fields.get(f"{name}_base64")
    if isinstance(text, str) and coded is None:
        return text.encode()
    if isinstance(coded, str) and text is None:
        try:
            return base64.b64decode(coded, validate=True)
        except ValueError as error:
            raise Rejected(f"line {number}: {name}_base64: {error}") from error
    raise Rejected(f"line {number}: has no {name}")


def _integer(fields: dict[str, Any], name: str, number: int) -> int | None:
    found = fields.get(name)
    if found is not None and type(found) is not int:
        raise Rejected(f"line {number}: {name} is no integer")
    return found
