"""What `trimaran cluster` is going to run, and the files that say so. No processes here.

    DIR/cluster.lock    held while a supervisor owns DIR
    DIR/cluster.json    {"nodes": [{"id", "pid", "client", "peer", "http", "data_dir"}]}
    DIR/n1.toml ...     the whole configuration of each node; `trimaran serve --config` runs it
    DIR/n1/ ...         its data directory (the node's own business)
    DIR/certs/          with --tls: an authority, and a certificate for each node

Node i has id n<i>, client port base+i-1, peer port base+1000+i-1, HTTP port base+2000+i-1.

Invariants:
  Nothing is written before every port was free and every configuration was sound.
  --fresh removes only directories named n<i> that are data directories (they hold LOCK or
  identity.json, or nothing at all) and that no process has locked.
  A directory made for more nodes is refused: which of them are to go is said by `trimaran member
  remove`. One made for fewer grows: the founders keep the list they were founded with, the new
  nodes join (node.join), and the supervisor has them seated.
  cluster.json is replaced as a whole: whoever reads it sees the old text or the new one.

A crash leaves at worst DIR/*.tmp, which the next write replaces.

Does not do: start, watch or stop anything (node.cluster).

Proved by: tests/node/test_cluster_supervisor.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from node.client import can_listen
from node.clock import Clock
from node.cluster_ports import HTTP_PORTS_ABOVE, panel_address, real_address
from node.cluster_ports import member as member_at
from node.config import MEMBERS_MAX, Config, Member, read_document
from node.errors import ConfigError
from statemachine.errors import DirectoryInUse, Unavailable
from statemachine.fs import Disk, Lock, replace_file

__all__ = [
    "Options",
    "certify",
    "claim",
    "config_path",
    "plan",
    "write_config",
    "write_state",
]

_NODE_NAME: Final = re.compile(r"n[1-9][0-9]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line of `trimaran cluster`."""

    nodes: int = 3
    """How many replicas."""

    data_dir: Path = Path("data")
    """Where all of it lives."""

    base_port: int = 7_001
    """Client port of n1; the others are counted from it."""

    fresh: bool = False
    """Remove what earlier runs left in data_dir."""

    template: Path | None = None
    """A configuration for all nodes; its [node] and [[cluster.members]] are filled in here."""

    restart: bool = True
    """Start a node again when it dies."""

    tls: bool = False
    """Make certificates where there are none yet, and have the peers use them."""

    lab: bool = False
    """Serve the laboratory's page, with buttons that break things."""


def plan(options: Options) -> list[Config]:
    """The configurations of all nodes. Touches nothing.

    Raises:
        ConfigError: all that is wrong with the options and with the template.
    """
    problems = []
    if not 1 <= options.nodes <= MEMBERS_MAX:
        problems.append(("--nodes", f"is {options.nodes}, must be 1 to {MEMBERS_MAX}"))
    port_max = 65_535 - HTTP_PORTS_ABOVE - MEMBERS_MAX
    if not 1 <= options.base_port <= port_max:
        problems.append(("--base-port", f"is {options.base_port}, must be 1 to {port_max}"))
    if options.lab and options.tls:
        problems.append(("--lab", "cannot cut links that speak TLS: leave --tls out"))
    if problems:
        raise ConfigError(tuple(problems))
    document = read_document(options.template) if options.template is not None else {}
    members = [member_at(number, options.base_port) for number in range(1, options.nodes + 1)]
    founders = _founders(options)
    return [_config(options, document, member, members, founders) for member in members]


def _config(
    options: Options,
    document: dict[str, Any],
    member: Member,
    members: Sequence[Member],
    founders: frozenset[str],
) -> Config:
    """One node's: a founder knows the founders, a newcomer them and itself."""
    joins = bool(founders) and member.id not in founders
    known = [each for each in members if not founders or each.id in founders or each is member]
    tables = [
        {"id": each.id, "peer": str(each.peer), "client": str(each.client), "http": str(each.http)}
        for each in known
    ]
    node = {"id": member.id, "data_dir": str(options.data_dir / member.id), "join": joins}
    words = _tls_words(options.data_dir / "certs", member.id) if options.tls else ()
    return Config.from_document(document | {"node": node, "cluster": {"members": tables}}, words)


def _founders(options: Options) -> frozenset[str]:
    """Whom the cluster was founded with, as the directories have it; empty: it is founded now."""
    disk = Disk()
    if options.fresh or not options.data_dir.is_dir():
        return frozenset()
    for directory in _node_directories(options.data_dir, disk):
        try:
            found = json.loads(disk.read_bytes(directory / "identity.json"))
            if not found.get("joined", False):
                return frozenset(map(str, found["members"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            continue  # The node itself says what is wrong with it.
    return frozenset()


def _tls_words(directory: Path, node_id: str) -> tuple[str, ...]:
    """Settings that have a node show its certificate."""
    names = {"tls_cert": f"{node_id}.crt", "tls_key": f"{node_id}.key", "tls_ca": "ca.crt"}
    return tuple(f"peer.{key}={directory / name}" for key, name in names.items())


def certify(options: Options, configs: Sequence[Config], disk: Disk) -> None:
    """Certificates for the nodes that have none yet."""
    from node import certificates  # costs time to import, and is seldom wanted

    directory = options.data_dir / "certs"
    ids = [config.node.id for config in configs]
    lacking = [node_id for node_id in ids if not disk.exists(directory / f"{node_id}.crt")]
    if lacking:
        now_ms = Clock().wall_ms()
        certificates.make(directory, lacking, certificates.DAYS_MAX, disk, now_ms)


def claim(options: Options, configs: Sequence[Config], disk: Disk) -> Lock:
    """Make data_dir ready to run in; the lock that is returned is held while it is.

    Raises:
        Unavailable: a port or the directory is in use. Nothing was changed.
        ConfigError: the directory is not one that these options may be run in.
        DiskFailed: it cannot be written.
    """
    taken = [
        f"{address} ({member.id}, {purpose} port)"
        for member in (config.member for config in configs)
        for purpose, address in (
            ("client", member.client),
            ("peer", member.peer),
            ("HTTP", member.http),
        )
        if not can_listen(address)
    ]
    if options.lab:
        more = [panel_address(configs[0]), *map(real_address, configs)]
        taken += [f"{address} (laboratory)" for address in more if not can_listen(address)]
    if taken:
        raise Unavailable(
            f"already in use: {', '.join(taken)}. Is another cluster running? "
            f"Stop it, or choose another --base-port"
        )
    disk.make_dir(options.data_dir)
    try:
        lock = disk.lock(options.data_dir / "cluster.lock")
    except DirectoryInUse as error:
        raise Unavailable(f"another `trimaran cluster` runs there: {error}") from error
    try:
        if options.fresh:
            _remove_old(options.data_dir, disk)
        _refuse_other_members(options, disk)
        if options.tls:
            certify(options, configs, disk)
        for config in configs:
            write_config(options.data_dir, config, disk)
    except BaseException:
        lock.release()
        raise
    return lock


_WRITTEN_BY: Final = b"# Written by `trimaran cluster` at each start: changes here are lost.\n\n"


def write_config(data_dir: Path, config: Config, disk: Disk) -> None:
    """What `trimaran serve` of this node is going to read."""
    text = config.render().encode("utf-8")
    replace_file(disk, config_path(data_dir, config), [_WRITTEN_BY + text])


def config_path(data_dir: Path, config: Config) -> Path:
    """Where the configuration of a node is written."""
    return data_dir / f"{config.node.id}.toml"


def _node_directories(data_dir: Path, disk: Disk) -> list[Path]:
    names = (name for name in disk.list_dir(data_dir) if _NODE_NAME.fullmatch(name))
    return [data_dir / name for name in names if (data_dir / name).is_dir()]


def _remove_old(data_dir: Path, disk: Disk) -> None:
    """Remove all data directories. All are looked at before the first one goes."""
    directories = _node_directories(data_dir, disk)
    for directory in directories:
        names = disk.list_dir(directory)
        if names and not {"LOCK", "identity.json"} & set(names):
            raise ConfigError(
                (("--fresh", f"{directory} does not look like a data directory: not removed"),)
            )
        if "LOCK" in names:
            try:
                disk.lock(directory / "LOCK").release()
            except DirectoryInUse as error:
                raise Unavailable(f"--fresh: {error}; nothing was removed") from error
    for directory in directories:
        disk.remove_tree(directory)
        settings = directory.with_suffix(".toml")
        if disk.exists(settings):
            disk.unlink(settings)


def _refuse_other_members(options: Options, disk: Disk) -> None:
    """Refuse a directory that was made for more nodes."""
    found = {
        directory.name
        for directory in _node_directories(options.data_dir, disk)
        if disk.exists(directory / "identity.json")
    }
    expected = {f"n{number}" for number in range(1, options.nodes + 1)}
    # Fewer than expected is fine: a node may have died before it had an identity, or been wiped.
    state = options.data_dir / "cluster.json"
    made_for = len(expected)
    if found and disk.exists(state):
        try:
            made_for = len(json.loads(disk.read_bytes(state))["nodes"])
        except (ValueError, KeyError, TypeError):
            pass  # Not ours, or cut short by hand: what the directories say has to do.
    if found - expected or made_for > len(expected):
        made_for = max(made_for, len(found))
        raise ConfigError(
            (
                (
                    "--nodes",
                    f"is {options.nodes}, but {options.data_dir} holds the data of {made_for} "
                    f"nodes: use --nodes {made_for}, or --fresh to start over",
                ),
            )
        )


def write_state(
    data_dir: Path, configs: Sequence[Config], pids: Mapping[str, int | None], disk: Disk
) -> None:
    """Replace cluster.json. A node that is not running has pid null."""
    nodes = [
        {
            "id": config.node.id,
            "pid": pids.get(config.node.id),
            "client": str(config.member.client),
            "peer": str(config.member.peer),
            "http": str(config.member.http),
            "data_dir": str(config.node.data_dir),
        }
        for config in configs
    ]
    text = json.dumps({"nodes": nodes}, indent=2) + "\n"
    replace_file(disk, data_dir / "cluster.json", [text.encode("utf-8")])
