"""Commands about this node: INFO, CONFIG, TIME, ROLE, WAIT, LASTSAVE.

INFO's fields and CONFIG's parameters are those that stock clients and tools ask for, under
Redis's names; INFO's `# Raft` section is the Contract's. Nothing here holds a password.

WAIT answers with what is certain, at once: every write that this connection was told is done
has been fsynced by a majority, so by half of the other members (rounded down) at the least.
LASTSAVE is when TRI.SNAPSHOT last succeeded through this node's port; its start, before that.

Does not do: CONFIG SET of a value that differs (the configuration is read once, at start).

Proved by: tests/node/test_commands.py
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Mapping

from node.commands.glob import compile_glob
from node.commands.spec import NOT_AN_INTEGER, parse_integer
from node.connection import Connection
from node.replies import OK, Text, encode, error_line, integer
from node.resp import BULK_BYTES_MAX, Request
from node.version import REDIS_VERSION, TRIMARAN_VERSION

__all__ = [
    "config_get",
    "config_resetstat",
    "config_set",
    "info",
    "lastsave",
    "role",
    "time_",
    "wait",
]

Fields = dict[str, object]


def _server(connection: Connection) -> Fields:
    frontend = connection.frontend
    uptime_s = max(0, connection.backend.now_ms() - frontend.started_ms) // 1000
    return {
        "redis_version": REDIS_VERSION,
        "redis_mode": "cluster",
        "trimaran_version": TRIMARAN_VERSION,
        "os": sys.platform,
        "arch_bits": 64 if sys.maxsize > 2**32 else 32,
        "process_id": os.getpid(),
        "run_id": connection.backend.node_id,
        "tcp_port": _own_port(connection),
        "uptime_in_seconds": uptime_s,
        "uptime_in_days": uptime_s // 86_400,
    }


def _own_port(connection: Connection) -> int:
    backend = connection.backend
    return next(one.client.port for one in backend.members() if one.id == backend.node_id)


def _clients(connection: Connection) -> Fields:
    frontend = connection.frontend
    return {
        "connected_clients": len(frontend.connections),
        "maxclients": frontend.config.client.max_clients,
        "blocked_clients": 0,
    }


def _memory(_connection: Connection) -> Fields:
    # The most that the process ever held: what it holds now would have to be read from /proc.
    unit = 1 if sys.platform == "darwin" else 1024
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {
        "used_memory": peak_bytes,
        "used_memory_human": f"{peak_bytes / 2**20:.2f}M",
        "used_memory_peak": peak_bytes,
        "used_memory_peak_human": f"{peak_bytes / 2**20:.2f}M",
        "maxmemory": 0,
        "maxmemory_policy": "noeviction",
    }


def _stats(connection: Connection) -> Fields:
    frontend = connection.frontend
    return {
        "total_connections_received": frontend.connections_total,
        "total_commands_processed": frontend.commands_total,
        "rejected_connections": frontend.rejected_total,
    }


def _replication(connection: Connection) -> Fields:
    backend = connection.backend
    offset = backend.status().get("applied_index", 0)
    others = [one for one in backend.members() if one.id != backend.node_id]
    if backend.is_leader:
        alive = [one for one in others if backend.alive(one.id)]
        fields: Fields = {"role": "master", "connected_slaves": len(alive)}
        for number, one in enumerate(alive):
            fields[f"slave{number}"] = f"ip={one.client.host},port={one.client.port},state=online"
    else:
        leader = next((one for one in others if one.id == backend.leader_id), None)
        is_up = leader is not None and backend.alive(leader.id)
        fields = {
            "role": "slave",
            "master_host": leader.client.host if leader else "",
            "master_port": leader.client.port if leader else 0,
            "master_link_status": "up" if is_up else "down",
            "slave_read_only": 0,
            "connected_slaves": 0,
        }
    fields["master_repl_offset"] = offset
    return fields


def _keyspace(connection: Connection) -> Fields:
    count = len(connection.backend.machine)
    return {"db0": f"keys={count}"} if count else {}


def _cluster(_connection: Connection) -> Fields:
    return {"cluster_enabled": 1}


def _raft(connection: Connection) -> Fields:
    return connection.backend.info()


SECTIONS: Mapping[str, Callable[[Connection], Fields]] = {
    "Server": _server,
    "Clients": _clients,
    "Memory": _memory,
    "Stats": _stats,
    "Replication": _replication,
    "Keyspace": _keyspace,
    "Cluster": _cluster,
    "Raft": _raft,
}


def info(connection: Connection, request: Request) -> bytes:
    wanted = {word.decode("utf-8", "replace").lower() for word in request[1:]}
    if not wanted or wanted & {"all", "everything", "default"}:
        wanted = {name.lower() for name in SECTIONS}
    text = "\r\n".join(
        f"# {name}\r\n"
        + "".join(
            f"{field}:{'' if value is None else value}\r\n"
            for field, value in fields(connection).items()
        )
        for name, fields in SECTIONS.items()
        if name.lower() in wanted
    )
    return encode(Text(text.encode()), connection.protocol)


# CONFIG.


def _parameters(connection: Connection) -> dict[str, str]:
    config = connection.frontend.config
    return {
        "appendfsync": "always",
        "appendonly": "yes",
        "cluster-enabled": "yes",
        "databases": "1",
        "maxclients": str(config.client.max_clients),
        "maxmemory": "0",
        "maxmemory-policy": "noeviction",
        "port": str(_own_port(connection)),
        "proto-max-bulk-len": str(BULK_BYTES_MAX),
        "save": "",
        "timeout": "0",
    }


def config_get(connection: Connection, request: Request) -> bytes:
    matchers = [compile_glob(pattern.lower()) for pattern in request[2:]]
    found = {
        name: value
        for name, value in _parameters(connection).items()
        if any(matches(name.encode()) for matches in matchers)
    }
    return encode(found, connection.protocol)


def config_set(connection: Connection, request: Request) -> bytes:
    if len(request) % 2:
        return error_line("ERR wrong number of arguments for 'config|set' command")
    parameters = _parameters(connection)
    for word, value in zip(request[2::2], request[3::2], strict=True):
        name = word.decode("utf-8", "replace").lower()
        if name not in parameters:
            return error_line(
                b"ERR Unknown option or number of arguments for CONFIG SET - '" + word + b"'"
            )
        if value.decode("utf-8", "replace") != parameters[name]:
            return error_line(
                f"ERR CONFIG SET failed (possibly related to argument '{name}') - "
                f"can't set immutable config"
            )
    return OK


def config_resetstat(connection: Connection, _request: Request) -> bytes:
    frontend = connection.frontend
    frontend.connections_total = 0
    frontend.commands_total = 0
    frontend.rejected_total = 0
    return OK


# The rest.


def time_(connection: Connection, _request: Request) -> bytes:
    """On the cluster's clock, which counts milliseconds: the last three digits are 0."""
    now_ms = connection.backend.now_ms()
    return encode([str(now_ms // 1000), str(now_ms % 1000 * 1000)], connection.protocol)


def lastsave(connection: Connection, _request: Request) -> bytes:
    return integer(connection.frontend.saved_ms // 1000)


def role(connection: Connection, _request: Request) -> bytes:
    backend = connection.backend
    offset = int(backend.status().get("applied_index") or 0)
    others = [one for one in backend.members() if one.id != backend.node_id]
    if backend.is_leader:
        replicas = [
            [one.client.host, str(one.client.port), str(offset)]
            for one in others
            if backend.alive(one.id)
        ]
        return encode(["master", offset, replicas], connection.protocol)
    leader = next((one for one in others if one.id == backend.leader_id), None)
    state = "connected" if leader is not None and backend.alive(leader.id) else "connect"
    host, port = (leader.client.host, leader.client.port) if leader else ("", 0)
    return encode(["slave", host, port, state, offset], connection.protocol)


def wait(connection: Connection, request: Request) -> bytes:
    replicas, timeout_ms = parse_integer(request[1]), parse_integer(request[2])
    if replicas is None:
        return NOT_AN_INTEGER
    if timeout_ms is None:
        return error_line("ERR timeout is not an integer or out of range")
    if timeout_ms < 0:
        return error_line("ERR timeout is negative")
    seats = connection.backend.member_list()["members"]
    return integer(sum(seat["role"] == "voter" for seat in seats) // 2)
