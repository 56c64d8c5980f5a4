"""CLUSTER: the members as Redis Cluster clients want to see them. One shard, all 16384 slots.

    member id -> cluster id: the 40 hex digits of sha1(member id), the same on every node
    primary: the leader this node knows and hears, else this node itself; the rest: replicas

Why itself: a stock RedisCluster that is sent to a dead node burns its ten retries within
0.1 s and gives up; sent here, its command waits for the new leader (RESP.md 4). So no reply
names a dead or unknown leader as primary, and SLOTS, which clients dial from, names no dead
replica either. NODES and SHARDS show every member with its state, as they are read by people.

With client.announce = "standalone" all of it is refused, in Redis's words.

Keys are not kept by slot: COUNTKEYSINSLOT and GETKEYSINSLOT walk all of them, and are refused
above KEYS_MAX keys.

Does not do: all that changes a cluster: MEET, ADDSLOTS, FAILOVER...

Proved by: tests/node/test_commands_cluster.py
"""

from __future__ import annotations

import hashlib
from typing import Final

from node.commands.keys import KEYS_MAX
from node.commands.spec import (
    NOT_AN_INTEGER,
    SLOTS_COUNT,
    Control,
    Handler,
    Plan,
    key_slot,
    parse_integer,
)
from node.config import Member
from node.connection import Connection
from node.replies import Text, encode, error_line, integer
from node.resp import Request

__all__ = [
    "certain_replicas",
    "cluster_id",
    "countkeysinslot",
    "getkeysinslot",
    "info",
    "keyslot",
    "myid",
    "myshardid",
    "nodes",
    "only_in_cluster_mode",
    "primary_first",
    "shards",
    "slots",
]

_NO_CLUSTER: Final = error_line("ERR This instance has cluster support disabled")
_LAST_SLOT = SLOTS_COUNT - 1


def only_in_cluster_mode(handler: Handler) -> Handler:
    """The handler, unless this port says that it is no cluster."""

    def guarded(connection: Connection, request: Request) -> bytes | Plan | Control:
        if connection.frontend.config.client.announce != "cluster":
            return _NO_CLUSTER
        return handler(connection, request)

    return guarded


def cluster_id(member_id: str) -> str:
    """A member's id as the cluster protocol wants it."""
    return hashlib.sha1(member_id.encode(), usedforsecurity=False).hexdigest()


def primary_first(connection: Connection) -> list[Member]:
    """All members; the first is the one to call the primary."""
    backend = connection.backend
    leader_id = backend.leader_id
    if leader_id is None or not backend.alive(leader_id):
        leader_id = backend.node_id
    return sorted(backend.members(), key=lambda member: member.id != leader_id)


def keyslot(_connection: Connection, request: Request) -> bytes:
    return integer(key_slot(request[2]))


def _keys_in_slot(connection: Connection, word: bytes) -> list[bytes] | bytes:
    """Or the error reply."""
    slot = parse_integer(word)
    if slot is None:
        return NOT_AN_INTEGER
    if not 0 <= slot < SLOTS_COUNT:
        return error_line("ERR Invalid slot")
    machine = connection.machine
    if len(machine) > KEYS_MAX:
        return error_line(f"ERR keys are not kept by slot: refused above {KEYS_MAX} keys")
    keys, _ = machine.keys_page(None, KEYS_MAX)
    return [key for key in keys if key_slot(key) == slot]


def countkeysinslot(connection: Connection, request: Request) -> bytes:
    found = _keys_in_slot(connection, request[2])
    return found if isinstance(found, bytes) else integer(len(found))


def getkeysinslot(connection: Connection, request: Request) -> bytes:
    count = parse_integer(request[3])
    if count is None:
        return NOT_AN_INTEGER
    if count < 0:
        return error_line("ERR Invalid number of keys")
    found = _keys_in_slot(connection, request[2])
    return found if isinstance(found, bytes) else encode(found[:count], connection.protocol)


def myid(connection: Connection, _request: Request) -> bytes:
    return encode(cluster_id(connection.backend.node_id), connection.protocol)


def _shard_id(connection: Connection) -> str:
    """The one shard's: made of all members, so that all of them say the same."""
    ids = sorted(member.id for member in connection.backend.members())
    return cluster_id(" ".join(ids))


def myshardid(connection: Connection, _request: Request) -> bytes:
    return encode(_shard_id(connection), connection.protocol)


def slots(connection: Connection, _request: Request) -> bytes:
    members = primary_first(connection)
    alive = [members[0], *(one for one in members[1:] if connection.backend.alive(one.id))]
    entries = [
        [member.client.host, member.client.port, cluster_id(member.id), []] for member in alive
    ]
    return encode([[0, _LAST_SLOT, *entries]], connection.protocol)


def shards(connection: Connection, _request: Request) -> bytes:
    backend = connection.backend
    primary, *_ = members = primary_first(connection)
    applied_index = int(backend.status().get("applied_index") or 0)
    described = [
        {
            "id": cluster_id(member.id),
            "port": member.client.port,
            "ip": member.client.host,
            "endpoint": member.client.host,
            "role": "master" if member is primary else "replica",
            # How far a peer has applied is not known here: a replica that is there counts as level.
            "replication-offset": applied_index if backend.alive(member.id) else 0,
            "health": "online" if backend.alive(member.id) else "fail",
        }
        for member in members
    ]
    return encode([{"slots": [0, _LAST_SLOT], "nodes": described}], connection.protocol)


def nodes(connection: Connection, _request: Request) -> bytes:
    """id ip:port@cport flags master ping-sent pong-recv epoch link-state slots, a line each."""
    backend = connection.backend
    primary, *_ = members = primary_first(connection)
    lines = []
    for member in members:
        is_alive = backend.alive(member.id)
        flags = ["myself"] if member.id == backend.node_id else []
        flags.append("master" if member is primary else "slave")
        if not is_alive:
            flags.append("fail")
        words = [
            cluster_id(member.id),
            f"{member.client.host}:{member.client.port}@{member.peer.port}",
            ",".join(flags),
            "-" if member is primary else cluster_id(primary.id),
            "0",
            "0",
            str(backend.term),
            "connected" if is_alive else "disconnected",
        ]
        if member is primary:
            words.append(f"0-{_LAST_SLOT}")
        lines.append(" ".join(words) + "\n")
    return encode(Text("".join(lines).encode()), connection.protocol)


def certain_replicas(connection: Connection) -> int:
    """So many nodes besides this one have what was acknowledged: a majority of the voters has."""
    seats = connection.backend.member_list()["members"]
    return len([seat for seat in seats if seat["role"] == "voter"]) // 2


def info(connection: Connection, _request: Request) -> bytes:
    """cluster_state is ok while a leader is known and heard: then writes go through."""
    backend = connection.backend
    leader_id = backend.leader_id
    is_ok = leader_id is not None and backend.alive(leader_id)
    fields = {
        "cluster_enabled": 1,
        "cluster_state": "ok" if is_ok else "fail",
        "cluster_slots_assigned": SLOTS_COUNT,
        "cluster_slots_ok": SLOTS_COUNT if is_ok else 0,
        "cluster_slots_pfail": 0,
        "cluster_slots_fail": 0 if is_ok else SLOTS_COUNT,
        "cluster_known_nodes": len(backend.members()),
        "cluster_size": 1,
        "cluster_current_epoch": backend.term,
        "cluster_my_epoch": backend.term,
    }
    text = "".join(f"{name}:{value}\r\n" for name, value in fields.items())
    return encode(Text(text.encode()), connection.protocol)
