"""Blocks of shell and Python in the documents, and what is to be done with each.

    <!-- block: DIRECTIVE -->       a line of its own before the fence; several may follow
    ```sh | console | python

    (none)                          run it; console: each `$ command` with the output that follows
    background "TEXT"               start it, and go on when it has printed TEXT
    stop "COMMAND"                  before it: SIGINT to what was started so, and wait
    output differs: WHY             run it, do not compare what it prints
    exits N                         its last command exits with N
    needs WORD                      left out, with that reason, where WORD is not there
    not run: WHY                    never run; WHY is listed

Output is compared line by line; numbers may differ, `...` stands for anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(
    r"(?P<directives>(?:^<!-- block: [^\n]*-->\n)*)^```(?P<kind>sh|console|python)\n"
    r"(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fence."""

    page: Path
    line: int
    kind: str
    text: str
    directives: tuple[str, ...]

    def told(self, word: str) -> str | None:
        """What stands behind a directive's first words; None: it is not there."""
        for directive in self.directives:
            if directive.startswith(word):
                return directive.removeprefix(word).strip(' :"')
        return None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command of a console block, and what it printed."""

    text: str
    output: tuple[str, ...]


def blocks(page: Path) -> Iterator[Block]:
    """All of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        directives = re.findall(r"<!-- block: (.*?) -->", match["directives"])
        line = text[: match.start("kind")].count("\n") + 1
        yield Block(page, line, match["kind"], match["text"], tuple(directives))


def commands(block: Block) -> list[Command]:
    """Of a console block: lines that begin with `$ `, with what continues them (\\, <<END)."""
    found: list[Command] = []
    lines = iter(block.text.splitlines())
    for line in lines:
        if not line.startswith("$ "):
            assert found, f"{block.place}: output before any command"
            found[-1] = Command(found[-1].text, (*found[-1].output, line))
            continue
        text = line[2:]
        while text.endswith("\\"):
            text += "\n" + next(lines)
        here = re.search(r"<<-?'?(\w+)'?", text)
        while here is not None and text.splitlines()[-1] != here[1]:
            text += "\n" + next(lines)
        found.append(Command(text, ()))
    return found


def is_like(expected: str, printed: str) -> bool:
    """Whether a line is what a page shows, but for numbers, blanks and `...`."""
    parts = re.split(r"(\.\.\.|\s+|\d[\d,.]*)", expected.strip())
    pattern = "".join(
        ".*"
        if part == "..."
        else r"\s+"
        if part.isspace()
        else r"\d[\d,.]*"
        if re.fullmatch(r"\d[\d,.]*", part)
        else re.escape(part)
        for part in parts
    )
    return re.fullmatch(pattern, printed.strip()) is not None
