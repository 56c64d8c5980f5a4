"""One node as a child process of the supervisor: its pipe, its lines, its end.

    start() ---> pid, pipe ---> read() ... ---> poll() is a code ---> finish()

Invariants:
  The end of the process is told by waitpid alone (`poll`), not by the end of its output: a helper
  that a killed node left behind may hold the pipe for as long as it likes.
  A line is handed on once, whole; one that is longer than 64 KiB is cut, so that nothing here
  grows without bound.
  A signal goes to this process or to nobody: never to another one that got its number later.

When the supervisor itself is killed, its nodes are killed with it (node.orphan).

Does not do: decide when to start or stop (node.cluster).

Proved by: tests/node/test_cluster_supervisor.py
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from node.config import Config
from node.orphan import SUPERVISOR_VARIABLE

__all__ = ["Child", "environment"]

LINE_BYTES_MAX: Final = 64 * 1024


class Child:
    """A node: its configuration, and the process that runs it now, if any.

    Args:
        path: where its configuration was written.
    """

    def __init__(self, config: Config, path: Path) -> None:
        self.id = config.node.id
        self.config = config
        self.exited: asyncio.Future[int] | None = None
        """The exit code of this life, negative when a signal ended it."""
        self.was_ready = False
        """In this life of the process."""
        self.ever_ready = False
        self.last_line = ""
        """The last thing that it said in this life."""
        self.backoff_s = 0.0
        self._path = path
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._unfinished = b""

    @property
    def pid(self) -> int | None:
        """None while no process runs."""
        if self._process is None or self.exited is None or self.exited.done():
            return None
        return self._process.pid

    def start(self, program: Sequence[str]) -> int:
        """Start the process; the descriptor of its output, to be waited for.

        Raises:
            OSError: the system has no room for it. Nothing was started.
        """
        self.was_ready, self.last_line, self._unfinished = False, "", b""
        self._process = subprocess.Popen(
            [*program, "--config", str(self._path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(),
            # Its own session: Ctrl-C in the terminal is for the supervisor, which stops the nodes.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        self.exited = asyncio.get_running_loop().create_future()
        return self._pipe

    def poll(self) -> None:
        """If the process has ended, say so to whoever waits for `exited`."""
        if self._process is None or self.exited is None or self.exited.done():
            return
        code = self._process.poll()
        if code is not None:
            self.exited.set_result(code)

    def read(self) -> list[str] | None:
        """Lines that have come since; None at the end of the output.

        Raises:
            BlockingIOError: there is nothing (more) to read now.
        """
        data = os.read(self._pipe, LINE_BYTES_MAX)
        if not data:
            return None
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        if len(self._unfinished) > LINE_BYTES_MAX:
            lines.append(self._unfinished)
            self._unfinished = b""
        return self._kept(lines)

    def finish(self) -> list[str]:
        """After the end: what was still in the pipe. The next `start` may follow."""
        lines: list[str] = []
        try:
            while (more := self.read()) is not None:
                lines += more
        except BlockingIOError:
            pass  # Somebody else still holds the pipe; what it says is not the node's.
        lines += self._kept([self._unfinished])
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        return lines

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process has ended."""
        if self._process is not None:
            self._process.send_signal(number)  # Polls first, so the number is still its own.

    def _kept(self, lines: Sequence[bytes]) -> list[str]:
        texts = [line.decode("utf-8", "replace").rstrip() for line in lines]
        texts = [text for text in texts if text]
        if texts:
            self.last_line = texts[-1]
        return texts


def environment() -> dict[str, str]:
    """Ours, and what makes `-m node` find this very package, and die with us."""
    root = str(Path(__file__).resolve().parents[1])
    paths = [root, os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUNBUFFERED": "1",
        SUPERVISOR_VARIABLE: str(os.getpid()),
    }
