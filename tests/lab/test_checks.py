"""The other checks, one small history each: kept, broken, not decided."""

from __future__ import annotations

from typing import Any

import pytest

from node.lab.checks import Observed, Verdict, judge
from node.lab.config import Bounds, WorkloadConfig
from node.lab.history import FAIL, OK, UNKNOWN, Operation
from node.lab.leases import judge_leases
from node.lab.linear import BROKEN, UNDECIDED, VALID
from node.lab.nodechecks import judge_nodes, write_gap
from node.lab.outage import Outage


def op(
    op: str,
    value: Any,
    start: int,
    end: int,
    result: Any = None,
    *,
    key: str = "k",
    outcome: str = OK,
    level: str = "",
) -> Operation:
    return Operation(op, start, "n1", key, value, start, end, outcome, result, level=level)


def verdicts(kind: str, operations: list[Operation], **seen: Any) -> dict[str, str]:
    workload = WorkloadConfig(kind=kind, claim=seen.pop("claim", ""))
    observed = Observed(workload, Bounds(early_ms=0, late_ms=10), operations, **seen)
    found: list[Verdict] = [*judge(observed), *judge_leases(observed)]
    return {each.name: each.verdict for each in found}


OLD = [
    op("write", "a", 0, 10),
    op("write", "b", 20, 30),
    op("read", None, 40, 50, "a"),
]


def test_a_stale_read_is_judged_by_what_its_level_promises() -> None:
    assert verdicts("register", OLD) == {"linearizable": BROKEN, "stale (linearizable)": BROKEN}
    eventual = [*OLD[:2], op("read", None, 40, 50, "a", level="eventual")]
    assert verdicts("register", eventual) == {"linearizable": VALID, "stale (eventual)": VALID}
    lease = [*OLD[:2], op("read", None, 40, 50, "a", level="lease")]
    assert verdicts("register", lease) == {"linearizable": BROKEN, "stale (lease)": BROKEN}
    assert verdicts("register", OLD, claim="eventual")["stale (eventual)"] == VALID


def test_a_read_beside_the_write_is_not_stale() -> None:
    beside = [*OLD[:2], op("read", None, 29, 50, "a")]
    assert verdicts("register", beside) == {"linearizable": VALID, "stale (linearizable)": VALID}


@pytest.mark.parametrize(
    ("operations", "want"),
    [
        ([op("add", 1, 0, 1, 1), op("add", 1, 2, 3, 2)], VALID),
        ([op("add", 1, 0, 1, 1), op("add", 1, 2, 3, 3)], BROKEN),  # applied twice
        ([op("add", 1, 0, 1, 1), op("add", 1, 2, 3, 1)], BROKEN),  # lost
        ([op("add", 1, 0, 1, outcome=UNKNOWN), op("add", 1, 2, 3, 2)], VALID),
        ([op("add", 1, 0, 1, outcome=FAIL), op("add", 1, 2, 3, 2)], BROKEN),
        ([], UNDECIDED),
    ],
)
def test_sums(operations: list[Operation], want: str) -> None:
    assert verdicts("counter", operations)["sums"] == want


@pytest.mark.parametrize(
    ("add", "found", "want"),
    [
        (OK, "v", VALID),
        (OK, None, BROKEN),
        (OK, "w", BROKEN),
        (FAIL, None, VALID),
        (FAIL, "v", BROKEN),
        (UNKNOWN, None, VALID),
        (UNKNOWN, "v", VALID),
    ],
)
def test_unique_writes(add: str, found: str | None, want: str) -> None:
    operations = [op("add", "v", 0, 1, outcome=add), op("final", ["k"], 2, 3, [found])]
    assert verdicts("set", operations) == {"unique writes": want}
    assert verdicts("set", operations[:1]) == {"unique writes": UNDECIDED}


@pytest.mark.parametrize(
    ("shown", "want"),
    [("a,b", VALID), ("a,b,b", BROKEN), ("b,a", BROKEN), ("a", BROKEN)],
)
def test_lists(shown: str, want: str) -> None:
    operations = [
        op("cas", [None, "a"], 0, 1, True),
        op("cas", ["a", "a,b"], 2, 3, True),
        op("read", None, 1, 2, "a"),
        op("read", None, 10, 11, shown),
    ]
    assert verdicts("append", operations)["lists"] == want


def test_leases_are_never_early_and_never_late() -> None:
    lease = op("lease", 100, 0, 5_000)
    for read, want in (
        (op("read", None, 50_000, 60_000, "x"), VALID),
        (op("read", None, 98_000, 101_000, None), VALID),
        (op("read", None, 98_000, 99_000, None), BROKEN),
        (op("read", None, 114_000, 115_000, "x"), VALID),
        (op("read", None, 116_000, 117_000, "x"), BROKEN),
    ):
        assert verdicts("ttl", [lease, read]) == {"leases": want}, read.show()
    assert verdicts("ttl", [lease]) == {"leases": UNDECIDED}


def test_locks_and_fencing_tokens() -> None:
    held = op("acquire", ["t1", 100], 0, 1_000, True)
    later = op("acquire", ["t2", 100], 101_000, 102_000, True)
    inside = op("acquire", ["t2", 100], 50_000, 51_000, True)
    freed = op("release", "t1", 20_000, 21_000, True)

    def fence(token: str, start: int, number: int) -> Operation:
        return op("fence", token, start, start + 1_000, number, key="f")

    tokens = [fence("t1", 2_000, 1), fence("t2", 4_000, 2)]
    same = [fence("t1", 2_000, 1), fence("t2", 4_000, 1)]
    falling = [fence("t1", 2_000, 2), fence("t2", 4_000, 1)]
    assert verdicts("lock", [held, later, *tokens]) == {"fencing tokens": VALID, "lock": VALID}
    assert verdicts("lock", [held, inside, *same]) == {"fencing tokens": BROKEN, "lock": BROKEN}
    assert verdicts("lock", [held, inside, freed, *falling]) == {
        "fencing tokens": BROKEN,
        "lock": VALID,
    }


def event(at_us: int, node: str, what: str, **fields: object) -> dict[str, object]:
    return {"at_us": at_us, "node": node, "event": what, **fields}


def node_verdicts(events: list[dict[str, object]], **seen: Any) -> dict[str, str]:
    observed = Observed(WorkloadConfig(), Bounds(heal_ms=1.0), seen.pop("operations", []), events)
    for name, value in seen.items():
        setattr(observed, name, value)
    return {each.name: each.verdict for each in judge_nodes(observed)}


def test_terms_and_leaders() -> None:
    leads = event(1, "n1", "role", role="leader", term=2)
    assert node_verdicts([leads])["terms"] == VALID
    falls = event(2, "n1", "role", role="follower", term=1)
    assert node_verdicts([leads, falls])["terms"] == BROKEN
    second = event(2, "n2", "role", role="leader", term=2)
    assert node_verdicts([leads, second])["terms"] == BROKEN


def test_a_node_ends_by_itself_only_when_its_disk_was_broken() -> None:
    role = event(0, "n1", "role", role="leader", term=2)
    for code, want in ((0, VALID), (-9, VALID), (-15, VALID), (70, BROKEN), (1, BROKEN)):
        assert node_verdicts([role, event(1, "n1", "ended", code=code)])["nodes"] == want
    broken = [{"kind": "io_error", "nodes": ["n1"]}]
    ended = [role, event(1, "n1", "ended", code=70)]
    assert node_verdicts(ended, records=broken)["nodes"] == VALID


def test_digests_and_liveness() -> None:
    assert node_verdicts([], digests={"n1": [5, "a"], "n2": [5, "a"]})["digests"] == VALID
    assert node_verdicts([], digests={"n1": [5, "a"], "n2": [5, "b"]})["digests"] == BROKEN
    assert node_verdicts([], digests={"n1": [5, "a"], "n2": [6, "b"]})["digests"] == BROKEN
    for end_us, want in ((10_900, VALID), (11_100, BROKEN), (9_000, BROKEN)):
        writes = [op("write", "a", 0, end_us)]
        assert node_verdicts([], operations=writes, heal_us=10_000)["liveness"] == want


def test_a_promised_write_gap() -> None:
    outage = Outage("kill", ["n1"], 100, longest_gap_ms=300.0)
    for bound, want in ((400.0, VALID), (200.0, BROKEN)):
        gap = write_gap([outage], bound)
        assert gap is not None
        assert gap.verdict == want
    assert write_gap([outage], 0.0) is None
