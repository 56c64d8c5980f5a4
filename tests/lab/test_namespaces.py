"""Namespaces: one way can be cut and the other not, and nothing is left behind."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from node.cli import main
from node.lab.config import ExperimentError
from node.lab.namespaces import Namespaces, why_not
from tests.support.supervised import ROOT

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(why_not() is not None, reason=why_not() or ""),
    pytest.mark.timeout(90),
]

_SEND = """
import socket, sys
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    one.sendto(b"x", (sys.argv[1], 9000))
except OSError:
    pass
"""
_RECEIVE = """
import socket
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.bind(("0.0.0.0", 9000))
one.settimeout(1.0)
print("bound", flush=True)
try:
    print(one.recv(9))
except TimeoutError:
    print("nothing")
"""

_ECHO = """
import socket
with socket.create_server(("0.0.0.0", 9000)) as server:
    print("bound", flush=True)
    one, _ = server.accept()
    one.sendall(b"x" * 60_000)
    one.close()
"""
_ASK = """
import socket, sys, time
begun = time.monotonic()
one = socket.create_connection((sys.argv[1], 9000), timeout=30)
took, size = time.monotonic() - begun, 0
while data := one.recv(65536):
    size += len(data)
print(took, size)
"""


def passes(namespaces: Namespaces, source: str, target: str) -> bool:
    receiver = subprocess.Popen(
        [*namespaces.program(target), sys.executable, "-c", _RECEIVE],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert receiver.stdout is not None
    assert receiver.stdout.readline() == "bound\n"
    send = [*namespaces.program(source), sys.executable, "-c", _SEND, namespaces.host_of(target)]
    subprocess.run(send, check=True)
    said, _ = receiver.communicate(timeout=20)
    return "b'x'" in said


def test_one_way_is_cut_and_the_other_is_not() -> None:
    try:
        namespaces = Namespaces(["n1", "n2"], random.Random(1))
        (wire,) = namespaces.open()
    except ExperimentError as error:
        pytest.skip(str(error))  # root of a sandbox that may not
    try:
        assert passes(namespaces, "n1", "n2")
        wire.direction("n1").hold()
        assert not passes(namespaces, "n1", "n2")
        assert passes(namespaces, "n2", "n1")
        wire.heal()
        assert passes(namespaces, "n1", "n2")
    finally:
        namespaces.close()
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    assert namespaces.name_of("n1") not in listed
    assert shutil.which("ip") is not None


@pytest.mark.cluster
@pytest.mark.stress
def test_an_experiment_runs_on_real_wires(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    namespaces = Namespaces(["n1"], random.Random(1))
    try:
        namespaces.open()
    except ExperimentError as error:
        pytest.skip(str(error))
    finally:
        namespaces.close()
    words = ["lab", "run", str(ROOT / "configs/lab/isolate-leader.toml"), "--runs", "1"]
    words += ["--set", "cluster.wires=namespaces", "--set", "times.run_s=1.5"]
    assert main([*words, "--out", str(tmp_path)]) == 0, capsys.readouterr()


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_packets_are_late_or_lost_and_tcp_mends_it(loss: float) -> None:
    namespaces = Namespaces(["n1", "n2"], random.Random(1), (30.0, 30.0))
    try:
        (wire,) = namespaces.open()
    except ExperimentError as error:
        pytest.skip(str(error))
    try:
        for end in wire.ends:
            wire.direction(end).loss = loss
        server = subprocess.Popen(
            [*namespaces.program("n2"), sys.executable, "-c", _ECHO],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        assert server.stdout.readline() == "bound\n"
        words = [*namespaces.program("n1"), sys.executable, "-c", _ASK, namespaces.host_of("n2")]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        server.communicate(timeout=60)
        connected_s, size = done.stdout.split()
        assert float(connected_s) >= 0.06  # SYN there, SYN-ACK back
        assert int(size) == 60_000
    finally:
        namespaces.close()
