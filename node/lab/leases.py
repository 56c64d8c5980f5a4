"""Leases: a key is never gone early, never there too late; a lock is never held twice.

    early     a read that found nothing, though it ended before  start + ttl - early_ms
    late      a read that found the key, though it began after   end + ttl + late_ms
    tokens    a fencing token that two holders were given, or one smaller than an earlier one
    overlap   two holders whose certain times of holding overlap: from the acknowledgement of the
              acquire to the earlier of  start of it + ttl - early_ms  and start of the release

The times are the client's: start before the server can have begun, end after it is done,
so nothing that a sound server does can be called early.

Proved by: tests/lab/test_checks.py
"""

from __future__ import annotations

import itertools

from node.lab.checks import Observed, Verdict, verdict
from node.lab.history import UNKNOWN, Operation
from node.lab.linear import UNDECIDED, by_key

__all__ = ["judge_leases"]


def judge_leases(observed: Observed) -> list[Verdict]:
    """The checks of the workloads ttl and lock."""
    kind = observed.workload.kind
    if kind == "ttl":
        return [_leases(observed)]
    return [_tokens(observed), _overlaps(observed)] if kind == "lock" else []


def _leases(observed: Observed) -> Verdict:
    early_us = observed.bounds.early_ms * 1000
    late_us = observed.bounds.late_ms * 1000
    problems, looked, latest_ms = [], 0, 0.0
    for own in by_key(observed.operations).values():
        lease = next((each for each in own if each.op == "lease"), None)
        if lease is None or not lease.is_ok:
            continue
        ttl_us = lease.value * 1000
        for read in own:
            if read.op != "read" or not read.is_ok or read.start_us < lease.end_us:
                continue
            looked += 1
            if read.result is None and read.end_us < lease.start_us + ttl_us - early_us:
                problems.append(f"early: {lease.show()}; {read.show()}")
            if read.result is not None:
                over_us = read.start_us - lease.end_us - ttl_us
                latest_ms = max(latest_ms, over_us / 1000)
                if over_us > late_us:
                    problems.append(f"late: {lease.show()}; {read.show()}")
    if not looked:
        return Verdict("leases", UNDECIDED, "no leases were looked at")
    text = f"{looked} looks, never early, at most {latest_ms:.0f} ms late"
    return verdict("leases", problems, text)


def _tokens(observed: Observed) -> Verdict:
    problems, given = [], 0
    for own in by_key(each for each in observed.operations if each.op == "fence").values():
        told = [each for each in own if each.is_ok]
        given += len(told)
        latest: Operation | None = None  # of the smaller tokens, the one asked for last
        before: Operation | None = None
        for each in sorted(told, key=_token):
            if before is not None and _token(before) == _token(each):
                problems.append(f"given twice: {before.show()}; {each.show()}")
            elif latest is not None and each.end_us < latest.start_us:
                problems.append(f"not growing: {each.show()}; {latest.show()}")
            if latest is None or each.start_us > latest.start_us:
                latest = each
            before = each
    if not given:
        return Verdict("fencing tokens", UNDECIDED, "none was given")
    return verdict("fencing tokens", problems, f"{given} tokens, each once and growing")


def _token(operation: Operation) -> int:
    return int(operation.result)


def _overlaps(observed: Observed) -> Verdict:
    problems, held = [], 0
    for key, own in by_key(observed.operations).items():
        releases = {each.value: each for each in own if each.op == "release"}
        holds = []
        for each in own:
            if each.op != "acquire" or each.outcome == UNKNOWN or not each.result:
                continue
            token, ttl_ms = each.value
            until_us = each.start_us + ttl_ms * 1000 - observed.bounds.early_ms * 1000
            if token in releases:
                until_us = min(until_us, releases[token].start_us)
            holds.append((each.end_us, until_us, each))
        holds.sort(key=lambda hold: hold[0])
        held += len(holds)
        for (_, until_us, first), (from_us, _, second) in itertools.pairwise(holds):
            if from_us < until_us and second.start_us > first.end_us:
                problems.append(f"{key} held twice: {first.show()}; {second.show()}")
    if not held:
        return Verdict("lock", UNDECIDED, "nobody held it")
    return verdict("lock", problems, f"held {held} times, never by two")
