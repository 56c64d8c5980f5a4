"""The documents are whole: pages are current, links lead somewhere, blocks are accounted for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, Block, blocks, commands, is_like

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = [*PAGES, ROOT / "node" / "README.md", ROOT / "statemachine" / "README.md"]


def test_the_generated_pages_are_current() -> None:
    script = ROOT / "scripts" / "docs_configuration"
    done = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr


def anchors(page: Path) -> set[str]:
    """As GitHub and MyST make them of headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", SOURCES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_our_own_pages_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = page if not name else page.parent / name
        if not found.exists() or (anchor and anchor not in anchors(found)):
            broken.append(target)
    assert not broken


def test_every_page_is_in_the_table_of_contents() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^([\w-]+)$", index, re.MULTILINE))
    assert {page.stem for page in PAGES[1:]} - {"index"} == listed


KNOWN = (
    r"(background \"[^\"]+\"|stop \"[^\"]+\"|output differs: .+|exits \d+|needs \S+|not run.*: .+)"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_directive_is_one_and_who_is_not_run_says_why(page: Path) -> None:
    found = list(blocks(page))
    text = page.read_text(encoding="utf-8")
    assert text.count("<!-- block:") == sum(len(each.directives) for each in found), "one is lost"
    for block in found:
        for directive in block.directives:
            assert re.fullmatch(KNOWN, directive), f"{block.place}: {directive}"


def test_consoles_are_read_as_a_person_would() -> None:
    text = "$ one\nout\n$ two \\\n  more\n$ three <<'END'\nbody\nEND\nlast\n"
    found = commands(Block(ROOT / "x", 1, "console", text, ()))
    assert [each.text for each in found] == ["one", "two \\\n  more", "three <<'END'\nbody\nEND"]
    assert [each.output for each in found] == [("out",), (), ("last",)]


def test_output_is_compared_but_for_numbers_and_what_is_left_out() -> None:
    assert is_like("revision 9, 421 bytes, sha256 ...", "revision 12, 1,421 bytes, sha256 ab12")
    assert is_like("node         role", "node   role")
    assert not is_like("revision 9", "no revision")
    assert not is_like("swapped", "not swapped")
