"""`trimaran member`, and what else asks a running cluster to change: orders to the leader.

    change(cluster, "REMOVE", "n1")    find the leader, ask it; again when it says "later"
    wait_for_vote(cluster, "n4")       until the learner has caught up and votes

A change is asked for until it is so or refused. Asking twice does no harm: what is done already
is seen in the leader's own list, also when the answer to the first question was lost.

A crash in between leaves the cluster as the leader's log has it: ask again.

Does not do: touch files (node.repair), start or stop nodes.

Proved by: tests/cluster/test_members.py
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from node.client import Client, NodeStatus, find_leader, statuses
from node.clock import Clock
from node.config_members import Address, Member, member_text
from node.errors import OutcomeUnknown, Rejected, Unavailable

__all__ = ["Asked", "add", "list_members", "remove", "show_members"]

POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Asked:
    """Which cluster, and how long it may take."""

    addresses: Sequence[Address]
    password: str = ""
    timeout_s: float = 60.0

    def leader(self) -> NodeStatus:
        """Raises: Unavailable when there is none now."""
        leader = find_leader(statuses(self.addresses, self.password))
        if leader is None:
            raise Unavailable("there is no leader now")
        return leader


def list_members(asked: Asked) -> dict[str, Any]:
    """The leader's list; Unavailable when there is no leader."""
    with Client.connect([asked.leader().address], asked.password) as client:
        found: dict[str, Any] = json.loads(client.read("TRI.MEMBER", "LIST"))
        return found


def role_of(found: dict[str, Any], member_id: str) -> str | None:
    """voter, learner, or None: no member."""
    roles = (each["role"] for each in found["members"] if each["id"] == member_id)
    return next(roles, None)


def add(asked: Asked, member: Member, *, wait: bool, say: Callable[[str], None]) -> None:
    """Seat a member; with `wait`, until it votes. Done already is done.

    Raises:
        Rejected: it cannot be had. Unavailable: not within the time.
    """

    def is_done(found: dict[str, Any]) -> bool:
        where = (str(member.client), str(member.peer))
        rows = (each for each in found["members"] if each["id"] == member.id)
        return any((row["client"], row["peer"]) == where for row in rows)

    _change(asked, ("ADD", member.id, member_text(member)), is_done)
    say(f"{member.id} follows as a learner; it votes once it has caught up")
    if wait:
        _until(asked, lambda found: role_of(found, member.id) == "voter", f"{member.id} votes")
        say(f"{member.id} votes")


def remove(asked: Asked, member_id: str, *, say: Callable[[str], None]) -> None:
    """Take a member out. Done already is done.

    Raises:
        Rejected: it cannot be done. Unavailable: not within the time.
    """
    _change(asked, ("REMOVE", member_id), lambda found: role_of(found, member_id) is None)
    say(f"{member_id} is no member any more")


def _change(
    asked: Asked, words: tuple[str, ...], is_done: Callable[[dict[str, Any]], bool]
) -> None:
    """Ask the leader, whoever it is at the time, until it is done or refused."""
    clock, last = Clock(), "there is no leader"
    deadline_s = clock.monotonic() + asked.timeout_s
    while clock.monotonic() < deadline_s:
        try:
            leader = asked.leader()
            with Client.connect([leader.address], asked.password) as client:
                found = json.loads(client.read("TRI.MEMBER", "LIST"))
                if is_done(found) and found["committed"]:
                    return
                client.write("TRI.MEMBER", *words)
                return
        except (Unavailable, OutcomeUnknown) as error:
            last = str(error)
        except Rejected as error:
            if "is not the leader" not in str(error):
                raise
            last = str(error)
        time.sleep(POLL_S)
    raise Unavailable(last)


def _until(asked: Asked, is_so: Callable[[dict[str, Any]], bool], what: str) -> None:
    clock = Clock()
    deadline_s = clock.monotonic() + asked.timeout_s
    while True:
        try:
            if is_so(list_members(asked)):
                return
        except Unavailable:
            pass  # an election: ask again
        if clock.monotonic() > deadline_s:
            raise Unavailable(f"not within {asked.timeout_s:.0f} s: {what}; it may still come")
        time.sleep(POLL_S)


def show_members(found: dict[str, Any]) -> list[str]:
    """The list as lines for a person."""
    lines = [f"{'node':<12} {'role':<8} {'link':<5} {'client':<22} peer"]
    for each in found["members"]:
        link = "up" if each["connected"] else "down"
        lines.append(
            f"{each['id']:<12} {each['role']:<8} {link:<5} {each['client']:<22} {each['peer']}"
        )
    if not found["committed"]:
        lines.append("a change is under way")
    return lines
