"""Every promise but linearizability, each judged by itself on one history.

    judge(observed) -> [Verdict(name, valid | broken | unknown, one line, evidence)]

    linearizable        node.lab.linear, on all operations but reads at level "eventual"
    stale reads         a read whose value was certainly overwritten before it began (counted for
                        each level; broken where the level forbids it)
    unique writes       acknowledged and gone, refused and there                     (set)
    sums                what a counter shows lies between what was and may have been added
    bank                the money is the same at every look
    lists               every acknowledged element once, in the same order for everybody
    leases, locks       node.lab.leases
    scan                every key that was there all the while was found; none made up
    nodes, terms, digests, liveness    node.lab.nodechecks

Each check says `valid` only of what it has looked at: one without any material is `unknown`.

Proved by: tests/lab/test_checks.py
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from node.lab.config import Bounds, WorkloadConfig
from node.lab.events import Event
from node.lab.history import FAIL, OK, UNKNOWN, Operation
from node.lab.linear import BROKEN, UNDECIDED, VALID, by_key, check
from node.lab.models import MODELS
from node.lab.shrink import minimal

__all__ = ["EVIDENCE_MAX", "Observed", "Verdict", "judge", "verdict"]

EVIDENCE_MAX: Final = 12


@dataclass
class Verdict:
    """One promise, and whether it was kept."""

    name: str
    verdict: str
    text: str
    evidence: list[str] = field(default_factory=list)


@dataclass
class Observed:
    """All that was seen of one run."""

    workload: WorkloadConfig
    bounds: Bounds
    operations: list[Operation]
    events: list[Event] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    heal_us: int | None = None
    """When everything was healed; None: nothing was broken."""
    digests: dict[str, list[Any]] | None = None
    bank_total: int = 0


def verdict(name: str, problems: list[str], text: str) -> Verdict:
    """Broken with the first problems as evidence, else valid."""
    if problems:
        return Verdict(name, BROKEN, f"{len(problems)} times: {text}", problems[:EVIDENCE_MAX])
    return Verdict(name, VALID, text)


def judge(observed: Observed) -> list[Verdict]:
    """All checks that the workload has material for."""
    kind = observed.workload.kind
    found = []
    if kind in ("register", "append"):
        found += [_linearizable(observed, "register"), *_stale(observed)]
    if kind == "counter":
        found += [_linearizable(observed, "counter"), _sums(observed)]
    checks: dict[str, Callable[[Observed], Verdict]] = {
        "append": _lists,
        "set": _unique_writes,
        "bank": _bank,
        "scan": _scan,
    }
    if kind in checks:
        found.append(checks[kind](observed))
    return found


def level_of(operation: Operation, workload: WorkloadConfig) -> str:
    """What a read promised."""
    return operation.level or workload.claim or "linearizable"


def _linearizable(observed: Observed, model_name: str) -> Verdict:
    model = MODELS[model_name]
    operations = [
        each
        for each in observed.operations
        if each.op != "read" or level_of(each, observed.workload) != "eventual"
    ]
    answer = check(operations, model)
    if answer.verdict == BROKEN:
        assert answer.culprit is not None
        proof = minimal(by_key(operations)[answer.key], model, answer.culprit)
        return Verdict(
            "linearizable",
            BROKEN,
            f"key {answer.key}: the answer to the last of these is impossible",
            [each.show() for each in proof[-40:]],
        )
    if answer.verdict == UNDECIDED:
        text = f"too many possibilities on {', '.join(answer.undecided)}"
        return Verdict("linearizable", UNDECIDED, text)
    if answer.operations_count == 0:
        return Verdict("linearizable", UNDECIDED, "no operations")
    text = f"{answer.operations_count} operations on {answer.keys_count} keys"
    return Verdict("linearizable", VALID, text)


def _stale(observed: Observed) -> list[Verdict]:
    """For each level: reads whose value was overwritten before they began."""
    counts: dict[str, int] = {}
    stale: dict[str, list[str]] = {}
    oldest_ms: dict[str, float] = {}
    for own in by_key(observed.operations).values():
        changes = [each for each in own if each.op == "write" or (each.op == "cas" and _told(each))]
        makers = {_made(each): each for each in changes}
        done = sorted((each for each in changes if each.is_ok), key=lambda each: each.end_us)
        ends = [each.end_us for each in done]
        # Of all changes that ended until then, the one that started last.
        latest = list(itertools.accumulate((each.start_us for each in done), max))
        for read in own:
            if read.op != "read" or not read.is_ok:
                continue
            level = level_of(read, observed.workload)
            counts[level] = counts.get(level, 0) + 1
            place = bisect.bisect_left(ends, read.start_us)
            maker = makers.get(read.result)
            made_us = -1 if read.result is None else maker.end_us if maker else None
            if made_us is None or (maker is not None and not maker.is_ok) or place == 0:
                continue
            if made_us < latest[place - 1]:
                over = bisect.bisect_right(latest, made_us)
                age_ms = (read.start_us - ends[over]) / 1000 if over < len(ends) else 0.0
                oldest_ms[level] = max(oldest_ms.get(level, 0.0), age_ms)
                stale.setdefault(level, []).append(read.show())
    found = []
    for level, count in sorted(counts.items()):
        some = stale.get(level, [])
        text = f"{len(some)} of {count} reads stale"
        if some:
            text += f", the worst by {oldest_ms[level]:.1f} ms"
        broken = bool(some) and level != "eventual"
        evidence = some[:EVIDENCE_MAX] if broken else []
        found.append(Verdict(f"stale ({level})", BROKEN if broken else VALID, text, evidence))
    return found


def _told(operation: Operation) -> bool:
    return operation.outcome == UNKNOWN or bool(operation.result)


def _made(operation: Operation) -> Any:
    return operation.value if operation.op == "write" else operation.value[1]


def _sums(observed: Observed) -> Verdict:
    """Between what was certainly added before, and what can have been added by then."""
    problems, looked = [], 0
    for own in by_key(observed.operations).values():
        adds = [each for each in own if each.op == "add"]
        done = sorted((each.end_us, each.value) for each in adds if each.is_ok)
        begun = sorted((each.start_us, each.value) for each in adds)
        low = [0, *itertools.accumulate(value for _, value in done)]
        high = [0, *itertools.accumulate(value for _, value in begun)]
        for each in own:
            if not each.is_ok:
                continue
            looked += 1
            least = low[bisect.bisect_left(done, (each.start_us,))]
            least += each.value if each.op == "add" else 0  # its own, at least
            most = high[bisect.bisect_right(begun, (each.end_us, float("inf")))]
            if not least <= each.result <= most:
                problems.append(f"{each.show()}: must be {least} to {most}")
    if not looked:
        return Verdict("sums", UNDECIDED, "no answers")
    return verdict("sums", problems, f"{looked} answers, each within what was added")


def _lists(observed: Observed) -> Verdict:
    """Elements of each list: acknowledged ones once, everybody sees prefixes of one order."""
    problems, elements = [], 0
    for key, own in by_key(observed.operations).items():
        reads = [each for each in own if each.op == "read" and each.is_ok and each.result]
        longest: list[str] = max((each.result.split(",") for each in reads), key=len, default=[])
        elements += len(longest)
        if len(longest) != len(set(longest)):
            problems.append(f"{key}: an element is there twice: {','.join(longest)}")
        for each in reads:
            shown = each.result.split(",")
            if shown != longest[: len(shown)]:
                problems.append(f"{key}: two orders: {each.show()} and {','.join(longest)}")
        last_us = max((each.start_us for each in reads), default=0)
        for each in own:
            if each.op == "cas" and each.is_ok and each.result and each.end_us < last_us:
                element = each.value[1].rpartition(",")[2]
                if element not in longest:
                    problems.append(f"{key}: acknowledged and lost: {each.show()}")
    if not elements:
        return Verdict("lists", UNDECIDED, "no elements")
    return verdict("lists", problems, f"{elements} elements, each once and in one order")


def _unique_writes(observed: Observed) -> Verdict:
    """Keys written once: there, if acknowledged; not there, if refused; whole, if there."""
    adds = {each.key: each for each in observed.operations if each.op == "add"}
    problems, looked, saved = [], 0, 0
    for final in observed.operations:
        if final.op != "final" or not final.is_ok:
            continue
        for key, found in zip(final.value, final.result, strict=True):
            add, looked = adds[key], looked + 1
            if add.outcome == OK and found is None:
                problems.append(f"lost: {add.show()}")
            elif add.outcome == FAIL and found is not None:
                problems.append(f"refused, and there: {add.show()}")
            elif found is not None and found != add.value:
                problems.append(f"holds {found!r}: {add.show()}")
            saved += add.outcome == UNKNOWN and found is not None
    if looked < len(adds) or not looked:
        return Verdict("unique writes", UNDECIDED, f"{looked} of {len(adds)} keys could be read")
    text = f"{looked} keys, none lost; {saved} of unknown outcome are there"
    return verdict("unique writes", problems, text)


def _bank(observed: Observed) -> Verdict:
    looks = [each for each in observed.operations if each.op == "total" and each.is_ok]
    problems = [each.show() for each in looks if sum(each.result) != observed.bank_total]
    if not looks:
        return Verdict("bank", UNDECIDED, "nobody looked")
    return verdict("bank", problems, f"{len(looks)} looks, {observed.bank_total} in all of them")


def _scan(observed: Observed) -> Verdict:
    """SCAN's promise: what is there from its beginning to its end is returned."""
    adds = [each for each in observed.operations if each.op == "add"]
    written = {each.key for each in adds if each.outcome != FAIL}
    done = sorted((each.end_us, each.key) for each in adds if each.is_ok)
    problems, looked = [], 0
    for scan in observed.operations:
        if scan.op != "scan" or not scan.is_ok:
            continue
        looked += 1
        found = set(scan.result)
        there = {key for _, key in done[: bisect.bisect_left(done, (scan.start_us,))]}
        problems += [f"not found by {scan.process}: {key}" for key in sorted(there - found)]
        problems += [f"made up for {scan.process}: {key}" for key in sorted(found - written)]
    if not looked:
        return Verdict("scan", UNDECIDED, "no walk came to its end")
    return verdict("scan", problems, f"{looked} walks over up to {len(done)} keys")
