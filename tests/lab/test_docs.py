"""docs/lab.md tells the truth: its commands are commands, and everything there is stands in it."""

from __future__ import annotations

import re
import shlex

import pytest

from node.cli_parser import build_parser
from node.lab.config import FAULT_KINDS, TARGETS
from node.lab.workloads import WORKLOADS
from tests.support.supervised import ROOT

PAGE = (ROOT / "docs/lab.md").read_text(encoding="utf-8")
COMMANDS = re.findall(
    r"^\$ (?:\.venv/bin/)?(trimaran lab .*?[^\\])$", PAGE, re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_are_commands(command: str) -> None:
    words = shlex.split(command.replace("\\\n", " "))
    options = build_parser().parse_args(words[1:])
    experiment = getattr(options, "experiment", None)
    assert experiment is None or (ROOT / experiment).exists()


def test_it_has_commands_and_its_picture() -> None:
    assert len(COMMANDS) >= 5
    picture = ROOT / "docs/lab-kill-leader.png"
    assert picture.name in PAGE
    assert 10_000 < picture.stat().st_size < 300_000


def test_every_fault_target_and_workload_is_in_it() -> None:
    for word in (*FAULT_KINDS, *TARGETS):
        assert f"`{word}`" in PAGE, word
    for kind in WORKLOADS:
        assert re.search(rf"\| [\w, ]*\b{kind}\b", PAGE), kind


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).resolve().exists(), target
