"""What every member says of itself: `trimaran status`, and who leads.

    statuses(addresses) -> [NodeStatus, ...]       asks every member that any node names

Does not do: show it (node.cli_status).

Proved by: tests/node/test_client.py, tests/node/test_cli.py
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from node.client.connection import Client
from node.config_members import MEMBERS_MAX, Address
from node.errors import Unavailable

__all__ = ["NodeStatus", "find_leader", "statuses"]

STATUS_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What one member says of itself; all but `id` and `alive` is missing when it is silent."""

    address: Address
    fields: dict[str, Any]
    problem: str = ""

    @property
    def id(self) -> str:
        """The member's id; its address when nobody who answers can tell."""
        return str(self.fields.get("id", self.address))

    @property
    def alive(self) -> bool:
        """Whether it answered."""
        return bool(self.fields.get("alive", False))


def statuses(addresses: Sequence[Address], password: str = "") -> list[NodeStatus]:
    """The status of every member that is known to any node that answers, by id.

    Raises:
        Unavailable: no node answers at all.
        Rejected: the password is refused.
    """
    known: dict[Address, NodeStatus] = {}
    hashes: dict[Address, str] = {}
    ask = list(dict.fromkeys(addresses))
    with ThreadPoolExecutor(max_workers=8) as pool:
        while ask:
            # A member may name members that the first one does not know: ask until none is new.
            for status, named in pool.map(lambda address: _status(address, password), ask):
                known[status.address] = status
                hashes |= named
            ask = sorted(hashes.keys() - known.keys())
    if not any(status.alive for status in known.values()):
        raise Unavailable("; ".join(status.problem for status in known.values()))
    # What members call themselves, and not what was typed: `localhost:7001` is 127.0.0.1:7001.
    names = _names([known[address] for address in hashes])
    found = []
    for address, node_hash in hashes.items():
        status = known[address]
        if not status.alive:
            fields = {"id": names.get(node_hash, str(address)), "alive": False}
            status = NodeStatus(address, fields, status.problem)
        found.append(status)
    return sorted(found, key=lambda status: status.id)


def _names(found: Sequence[NodeStatus]) -> dict[str, str]:
    """Ids by the hash that CLUSTER NODES shows of them.

    A member that is down is named by the others only as a hash. Those that live, the leader
    they remember and the ids that `trimaran cluster` gives are tried against it.
    """
    ids = {f"n{number}" for number in range(1, MEMBERS_MAX + 1)}
    for status in found:
        ids |= {str(status.fields.get(field) or "") for field in ("id", "leader")}
    return {hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest(): name for name in ids}


def _status(address: Address, password: str) -> tuple[NodeStatus, dict[Address, str]]:
    """One node's own status, and the client addresses and hashes of all members it knows."""
    try:
        with Client.connect([address], password, STATUS_TIMEOUT_S) as client:
            reply = json.loads(client.read("TRI.STATUS"))
            fields = reply["nodes"][0] if "nodes" in reply else reply
            return NodeStatus(address, fields), _members(client.read("CLUSTER", "NODES"))
    except Unavailable as error:
        return NodeStatus(address, {}, str(error)), {}


def _members(text: bytes) -> dict[Address, str]:
    """What a reply to CLUSTER NODES names: `hash host:port@cport flags ...` lines."""
    found = {}
    for line in text.decode("utf-8", "replace").splitlines():
        words = line.split()
        if len(words) > 1:
            try:
                found[Address.parse(words[1].partition("@")[0])] = words[0]
            except ValueError:
                continue  # A node that does not know its own address yet writes ":0".
    return found


def find_leader(found: Sequence[NodeStatus]) -> NodeStatus | None:
    """The leader of the highest term among those that answered."""
    leaders = [status for status in found if status.fields.get("role") == "leader"]
    return max(leaders, key=lambda status: int(status.fields.get("term", 0)), default=None)
