"""Runs golden scripts: stories of commands, and what they print.

    # What the story is about.
    put c 3
    reopen
    ---
    output

Everything above `---` is run, everything below is compared; GOLDEN_UPDATE=1 records it anew, and a
human reads the diff. Blank lines and lines that begin with `#` are skipped.

    put K V | insert K V TTL_MS | cas K OLD|- NEW | delete K | add K N | noop | again   one entry
    grant ID TTL_MS | hang K V ID | keep ID | revoke ID    leases of many keys, likewise
    at MS          the time of the entries that follow
    fill N         N puts in one chunk
    checkpoint | snapshot | install | reset | flush | close
    sync POLICY    re-open under another sync policy
    tear N         the last N bytes of the newest segment were never written
    flip AT        turn a bit of the newest segment's byte AT; flip image AT: of the checkpoint's
    crash synced | all             the machine dies; what was not synced is lost, or not
    crash synced | all after STEP [N]  it dies in the next command, right after the disk did that
                   step for the N-th time
    grow zeros | garbage N         the newest segment grew by N bytes whose data did not arrive
    hole FROM TO   those bytes of the newest segment were never written, but later ones were
    remove GLOB    files go
    reopen         after kill -9, if nothing else was said: prints what recovery found, or refused
    dump           every file of the directory
    keys           what the machine answers
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable
from pathlib import Path

from statemachine import Entry, Fatal, FileStateMachine, NotRun, WalConfig
from statemachine.dump import dump
from tests.statemachine.batches import (
    add,
    batch_of,
    delete,
    grant,
    insert,
    keep_alive,
    put,
    revoke,
    swap,
)
from tests.support.crash import Crash, MemoryDisk

HOME = Path("/data")


class _Died(Exception):  # The machine dies, the test does not.
    pass


class Story:
    """One script being run."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.wal = WalConfig()
        self.output: list[str] = []
        self.now_ms = 0
        self.machine: FileStateMachine | None = None
        self.last_batch = batch_of()
        self.fatal_step = ""
        self.open()

    def run(self, line: str) -> None:
        name, *words = line.split()
        try:
            getattr(self, f"do_{name}")(*words)
        except _Died:
            self.machine = None
        except Fatal as error:
            if isinstance(error.__cause__, _Died):  # In the background.
                self.machine = None
                return
            self.output.append(f"{type(error).__name__}: {error}")

    def open(self) -> FileStateMachine:
        self.machine = FileStateMachine(HOME, disk=self.disk, wal=self.wal)
        return self.machine

    @property
    def live(self) -> FileStateMachine:
        assert self.machine is not None, "the story goes on without a machine: reopen first"
        return self.machine

    def entry(self, batch: bytes) -> None:
        self.last_batch = batch
        last = self.live.last_applied
        outcome = self.live.apply(last.index + 1, max(last.term, 1), batch)
        if outcome != [True] and outcome != [1]:
            self.output.append(f"-> {outcome}")

    def do_put(self, key: str, value: str) -> None:
        self.entry(batch_of(put((key.encode(), value.encode())), now_ms=self.now_ms))

    def do_insert(self, key: str, value: str, ttl_ms: str) -> None:
        command = insert(key.encode(), value.encode(), ttl_ms=int(ttl_ms))
        self.entry(batch_of(command, now_ms=self.now_ms))

    def do_cas(self, key: str, old: str, new: str) -> None:
        command = swap(key.encode(), None if old == "-" else old.encode(), new.encode())
        self.entry(batch_of(command, now_ms=self.now_ms))

    def do_delete(self, key: str) -> None:
        self.entry(batch_of(delete(key.encode()), now_ms=self.now_ms))

    def do_add(self, key: str, delta: str) -> None:
        self.entry(batch_of(add(key.encode(), int(delta)), now_ms=self.now_ms))

    def do_grant(self, lease_id: str, ttl_ms: str) -> None:
        self.entry(batch_of(grant(int(ttl_ms), int(lease_id)), now_ms=self.now_ms))

    def do_hang(self, key: str, value: str, lease_id: str) -> None:
        command = insert(key.encode(), value.encode(), lease=int(lease_id))
        self.entry(batch_of(command, now_ms=self.now_ms))

    def do_keep(self, lease_id: str) -> None:
        self.entry(batch_of(keep_alive(int(lease_id)), now_ms=self.now_ms))

    def do_revoke(self, lease_id: str) -> None:
        self.entry(batch_of(revoke(int(lease_id)), now_ms=self.now_ms))

    def do_again(self) -> None:
        last = self.live.last_applied
        outcome = self.live.apply(last.index, last.term, self.last_batch)
        self.output.append(f"-> {outcome.name if isinstance(outcome, NotRun) else outcome}")

    def do_noop(self) -> None:
        last = self.live.last_applied
        self.live.skip(last.index + 1, last.term + 1)

    def do_at(self, now_ms: str) -> None:
        self.now_ms = int(now_ms)

    def do_fill(self, count: str) -> None:
        last = self.live.last_applied
        self.live.apply_chunk(
            [
                Entry.batch(last.index + n, max(last.term, 1), batch_of(put((b"f%d" % n, b"x"))))
                for n in range(1, int(count) + 1)
            ]
        )

    def do_checkpoint(self) -> None:
        self.live.checkpoint()

    def do_snapshot(self) -> None:
        self.live.generate_snapshot()

    def do_install(self) -> None:
        metadata = self.live.snapshot_metadata
        assert metadata is not None
        place = f"{metadata.last_included.index:020d}@{metadata.last_included.term:020d}"
        self.live.apply_snapshot_from_file(metadata, HOME / "snapshot" / place)

    def do_reset(self) -> None:
        self.live.reset()

    def do_flush(self) -> None:
        self.live.flush()

    def do_close(self) -> None:
        self.live.close()
        self.machine = None

    def do_sync(self, policy: str) -> None:
        self.live.close()
        self.wal = WalConfig(sync=policy)  # type: ignore[arg-type]
        self.open()

    def do_crash(self, what: str, after: str = "", step: str = "", times: str = "1") -> None:
        crash = Crash[what.upper()]
        if not after:
            self.machine = None
            self.disk = self.disk.crashed(crash)
            return

        left = [int(times)]

        def on_step(name: str) -> None:
            left[0] -= name == step
            if not left[0]:
                self.disk = self.disk.crashed(crash)
                raise _Died

        self.disk.on_step = on_step

    def newest(self, directory: str) -> Path:
        return HOME / directory / self.disk.list_dir(HOME / directory)[-1]

    def change(self, path: Path, change: Callable[[bytearray], object]) -> None:
        self.machine = None
        content = bytearray(self.disk.content(path))
        change(content)
        self.disk = self.disk.crashed(Crash.ALL)
        self.disk.overwrite(path, bytes(content))

    def do_tear(self, count: str) -> None:
        tail = slice(-int(count), None)
        self.change(self.newest("wal"), lambda content: content.__delitem__(tail))

    def do_flip(self, where: str, at: str = "") -> None:
        path = self.newest("checkpoint" if at else "wal")
        offset = int(at or where)
        self.change(path, lambda content: content.__setitem__(offset, content[offset] ^ 1))

    def do_hole(self, start: str, stop: str) -> None:
        span = slice(int(start), int(stop))
        zeros = bytes(span.stop - span.start)
        self.change(self.newest("wal"), lambda content: content.__setitem__(span, zeros))

    def do_grow(self, what: str, count: str) -> None:
        filler = b"\0" if what == "zeros" else b"\xa5"
        self.change(self.newest("wal"), lambda content: content.extend(filler * int(count)))

    def do_remove(self, pattern: str) -> None:
        self.machine = None
        self.disk = self.disk.crashed(Crash.ALL)
        for path in self.disk.files():
            if fnmatch.fnmatch(str(path.relative_to(HOME)), pattern):
                self.disk.unlink(path)

    def do_reopen(self) -> None:
        self.machine = None
        self.disk = self.disk.crashed(Crash.ALL)
        report = self.open().recovery_report
        if report.torn is not None:
            torn = report.torn
            self.output.append(
                f"dropped torn tail: {torn.dropped_bytes} bytes at {torn.offset_bytes} of "
                f"{torn.path.relative_to(HOME)}: {torn.reason}"
            )
        for name in report.removed:
            self.output.append(f"removed {name}")
        image = report.checkpoint.relative_to(HOME) if report.checkpoint else "no checkpoint"
        last = self.live.last_applied
        self.output.append(
            f"recovered {last.index}@{last.term} from {image} and {report.frames_applied} frames"
        )

    def do_dump(self) -> None:
        for path in self.disk.files():
            if path.name in ("LOCK", "snapshot.bin"):
                continue
            self.output.append(f"== {path.relative_to(HOME)}")
            self.output += dump(path, disk=self.disk)

    def do_keys(self) -> None:
        items = self.live.scan_prefix(b"").items
        shown = [
            f"{key.decode()}={value.decode()}"
            + (f"/{self.live.deadline_ms(key)}" if self.live.deadline_ms(key) else "")
            for key, value in items
        ]
        last = self.live.last_applied
        self.output.append(f"{last.index}@{last.term}: {' '.join(shown) or 'no keys'}")


def check_script(path: Path) -> None:
    """Run one script and compare, or record when GOLDEN_UPDATE is set."""
    text = path.read_text()
    script, _, want = text.partition("---\n")
    story = Story()
    for line in script.splitlines():
        if line.strip() and not line.startswith("#"):
            story.run(line)
    got = "".join(f"{line}\n" for line in story.output)
    if os.environ.get("GOLDEN_UPDATE"):
        path.write_text(f"{script}---\n{got}")
        return
    assert got == want, f"{path.name}: record with GOLDEN_UPDATE=1 and read the diff"
