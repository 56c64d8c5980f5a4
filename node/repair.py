"""`trimaran repair`: a node whose directory is damaged, wiped or lost gets a new place.

    1 its old seat is removed from the cluster       (a majority of the others has to be there)
    2 DATA_DIR is renamed to DATA_DIR.damaged-<n>    evidence is never deleted
    3 DATA_DIR is a new one: a new incarnation that waits to be seated
    4 the node is seated as a learner                it votes once it has caught up

Why not simply start with an empty directory: the old one may have voted, and acknowledged
entries that it no longer has (P20). Removing its seat first takes both out of every majority,
and the new incarnation counts in none before it holds what the others hold.

The new directory is made beside the old one and comes to its place by a rename, so a supervisor
that starts the node meanwhile finds the old one or the new one.

On a crash between two steps: run it again. It sees what is done by the roster and by what
stands in DATA_DIR (a directory that waits and was never opened is step 3's).

Does not do: run on a node that is up (its lock is taken first), start it, bring back a cluster
whose majority is lost.

Proved by: tests/cluster/test_repair.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from node.cli_members import Asked, add, list_members, remove, role_of
from node.config import Config
from node.errors import ConfigError
from node.identity import prepare_joining
from statemachine.fs import Disk, Lock

__all__ = ["config_beside", "repair"]

_NEW: Final = ".new"


def config_beside(data_dir: Path, given: Path | None) -> Config:
    """The node's configuration: the file that is given, or DATA_DIR.toml, where `trimaran cluster`
    writes it.

    Raises:
        ConfigError: there is none, or it is that of another directory.
    """
    path = given if given is not None else data_dir.with_name(data_dir.name + ".toml")
    if given is None and not path.exists():
        raise ConfigError([("--config", f"which node is this? {path} is not there: name its file")])
    config = Config.load(path)
    if config.node.data_dir.absolute() != data_dir.absolute():
        problem = f"{path} is for {config.node.data_dir}, not for {data_dir}"
        raise ConfigError([("node.data_dir", problem)])
    return config


def repair(data_dir: Path, config: Config, asked: Asked, say: Callable[[str], None]) -> None:
    """Do all four steps, or those that are left.

    Raises:
        DirectoryInUse: the node runs.
        Rejected, Unavailable: the cluster cannot do without it now; nothing on disk has changed,
            unless it was after step 3, which the next try finds done.
        ConfigError: the directory is another node's.
    """
    disk, node_id = Disk(), config.node.id
    lock = _lock(disk, data_dir)
    try:
        waits = _waits_for_a_seat(disk, data_dir)
        if not waits and role_of(list_members(asked), node_id) is not None:
            remove(asked, node_id, say=say)
        if not waits:
            _replace(disk, data_dir, config, say)
    finally:
        if lock is not None:
            lock.release()
    add(asked, config.member, wait=False, say=say)
    say(f"start {node_id} (a supervisor does so by itself)")


def _lock(disk: Disk, data_dir: Path) -> Lock | None:
    """Held while the directory is looked at and moved; None when it is not there."""
    return disk.lock(data_dir / "LOCK") if data_dir.is_dir() else None


def _waits_for_a_seat(disk: Disk, data_dir: Path) -> bool:
    """Whether it is a directory of step 3, which no node has opened yet."""
    try:
        found = json.loads(disk.read_bytes(data_dir / "identity.json"))
        return bool(found["joined"]) and int(found["epoch"]) == 0
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def _replace(disk: Disk, data_dir: Path, config: Config, say: Callable[[str], None]) -> None:
    new = data_dir.with_name(data_dir.name + _NEW)
    if new.exists():
        disk.remove_tree(new)  # of a try that ended half-way: it never held anything
    prepare_joining(disk, new, config.node.id, [each.id for each in config.members])
    if data_dir.exists():
        aside = _free_name(data_dir)
        disk.rename(data_dir, aside)
        say(f"{data_dir} is kept as {aside}")
    disk.rename(new, data_dir)
    disk.sync_dir(data_dir.parent)
    say(f"{data_dir} is a new directory")


def _free_name(data_dir: Path) -> Path:
    number = 1
    while (aside := data_dir.with_name(f"{data_dir.name}.damaged-{number}")).exists():
        number += 1
    return aside
