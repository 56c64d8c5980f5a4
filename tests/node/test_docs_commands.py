"""docs/commands.md is what the table says, and every command is on it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from node.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_commands_is_current() -> None:
    words = [sys.executable, str(ROOT / "scripts" / "docs_commands"), "--print"]
    made = subprocess.run(words, capture_output=True, text=True, check=True, timeout=50).stdout
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert page == made, "run scripts/docs_commands and commit the result"


def test_every_command_is_on_it_with_its_line() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for outer in COMMANDS.values():
        for row in list(outer.subcommands.values()) or [outer]:
            name = row.name.replace("|", " ").upper()
            shown = f"{name} {row.syntax}".strip().replace("|", "\\|")
            (line,) = [line for line in page.splitlines() if line.startswith(f"| `{shown}` |")]
            assert row.summary.replace("|", "\\|") in line
