"""The configurations of an experiment's nodes: documents and TOML text. No processes here.

    node_documents(config, directory, doors=...) -> one document for each node
    to_toml(document) -> what `trimaran serve --config` reads

Ports are looked for below the range that the kernel takes outgoing ones from, each free a moment
ago, in an order that differs from process to process, so that two laboratories do not meet.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from node.lab import files
from node.lab.config import ClusterConfig, ExperimentError

__all__ = ["HOST", "PASSWORD", "node_documents", "node_ids", "to_toml"]

HOST: Final = "127.0.0.1"
PASSWORD: Final = "laboratory"
"""Of nodes in namespaces, which nobody but this machine reaches."""
_FIRST, _LAST, _STEP = 12_000, 30_000, 30
_KINDS: Final = (("client", 0), ("peer", 10), ("http", 20))


def node_documents(
    config: ClusterConfig, directory: Path, *, doors: bool, hosts: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """What each node is told. ExperimentError: the settings cannot be read.

    Args:
        hosts: where each node lives, when that is not loopback.
    """
    template: dict[str, Any] = {}
    if config.config:
        try:
            template = tomllib.loads(files.load_text(Path(config.config)))
        except (OSError, ValueError) as error:
            raise ExperimentError(f"cluster.config: {error}") from error
    for name, value in config.settings.items():
        section, dot, key = name.partition(".")
        if not dot:
            raise ExperimentError(f"cluster.settings: {name!r} is not section.key")
        template[section] = template.get(section, {}) | {key: value}
    template["log"] = template.get("log", {}) | {"format": "json", "level": "info"}
    base = _free_ports(config.nodes)
    members = []
    for number, name in enumerate(node_ids(config)):
        host = hosts[name] if hosts else HOST
        ports = {kind: f"{host}:{base + above + number}" for kind, above in _KINDS}
        members.append({"id": name, **ports})
    if hosts:  # outside of loopback a node asks for both
        template["peer"] = {"secret": PASSWORD} | template.get("peer", {})
        template["client"] = {"requirepass": PASSWORD} | template.get("client", {})
        template["http"] = {"enabled": False} | template.get("http", {})
    documents = []
    for member in members:
        document = dict(template)
        document["node"] = {"id": member["id"], "data_dir": str(directory / member["id"])}
        document["cluster"] = {"members": members}
        if doors:
            door = str(directory / f"{member['id']}.door")
            document["lab"] = document.get("lab", {}) | {"door": door}
        documents.append(document)
    return documents


def node_ids(config: ClusterConfig) -> list[str]:
    """n1, n2 ..."""
    return [f"n{number + 1}" for number in range(config.nodes)]


def to_toml(document: dict[str, Any]) -> str:
    """TOML of sections of plain values, and the members."""
    lines = []
    for name, table in document.items():
        tables = [(f"[{name}]", table)]
        if name == "cluster":
            tables = [("[[cluster.members]]", member) for member in table["members"]]
        for head, values in tables:
            lines.append(head)
            # JSON's words for text, numbers and booleans are TOML's too.
            lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _free_ports(nodes: int) -> int:
    """The first of 30 ports, those that `nodes` nodes need of them free."""
    slots = (_LAST - _FIRST) // _STEP
    for attempt in range(slots):
        base = _FIRST + (os.getpid() * 7 + attempt) % slots * _STEP
        if all(_is_free(base + above + node) for _, above in _KINDS for node in range(nodes)):
            return base
    raise ExperimentError("no free ports on this machine")


def _is_free(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
