"""`trimaran cluster` as a process under test: started, read, waited for, and always ended.

    with Supervised(tmp_path, "--nodes", "3", standin=True) as cluster:
        cluster.wait_for_line("cluster ready")
        cluster.pid("n1")                          # from cluster.json
    cluster.lines                                  # all that it printed

With `standin` the nodes are tests/support/standin_node.py: the supervisor is real, they are not.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tests.support.ports import free_base_port

ROOT = Path(__file__).resolve().parents[2]

_STANDIN = """
import sys
from node import cli, cluster
cluster.NODE_PROGRAM = (sys.executable, "-P", sys.argv.pop(1))
sys.exit(cli.main())
"""


def wait_until(
    condition: Callable[[], bool], timeout_s: float, what: Callable[[], str] | str = ""
) -> None:
    """Return as soon as `condition` holds; fail when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            said = what() if callable(what) else what
            raise AssertionError(f"not within {timeout_s} s: {said or condition}")
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether there is such a process, and not only its remains."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


class Supervised:
    """One `trimaran cluster` process, its data below `directory`/data."""

    def __init__(
        self, directory: Path, *arguments: str, standin: bool = False, base_port: int | None = None
    ) -> None:
        self.data_dir = directory / "data"
        self.base_port = free_base_port() if base_port is None else base_port
        self.lines: list[str] = []
        program = [sys.executable, "-P", "-m", "node"]
        if standin:
            standin_path = str(ROOT / "tests/support/standin_node.py")
            program = [sys.executable, "-P", "-c", _STANDIN, standin_path]
        self.process = subprocess.Popen(
            [
                *program,
                "cluster",
                "--data-dir",
                str(self.data_dir),
                "--base-port",
                str(self.base_port),
                *arguments,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=directory,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Supervised:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.wait(10)
            raise
        finally:
            self._end_left_over()

    def _end_left_over(self) -> None:
        """Kill nodes that a failed test left running: those that run our own configurations."""
        if not (self.data_dir / "cluster.json").exists():
            return
        for pid in self.pids():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
            except FileNotFoundError:
                continue
            if str(self.data_dir).encode() in words:
                os.kill(pid, signal.SIGKILL)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self.lines.append(line.rstrip("\n"))

    @property
    def text(self) -> str:
        """All that it printed so far."""
        return "\n".join(self.lines)

    def wait(self, timeout_s: float) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(timeout_s)
        self._reader.join(2)
        return code

    def wait_for_line(self, part: str, timeout_s: float = 20, count: int = 1) -> None:
        """Wait until `count` lines hold `part`, or are it."""
        wait_until(
            lambda: sum(part in line for line in self.lines) >= count or self._ended(part),
            timeout_s,
            lambda: f"{part!r} in\n{self.text[-20_000:]}",
        )

    def _ended(self, part: str) -> bool:
        if self.process.poll() is None or self._reader.is_alive():
            return False
        assert part in self.text, f"it ended without saying {part!r}:\n{self.text}"
        return True

    def state(self) -> list[dict[str, object]]:
        """The nodes of cluster.json."""
        nodes = json.loads((self.data_dir / "cluster.json").read_text())["nodes"]
        assert isinstance(nodes, list)
        return nodes

    def pid(self, node: str) -> int | None:
        """The process id of a node, None while it is not running."""
        pid = next(entry["pid"] for entry in self.state() if entry["id"] == node)
        assert pid is None or isinstance(pid, int)
        return pid

    def pids(self) -> list[int]:
        """Those of all that run."""
        return [pid for entry in self.state() if isinstance(pid := entry["pid"], int)]
