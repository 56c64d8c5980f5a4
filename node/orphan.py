"""A node does not outlive its supervisor, however the supervisor dies.

    trimaran cluster (pid 10) --- TRIMARAN_SUPERVISOR=10 ---> trimaran serve (pid 11)
         | kill -9                                                |
         x  ................... the kernel sends SIGKILL .......> x

Choice (2026-11): PR_SET_PDEATHSIG, asked for by the node itself as soon as it runs,
instead of a pipe on stdin that the node would watch. The kernel does it without the node's
help, so it also ends a node that is paused (SIGSTOP) or whose loop is stuck; and a node
that is started by hand, with a terminal or /dev/null as stdin, needs no special case. Price: it
is Linux's own. Elsewhere a thread looks once a second whether the parent is still the same:
that covers a dead supervisor, not a node that is paused for ever.

SIGKILL, not SIGTERM: a node that will not stop is the case this is here for, and
nothing in a data directory depends on an orderly stop.

Invariants: a supervisor that died before the node asked is noticed too (the parent is
compared after asking). A node that no supervisor started is left alone.

Does not do: restart, reap, tell anybody.

Proved by: tests/node/test_cluster_supervisor.py
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from typing import Final

__all__ = ["SUPERVISOR_VARIABLE", "die_with_supervisor"]

SUPERVISOR_VARIABLE: Final = "TRIMARAN_SUPERVISOR"
"""Environment variable in which the supervisor tells its nodes its process id."""

_PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>


def die_with_supervisor() -> None:
    """Arrange for this process to end with its supervisor. Without one, do nothing.

    Call it from the main thread, before anything is opened. Does not return when the
    supervisor is gone already.
    """
    # Taken out, so that what this process starts is not told of a parent that is not its own.
    text = os.environ.pop(SUPERVISOR_VARIABLE, "")
    if not text.isdecimal():
        return
    supervisor = int(text)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(supervisor,), daemon=True).start()
    # NB: only after asking. A supervisor that dies between the two is seen by one of them.
    if os.getppid() != supervisor:
        os.kill(os.getpid(), signal.SIGKILL)


def _watch(supervisor: int) -> None:
    """End this process within a second of its parent's end."""
    while os.getppid() == supervisor:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGKILL)
