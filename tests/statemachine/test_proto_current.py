"""The committed protobuf module is what scripts/proto makes of trimaran.proto today."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.message import Message

from statemachine.proto import trimaran_pb2 as pb

ROOT = Path(__file__).resolve().parents[2]


def test_the_committed_module_is_what_the_script_makes(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools.protoc", reason="needs grpcio-tools (extra `test`)")
    environment = os.environ | {"PYTHON": sys.executable}
    subprocess.run([ROOT / "scripts/proto", tmp_path], check=True, env=environment, timeout=30)
    for name in ("trimaran_pb2.py", "trimaran_pb2.pyi"):
        made = (tmp_path / "statemachine/proto" / name).read_text()
        committed = (ROOT / "statemachine/proto" / name).read_text()
        assert made == committed, f"{name} is stale: run scripts/proto"


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (pb.WriteCommand, {"insert": 1, "delete": 2, "compare_and_swap": 3}),
        (pb.WriteCommand.Insert, {"key": 1, "value": 2, "ttl_secs": 3}),
        (pb.WriteCommand.Delete, {"key": 1}),
        (pb.WriteCommand.CompareAndSwap, {"key": 1, "expected_value": 2, "new_value": 3}),
        (pb.LogId, {"term": 1, "index": 2}),
        (pb.SnapshotMetadata, {"last_included": 1, "checksum": 2}),
    ],
    ids=lambda value: getattr(getattr(value, "DESCRIPTOR", None), "name", ""),
)
def test_the_seeds_field_numbers_stand_and_our_own_start_at_16(
    message: type[Message], fields: dict[str, int]
) -> None:
    numbers = {field.name: field.number for field in message.DESCRIPTOR.fields}
    assert {name: numbers[name] for name in fields} == fields
    ours = {name: number for name, number in numbers.items() if name not in fields}
    assert all(number >= 16 for number in ours.values()), ours
