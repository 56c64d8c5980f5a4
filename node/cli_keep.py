"""backup, restore, export, import, recover: the commands that keep data. Words to calls.

Each returns the exit code; errors leave as they are (node.cli turns them into lines and codes).
Every one of them is fit for cron: 0 means that it was done, all of it, durably.

Does not do: anything itself (node.backup, node.founding, node.transcript, node.importing,
node.recover).

Proved by: tests/cluster/test_backup.py, tests/cluster/test_recover.py
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from node.cli_parser import PASSWORD_VARIABLE
from node.errors import ConfigError, Corrupt, Rejected, Unavailable, Unsupported

if TYPE_CHECKING:
    from node.config import Config
    from statemachine.fs import ReadFile
    from statemachine.image import Image

__all__ = ["backup", "export", "import_", "recover", "restore", "verify_backup"]

_LINE_READ_BYTES: Final = 1024 * 1024


def _say(text: str) -> None:
    print(text, flush=True)


def _password() -> str:
    return os.environ.get(PASSWORD_VARIABLE, "")


def backup(options: argparse.Namespace) -> int:
    from node.backup import fetch

    target: Path = options.file
    if not target.absolute().parent.is_dir():
        raise ConfigError(((str(target), f"{target.parent} is no directory"),))
    found = fetch(options.connect, _password(), options.consistency, target)
    _say(
        f"{target}: revision {found.revision}, {found.size_bytes} bytes from {found.source}, "
        f"sha256 {found.sha256}"
    )
    return 0


def verify_backup(path: Path) -> int:
    """`trimaran verify FILE`."""
    from node.backup import check

    try:
        image = check(path)
    except (Corrupt, Unsupported) as error:
        print(error)
        return 1
    columns = image.parts.columns
    print(
        f"{path}: sound: revision {image.last.index}, {len(columns.values)} keys, "
        f"{len(columns.deadlines)} of them with a time to live, sha256 {image.checksum.hex()}"
    )
    return 0


def restore(options: argparse.Namespace) -> int:
    from node import founding
    from statemachine.fs import Disk

    disk = Disk()
    if not options.file.is_file():
        raise ConfigError(((str(options.file), "no such file"),))
    config = _founder(options)
    directory = config.node.data_dir

    def fill(machine: object) -> int:
        metadata = founding.install(machine, options.file, disk)  # type: ignore[arg-type]
        return metadata.last_included.term

    disk.make_dir(directory.absolute().parent)
    try:
        begin = founding.found(disk, directory, config.member, fill)
    except (Corrupt, Unsupported) as error:
        raise Rejected(f"the backup is damaged, nothing was restored: {error}") from error
    _say(f"{directory}: {config.node.id} is the only member of a new cluster")
    _say(f"its log begins at {begin.index}; nothing of an older cluster is taken for a part of it")
    if options.config is None:
        _say(f"start it: trimaran cluster --data-dir {options.data_dir}   (the others join empty)")
    else:
        _say("start it, then seat the others: join = true, no data, `trimaran member add`")
    return 0


def _founder(options: argparse.Namespace) -> Config:
    """The configuration of the node that is to hold the data."""
    from node.cluster_plan import Options, plan
    from node.config import Config
    from statemachine.errors import DirectoryInUse
    from statemachine.fs import Disk

    if (options.data_dir is None) == (options.config is None):
        raise ConfigError(
            (("restore", "takes --data-dir DIR (as `trimaran cluster`) or --config"),)
        )
    if options.config is not None:
        return Config.load(options.config)
    root: Path = options.data_dir.absolute()
    if root.is_dir():
        lock_path = root / "cluster.lock"
        try:
            if lock_path.exists():
                Disk().lock(lock_path).release()
        except DirectoryInUse as error:
            raise Unavailable(f"a `trimaran cluster` runs there: {error}") from error
        there = [name for name in Disk().list_dir(root) if (root / name / "identity.json").exists()]
        if there:
            problem = f"holds the data of {', '.join(there)}: restore into a new directory"
            raise ConfigError(((str(options.data_dir), problem),))
    return plan(Options(nodes=1, data_dir=root, base_port=options.base_port, fresh=True))[0]


def export(options: argparse.Namespace) -> int:
    from node import transcript
    from node.backup import check
    from statemachine.fs import Disk, replace_file

    image: Image = check(options.source) if options.source is not None else _fetched(options)
    found = transcript.lines(image, os.fsencode(options.prefix))
    if str(options.file) == "-":
        sys.stdout.buffer.writelines(found)
        return 0
    counts = {"keys": 0, "leases": 0}

    def counted() -> Iterator[bytes]:
        for line in found:
            counts["keys"] += line.startswith(b'{"key')
            counts["leases"] += line.startswith(b'{"lease')
            yield line

    replace_file(Disk(), options.file, counted())
    leases = f", leases: {counts['leases']}," if counts["leases"] else ""
    _say(f"{options.file}: {counts['keys']} keys{leases} as of revision {image.last.index}")
    return 0


def _fetched(options: argparse.Namespace) -> Image:
    from node.backup import fetch_image

    return fetch_image(options.connect, _password(), options.consistency)


def import_(options: argparse.Namespace) -> int:
    from node import transcript
    from node.importing import import_rows

    source = _lines_of(options.file)
    transcript.check(source())
    rows = transcript.rows(source())
    done = import_rows(rows, options.connect, _password(), keep=options.keep)
    kept = f", {done.kept} kept as they were" if options.keep else ""
    left_out = f", {done.left_out} left out: their lease is over" if done.left_out else ""
    _say(f"{done.written} keys written{kept}{left_out}")
    for old, here in done.renamed.items():
        _say(f"lease {old} is {here} here: the id was taken")
    return 0


def _lines_of(path: Path) -> Callable[[], Iterator[bytes]]:
    """The lines of a file, from the start at each call. `-` is stdin, all of it in memory."""
    from statemachine.fs import Disk

    if str(path) == "-":
        data = sys.stdin.buffer.read()
        return lambda: iter(data.splitlines(keepends=True))
    if not path.is_file():
        raise ConfigError(((str(path), "no such file"),))
    return lambda: _lines(Disk().open_read(path))


def _lines(file: ReadFile) -> Iterator[bytes]:
    try:
        rest = b""
        while data := file.read(_LINE_READ_BYTES):
            *whole, rest = (rest + data).split(b"\n")
            yield from (line + b"\n" for line in whole)
        if rest:
            yield rest
    finally:
        file.close()


def recover(options: argparse.Namespace) -> int:
    from node import recover as recovery
    from node.repair import config_beside

    data_dir = options.data_dir
    config = config_beside(data_dir, options.config)
    password = os.environ.get(PASSWORD_VARIABLE, config.client.requirepass)
    done = recovery.recover(data_dir, config, password, _say, new_cluster=options.new_cluster)
    if not done:
        _say(
            "nothing was done. --new-cluster makes a new cluster of this, for good: only when no "
            "majority of the old one will ever be back, and with the node that has the most"
        )
        return 1
    _say(
        f"start {config.node.id}; then seat others, empty and with join = true: "
        f"`trimaran member add`. Never start the old nodes again"
    )
    return 0
