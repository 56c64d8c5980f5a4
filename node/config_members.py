"""Who the members of a cluster are, and where each of them listens.

    [[cluster.members]]  id = "n1"  peer = "127.0.0.1:8001"  client = ...  http = ...

Invariants: an id is fit to be a file name and a word in a log line; no id and no address
stands twice; an address is loopback only when it is the word `localhost` or a literal
loopback address (what another name resolves to can change after it was checked).

A crash leaves nothing behind: these are values.

In one word, as the command line has it: host:client port:peer port[:HTTP port], where the HTTP
port is 2000 above the client port when it is left out.

Does not do: look names up, bind ports, change members of a running cluster (node.changes).

Proved by: tests/node/test_config.py
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from node.config_read import Problems, read_section, unknown_key

__all__ = [
    "MEMBERS_MAX",
    "Address",
    "Member",
    "is_node_id",
    "member_problems",
    "member_text",
    "parse_member",
    "read_members",
]

MEMBERS_MAX: Final = 9
"""More replicas make every write slower and nothing safer."""

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def is_node_id(text: str) -> bool:
    """Whether a node may be called so."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where something listens: "127.0.0.1:7001", "[::1]:7001", "localhost:7001"."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: object) -> Address:
        """Read "host:port". Raises ValueError that says what is wrong with it."""
        if not isinstance(text, str):
            raise ValueError(f'is {text!r}, must be text like "127.0.0.1:7001"')
        host, colon, port_text = text.rpartition(":")
        if not colon or not host or not port_text.isdecimal() or not port_text.isascii():
            raise ValueError(f'is {text!r}, must look like "127.0.0.1:7001"')
        bracketed = host.startswith("[") and host.endswith("]")
        if ":" in host and not bracketed:
            raise ValueError(f'is {text!r}; write an IPv6 address as "[::1]:7001"')
        port = int(port_text)
        if not 1 <= port <= 65_535:
            raise ValueError(f"is {text!r}; a port is a number from 1 to 65535")
        return cls(host[1:-1] if bracketed else host, port)

    @property
    def is_loopback(self) -> bool:
        """True when nobody outside this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """[[cluster.members]]: one replica, the same entry on every node."""

    id: str
    """Its name, for ever: its data directory carries it."""

    peer: Address
    """Where the other nodes reach it."""

    client: Address
    """Where RESP clients reach it."""

    http: Address
    """Where browsers and metrics collectors reach it."""


HTTP_PORTS_ABOVE: Final = 2_000


def parse_member(member_id: str, text: str) -> Member:
    """Read "host:client:peer[:http]". Raises ValueError that says what is wrong with it."""
    host, bracket, rest = text.rpartition("]") if text.startswith("[") else ("", "", text)
    if not bracket:
        host, _, rest = text.partition(":")
    ports = rest.lstrip(":").split(":")
    if not host or len(ports) not in (2, 3):
        raise ValueError(f'address is {text!r}, must look like "127.0.0.1:7004:8004"')
    where = [Address.parse(f"{host}{bracket}:{port}") for port in ports]
    client, peer = where[:2]
    http = where[2] if len(where) > 2 else Address(client.host, client.port + HTTP_PORTS_ABOVE)
    member = Member(id=member_id, peer=peer, client=client, http=http)
    problems = member_problems([member])
    if problems:
        raise ValueError(f"{problems[0][0]} {problems[0][1]}")
    return member


def member_text(member: Member) -> str:
    """The word that `parse_member` reads; its three addresses have one host."""
    return f"{member.client}:{member.peer.port}:{member.http.port}"


def read_members(cluster: object, problems: Problems) -> tuple[Member, ...] | None:
    """The members; None when one of them could not be read."""
    if not isinstance(cluster, dict):
        problems.append(("cluster", "must be a table of members: write [[cluster.members]]"))
        return None
    for key in cluster:
        if key != "members":
            problems.append((f"cluster.{key}", unknown_key(key, ["members"], "cluster.")))
    tables = cluster.get("members", [])
    if not isinstance(tables, list) or not tables:
        problems.append(("cluster.members", "is missing: write one [[cluster.members]] per node"))
        return None
    members = []
    for position, table in enumerate(tables, start=1):
        label = table.get("id", position) if isinstance(table, dict) else position
        members.append(read_section(Member, table, f"cluster.members.{label}", problems))
    whole = tuple(member for member in members if member is not None)
    return whole if len(whole) == len(members) else None


def member_problems(members: Sequence[Member]) -> Problems:
    """Ids that are no ids, ids and addresses that stand twice, too many members."""
    found: Problems = []
    if not 1 <= len(members) <= MEMBERS_MAX:
        found.append(("cluster.members", f"are {len(members)}, must be 1 to {MEMBERS_MAX}"))
    owners: dict[object, str] = {}
    for member in members:
        name = f"cluster.members.{member.id}"
        if not is_node_id(member.id):
            found.append(
                (f"{name}.id", "must be 1 to 63 of A-Z a-z 0-9 _ . -, the first a letter or digit")
            )
        for key in ("id", "peer", "client", "http"):
            value = getattr(member, key)
            if value in owners:
                found.append((f"{name}.{key}", f"is {value}, which is {owners[value]} already"))
            owners.setdefault(value, f"{name}.{key}")
    return found
