"""The supervisor behind `trimaran cluster`: N node processes in the foreground.

       spawn ------> running ------> ready            "ready" on the node's stdout
         ^              |              |
         |              +---- died ----+---> reported
         +-- back-off --+                    (--no-restart: stays down)

    stdout and stderr of n1 ---> "n1 | line" ---> a writer thread ---> our stdout

Invariants:
  cluster.json names the processes that run, at all times: it is replaced after each start
  (before anything the new process says is passed on) and after each death (pid null).
  `cluster ready` is printed once, on a line of its own, when every node has been ready.
  SIGINT, SIGTERM or SIGHUP stops everything within 5 s: SIGTERM to each, SIGKILL after 4 s.
  A second one kills at once.
  A node that cannot start at all (exit code 2 or 3 before it ever was ready) ends the whole
  command with that code: restarting would not mend a bad config or a port in use.
  Exit code 70 is reported with the node's own last line; the next try is seconds away.
  A node that joins a cluster that was founded without it (node.cluster_plan) is seated as
  `trimaran member add` does it, in a thread, until it is.
  Nodes never wait for whoever reads our output (node.cluster_output).

When the supervisor itself is killed, its nodes are killed with it (node.orphan).

Does not do: know what a node stores, choose leaders, rotate output.

Proved by: tests/node/test_cluster_supervisor.py
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from node.cli_members import Asked, add
from node.cluster_child import Child
from node.cluster_lab import ClusterLab
from node.cluster_output import Output
from node.cluster_plan import Options, claim, config_path, plan, write_config, write_state
from node.config import Config
from statemachine.errors import DiskFailed, KVError, Unavailable
from statemachine.fs import Disk

__all__ = ["NODE_PROGRAM", "run"]

SEAT_WITHIN_S: Final = 2.0
"""One try; a stop waits no longer for it."""
EXIT_FATAL: Final = 70
EXITS_HOPELESS: Final = (2, 3)
"""Usage and configuration, port in use: what a second try would not mend."""

KILL_AFTER_S: Final = 4.0
GIVE_UP_S: Final = 4.7
"""A process that a disk holds in the kernel outlasts SIGKILL; we do not."""
BACKOFF_MIN_S: Final = 0.2
BACKOFF_MAX_S: Final = 5.0
BACKOFF_FATAL_MIN_S: Final = 5.0
BACKOFF_FATAL_MAX_S: Final = 60.0

# -P: a folder called `node` where the user happens to stand is not our package.
NODE_PROGRAM: Final = (sys.executable, "-P", "-m", "node", "serve")
"""What runs one node; `--config FILE` is put behind it."""


def run(options: Options) -> int:
    """Run the cluster until it is told to stop; return the exit code.

    Raises:
        ConfigError, Unavailable, Fatal: it cannot start; nothing is running.
    """
    # What is stored, and the secrets in the configurations, are nobody else's business.
    os.umask(0o077)
    _share_processors()
    configs = plan(options)
    disk = Disk()
    lock = claim(options, configs, disk)
    try:
        return asyncio.run(_supervise(options, configs, disk))
    finally:
        lock.release()


def _share_processors() -> None:
    """Linux: whom one of our nodes wakes does not push it off its processor before it waits itself.

    Nodes inherit it: 3-6 % of everything on two cores (2026-11-28). On machines of their own they
    would only wait for whatever else runs there, so they do not do it by themselves.
    """
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


async def _supervise(options: Options, configs: list[Config], disk: Disk) -> int:
    return await _Supervisor(options, configs, disk).run()


class _Supervisor:
    """Lives in one asyncio.run: everything below happens in the loop's thread."""

    def __init__(self, options: Options, configs: list[Config], disk: Disk) -> None:
        self._options = options
        self._configs = configs
        self._disk = disk
        self._children = [
            Child(config, config_path(options.data_dir, config)) for config in configs
        ]
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._out = Output(lambda: self._loop.call_soon_threadsafe(self._stop.set))
        self._exit_code = 0
        self._announced = False
        self._lab = ClusterLab(configs, self._children) if options.lab else None

    async def run(self) -> int:
        loop = self._loop
        if self._lab is not None:
            for config in await self._lab.start():
                write_config(self._options.data_dir, config, self._disk)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._asked_to_stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # Under nohup it stays ignored.
            loop.add_signal_handler(signal.SIGHUP, self._asked_to_stop)
        # NB: not asyncio's subprocesses: those count a process as ended only when its pipes are
        # closed (see the invariants of node.cluster_child).
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        newcomers = [child for child in self._children if child.config.node.join]
        seating = asyncio.create_task(self._seat(newcomers))
        lives = [asyncio.create_task(self._keep_alive(child)) for child in self._children]
        ended: asyncio.Future[object] = asyncio.ensure_future(asyncio.gather(*lives))
        stop: asyncio.Future[object] = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([ended, stop], return_when=asyncio.FIRST_COMPLETED)
            self._stop.set()
            seating.cancel()
            if self._lab is not None:
                await self._lab.stop()
            self._signal_all(signal.SIGTERM)
            killer = loop.call_later(KILL_AFTER_S, self._signal_all, signal.SIGKILL)
            await asyncio.wait([ended], timeout=GIVE_UP_S)
            killer.cancel()
            if ended.done():
                ended.result()  # A bug of ours is not to be swallowed.
        finally:
            # Whatever went wrong above, nothing is left running.
            self._signal_all(signal.SIGKILL)
        stuck = [str(child.pid) for child in self._children if child.pid]
        if stuck:
            self._say(f"SIGKILL sent, but the kernel still holds: pid {', '.join(stuck)}")
        self._say("cluster stopped")
        self._out.close()
        return self._exit_code

    async def _seat(self, newcomers: Sequence[Child]) -> None:
        """Have the nodes seated that join, one after the other; again until it is done."""
        founders = [child.config for child in self._children if child not in newcomers]
        addresses = [config.member.client for config in founders]
        password = founders[0].client.requirepass if founders else ""
        asked = Asked(addresses, password, SEAT_WITHIN_S)
        for child in newcomers:
            while not self._stop.is_set():
                try:
                    member = child.config.member
                    await asyncio.to_thread(add, asked, member, wait=True, say=lambda text: None)
                    break
                except KVError as error:
                    if not isinstance(error, Unavailable):
                        self._say(f"{child.id} is not seated: {error}")
                    await asyncio.sleep(BACKOFF_MIN_S)

    async def _keep_alive(self, child: Child) -> None:
        """Start the node, and start it again when it dies, until the cluster stops."""
        while not self._stop.is_set():
            code = await self._live(child)
            self._write_state()
            held = self._lab.held(child.id) if self._lab is not None else None
            if held is not None:
                self._say(f"{child.id} was killed; it stays down until it is started again")
                await held.wait()
                continue
            if self._stop.is_set():
                return
            delay_s = self._after_death(child, code)
            if delay_s is None:
                return
            try:
                await asyncio.wait_for(self._stop.wait(), delay_s)
            except TimeoutError:
                continue

    async def _live(self, child: Child) -> int:
        """One life of a node's process; its exit code, negative when a signal ended it."""
        try:
            pipe = child.start(NODE_PROGRAM)
        except OSError as error:  # No memory, no more processes: the other nodes go on.
            child.last_line = f"cannot be started: {error}"
            self._say(f"{child.id} {child.last_line}")
            return 1
        assert child.exited is not None
        self._write_state()
        self._loop.add_reader(pipe, self._read, child, pipe)
        child.poll()  # SIGCHLD may have come before there was a future to tell.
        try:
            return await child.exited
        finally:
            self._loop.remove_reader(pipe)
            self._pass_on(child, child.finish())

    def _after_death(self, child: Child, code: int) -> float | None:
        """Report it. How long to wait before the next start, None for never."""
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended, code {code}"
        if code == EXIT_FATAL:
            how = f"stopped itself (code {code}): {child.last_line or 'it did not say why'}"
        if code in EXITS_HOPELESS and not child.ever_ready:
            self._say(f"{child.id} {how}: {child.last_line or 'it did not say why'}")
            self._exit_code = code
            self._stop.set()
            return None
        if not self._options.restart:
            self._say(f"{child.id} {how}; not restarted (--no-restart)")
            if not any(other.pid for other in self._children):
                self._say("no node is left")
                self._exit_code = code if code == EXIT_FATAL else 3
            return None
        low_s, high_s = BACKOFF_MIN_S, BACKOFF_MAX_S
        if code == EXIT_FATAL:
            low_s, high_s = BACKOFF_FATAL_MIN_S, BACKOFF_FATAL_MAX_S
        again = 0.0 if child.was_ready else child.backoff_s * 2
        child.backoff_s = min(max(low_s, again), high_s)
        self._say(f"{child.id} {how}; restarting in {child.backoff_s:g} s")
        return child.backoff_s

    def _reap(self) -> None:
        """Some child ended: find out which, and wake who waits for it."""
        for child in self._children:
            child.poll()

    def _read(self, child: Child, pipe: int) -> None:
        try:
            lines = child.read()
        except BlockingIOError:
            return
        if lines is None:
            self._loop.remove_reader(pipe)
        else:
            self._pass_on(child, lines)

    def _pass_on(self, child: Child, lines: Sequence[str]) -> None:
        for line in lines:
            self._out.pass_on(f"{child.id} | {line}")
            if line == "ready" and not child.was_ready:
                child.was_ready = child.ever_ready = True
                self._announce()

    def _announce(self) -> None:
        """Once, when all are ready: how to connect, and that it is ready."""
        if self._announced or not all(child.was_ready for child in self._children):
            return
        self._announced = True
        self._say("")
        for child in self._children:
            member = child.config.member
            where = f"redis-cli -p {member.client.port}"
            self._say(f"  {child.id}   {where:<20}   {child.config.node.data_dir}")
        first = self._configs[0].member.client
        self._say("")
        self._say(f"  trimaran status --connect {first}      Ctrl-C stops all nodes")
        page = self._lab.address if self._lab is not None else self._configs[0].member.http
        if self._lab is not None or self._configs[0].http.enabled:
            self._say(f"  http://{page}/      the {'laboratory' if self._lab else 'dashboard'}")
        if self._lab is not None:
            self._lab.begin_load()
        self._say("cluster ready")

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():  # Asked twice: no more patience.
            self._signal_all(signal.SIGKILL)
        self._stop.set()

    def _signal_all(self, number: signal.Signals) -> None:
        for child in self._children:
            child.signal(number)

    def _write_state(self) -> None:
        pids = {child.id: child.pid for child in self._children}
        try:
            write_state(self._options.data_dir, self._configs, pids, self._disk)
        except DiskFailed as error:
            # The nodes decide for themselves what a full disk means; this file is not worth them.
            self._say(f"cluster.json is out of date: {error}")
        if self._lab is not None:
            self._lab.changed()

    def _say(self, text: str) -> None:
        self._out.say(text)
