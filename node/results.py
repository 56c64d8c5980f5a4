"""Results of batches as bytes, for the one case in which they travel (node.outcomes). Pure.

    results of a batch   [True, 7, b"old", None, Refusal(...), Fetched(...), [True, None]]
    bytes                msgpack; what it has no word for is an extension:
                           1  [class, field, ...]   Refusal, Fetched, Record
                           2  a tuple

Every value that comes in is checked against the types that a rule may answer with
(statemachine.refusals.Result): a peer's bytes become nothing else. The classes are those that are
named there, so a rule that answers with a new one needs nothing here.

Does not do: know batches or peers.

Proved by: tests/node/test_outcomes.py
"""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, Final

import msgpack

from statemachine import refusals
from statemachine.layer import Record
from statemachine.refusals import Refusal, Result

__all__ = ["decode_results", "encode_results", "size_of"]

_OBJECT, _TUPLE = 1, 2
_DEPTH_MAX: Final = 8
_CLASSES: Final = {
    each.__name__: each
    for each in (*typing.get_args(Result), Record)
    if isinstance(each, type) and dataclasses.is_dataclass(each)
}
_HINTS: Final = {
    name: list(typing.get_type_hints(each, {**vars(refusals), "Record": Record}).values())
    for name, each in _CLASSES.items()
}


def encode_results(results: list[Result]) -> bytes | None:
    """The bytes; None when there is something in them that no rule answers with."""
    try:
        return _pack(results)
    except (TypeError, ValueError, OverflowError):
        return None


def _pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, default=_extend, strict_types=True, use_bin_type=True)
    return packed


def _extend(value: object) -> msgpack.ExtType:
    if type(value) is tuple:
        return msgpack.ExtType(_TUPLE, _pack(list(value)))
    name = type(value).__name__
    if _CLASSES.get(name) is not type(value):
        raise TypeError(f"no rule answers with a {name}")
    fields = [getattr(value, each.name) for each in dataclasses.fields(_CLASSES[name])]
    return msgpack.ExtType(_OBJECT, _pack([name, *fields]))


def decode_results(data: bytes) -> list[Result]:
    """The results.

    Raises:
        ValueError: these are none.
    """
    results = _unpack(data, _DEPTH_MAX)
    if type(results) is not list or not all(_fits(each, Result) for each in results):
        raise ValueError("these are no results")
    return results


def _unpack(data: bytes, depth: int) -> Any:
    if depth == 0:
        raise ValueError("nested too deeply")

    def extended(code: int, inner: bytes) -> object:
        value = _unpack(inner, depth - 1)
        if type(value) is not list or code not in (_OBJECT, _TUPLE):
            raise ValueError("an unknown extension")
        return tuple(value) if code == _TUPLE else _object(value)

    try:
        return msgpack.unpackb(data, ext_hook=extended, raw=False, strict_map_key=True)
    except (msgpack.UnpackException, TypeError) as error:
        raise ValueError(f"not msgpack: {error}") from error


def _object(value: list[Any]) -> object:
    name, fields = (value or [None])[0], value[1:]
    if type(name) is not str or name not in _CLASSES:
        raise ValueError("an unknown class")
    hints = _HINTS[name]
    if len(fields) != len(hints) or not all(map(_fits, fields, hints)):
        raise ValueError(f"not the fields of a {name}")
    return _CLASSES[name](*fields)


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of this type; the types that results are made of, no others."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, typing.ForwardRef | str):
        return _fits(value, Result)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, each) for each in arguments)
    if origin is list:
        return type(value) is list and all(_fits(each, arguments[0]) for each in value)
    if origin is tuple:
        return type(value) is tuple and all(_fits(each, arguments[0]) for each in value)
    if origin is dict:
        return type(value) is dict and all(
            _fits(key, arguments[0]) and _fits(each, arguments[1]) for key, each in value.items()
        )
    return type(value) is (hint or types.NoneType)


def size_of(results: list[Result]) -> int:
    """About how many bytes of memory they keep alive. Quick for those of plain writes."""
    size_bytes = 64 + 8 * len(results)
    if results.count(True) != len(results):
        size_bytes += sum(map(_bytes_of, results))
    return size_bytes


def _bytes_of(value: object) -> int:
    if type(value) is bytes:
        return len(value)
    if type(value) is bool or type(value) is int or value is None:
        return 32
    if type(value) is list or type(value) is tuple:
        return 64 + sum(map(_bytes_of, value))
    if type(value) is dict:
        return 64 + sum(len(key) + _bytes_of(each) for key, each in value.items())
    if type(value) is Refusal:
        return 128
    fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
    return 128 + sum(_bytes_of(getattr(value, each.name)) for each in fields)
