"""What docs/install.md says to type on a machine, as far as that can be done without being it.

The systemd block is run below another root, with the tools' own --root; of the container block,
which needs an engine, everything that it names is looked up.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from node.config import Config
from tests.docs.blocks import ROOT, Block, blocks
from tests.packaging.test_files import PACKAGING


def block(begins: str) -> Block:
    (found,) = [
        each for each in blocks(ROOT / "docs" / "install.md") if each.text.startswith(begins)
    ]
    return found


def test_the_systemd_block_makes_the_user_and_units_that_are_enabled(tmp_path: Path) -> None:
    for tool in ("systemd-sysusers", "systemctl"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    root = tmp_path / "root"
    for name in ("sysusers.d", "systemd/system"):
        (root / "etc" / name).mkdir(parents=True)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    shutil.copy(ROOT / "configs" / "cluster" / "n1.toml", tmp_path / "n1.toml")
    text = block("install -m").text.replace(" /etc/", f" {root}/etc/")
    text = text.replace("systemd-sysusers", f"systemd-sysusers --root={root}", 1)
    text = text.replace("systemctl enable --now", f"systemctl --root={root} enable")
    text = text.replace(" -g trimaran", "")  # The group is in the other root.
    # The word is once in the line that installs its file, too.
    text = text.replace(f"systemd-sysusers --root={root}.d", "systemd-sysusers.d")
    done = subprocess.run(
        ["bash", "-euc", text], cwd=tmp_path, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stdout + done.stderr
    users = (root / "etc" / "passwd").read_text()
    assert re.search(r"^trimaran:", users, re.MULTILINE), users
    wants = root / "etc" / "systemd" / "system"
    assert (wants / "multi-user.target.wants" / "trimaran.service").is_symlink()
    assert (wants / "timers.target.wants" / "trimaran-backup.timer").is_symlink()
    assert Config.load(root / "etc" / "trimaran" / "node.toml").node.id == "n1"


@pytest.mark.parametrize(
    ("unit", "exposure_max"), [("trimaran.service", 15), ("trimaran-backup.service", 45)]
)
def test_systemd_calls_the_units_hardened(unit: str, exposure_max: int) -> None:
    """In tenths: 100 is a unit without any fence."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    words = ["systemd-analyze", "security", "--offline=true", f"--threshold={exposure_max}"]
    done = subprocess.run([*words, PACKAGING / unit], capture_output=True, text=True, timeout=50)
    if "unrecognized option" in done.stderr:
        pytest.skip("systemd-analyze is too old to look at a file")
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_the_container_block_sets_what_compose_refuses_to_start_without() -> None:
    text = block("export").text
    (path,) = re.findall(r"-f (\S+)", text)
    compose = (ROOT / path).read_text()
    assert set(re.findall(r"\b(\w+)=\$\(", text)) == set(re.findall(r"\{(\w+):\?", compose))


def test_the_image_starts_commands_that_it_holds() -> None:
    text = (PACKAGING / "Dockerfile").read_text()
    assert re.search(r'^ENTRYPOINT \["trimaran"\]$', text, re.MULTILINE)
    installed = re.search(r"(\S+)/bin/pip install", text)
    assert installed is not None
    assert f"COPY --from=build {installed[1]} {installed[1]}\n" in text
    assert f"ENV PATH={installed[1]}/bin:" in text
    command = re.search(r'^CMD \["serve", "--config", "([^"]+)"\]$', text, re.MULTILINE)
    assert command is not None
    assert f":{command[1]}:ro" in (PACKAGING / "compose.yaml").read_text()
