"""A durable key-value machine for one process: WAL, checkpoints, snapshots, leases.

    with FileStateMachine(Path("data")) as machine:
        builder = BatchBuilder()
        builder.put(b"k", b"v")
        machine.apply(1, 1, stamp(builder.build(), now_ms=0))
        assert machine.get(b"k") == b"v"

It knows no network, no Raft library, no clock and no event loop; see README.md for the parts and
FORMAT.md for the bytes. This file only re-exports.
"""

from statemachine.checkpoint import CheckpointConfig
from statemachine.commands import (
    BatchBuilder,
    BatchHead,
    CommandList,
    Condition,
    ExpireCondition,
    LogId,
    SnapshotMetadata,
    WriteCommand,
    read_commands,
    read_head,
    stamp,
    wrap_command,
)
from statemachine.entries import Entry, RecoveryReport, Scan, TornTail
from statemachine.errors import (
    Corrupt,
    DirectoryInUse,
    DiskFailed,
    Fatal,
    KVError,
    OutcomeUnknown,
    Rejected,
    Unavailable,
    Unsupported,
)
from statemachine.frame import KIND_BATCH, KIND_CONFIG, KIND_NOOP, PAYLOAD_BYTES_MAX
from statemachine.fs import Disk, FileSystem
from statemachine.incoming import SnapshotReceiver
from statemachine.machine import FileStateMachine
from statemachine.store import ALREADY_APPLIED, DUPLICATE, GAP, NotRun, Outcome, Refusal, Result
from statemachine.wal_config import WalConfig

__all__ = [
    "ALREADY_APPLIED",
    "DUPLICATE",
    "GAP",
    "KIND_BATCH",
    "KIND_CONFIG",
    "KIND_NOOP",
    "PAYLOAD_BYTES_MAX",
    "BatchBuilder",
    "BatchHead",
    "CheckpointConfig",
    "CommandList",
    "Condition",
    "Corrupt",
    "DirectoryInUse",
    "Disk",
    "DiskFailed",
    "Entry",
    "ExpireCondition",
    "Fatal",
    "FileStateMachine",
    "FileSystem",
    "KVError",
    "LogId",
    "NotRun",
    "Outcome",
    "OutcomeUnknown",
    "RecoveryReport",
    "Refusal",
    "Rejected",
    "Result",
    "Scan",
    "SnapshotMetadata",
    "SnapshotReceiver",
    "TornTail",
    "Unavailable",
    "Unsupported",
    "WalConfig",
    "WriteCommand",
    "read_commands",
    "read_head",
    "stamp",
    "wrap_command",
]
