"""INFO: what this node says of itself, in sections.

Fields are those that stock clients and tools ask for, under Redis's names; the section `# Raft` is
the Contract's, `# Trimaran` tells of what Redis has not. Nothing here holds a password, and nothing
that grows with the keys is counted through.

Does not do: metrics (node.web.families), CONFIG (configuration).

Proved by: tests/node/test_commands.py
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Mapping

from node.connection import Connection
from node.replies import Text, encode
from node.resp import Request
from node.version import REDIS_VERSION, TRIMARAN_VERSION

__all__ = ["info", "own_port"]

Fields = dict[str, object]


def _server(connection: Connection) -> Fields:
    frontend = connection.frontend
    uptime_s = max(0, connection.backend.now_ms() - frontend.started_ms) // 1000
    return {
        "redis_version": REDIS_VERSION,
        "redis_mode": frontend.config.client.announce,
        "trimaran_version": TRIMARAN_VERSION,
        "os": sys.platform,
        "arch_bits": 64 if sys.maxsize > 2**32 else 32,
        "process_id": os.getpid(),
        "run_id": connection.backend.node_id,
        "tcp_port": own_port(connection),
        "uptime_in_seconds": uptime_s,
        "uptime_in_days": uptime_s // 86_400,
    }


def own_port(connection: Connection) -> int:
    backend = connection.backend
    return next(one.client.port for one in backend.members() if one.id == backend.node_id)


def _clients(connection: Connection) -> Fields:
    frontend = connection.frontend
    return {
        "connected_clients": len(frontend.connections),
        "maxclients": frontend.max_clients,
        "blocked_clients": 0,
        "tracking_clients": frontend.tracker.clients_count,
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
        "pubsub_channels": len(frontend.pubsub.channels()),
        "pubsub_patterns": frontend.pubsub.patterns_count,
        "tracking_total_keys": frontend.tracker.keys_count,
        "tracking_total_prefixes": frontend.tracker.prefixes_count,
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
    count, expires = len(connection.machine), connection.machine.leases_count
    return {"db0": f"keys={count},expires={expires},avg_ttl=0"} if count else {}


def _cluster(connection: Connection) -> Fields:
    return {"cluster_enabled": int(connection.frontend.config.client.announce == "cluster")}


def _persistence(connection: Connection) -> Fields:
    return {
        "loading": 0,
        "rdb_bgsave_in_progress": 0,
        "rdb_last_save_time": connection.frontend.saved_ms // 1000,
        "rdb_last_bgsave_status": "ok",
        "aof_enabled": 1,
    }


def _raft(connection: Connection) -> Fields:
    return connection.backend.info()


def _trimaran(connection: Connection) -> Fields:
    watches, history = connection.frontend.watches, connection.backend.history
    return {
        "leases": connection.machine.grants_count,
        "watches": len(watches),
        "watches_behind": watches.behind_count,
        "history_keys": len(history),
        "history_bytes": history.size_bytes,
        "history_first_revision": history.first,
    }


SECTIONS: Mapping[str, Callable[[Connection], Fields]] = {
    "Server": _server,
    "Clients": _clients,
    "Memory": _memory,
    "Persistence": _persistence,
    "Stats": _stats,
    "Replication": _replication,
    "Keyspace": _keyspace,
    "Cluster": _cluster,
    "Raft": _raft,
    "Trimaran": _trimaran,
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
