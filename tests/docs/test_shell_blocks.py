"""Every block of shell in the documents is run, as it stands, page by page, in its order.

Goal: what a page says to type works, and prints what the page shows.
Method: a page is one session in a directory of its own and in a network of its own (so that ports
7001.. are free whoever else runs a cluster here); background blocks are waited for, and end with
the page. tests/docs/blocks.py says what a block may ask for. Python blocks of docs/clients.md are
run too, in one namespace.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from node.commands import COMMANDS
from tests.docs.blocks import ROOT, Block, blocks, commands, is_like
from tests.docs.test_pages import PAGES
from tests.support.supervised import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.stress, pytest.mark.timeout(240)]

IN_A_NETWORK = ["unshare", "--net", *(["--map-root-user"] if os.geteuid() else []), "bash", "-c"]

MAKE = """#!/bin/sh
# `make cluster` with the data of this session instead of the checkout's.
exec {make} -C {root} "$@" ARGS="--data-dir $PWD/data"
"""


class Session:
    """A terminal in a directory of its own; every command runs in the same network."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        tools = directory.parent / "tools"
        tools.mkdir()
        make = shutil.which("make")
        (tools / "make").write_text(MAKE.format(make=make, root=ROOT))
        (tools / "make").chmod(0o755)
        bin_ = Path(sys.executable).parent
        self.environment = os.environ | {"PATH": f"{tools}:{bin_}:{os.environ['PATH']}"}
        self.environment.pop("TRIMARAN_CONNECT", None)
        self.started: list[tuple[str, subprocess.Popen[bytes], Path]] = []
        # Holds the network open; its namespace is entered by every command.
        self.holder = subprocess.Popen(
            [*IN_A_NETWORK, "ip link set lo up && echo up && exec sleep 600"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self.holder.stdout is not None
        if self.holder.stdout.readline().strip() != b"up":
            self.close()
            pytest.skip("no network of its own can be made here (unshare, ip)")

    def words(self, text: str) -> list[str]:
        enter = ["nsenter", f"--target={self.holder.pid}", "--net"]
        if os.geteuid():
            enter += ["--user", "--preserve-credentials"]
        return [*enter, "bash", "-c", text]

    def run(self, text: str) -> tuple[int, str]:
        done = subprocess.run(
            self.words(text),
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
        )
        return done.returncode, done.stdout

    def start(self, text: str, until: str) -> None:
        path = self.directory.parent / f"background-{len(self.started)}"
        with path.open("w") as printed:
            process = subprocess.Popen(
                self.words(f"exec {text.strip()}"),
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append((text.strip(), process, path))
        wait_until(lambda: until in path.read_text(), 60, path.read_text)

    def stop(self, text: str) -> None:
        """As Ctrl-C does: SIGINT to all that was started by that command."""
        for name, process, _ in self.started:
            if name == text and process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
                process.wait(30)

    def close(self) -> None:
        for name, process, _ in self.started:
            try:
                self.stop(name)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.holder.kill()
        self.holder.wait()
        if self.holder.stdout is not None:
            self.holder.stdout.close()


def is_needed(block: Block) -> bool:
    need = block.told("needs ")
    if need is None:
        return block.told("not run") is None
    return shutil.which(need) is not None or need.lower().encode() in COMMANDS


def run_block(session: Session, block: Block) -> None:
    stop = block.told("stop ")
    if stop is not None:
        session.stop(stop)
    if block.kind == "python":
        run_python(session, block)
        return
    until = block.told("background ")
    if until is not None:
        session.start(block.text, until)
        return
    if block.kind == "sh":
        code, printed = session.run("set -e\n" + block.text)
        assert code == int(block.told("exits ") or 0), f"{block.place}:\n{printed}"
        return
    found = commands(block)
    for command in found:
        code, printed = session.run(command.text)
        expected = int(block.told("exits ") or 0) if command is found[-1] else 0
        assert code == expected, f"{block.place}: {command.text}\n{printed}"
        if block.told("output differs") is None:
            compare(block, command.text, command.output, printed.splitlines())


def compare(block: Block, text: str, shown: tuple[str, ...], printed: list[str]) -> None:
    where = f"{block.place}: {text}\nshows   {list(shown)}\nprinted {printed}"
    lines = [line for line in printed if line.strip()]
    expected = [line for line in shown if line.strip()]
    for number, line in enumerate(expected):
        if line.strip() == "...":
            return
        assert number < len(lines), where
        assert is_like(line, lines[number]), f"{where}\nline    {line!r}"
    assert len(lines) == len(expected), where


def run_python(session: Session, block: Block) -> None:
    """All Python of a page up to here, so that each block finds the names of those before."""
    before = [each for each in blocks(block.page) if each.kind == "python" and is_needed(each)]
    if block == before[-1]:
        script = session.directory / "page.py"
        script.write_text("\n".join(each.text for each in before))
        code, printed = session.run(f"{sys.executable} {script}")
        assert code == 0, f"{block.place} or before:\n{printed}"


def runs(page: Path) -> list[Block]:
    kinds = ("sh", "console", "python") if page.name == "clients.md" else ("sh", "console")
    return [each for each in blocks(page) if each.kind in kinds and is_needed(each)]


@pytest.mark.parametrize("page", [page for page in PAGES if runs(page)], ids=lambda page: page.name)
def test_what_a_page_says_to_type_works_and_prints_what_it_shows(
    page: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "session"
    directory.mkdir()
    session = Session(directory)
    try:
        if page.name == "clients.md":
            session.start("trimaran cluster", "cluster ready")
        for block in runs(page):
            run_block(session, block)
    finally:
        session.close()
