"""The sections of the configuration: each key, its type, its default, its bounds, its cost.

    [raft] [journal] [wal] [checkpoint] [client] [disk] [peer] [log]
    [limits] [history]   node.config_limits          [lab]   node.config_lab

One frozen dataclass for each table of the file. The line under a field says in which
unit it is and what it costs to change it; configs/node.toml says the same to whoever
writes the file, and a test compares the two, both ways.

Invariants: units last, bound after them (`timeout_ms`, `segment_bytes_max`); a bound
that one key sets another is judged in `problems`, with both keys named.

A crash leaves nothing behind: these are values.

Does not do: read files (node.config), judge keys of two sections (Config.problems).

Proved by: tests/node/test_config.py
"""

from __future__ import annotations

from dataclasses import dataclass

from node.config_read import Problems, bounds_problems, setting

__all__ = [
    "CheckpointSection",
    "ClientSection",
    "DiskSection",
    "JournalSection",
    "LogSection",
    "PeerSection",
    "RaftSection",
    "Section",
    "WalSection",
]

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


class Section:
    """What all sections share: they can say what is wrong with them."""

    __slots__ = ()

    def problems(self, name: str) -> Problems:
        """(key, problem) of everything in this section that cannot be run with."""
        return bounds_problems(self, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftSection(Section):
    """[raft]: who leads, and how soon a dead leader is replaced."""

    election_timeout_min_ms: int = setting(300, low=10, high=60_000)
    """Shortest silence after which a follower stands for election. Shorter: a dead leader is
    replaced sooner, and a pause of the leader (disk, debugger) deposes it sooner."""

    election_timeout_max_ms: int = setting(600, low=10, high=120_000)
    """Longest such silence. The wider the span, the fewer split votes."""

    heartbeat_ms: int = setting(60, low=5, high=30_000)
    """How often an idle leader says that it lives. Costs one small frame to each peer."""

    entries_in_flight_max: int = setting(4, low=1, high=1_024)
    """Batches of this node that may be proposed and not yet applied. More: throughput over a
    slow link, at the price of memory and of larger gaps when a leader dies."""

    batch_bytes_max: int = setting(512 * KIB, low=KIB, high=48 * MIB)
    """A batch is closed once it holds this much. Soft: a command is never split."""

    park_ms: int = setting(2_500, low=0, high=60_000)
    """How long a command waits for a leader before CLUSTERDOWN. Stock clients give up at 5 s."""

    def problems(self, name: str) -> Problems:
        """The bounds, and the order that Raft needs: heartbeat << shortest < longest timeout."""
        found = bounds_problems(self, name)
        shortest = self.election_timeout_min_ms
        if self.election_timeout_max_ms < shortest:  # equal: see node.config_lab
            found.append(
                (
                    f"{name}.election_timeout_max_ms",
                    f"is {self.election_timeout_max_ms}, must be more than "
                    f"{name}.election_timeout_min_ms ({shortest})",
                )
            )
        if self.heartbeat_ms * 2 > shortest:
            found.append(
                (
                    f"{name}.heartbeat_ms",
                    f"is {self.heartbeat_ms}, must be at most half of "
                    f"{name}.election_timeout_min_ms ({shortest}): one late heartbeat "
                    f"must not start an election",
                )
            )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSection(Section):
    """[journal]: Raft's log on disk. Every acknowledged write is fsynced here."""

    segment_bytes_max: int = setting(64 * MIB, low=64 * KIB, high=4 * GIB)
    """A new segment file after this many bytes. Soft: a batch is never split."""

    compact_bytes: int = setting(64 * MIB, low=64 * KIB, high=64 * GIB)
    """Make a snapshot and cut the journal when it holds this much. Smaller: less disk and a
    shorter restart, and more snapshots written."""

    retain_bytes: int = setting(16 * MIB, low=0, high=64 * GIB)
    """Bytes of entries kept behind a snapshot, so that a follower that was away for a moment
    needs no whole snapshot. Costs as much on disk."""

    memory_bytes: int = setting(32 * MIB, low=64 * KIB, high=64 * GIB)
    """Bytes of applied entries held in memory for followers that are a moment behind. Others
    get theirs read from the files. Costs as much memory, whatever the length of the journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalSection(Section):
    """[wal]: the state machine's own log."""

    sync: str = setting("checkpoint", choices=("always", "interval", "checkpoint"))
    """When it is fsynced. Under Raft the journal already holds every entry, so "checkpoint"
    loses nothing; "always" costs a second fsync for each batch."""

    interval_ms: int = setting(100, low=1, high=60_000)
    """With sync = "interval": the longest time between two fsyncs."""

    segment_bytes_max: int = setting(64 * MIB, low=64 * KIB, high=4 * GIB)
    """A new segment file after this many bytes. Soft: a batch is never split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSection(Section):
    """[checkpoint]: when the state is written as one file and the WAL is cut."""

    entries: int = setting(0, low=0, high=1_000_000_000)
    """After this many entries. 0 = never for this reason."""

    bytes: int = setting(64 * MIB, low=0, high=64 * GIB)
    """After this many bytes of WAL, or as many as the last image has if that is more, so that
    what is written stays in proportion to what changed. 0 = never for this reason."""

    interval_ms: int = setting(0, low=0, high=86_400_000)
    """After this time, when something was written since. 0 = never for this reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSection(Section):
    """[client]: the RESP port."""

    requirepass: str = setting("", secret=True)
    """Password that AUTH asks for. Empty = none; then only loopback addresses are bound."""

    consistency: str = setting("linearizable", choices=("linearizable", "lease", "eventual"))
    """How fresh a read is unless the connection asks for another level. "eventual" may be
    stale without bound; "linearizable" costs a round to a majority for each batch of reads."""

    on_follower: str = setting("proxy", choices=("proxy", "redirect"))
    """What a follower does with a write: pass it to the leader, or answer MOVED."""

    max_clients: int = setting(10_000, low=1, high=1_000_000)
    """Connections beyond this are refused. Each costs a file descriptor and some 10 KiB."""

    output_buffer_bytes_max: int = setting(64 * MIB, low=64 * KIB, high=16 * GIB)
    """A client that reads so slowly that this much waits for it is cut off."""

    workers: int = setting(0, low=0, high=64)
    """Processes that hold the clients' sockets (accept, TLS, reads and writes) beside the node.
    Each costs some 25 MB and two copies of what passes; pays where cores are idle. 0 = none."""

    idle_timeout_s: int = setting(0, low=0, high=2**31 - 1)
    """A client that asks for nothing for so many seconds is cut off; subscribers are not.
    0 = never."""

    announce: str = setting("cluster", choices=("cluster", "standalone"))
    """What clients are told this is: a Redis Cluster of one shard, or one Redis server. With
    "standalone" CLUSTER is refused; the data and the commands are the same."""

    notify_keyspace_events: str = setting("")
    """Which changes are published (Redis's letters, "KEA" = all). Costs two messages for each
    changed key while anybody is subscribed; empty = none."""

    tls_certificate: str = setting("")
    """PEM file with this node's certificate chain. With it (and tls_key) the port speaks TLS only,
    1.2 or later: some 0.1 ms of CPU for each new connection, and a little for each byte."""

    tls_key: str = setting("")
    """PEM file with its key."""

    tls_client_ca: str = setting("")
    """PEM file: clients must show a certificate that one of these signed. Empty = none asked."""

    def problems(self, name: str) -> Problems:
        """The bounds, the letters, and that the files of TLS go together."""
        found = bounds_problems(self, name)
        letters = set(self.notify_keyspace_events) - set("KEg$lshzxetdAmn")
        if letters:
            key = f"{name}.notify_keyspace_events"
            found.append((key, f"has unknown letters: {', '.join(sorted(letters))}"))
        if bool(self.tls_certificate) != bool(self.tls_key):
            found.append((f"{name}.tls_key", "goes together with tls_certificate: set both"))
        if self.tls_client_ca and not self.tls_certificate:
            found.append((f"{name}.tls_client_ca", "needs tls_certificate and tls_key"))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSection(Section):
    """[disk]: what happens before the disk is full."""

    reserve_bytes: int = setting(64 * MIB, low=0, high=1024 * GIB)
    """Below this much free space a node hands leadership over and refuses writes as
    Unavailable; it serves again by itself when there is room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSection(Section):
    """[peer]: the wire between the nodes. Must be equal on all nodes, but for the files."""

    tls_cert: str = setting("")
    """This node's certificate (PEM file, relative to where the node is started), its id in the
    SAN as URI:trimaran:node:<id>. All three files, or none; without them and without a secret
    only loopback addresses are bound. Costs about 5 % more processor time for each write."""

    tls_key: str = setting("")
    """Its private key (PEM file, without a password)."""

    tls_ca: str = setting("")
    """Who signs the nodes of this cluster, and nobody else (PEM file)."""

    secret: str = setting("", secret=True)
    """Shared secret of the cluster (HMAC challenge): proves who opens a connection, and does
    not encrypt it. Empty = none. Long and random: `openssl rand -hex 32`."""

    frame_bytes_max: int = setting(8 * MIB, low=64 * KIB, high=64 * MIB)
    """A frame that says it is longer is refused before memory is taken for it."""

    send_buffer_bytes_max: int = setting(64 * MIB, low=MIB, high=16 * GIB)
    """A peer for which this much waits to be sent gets no more entries until it has taken some;
    one that lets four frames more pile up loses its link."""

    redial_ms: int = setting(50, low=1, high=60_000)
    """Pause between two tries to reach a peer that is away."""

    def problems(self, name: str) -> Problems:
        """The bounds; and of the files of TLS all are there or none."""
        found = bounds_problems(self, name)
        files = {key: getattr(self, key) for key in ("tls_cert", "tls_key", "tls_ca")}
        if any(files.values()):
            given = " and ".join(f"{name}.{key}" for key, path in files.items() if path)
            found += [
                (f"{name}.{key}", f"is missing: {given} needs it (see `trimaran certs`)")
                for key, path in files.items()
                if not path
            ]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSection(Section):
    """[log]: what a node says on stderr. Values of keys are never in it."""

    level: str = setting("info", choices=("debug", "info", "warning", "error"))
    """Least level that is written. "debug" costs throughput."""

    format: str = setting("text", choices=("text", "json"))
    """One line for each event: key=value words, or one JSON object."""
