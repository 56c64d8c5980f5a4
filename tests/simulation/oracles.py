"""What must hold, looked at whenever anything happens. The first thing that does not ends the run.

    election    one leader per term; it has every committed entry; a directory votes once per
                term; nobody stands without having been let (PreVote, or a transfer), nor cut off
    log         an (index, term) names one entry and one predecessor; what is committed is never
                truncated, nor another entry at its index
    gate        an acknowledgement never goes beyond what lies on the platter
    apply       in order; each replica the same outcome; that of the model (model.py)
    digest      equal at equal indexes: every few entries, at each boot, and in the end
    vouching    a node with damage in what it promised does not start; one that has failed sends
                and answers nothing
    clients     history.py: nothing lost, nothing twice, linearizable; accounts; leases
    no bug      no exception reaches the loop, no node ends but for a reason that is known

A violation is a line; `World.violate` keeps the first ones and ends the run.

Does not do: liveness (run.py waits for it), histories (judge.py, when all is over).

Proved by: tests/simulation/test_planted.py: each of them finds a bug that is put in on purpose
"""

from __future__ import annotations

import contextlib
import zlib
from typing import TYPE_CHECKING, Any

from node import term_file, wire
from node.entry import KIND_BATCH, NOOP_COMMAND, unwrap
from node.errors import Corrupt
from node.lab.history import OK, Operation
from node.membership import Removed
from statemachine.store import ALREADY_APPLIED, DUPLICATE, GAP
from tests.simulation.loop import Life
from tests.simulation.model import ModelState, agrees

if TYPE_CHECKING:
    from tests.simulation.host import Host, SimJournal
    from tests.simulation.network import Session
    from tests.simulation.world import World

__all__ = ["Oracles"]

DIGEST_EVERY = 8
FALLBACK_SLACK_S = 0.2
BACKLOG_BYTES = 4096
"""What a backlog may have on its way beside it."""
_FROM_LEADERS = frozenset((wire.APPEND, wire.READ_PROBE))
_KIND_AT = wire.LENGTH.size + 1


class Oracles:
    """See the top of the file."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.leaders: dict[int, tuple[str, int]] = {}
        """Term -> (node, which of its processes)."""
        self.votes: dict[tuple[str, str, int], str] = {}
        """(node, incarnation, term) -> who got the vote."""
        self.entries: dict[tuple[int, int], tuple[int, int]] = {}
        """(index, term) -> (checksum, term of the entry before)."""
        self.committed: dict[int, tuple[int, int]] = {}
        """Index -> (term, checksum): applied by somebody."""
        self.last_committed = 0
        self._committed_by: dict[int, int] = {}
        """Index -> the term of who applied it first: it was committed in that one, or before."""
        self.outcomes: dict[int, Any] = {}
        self.digests: dict[int, tuple[str, str]] = {}
        """Index -> (digest, who had it first)."""
        self.model: ModelState | None = ModelState()
        """None: too much of the log was never seen."""
        self.modelled_index = 0
        self._due: dict[int, Any] = {}
        """Outcomes that the model has, and nobody has told of yet."""
        self._heard_s: dict[tuple[str, int], float] = {}
        """(node, process) -> when it heard the leader of its term, by its own clock."""
        self._grants: dict[tuple[str, int], set[str]] = {}
        self._votes_heard: dict[tuple[str, int], set[str]] = {}
        self._transfers: set[tuple[str, int]] = set()
        self._stood: set[tuple[str, int]] = set()
        self._answers: dict[tuple[str, int], tuple[float, dict[str, float]]] = {}
        """(node, process) -> since when it leads, and who answered it when, by its own clock."""

    def _say(self, what: str) -> None:
        self._world.violate(what)

    # -- the wire -----------------------------------------------------------------------------

    def sent(self, life: Life, to: str, frame: bytes, session: Session) -> None:
        """A frame leaves."""
        host = life.host
        if host.failure is not None:
            self._say(f"{host.id} has failed ({host.failure}) and still sends")
        kind = frame[_KIND_AT]
        if kind == wire.VOTE:
            term = wire.decode(frame[wire.LENGTH.size :])[1]
            self._vote(host, term, to)
            self._is_kept(host, term, to)
        elif kind == wire.PRE_GRANT:
            heard_s = self._heard_s.get((host.id, life.number), 0.0)
            bound_s = 0.99 * self._world.plan.election_ms[0] / 1000
            if host.clock.monotonic() - heard_s < bound_s:
                self._say(f"{host.id} lets {to} stand and has just heard a leader")
        elif kind == wire.APPEND:
            self._believes(host)
            self._has_majority(life)
            self._fits(host, to, frame, session)
        elif kind == wire.VOTE_REQUEST:
            _, term, _, _, transfer = wire.decode(frame[wire.LENGTH.size :])
            self._stands(host, term, transfer)
        elif kind == wire.ACK:
            _, term, next_index, _, success = wire.decode(frame[wire.LENGTH.size :])
            if success and host.core is not None:
                following = host.core.transport.following
                if next_index - 1 < following.verified_index:
                    self._world.count("an acknowledgement was held back by the gate")
                durable = host.platter_index
                if next_index - 1 > durable:
                    self._say(
                        f"{host.id} acknowledges {next_index - 1}, {durable} are on its platter"
                    )

    def _vote(self, host: Host, term: int, candidate: str) -> None:
        core = host.core
        if core is None:
            return
        key = (host.id, core.identity.incarnation, term)
        first = self.votes.setdefault(key, candidate)
        if first != candidate:
            self._say(f"{host.id} votes for {first} and for {candidate} in term {term}")

    def _believes(self, host: Host) -> None:
        """What a leader takes for acknowledged lies on that follower's disk."""
        if host.core is None or self._world.members_changed or self._world.wiped:
            return
        for name, follower in host.core.transport.leading._followers.items():
            peer = self._world.hosts[name]
            if peer.core is None or peer.core.raft.term() > host.core.raft.term():
                continue  # it may have truncated since, for another leader (seed 38501)
            durable = peer.platter_index
            if follower.acked_index > durable and host.core.raft.is_leader():
                self._say(
                    f"{host.id} believes that {name} has {follower.acked_index}, "
                    f"which has {durable} on its platter"
                )

    def _has_majority(self, life: Life) -> None:
        """Who leads has been answered by a majority within two election timeouts (P24)."""
        host = life.host
        if host.core is None or self._world.members_changed or not host.core.raft.is_leader():
            return
        now_s = host.clock.monotonic()
        bound_s = 2 * self._world.plan.election_ms[1] / 1000 + FALLBACK_SLACK_S
        since_s, answers = self._answers.get((host.id, life.number), (now_s, {}))
        if now_s - max(since_s, life.resumed_s) < bound_s:
            return
        recent = [name for name, at_s in answers.items() if now_s - at_s < bound_s]
        if not host.core.membership.is_majority(recent):
            self._say(f"{host.id} still leads, and for {bound_s:.2f} s only {recent} answered")

    def _fits(self, host: Host, to: str, frame: bytes, session: Session) -> None:
        """Entries leave once on a connection, unless they are refused (P6), and not behind a full
        send buffer (P25)."""
        _, term, _, previous, _, rows = wire.decode(frame[wire.LENGTH.size :])
        if not rows:
            return
        waiting_bytes = session.waiting_bytes[to]
        if waiting_bytes > host.config.peer.send_buffer_bytes_max + BACKLOG_BYTES:
            self._say(f"{host.id} sends entries to {to}, for whom {waiting_bytes} bytes wait")
        known_term, index, again = session.carried.get(to, (term, 0, 0))
        if term != known_term:
            index = again = 0
        elif previous < index:
            # Once: a link that opens while a term begins is judged twice.
            self._world.count("entries were sent twice on one link")
            again += 1
            if again > 1:
                self._say(f"{host.id} sends {to} entries from {previous + 1} on, {index} were sent")
        session.carried[to] = (term, max(index, previous + len(rows)), again)

    def _is_kept(self, host: Host, term: int, candidate: str) -> None:
        """A vote that leaves is on the platter, at least in one copy."""
        for name in ("term", "term.copy"):
            path = host.data_dir / "journal" / name
            with contextlib.suppress(Exception):
                kept = term_file._decode(path, bytes(host.disk._file(path).synced))
                if kept[0] > term or kept == (term, candidate):
                    return
        self._say(f"{host.id} votes for {candidate} in term {term}, and it is not on its platter")

    def _stands(self, host: Host, term: int, transfer: bool) -> None:
        if (host.id, term) in self._stood:
            return
        self._stood.add((host.id, term))
        self._world.count("an election")
        if sum(1 for _, each in self._stood if each == term) > 1:
            self._world.count("two candidates in one term")
        if transfer:
            self._world.count("an election by transfer")
            if (host.id, term) not in self._transfers:
                self._say(f"{host.id} claims a transfer to term {term} that nobody ordered")
            return
        if any(
            each.core is not None and each.core.snapshots._incoming for each in self._world.up()
        ):
            self._world.count("an election while a snapshot is on its way")
        core = host.core
        grants = self._grants.get((host.id, term), set())
        if core is not None and not core.membership.is_majority(grants):
            if self._world.members_changed and grants:
                return  # who lets whom stand may have been counted by another roster
            self._say(f"{host.id} stands in term {term}, let by {sorted(grants)} only")

    def delivered(self, sender: str, to: str, message: wire.Message) -> None:
        """A frame arrives."""
        kind = message[0]
        if kind in _FROM_LEADERS:
            host = self._world.hosts[to]
            core = host.core
            if (
                core is not None
                and host.life is not None
                and message[1] == core.raft.term()
                and sender in core.introductions._admitted
                and core.raft.leader_id() == sender
            ):
                self._heard_s[to, host.life.number] = host.clock.monotonic()
        elif kind == wire.PRE_GRANT:
            self._grants.setdefault((to, message[1]), set()).add(sender)
        elif kind == wire.VOTE:
            self._votes_heard.setdefault((to, message[1]), set()).add(sender)
        elif kind == wire.TIMEOUT_NOW:
            self._transfers.add((to, message[1] + 1))
            told, self._world.on_hand_over = self._world.on_hand_over, None
            if told is not None:
                told(sender)
        elif kind == wire.SNAPSHOT_CHUNK:
            heard, self._world.on_chunk = self._world.on_chunk, None
            if heard is not None:
                heard(sender, to)
        elif kind == wire.ACK:
            host = self._world.hosts[to]
            if host.life is not None:
                answers = self._answers.get((to, host.life.number))
                if answers is not None:
                    answers[1][sender] = host.clock.monotonic()
        elif kind == wire.STRANGER:
            self._world.count("a stranger was told so")

    def acked(self, host_id: str, peer_id: str) -> int:
        """What a leader takes for acknowledged by that peer."""
        core = self._world.hosts[host_id].core
        if core is None or not core.raft.is_leader():
            return 0
        follower = core.transport.leading._followers.get(peer_id)
        return follower.acked_index if follower is not None else 0

    def handled(self, sender: str, to: str, message: wire.Message, acked_before: int) -> None:
        """An acknowledgement was dealt with: that of another term counts for nothing."""
        core = self._world.hosts[to].core
        if core is None or not core.raft.is_leader():
            return
        if message[1] == core.raft.term():
            if self.acked(to, sender) > core.journal.durable_index:
                self._world.count("a leader's own disk was behind its followers'")
            return
        self._world.count("an acknowledgement of an old term came")
        if self.acked(to, sender) > acked_before:
            self._say(f"{to} counts what {sender} acknowledged in term {message[1]}")

    def hung_up(self, sender: str, to: str, reason: str) -> None:
        """A node took a peer's message for impossible: no sound node sends such a thing."""
        self._say(f"{to} hangs up on {sender}: {reason}")

    def answered(self, life: Life) -> None:
        """A node says something to a client."""
        if life.host.failure is not None:
            self._say(f"{life.host.id} has failed ({life.host.failure}) and still answers")

    # -- terms and logs -------------------------------------------------------------------------

    def leads(self, life: Life, raft: Any) -> None:
        """A node has become the leader of its term."""
        host, term, journal = life.host, raft.term(), raft.journal
        me = (host.id, life.number)
        self._world.trace(f"{host.id} leads term {term}")
        self._answers[me] = (host.clock.monotonic(), {})
        self._world.count("a leader")
        if self.leaders.setdefault(term, me) != me:
            self._say(f"term {term} has two leaders: {self.leaders[term]} and {me}")
        # NB: its own vote counts from here on. A candidate that dies before may vote again.
        self._vote(host, term, host.id)
        voters = self._votes_heard.get((host.id, term), set())
        if host.core is not None and not host.core.membership.is_majority(voters):
            self._say(f"{host.id} leads term {term} by the votes of {sorted(voters)} only")
        # NB: what a later term committed a leader of this one may lack: nobody listens to it.
        before = (each for each, by in reversed(self._committed_by.items()) if by <= term)
        last = next(before, 0)
        if last and journal.last_index < last:
            self._say(f"{host.id} leads term {term} to {journal.last_index}, {last} is committed")
        elif last and self._holds_another(journal, last):
            self._say(
                f"{host.id} leads term {term} with {last}@{journal.term_at(last)}, "
                f"committed is {last}@{self.committed[last][0]}"
            )

    def _holds_another(self, journal: Any, index: int) -> bool:
        is_here = journal.memory_index <= index
        return is_here and journal.term_at(index) != self.committed[index][0]

    def journal_opened(self, life: Life, journal: SimJournal) -> None:
        life.host.platter_index = journal.durable_index

    def synced(self, life: Life, journal: SimJournal, job: Any) -> None:
        """A sync is done: what it covered lies on the platter, if nothing was truncated since."""
        segments = journal._files._segments
        if segments:
            kept = life.host.disk._file(segments[-1].path).synced
            if len(kept) < segments[-1].size_bytes:
                return  # it says so, and the platter has less
        if job.epoch == journal.epoch:
            life.host.platter_index = max(life.host.platter_index, job.last_index)

    def appended(self, life: Life, command: bytes, index: int, term: int) -> None:
        host = life.host
        journal = host.core.journal if host.core is not None else None
        if journal is None or len(journal) < 2:
            return  # while it boots, placeholders; a log begins anew
        checksum = zlib.crc32(command)
        before = journal[-2][2]
        found = self.entries.setdefault((index, term), (checksum, before))
        if found[0] != checksum and index > host.core.raft.settled_index():
            self._say(f"{host.id} appends another entry {index}@{term} than others have")
        elif found[1] != before and index - 1 > journal.first_index:
            self._say(f"{host.id} has {index}@{term} behind term {before}, others {found[1]}")

    def truncated(self, life: Life, journal: SimJournal, first: Any) -> None:
        """A log is truncated from this entry on."""
        _, index, term = first
        life.host.platter_index = min(life.host.platter_index, index - 1)
        self._world.count("a truncation")
        if journal.last_index - index > 1:
            self._world.count("a truncation of several entries")
        segments = journal._files._segments
        if segments and segments[-1].first_index > index:
            self._world.count("a truncation across a segment")
        found = self.committed.get(index)
        if found is not None and found[0] == term:
            self._say(f"{life.host.id} truncates {index}@{term}, which is committed")

    # -- applying -------------------------------------------------------------------------------

    def applied(
        self, life: Life, machine: Any, index: int, term: int, batch: bytes, outcome: Any
    ) -> None:
        """A replica has applied a committed batch."""
        host, world = life.host, self._world
        if outcome is ALREADY_APPLIED:
            return
        checksum = zlib.crc32(batch)
        found = self.committed.setdefault(index, (term, checksum))
        if found != (term, checksum):
            self._say(f"{host.id} applies {index}@{term}, {index}@{found[0]} is committed")
            return
        if index > self.last_committed:
            self.last_committed = index
            terms = self.leaders if host.core is None else (host.core.raft.term(),)
            self._committed_by[index] = max((term, *terms))
            self._is_on_enough_platters(host, index)
        if index in self.outcomes:
            if self.outcomes[index] != outcome:
                self._say(f"{host.id} answers {outcome} at {index}, others {self.outcomes[index]}")
        else:
            self.outcomes[index] = list(outcome) if isinstance(outcome, list) else outcome
            if outcome is DUPLICATE:
                world.count("a duplicate batch")
            elif outcome is GAP:
                world.count("a gap of sequences")
            self._run_model(host, index, batch, outcome)
        if index % DIGEST_EVERY == 0:
            self.digest(host.id, index, machine.digest().hex())

    def _is_on_enough_platters(self, host: Host, index: int) -> None:
        """What somebody takes for committed lies on the disks of a majority."""
        if self._world.members_changed or self._world.wiped or host.core is None:
            return  # by which roster it was counted is more than this one can know
        voters = host.core.membership.current.voters
        holders = [name for name in voters if self._world.hosts[name].platter_index >= index]
        if 2 * len(holders) <= len(voters):
            self._say(f"{host.id} applies {index}, which only {sorted(holders)} have on disk")

    def _run_model(self, host: Host, index: int, batch: bytes, outcome: Any) -> None:
        """In the order of the log, batch by batch.

        A process that died within `apply` told nobody, and recovers the batch from its WAL: then
        it is found in the journal of whoever applies the next one.
        """
        if self.model is None:
            return
        if index <= self.modelled_index:
            due = self._due.pop(index, None)
        else:
            for missing in range(self.modelled_index + 1, index):
                command = self._command_at(host, missing)
                if command is None:
                    self._world.count("the model lost its place")
                    self.model = None
                    return
                kind, payload = unwrap(command)
                if kind == KIND_BATCH:
                    self._due[missing] = self.model.apply(payload, missing)
            self.modelled_index = index
            due = self.model.apply(batch, index)
        if due is not outcome and not (isinstance(due, list) and agrees(due, outcome)):
            self._say(f"batch {index}: the machine says {outcome}, the model {due}")

    @staticmethod
    def _command_at(host: Host, index: int) -> bytes | None:
        core = host.core
        if core is None or not core.journal:
            return None
        place = index - core.journal.memory_index
        if index <= 1:
            return NOOP_COMMAND
        return core.journal[place][0] if 0 <= place < len(core.journal) else None

    def digest(self, who: str, index: int, digest: str) -> None:
        """A replica's whole state at an index."""
        first = self.digests.setdefault(index, (digest, who))
        if first[0] != digest:
            self._say(f"{who} and {first[1]} differ at {index}: {digest[:12]}, {first[0][:12]}")

    # -- processes ------------------------------------------------------------------------------

    def booted(self, host: Host) -> None:
        """A node has started from its directory."""
        core = host.core
        assert core is not None
        index = core.machine.last_applied.index
        self.digest(host.id, index, core.machine.digest().hex())
        if host.damaged:
            self._say(f"{host.id} starts from a directory in which it had promised what is damaged")
        if core.machine.recovery_report.torn is not None:
            self._world.count("a torn tail of the WAL was cut")
        if core.journal._files.torn is not None:
            self._world.count("a torn tail of the journal was cut")

    def installed(self, host: Host, machine: Any) -> None:
        """A snapshot took the place of the state."""
        self._world.count("a snapshot was installed")
        self.digest(host.id, machine.last_applied.index, machine.digest().hex())

    def failed(self, host: Host, error: Exception) -> None:
        """A process ends by itself. It must have a reason that was given it."""
        world = self._world
        text = str(error)
        if isinstance(error, Removed):
            world.count("a removed node stopped")
        elif isinstance(error, Corrupt) and host.damaged:
            world.count("damage was noticed and the node did not start")
        elif host.id in world.disk_failed and (
            "disk" in text or "Input/output" in text or "space" in text
        ):
            world.count("a failed disk stopped its node")
        elif "it was wiped or restored" in text and host.id in world.wiped:
            world.count("a wiped node was refused")
        else:
            self._say(f"{host.id} fails without a reason: {error!r}")

    def ended(self, host: Host) -> None:
        """A process is gone, one way or another."""
        core = host.core
        if core is None:
            self._world.count("a crash while starting")
            return
        if core.snapshots._incoming is not None:
            self._world.count("a crash while a snapshot is received")
        if core.snapshots._is_finishing:
            self._world.count("a crash while a snapshot is installed")
        if core.journal.durable_index < core.journal.last_index:
            self._world.count("a crash with entries that are not durable")
        if not core.journal.term_is_durable:
            self._world.count("a crash while a vote is written")
        if core.raft.is_leader():
            self._world.count("a leader crashed")

    def wiped(self, host: Host) -> None:
        self._world.wiped.add(host.id)

    # -- clients ----------------------------------------------------------------------------------

    def accounts(self, one: int, other: int) -> None:
        if one + other:
            self._say(f"the accounts hold {one} and {other}: a transaction was done by half")

    def granted(self, key: str, ttl_ms: int, done: Operation) -> None:
        """A lease key was written, for the one time."""
        if done.outcome == OK and done.result == b"OK":
            self._world.leases[key] = [done.start_us, done.end_us, ttl_ms, None]

    def looked(self, key: str, found: Operation) -> None:
        """Somebody read a lease key: it is there until its time, and never again."""
        world = self._world
        lease = world.leases[key]
        start_us, end_us, ttl_ms, gone_us = lease
        # What two leaders' clocks may differ by, and this is one more read of each of them.
        slack_us = 1000 * (world.clock_spread_ms + 5) + int(0.1 * ttl_ms * 1000)
        if found.result is None:
            if found.end_us < start_us + ttl_ms * 1000 - slack_us:
                self._say(
                    f"lease {key} of {ttl_ms} ms, granted at {start_us} us, "
                    f"is gone at {found.end_us}"
                )
            if gone_us is None or found.end_us < gone_us:
                lease[3] = found.end_us
        elif gone_us is not None and found.start_us > gone_us:
            self._say(f"lease {key} was gone at {gone_us} us and is back at {found.start_us}")
        elif world.is_calm_since_us and found.start_us > (
            max(end_us + ttl_ms * 1000 + slack_us, world.is_calm_since_us) + 3_000_000
        ):
            self._say(f"lease {key} of {ttl_ms} ms, granted at {end_us} us, is still there")
