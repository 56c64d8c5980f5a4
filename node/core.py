"""The core: one replica put together from its rooms, without any client port.

    data directory   identity -> state machine (recovers) -> journal -> alignment -> membership
    network          links -> introductions -> transport (the fence)
    consensus        raft (PySyncObj) <-> elections, reads, snapshots
    work             batches, expiry, transfer, changes, upkeep    facts: service

Who calls whom when something happens:

    a peer's message   introductions, transport.receive, then journal.flush  (links.received)
    another roster     raft, transport, journal, links: whom they count and talk to (_on_members)
    journal synced     transport.on_durable; a tick if that lets something be committed
    a tick's progress  batches.deliver, reads.advance
    an entry applied   expiry.applied, batches.applied
    role, leader, term expiry, batches, reads, transfer, changes, snapshots .on_change
    every TICK_S       raft, elections, reads, batches, expiry, transfer, changes, upkeep,
                       snapshots .tick

One door for failure: whatever Fatal (or bug) comes out of any of these ends the core, once:
the timer stops, nobody is answered any more, `on_failure` is told. What was acknowledged is in
the journals of a majority; only a restart, which reads it all again, may vouch for this one.

Disk, clock and randomness are handed in.

A crash at any point of `start` leaves a directory that starts again (identity, node.raft).

Proved by: tests/node/test_node.py, tests/cluster
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from node import tls, wire
from node.batches import Batches
from node.changes import PARTING_S, Changes
from node.clock import Clock
from node.config import Config, Member
from node.elections import Elections
from node.entry import config_payload
from node.errors import Fatal, KVError, Unavailable
from node.expiry import Expiry
from node.identity import Identity
from node.introductions import Introductions
from node.journal import FileJournal
from node.journal_files import JournalFiles, TermFile
from node.links import LinkEvents, Links
from node.logs import EventLog, Watch, what, where
from node.members_file import MEMBERS_FILE
from node.membership import Membership, Removed
from node.meters import Histogram
from node.raft import TICK_S, Raft, RaftEvents, align
from node.reads import Reads
from node.roster import Roster
from node.service import Service
from node.snapshots import WINDOW_BYTES, Snapshots
from node.transfer import Transfer
from node.transport import FencedTransport
from node.upkeep import Upkeep
from node.worker import Worker
from statemachine import CheckpointConfig, FileStateMachine, WalConfig
from statemachine.commands import BatchHead
from statemachine.fs import FileSystem
from statemachine.history import HistoryConfig

__all__ = ["Core"]

_WIRE_ROOM_BYTES: Final = 1024
"""What an entry needs in its frame beside its batch, at most."""


class Core:
    """One replica. Make it in a running loop, then `start` it.

    Args:
        on_failure: told once of the error that ended the core.
        drain: lets clients go with their answers, before a removed node ends.
        watch: told every event that is logged (node.logs).

    Raises:
        ConfigError, Fatal: the data directory is not ours, not sound, or in use.
    """

    def __init__(
        self,
        config: Config,
        *,
        disk: FileSystem,
        clock: Clock,
        rng: random.Random,
        on_failure: Callable[[Exception], None],
        drain: Callable[[], Awaitable[None]] | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.config = config
        self.log = EventLog(config.node.id, watch)
        self.lag = Histogram()
        """By how much the timer came late (s): how long this process did something else."""
        self._loop = asyncio.get_running_loop()
        self._disk = disk
        self._clock = clock
        self._rng = rng
        self._on_failure = on_failure
        self._drain = drain
        self._draining: asyncio.Task[None] | None = None
        self._ended = False
        self._stopped = False
        self._started = False
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._ticked_s = 0.0
        self._leaving_until_s: float | None = None
        self._leaving_reason = ""
        self._ready_term = 0
        """The last term in which this node led and had an entry of that term committed."""
        self.identity = Identity(
            config.node.data_dir,
            config.node.id,
            [each.id for each in config.members],
            disk,
            joined=config.node.join,
        )
        with contextlib.ExitStack() as undo:
            undo.callback(self.identity.release)
            self._open_machine()
            undo.callback(self.machine.close)
            self._open_journal()
            undo.callback(self.journal.abandon)
            align(self.journal, self.machine, self.log)
            self._open_membership()
            undo.callback(self._members_worker.close)
            self._connect()
            undo.pop_all()

    # -- putting together -------------------------------------------------------------------

    def _open_machine(self) -> None:
        config = self.config
        self.machine = FileStateMachine(
            config.node.data_dir,
            wal=WalConfig(
                sync=config.wal.sync,  # type: ignore[arg-type]  # checked by node.config
                interval_ms=config.wal.interval_ms,
                segment_bytes_max=config.wal.segment_bytes_max,
            ),
            checkpoint=CheckpointConfig(
                entries=config.checkpoint.entries,
                bytes=config.checkpoint.bytes,
                interval_ms=config.checkpoint.interval_ms,
            ),
            history=HistoryConfig(
                bytes_max=config.history.bytes_max, entries_max=config.history.entries_max
            ),
            disk=self._disk,
            monotonic=self._clock.monotonic,
            lock=False,
        )
        report = self.machine.recovery_report
        if report.torn is not None:
            torn = report.torn
            where = f"{torn.path.name}: {torn.dropped_bytes} bytes at {torn.offset_bytes}"
            self.log.warning("wal: torn tail cut", where=where, reason=torn.reason)
        self.log.info(
            "state recovered",
            index=self.machine.last_applied.index,
            keys=len(self.machine),
            replayed=report.frames_applied,
        )

    def _open_journal(self) -> None:
        config, disk = self.config, self._disk
        directory = config.node.data_dir / "journal"
        files = JournalFiles(directory, disk, config.journal.segment_bytes_max)
        term_file = TermFile(directory / "term", disk)
        self.journal = FileJournal(
            files,
            term_file,
            call_soon_threadsafe=self._soon_threadsafe,
            on_durable=self._on_durable,
            on_failure=self._fail,
            settled_index=self.machine.last_applied.index,
            memory_bytes=config.journal.memory_bytes,
        )
        if files.torn is not None:
            self.log.warning("journal: torn tail cut", where=files.torn)
        if term_file.damage is not None:
            self.log.warning("one copy of the term is damaged, mended", reason=term_file.damage)

    def _open_membership(self) -> None:
        config = self.config
        founding = Roster.founded_by(config.members)
        if self.identity.joined:
            founding = Roster.founded_by(config.others, index=-1)
        self._members_worker = Worker(
            "members-sync",
            call_soon_threadsafe=self._soon_threadsafe,
            on_failure=self._fail,
        )
        self.membership = Membership(
            config.node.id,
            self.identity.incarnation,
            founding,
            path=config.node.data_dir / MEMBERS_FILE,
            disk=self._disk,
            term_at=lambda index: self.journal.term_at(index) if self.journal else None,
            on_change=self._on_members,
            on_settled=lambda: self._soon(self._on_members),
            on_removed=self._leave,
            is_joined=self.identity.joined,
            settled_index=self.machine.last_applied.index,
            do=self._members_worker.do,
            on_saved=self._on_saved,
        )
        self.journal.hold_index = lambda: self.membership.hold_index
        self.journal.has_pending_roster = lambda: not self.membership.is_settled
        self.membership.recall([each for each in self.journal if config_payload(each[0])])
        if self.membership.is_waiting:
            self.log.warning("no member", reason="waits to be seated: `trimaran member add`")
        if config.lab.equal_timeouts:
            self.log.warning("equal election timeouts allowed", reason="votes split: lab only")

    def _connect(self) -> None:
        config, clock, roster = self.config, self._clock, self.membership.current
        linked = self._addresses(roster)
        peer_ids = list(linked)
        self.links = Links(
            config.member,
            tuple(linked.values()),
            epoch=self.identity.epoch,
            secret=config.peer.secret,
            tls=tls.load(config.peer, config.node.id, self._disk, clock.wall_ms()),
            frame_bytes_max=config.peer.frame_bytes_max,
            # Entries stop at the configured size (node.leading). Beyond it there is room for what
            # was begun, a snapshot's window and forwarded batches: who lets more pile up is gone.
            send_buffer_bytes_max=config.peer.send_buffer_bytes_max
            + 4 * config.peer.frame_bytes_max
            + 2 * WINDOW_BYTES,
            redial_s=config.peer.redial_ms / 1000,
            listen=config.lab.listen,
            log=self.log,
            events=LinkEvents(
                up=self._link_up,
                down=self._link_down,
                message=self._on_message,
                received=self.journal.flush,
            ),
        )
        self.transport = FencedTransport(
            peer_ids,
            self.links,
            self.journal,
            heartbeat_s=config.raft.heartbeat_ms / 1000,
            send_buffer_bytes_max=config.peer.send_buffer_bytes_max,
            monotonic=clock.monotonic,
            call_later=self._later,
            log=self.log,
        )
        self.raft = Raft(
            config.node.id,
            sorted(roster.voters - {config.node.id}),
            journal=self.journal,
            machine=self.machine,
            transport=self.transport,
            clock=clock,
            token_path=config.node.data_dir / "journal" / "token",
            heartbeat_s=config.raft.heartbeat_ms / 1000,
            fallback_s=2 * config.raft.election_timeout_max_ms / 1000,
            entry_bytes_max=config.proposal_bytes_max,
            call_soon=self._soon,
            events=RaftEvents(
                applied=self._on_applied,
                change=self._on_change,
                progress=self._on_progress,
                failure=self._fail,
                settled=self.membership.settle,
            ),
        )
        self.log.place = lambda: (self.raft.term(), self.raft.applied_index())
        self.transport.watch(self.membership)
        self.introductions = Introductions(
            self.membership,
            self.links,
            admitted=self.transport.link_up,
            receive=lambda peer_id, message: self.transport.receive(peer_id, message),
            log=self.log,
            settled_index=lambda: self.machine.last_applied.index,
        )
        self._connect_rooms()

    def _connect_rooms(self) -> None:
        config, clock, raft = self.config, self._clock, self.raft
        election_min_s = config.raft.election_timeout_min_ms / 1000
        election_max_s = config.raft.election_timeout_max_ms / 1000
        park_s = config.raft.park_ms / 1000
        self.elections = Elections(
            raft,
            self.journal,
            timeout_min_s=election_min_s,
            timeout_max_s=election_max_s,
            quorum=self.membership,
            monotonic=clock.monotonic,
            rng=self._rng,
        )
        self.reads = Reads(
            raft,
            quorum=self.membership,
            call_soon=self._soon,
            monotonic=clock.monotonic,
            lease_s=election_min_s,
            park_s=park_s,
            log=self.log,
        )
        self.snapshots = Snapshots(
            self.machine,
            self.links,
            self.journal,
            term=raft.term,
            settled_index=raft.settled_index,
            follow=self.transport.following.follow,
            installed=self._on_installed,
            worker=Worker(
                "snapshot-sync",
                call_soon_threadsafe=self._soon_threadsafe,
                on_failure=self._fail,
            ),
            log=self.log,
            announce=self.introductions.send_roster,
            room_bytes=lambda: (
                self._disk.free_bytes(config.node.data_dir) - config.disk.reserve_bytes
            ),
            may_install=self.membership.may_install,
        )
        self.batches = Batches(
            self.identity.origin,
            self.identity.epoch,
            raft=raft,
            links=self.links,
            machine=self.machine,
            call_soon=self._soon,
            monotonic=clock.monotonic,
            in_flight_max=config.raft.entries_in_flight_max,
            batch_bytes_max=config.raft.batch_bytes_max,
            proposal_bytes_max=config.proposal_bytes_max - _WIRE_ROOM_BYTES,
            park_s=park_s,
            resend_s=2 * election_max_s,
            log=self.log,
            redirect=lambda: self.service.redirect(),
            is_joined=self.identity.joined,
            others=lambda: [each.id for each in self.members() if each.id != config.node.id],
            frame_bytes_max=config.peer.frame_bytes_max,
        )
        self.expiry = Expiry(raft, self.machine)
        self._connect_orders()

    def _connect_orders(self) -> None:
        config, clock, raft = self.config, self._clock, self.raft
        election_min_s = config.raft.election_timeout_min_ms / 1000
        election_max_s = config.raft.election_timeout_max_ms / 1000
        self.transfer = Transfer(raft, monotonic=clock.monotonic, give_up_s=2 * election_max_s)
        self.changes = Changes(
            raft,
            self.membership,
            self.transfer,
            allows=config.member_refusal,
            on_parted=self._on_members,
            election_timeout_s=election_min_s,
            monotonic=clock.monotonic,
            log=self.log,
        )
        self.upkeep = Upkeep(
            config,
            raft=raft,
            machine=self.machine,
            batches=self.batches,
            transfer=self.transfer,
            disk=self._disk,
            monotonic=clock.monotonic,
            log=self.log,
        )
        self._connect_service()

    def _connect_service(self) -> None:
        self.service = Service(
            self.config,
            raft=self.raft,
            links=self.links,
            machine=self.machine,
            batches=self.batches,
            reads=self.reads,
            transfer=self.transfer,
            upkeep=self.upkeep,
            membership=self.membership,
            changes=self.changes,
            members=self.members,
        )
        self.transport.bind(
            self.raft, self.elections, self.reads, self.snapshots, self.batches.outcomes
        )
        self._on_members()

    # -- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Find the place in the log, listen to peers, begin to tick.

        Raises:
            OSError: the peer address cannot be bound.
            Fatal: what is in the journal cannot be applied; `on_failure` was told why.
        """
        self._started = True
        self.raft.start()
        if self._ended:
            raise Fatal("the node failed while it started")
        await self.links.start()
        self.elections.heard_leader()  # starting took time: nobody is overdue yet
        self._ticked_s = self._clock.monotonic()
        self._on_timer()

    def is_ready(self) -> bool:
        """Whether this node is a member, there is a leader, and it has caught up with it."""
        seated = not self.membership.is_waiting
        return seated and not self._ended and self.raft.is_caught_up()

    async def stop(self) -> None:
        """Stop taking part, and let go of the directory, also after a failure.

        Durability does not depend on it.
        """
        if self._stopped:
            return
        self._stopped = True
        failed = self._ended
        if not failed:
            self._end(Unavailable("the node stops"))
        await self.links.close()
        try:
            with contextlib.ExitStack() as last:  # whatever fails, the directory is let go
                last.callback(self.identity.release)
                last.callback(self.machine.close)
                if failed:
                    self.journal.abandon()
                else:
                    self.raft.close()
        except Fatal as error:
            if not failed:
                raise
            self.log.warning("what has failed does not close well", reason=str(error))

    def _end(self, error: KVError) -> None:
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        self.batches.close(error)
        self.reads.close(error)
        self.transfer.close(error)
        self.changes.close(error)
        self.upkeep.close(error)
        self.snapshots.close()
        self._members_worker.close()

    def _fail(self, error: Exception) -> None:
        if self._ended:
            return
        if isinstance(error, Fatal):
            self.log.error("fatal", reason=str(error))
        else:  # NB: what it says may hold a value that a client sent; see node.logs.
            self.log.error("fatal", reason=what(error), traceback=where(error))
        self.raft.halt()
        try:
            self._end(error if isinstance(error, KVError) else Fatal(f"a bug: {what(error)}"))
        except Fatal as again:
            self.log.warning("what has failed does not close well", reason=str(again))
        finally:  # the door must not stick: what failed may fail again while it ends
            self._closing = self._loop.create_task(self.links.close())
            self._on_failure(error)

    # -- events -------------------------------------------------------------------------------

    def _on_timer(self) -> None:
        if self._ended:
            return
        self._timer = self._loop.call_later(TICK_S, self._on_timer)
        self._watch_loop()
        self._guard(self._tick_rooms)

    def _tick_rooms(self) -> None:
        self.raft.tick()
        if self._ended:
            return
        self.elections.tick()
        self.reads.tick()
        self.batches.tick()
        self.expiry.tick()
        self.transfer.tick()
        self.changes.tick()
        self.upkeep.tick()
        self.snapshots.tick()
        self._part()

    def _watch_loop(self) -> None:
        """Say when this process did nothing for longer than a heartbeat: paused, or blocked."""
        now_s = self._clock.monotonic()
        late_s = now_s - self._ticked_s - TICK_S
        self._ticked_s = now_s
        self.lag.observe(max(late_s, 0.0))
        if late_s * 1000 > self.config.raft.heartbeat_ms:
            self.log.warning("loop was blocked", ms=round(late_s * 1000))

    def _guard(self, work: Callable[..., None], *arguments: object) -> None:
        """Whatever the loop calls goes through here: it would only log an exception."""
        if self._ended:
            return
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001 - the one door
            self._fail(error)

    def _soon(self, work: Callable[[], None]) -> None:
        self._loop.call_soon(self._guard, work)

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        self._loop.call_later(seconds, self._guard, work)

    def _soon_threadsafe(self, work: Callable[..., None], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(self._guard, work, *arguments)

    def _on_message(self, peer_id: str, message: wire.Message) -> None:
        """Raises WireError, for the link: what a peer says is no reason to stop this node."""
        if self._ended:
            return
        try:
            self.introductions.on_message(peer_id, message)
        except wire.WireError:
            raise
        except Exception as error:  # noqa: BLE001 - the one door
            self._fail(error)

    def _on_durable(self) -> None:
        if self._started:
            self._guard(self.transport.on_durable)
            # Alone: nobody's acknowledgement says that there is more.
            if self.raft.has_to_apply() or not self.raft.peer_ids:
                self.raft.kick()

    def _on_saved(self) -> None:
        """members.json is durable: let go what waited for it."""
        if self._started:
            self.introductions.on_members()
            self.transport.on_gate()
            self.raft.kick()

    def _link_up(self, peer_id: str) -> None:
        self._guard(self.introductions.link_up, peer_id)

    def _link_down(self, peer_id: str) -> None:
        self._guard(self._forget_link, peer_id)
        self.raft.kick()

    def _forget_link(self, peer_id: str) -> None:
        self.introductions.link_down(peer_id)
        self.transport.link_down(peer_id)
        self.snapshots.abort(peer_id)

    def _on_members(self) -> None:
        """Another roster is in force: everybody counts and talks to whom it names."""
        if not hasattr(self, "service"):
            return  # found at boot, before there was anybody to tell
        self.changes.settled()
        roster, me = self.membership.current, self.config.node.id
        linked = self._addresses(roster)
        readers = roster.learners | (self.changes.parting & linked.keys())
        self.transport.reconfigure(linked, (roster.voters | readers) - {me})
        self.raft.reconfigure(roster.voters, readers)
        # NB: who was removed, and is seated again, ends all the same: his clients were let go of.
        if self._leaving_until_s is None:
            is_waiting = self.membership.is_waiting
            self.batches.leaving = f"{me} is no member of the cluster" if is_waiting else None
        for peer_id in self.links.members.keys() - linked.keys():
            self.links.remove_peer(peer_id)
        for member in linked.values():
            self.links.add_peer(member)
        if self.raft.is_leader():
            self.transport.show_connected()
        self.introductions.on_members()
        self.raft.kick()

    def _addresses(self, roster: Roster) -> dict[str, Member]:
        """Everybody but us, and where they are.

        Where our own addresses are others than our seat has, the whole cluster was moved (other
        ports for the same directories): then the configuration knows better than the roster.
        """
        config = self.config
        seat = roster.seat(config.node.id)
        found = {each.member.id: each.member for each in roster.seats}
        if seat is not None and seat.member != config.member:
            found |= {each.id: each for each in config.members if each.id in found}
        found.pop(config.node.id, None)
        return found

    def members(self) -> tuple[Member, ...]:
        """Voters and learners by id, and this node, also while it waits to be one."""
        roster, config = self.membership.current, self.config
        found = {
            name: member for name, member in self._addresses(roster).items() if roster.has(name)
        }
        found[config.node.id] = config.member
        return tuple(found[name] for name in sorted(found))

    def _leave(self, reason: str) -> None:
        """Removed: what clients wait for is still carried out, for a moment; then this ends."""
        self.log.warning("removed", reason=reason)
        self._leaving_until_s = self._clock.monotonic() + PARTING_S / 2
        self._leaving_reason = reason
        self._draining = self._loop.create_task(self._let_clients_go(reason))

    async def _let_clients_go(self, reason: str) -> None:
        if self._drain is not None:
            await self._drain()
        self.batches.leaving = reason

    def _part(self) -> None:
        """Raises: Removed, once nobody waits any more, or has waited for too long."""
        until_s, draining = self._leaving_until_s, self._draining
        if until_s is None or draining is None:
            return
        if (draining.done() and self.batches.is_idle) or self._clock.monotonic() > until_s:
            raise Removed(self._leaving_reason)

    def _on_applied(self, head: BatchHead, outcome: Any) -> None:
        self.expiry.applied(head.now_ms)
        self.batches.applied(head, outcome)

    def _on_progress(self) -> None:
        raft = self.raft
        is_new = raft.is_leader() and self._ready_term < raft.term()
        if is_new and raft.committed_in_term() is not None:
            self._ready_term = raft.term()
            self.log.info("leader ready", term=raft.term(), index=raft.commit_index())
        self.service.tell_changes()
        self.batches.deliver()
        self.reads.advance()
        self.transfer.progress()

    def _on_change(self) -> None:
        raft = self.raft
        self.log.info("role", role=raft.role(), term=raft.term(), leader=raft.leader_id())
        if not raft.is_leader():
            self.transport.leading.end()
            self.snapshots.abort_outgoing()
        self.expiry.on_change()
        self.batches.on_change()
        self.reads.on_change()
        self.transfer.on_change()
        self.changes.on_change()

    def _on_installed(self, peer_id: str, term: int, index: int) -> None:
        self.raft.installed(peer_id, term, index)
        self.service.listen_again()
        self.batches.on_snapshot_installed()
        self.reads.advance()
