"""What is promised of the nodes themselves: terms, leaders, digests, deaths, coming back.

    terms        a node's term never falls, through restarts; one leader in each term
    nodes        nobody ended by itself (exit code 70, a crash), but on a broken disk or removed
    digests      left alone, all replicas come to the same applied index, and to the same state
    liveness     after everything is healed a write is acknowledged within bounds.heal_ms
    write gap    no longer than bounds.write_gap_ms without an acknowledged write (if promised)

Proved by: tests/lab/test_checks.py
"""

from __future__ import annotations

from node.lab.checks import Observed, Verdict, verdict
from node.lab.events import Event
from node.lab.linear import BROKEN, UNDECIDED, VALID
from node.lab.outage import WRITES, Outage

__all__ = ["judge_nodes", "write_gap"]


def judge_nodes(observed: Observed) -> list[Verdict]:
    """All of them that there is material for."""
    found = []
    if any(event["event"] == "role" for event in observed.events):
        found += [_terms(observed.events), _nodes(observed)]
    if observed.digests is not None:
        found.append(_digests(observed.digests))
    found.append(_liveness(observed))
    return found


def _terms(events: list[Event]) -> Verdict:
    problems, terms, leaders = [], dict[str, int](), dict[int, str]()
    for event in sorted(events, key=lambda each: int(each["at_us"])):
        if event["event"] != "role":
            continue
        node, term = event["node"], event["term"]
        if term < terms.get(node, 0):
            problems.append(f"{node}: term {term} after {terms[node]}")
        terms[node] = max(term, terms.get(node, 0))
        if event["role"] == "leader" and leaders.setdefault(term, node) != node:
            problems.append(f"two leaders in term {term}: {leaders[term]} and {node}")
    text = f"up to {max(terms.values(), default=0)}, {len(leaders)} leaders, never two in one"
    return verdict("terms", problems, text)


def _nodes(observed: Observed) -> Verdict:
    """A node may end by a signal or with code 0; with 70 only when its disk was broken, or when it
    was removed."""
    broken = {
        node
        for record in observed.records
        if record["kind"] in ("io_error", "member")
        for node in record["nodes"]
    }
    fatal = [each for each in observed.events if each["event"] == "fatal"]
    problems = [
        f"{each['node']} ended with code {each['code']}"
        for each in observed.events
        if each["event"] == "ended"
        and each["code"] not in (0, -9, -15)
        and not (each["code"] == 70 and each["node"] in broken)
    ]
    if problems:
        problems += [f"{each['node']}: {each.get('reason')}" for each in fatal]
    starts = sum(each["event"] == "started" for each in observed.events)
    return verdict("nodes", problems, f"{starts} starts, no node ended by itself")


def _digests(digests: dict[str, list[object]]) -> Verdict:
    indexes = {digest[0] for digest in digests.values()}
    lines = [f"{node}: {digest[0]} {digest[1]}" for node, digest in sorted(digests.items())]
    if len(indexes) != 1:
        # They were given seconds without any load: whoever is behind now is not catching up.
        return Verdict("digests", BROKEN, "the nodes do not come to the same index", lines)
    if len({digest[1] for digest in digests.values()}) != 1:
        return Verdict("digests", BROKEN, f"different states at index {indexes.pop()}", lines)
    return Verdict("digests", VALID, f"equal on {len(digests)} nodes at index {indexes.pop()}")


def _liveness(observed: Observed) -> Verdict:
    if observed.heal_us is None:
        return Verdict("liveness", VALID, "nothing was broken")
    after = [
        each.end_us - observed.heal_us
        for each in observed.operations
        if each.op in WRITES and each.is_ok and each.end_us > observed.heal_us
    ]
    bound = observed.bounds.heal_ms
    if not after:
        return Verdict("liveness", BROKEN, "no write was acknowledged after everything was healed")
    first_ms = min(after) / 1000
    text = f"a write was acknowledged {first_ms:.0f} ms after healing (bound {bound:.0f} ms)"
    return Verdict("liveness", VALID if first_ms <= bound else BROKEN, text)


def write_gap(outages: list[Outage], bound_ms: float) -> Verdict | None:
    """Whether writes were away for longer than was promised."""
    if not bound_ms:
        return None
    gaps = [each.longest_gap_ms for each in outages if each.longest_gap_ms is not None]
    if not gaps:
        return Verdict("write gap", UNDECIDED, "no outage could be measured")
    text = f"at most {max(gaps):.0f} ms without a write (bound {bound_ms:.0f} ms)"
    return Verdict("write gap", VALID if max(gaps) <= bound_ms else BROKEN, text)
