"""What configs/packaging says is understood by the program, and accepted by its own tools.

Nothing is built or started here. hadolint and systemd-analyze judge where they are installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from node.cli_parser import build_parser
from node.config import Config

ROOT = Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "configs" / "packaging"


@pytest.mark.parametrize("node_id", ["n1", "n2", "n3"])
def test_the_nodes_of_compose_have_a_configuration_that_starts(node_id: str) -> None:
    text = (PACKAGING / "compose.yaml").read_text()
    settings = re.findall(
        r'"--set", "([^"]+)"', text.split(f"\n  {node_id}:\n")[1].split("volumes:")[0]
    )
    filled = [re.sub(r"\$\{(\w+):\?[^}]*\}", "x" * 40, each) for each in settings]
    config = Config.load(PACKAGING / "compose-node.toml", filled)
    assert config.node.id == node_id
    assert config.client.requirepass
    assert config.peer.secret


def test_compose_is_yaml_with_three_nodes_that_share_nothing() -> None:
    found = yaml.safe_load((PACKAGING / "compose.yaml").read_text())
    services = found["services"]
    assert sorted(services) == ["n1", "n2", "n3"] == sorted(found["volumes"])
    for name, service in services.items():
        assert f"{name}:/data" in service["volumes"]
        assert service["read_only"] is True
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        build_parser().parse_args(service["command"])


def test_the_image_copies_what_is_there_and_does_not_run_as_root() -> None:
    text = (PACKAGING / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    for word in " ".join(copied).split():
        assert (ROOT / word).exists(), word
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["readme"]
    assert needed in text
    assert re.search(r"^USER [1-9]\d*:", text, re.MULTILINE)


def test_hadolint_has_nothing_to_say() -> None:
    beside = Path(sys.executable).parent / "hadolint"
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install -e '.[dev]')")
    done = subprocess.run(
        [hadolint, PACKAGING / "Dockerfile"], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["trimaran.service", "trimaran-backup.service"])
def test_the_units_start_commands_that_there_are(name: str) -> None:
    lines = (PACKAGING / name).read_text().splitlines()
    starts = [line.partition("=")[2].split() for line in lines if line.startswith("ExecStart=")]
    assert starts
    for words in starts:
        assert words[0] == "/opt/trimaran/bin/trimaran"
        build_parser().parse_args(words[1:])


def test_systemd_finds_no_fault_with_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    names = ["trimaran.service", "trimaran-backup.service", "trimaran-backup.timer"]
    for name in names:  # the program and its user are not installed here
        text = (PACKAGING / name).read_text().replace("/opt/trimaran/bin/trimaran", "/bin/true")
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *(tmp_path / name for name in names)],
        capture_output=True,
        text=True,
        timeout=50,
    )
    ours = [line for line in done.stderr.splitlines() if "trimaran" in line]
    assert (done.returncode, ours) == (0, []), done.stderr
