"""EVAL, EVALSHA, SCRIPT: there is no Lua, but a few scripts that everybody uses run natively.

    redis.lock of redis-py   release: del if it holds the token
                             extend: add to the deadline, or replace it, if it holds the token
                             reacquire: set the deadline if it holds the token
    the Redis documentation  the release script that it prints

A script is known by its words: blanks and line breaks make no difference, so its SHA1 is noted
when it is loaded. Those of redis-py are known from the start, on every node, also after SCRIPT
FLUSH: a lock survives a change of the node without a NOSCRIPT. Each is one operation
of the log, applied at one moment.

Any other script is refused, when it is loaded and when it is run: nothing is half supported.

Proved by: tests/node/test_scripts.py, redis-py's own test_lock.py (scripts/redis_py_suite)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from node.commands.spec import NOT_AN_INTEGER, Plan, parse_integer
from node.commands.strings import number_plan
from node.connection import Connection
from node.replies import OK, bulk, encode, error_line
from node.resp import Request
from statemachine.commands import TIME_MS_MAX, Condition, ExpireCondition, WriteCommand

__all__ = ["eval_", "evalsha", "script_exists", "script_flush", "script_load"]

_Run = Callable[[Connection, bytes, list[bytes]], "bytes | Plan"]

LOADED_MAX: Final = 1_000

_RELEASE: Final = b"""
        local token = redis.call('get', KEYS[1])
        if not token or token ~= ARGV[1] then
            return 0
        end
        redis.call('del', KEYS[1])
        return 1
    """
_EXTEND: Final = b"""
        local token = redis.call('get', KEYS[1])
        if not token or token ~= ARGV[1] then
            return 0
        end
        local expiration = redis.call('pttl', KEYS[1])
        if not expiration then
            expiration = 0
        end
        if expiration < 0 then
            return 0
        end

        local newttl = ARGV[2]
        if ARGV[3] == "0" then
            newttl = ARGV[2] + expiration
        end
        redis.call('pexpire', KEYS[1], newttl)
        return 1
    """
_REACQUIRE: Final = b"""
        local token = redis.call('get', KEYS[1])
        if not token or token ~= ARGV[1] then
            return 0
        end
        redis.call('pexpire', KEYS[1], ARGV[2])
        return 1
    """
_DOCUMENTED_RELEASE: Final = b"""
    if redis.call("get",KEYS[1]) == ARGV[1] then
        return redis.call("del",KEYS[1])
    else
        return 0
    end
"""

_NO_LUA: Final = error_line(
    "ERR this server runs no Lua: only the lock scripts of redis-py and of the Redis documentation"
)
_NO_SCRIPT: Final = error_line("NOSCRIPT No matching script. Please use EVAL.")
_ONE_KEY: Final = error_line("ERR this script takes one key and its arguments")


def _release(connection: Connection, key: bytes, arguments: list[bytes]) -> bytes | Plan:
    if len(arguments) < 1:
        return _ONE_KEY
    operation = WriteCommand.Remove(key=key, condition=Condition.IF_EQUAL, expected=arguments[0])
    connection.batch.add(WriteCommand(remove=operation))
    return number_plan


def _expire(
    connection: Connection, key: bytes, arguments: list[bytes], **how: object
) -> bytes | Plan:
    ttl_ms = parse_integer(arguments[1])
    if ttl_ms is None:
        return NOT_AN_INTEGER
    if abs(ttl_ms) > TIME_MS_MAX // 2:
        return error_line("ERR invalid expire time in 'pexpire' command")
    operation = WriteCommand.Expire(
        key=key,
        ttl_ms=ttl_ms,
        expected=arguments[0],
        **how,  # type: ignore[arg-type]
    )
    connection.batch.add(WriteCommand(expire=operation))
    return number_plan


def _extend(connection: Connection, key: bytes, arguments: list[bytes]) -> bytes | Plan:
    if len(arguments) < 3:
        return _ONE_KEY
    if arguments[2] == b"0":
        return _expire(connection, key, arguments, extend=True)
    return _expire(connection, key, arguments, condition=ExpireCondition.EXPIRE_IF_ANY)


def _reacquire(connection: Connection, key: bytes, arguments: list[bytes]) -> bytes | Plan:
    return _expire(connection, key, arguments) if len(arguments) > 1 else _ONE_KEY


def _words(script: bytes) -> bytes:
    return b" ".join(script.split())


_BY_WORDS: Final[dict[bytes, _Run]] = {
    _words(_RELEASE): _release,
    _words(_EXTEND): _extend,
    _words(_REACQUIRE): _reacquire,
    _words(_DOCUMENTED_RELEASE): _release,
}


def _sha1(script: bytes) -> bytes:
    return hashlib.sha1(script, usedforsecurity=False).hexdigest().encode()


_FROM_THE_START: Final[dict[bytes, _Run]] = {
    _sha1(_RELEASE): _release,
    _sha1(_EXTEND): _extend,
    _sha1(_REACQUIRE): _reacquire,
}


def _load(connection: Connection, script: bytes) -> _Run | None:
    """What the script does, noted under its SHA1; None: it is not known."""
    run = _BY_WORDS.get(_words(script))
    loaded = connection.frontend.scripts
    if run is not None and len(loaded) < LOADED_MAX:
        loaded[_sha1(script)] = script
    return run


def _loaded(connection: Connection, sha1: bytes) -> _Run | None:
    script = connection.frontend.scripts.get(sha1)
    return _FROM_THE_START.get(sha1) if script is None else _BY_WORDS[_words(script)]


def _run(
    connection: Connection, run: _Run | None, unknown: bytes, request: Request
) -> bytes | Plan:
    count = parse_integer(request[2])
    if count is None:
        return NOT_AN_INTEGER
    if count > len(request) - 3:
        return error_line("ERR Number of keys can't be greater than number of args")
    if count < 0:
        return error_line("ERR Number of keys can't be negative")
    if run is None:
        return unknown
    if count != 1:
        return _ONE_KEY
    return run(connection, request[3], request[4:])


def eval_(connection: Connection, request: Request) -> bytes | Plan:
    return _run(connection, _load(connection, request[1]), _NO_LUA, request)


def evalsha(connection: Connection, request: Request) -> bytes | Plan:
    return _run(connection, _loaded(connection, request[1].lower()), _NO_SCRIPT, request)


def script_load(connection: Connection, request: Request) -> bytes:
    return _NO_LUA if _load(connection, request[2]) is None else bulk(_sha1(request[2]))


def script_exists(connection: Connection, request: Request) -> bytes:
    there = [_loaded(connection, sha1.lower()) is not None for sha1 in request[2:]]
    return encode([int(one) for one in there], connection.protocol)


def script_flush(connection: Connection, request: Request) -> bytes:
    if len(request) > 3 or (len(request) == 3 and request[2].upper() not in (b"ASYNC", b"SYNC")):
        return error_line("ERR SCRIPT FLUSH only support SYNC|ASYNC option")
    connection.frontend.scripts.clear()
    return OK
