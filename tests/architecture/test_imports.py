"""Who may import whom, and through which door each foreign thing comes in.

    scripts, tests -> node -> statemachine       never back

Reads the sources, runs nothing. A room that does not exist yet breaks no rule; a rule that
names a room which has gone is found by `test_every_door_leads_somewhere` once the layout is whole.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("node", "statemachine")

DOORS = {
    "pysyncobj": {"node.raft", "node.journal", "node.transport", "node.backend"},
    "msgpack": {
        "node.wire",
        "node.results",
        "node.transport",
        "statemachine.image",
        "statemachine.image_reader",
    },
    "google.protobuf": {"statemachine.commands", "statemachine.proto"},
    "statemachine.proto": {"statemachine", "node.commands"},
    "google_crc32c": {"statemachine", "node.term_file"},
    "sortedcontainers": {"statemachine"},
    "redis": {"node.client"},
    "rich": {"node.cli_status", "node.cli_top", "node.lab.show"},
    "hiredis": {"node.resp", "node.lab.connection"},
    "matplotlib": {"node.lab.picture"},
    "h11": {"node.web"},
    "uvloop": {"node.cli", "node.front"},
    "socket": {
        "node.server",
        "node.front",
        "node.transport",
        "node.links",
        "node.client",
        "node.lab.plan",
    },
    "ssl": {"node.server", "node.client", "node.tls"},
    "cryptography": {"node.certificates"},
    "fcntl": {"statemachine.fs", "node.lab.switch"},
    "shutil": {"statemachine.fs", "node.lab.files"},
    "pickle": set(),
}
"""Foreign module -> the modules (and what is below them) that may import it."""

RANDOM_ROOMS = {
    "node.app",
    "node.calls",
    "node.cluster_lab",
    "node.connection",
    "node.lab.run",
    "node.lab.driver",
}
"""Where the generator that is handed in is made when the caller gave none; an experiment's are made
of its seed."""

CLOCKS = {"time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter"}
CLOCK_ROOMS = {"node.clock", "node.lab.clock"}

FILE_CALLS = {"open", "read_bytes", "read_text", "write_bytes", "write_text", "unlink", "rmdir"}
FILE_ROOMS = {"statemachine.fs", "node.lab.files"}

LINES_MAX = 300
# Files that are longer, each with the reason. One that shrinks leaves the list.
LONG = {
    "node/config.py": "reading, judging and rendering one configuration",
    "node/batches.py": "one table of writes, and every way in which a batch can end",
    "node/core.py": "the parts of a replica, put together and taken apart in one order",
    "node/journal.py": "the list that pysyncobj reads and its sync thread, in step",
    "node/journal_files.py": "what each step promises by the order of its writes, in one place",
    "node/leading.py": "what an append goes through on its way out, and its answer on the way in",
    "node/raft.py": "every seam of pysyncobj that is used, in the one room that may use them",
    "node/reads.py": "leader's and follower's half of ReadIndex, and the leader lease",
    "node/resp.py": "one parser, with hiredis and without",
    "node/snapshots.py": "both ends of a stream, read side by side",
    "node/transport.py": "every message of pysyncobj and of its peers, in one switchboard",
    "statemachine/fs.py": "one class for each kind of handle, and the protocol they share",
    "statemachine/recovery.py": "what a crash may leave and what is done about it, in one order",
    "statemachine/machine.py": "the seed's trait, method by method",
}
FUNCTION_LINES_MAX = 70


def sources(*roots: str) -> list[Path]:
    """Every Python file below these, but for generated ones."""
    found = [path for root in roots for path in sorted((ROOT / root).rglob("*.py"))]
    return [path for path in found if not path.name.endswith("_pb2.py")]


def module_of(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of everything that is imported there, in functions too."""
    module = module_of(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base]).rstrip(".")
            yield node.lineno, base
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def within(module: str, area: str) -> bool:
    return module == area or module.startswith(area + ".")


@pytest.mark.parametrize(
    ("root", "forbidden"),
    [
        ("statemachine", ["node", "tests", "scripts", "asyncio", "threading.Timer"]),
        ("node", ["tests", "scripts"]),
    ],
)
def test_layers_point_one_way(root: str, forbidden: list[str]) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in sources(root)
        for line, module in imports(path)
        if any(within(module, area) for area in forbidden)
    ]
    assert not wrong, "\n".join(wrong)


LAB_MAY_IMPORT = {"node.lab", "node.version"}
"""What the laboratory may know of what it judges: its version."""


def test_the_laboratory_sees_the_node_from_outside_only() -> None:
    """A bug that it shared with a node would be one that it cannot find."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in sources("node/lab")
        for line, module in imports(path)
        if any(within(module, package) for package in PACKAGES)
        and not any(within(module, area) for area in LAB_MAY_IMPORT)
    ]
    assert not wrong, "\n".join(wrong)
    # The supervisor of `trimaran cluster --lab` uses the laboratory's wires.
    allowed = {"node.cli", "node.cli_parser", "node.cluster_lab"}
    used = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in sources("node")
        for line, module in imports(path)
        if within(module, "node.lab")
        and not within(module_of(path), "node.lab")
        and module_of(path) not in allowed
    ]
    assert not used, "\n".join(used)


def test_each_foreign_thing_comes_in_through_its_door() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {foreign}: only {sorted(doors)} may"
        for path in sources(*PACKAGES)
        for line, module in imports(path)
        for foreign, doors in DOORS.items()
        if within(module, foreign)
        and not any(within(module_of(path), door) for door in doors)
        and not within(module_of(path), foreign)
    ]
    assert not wrong, "\n".join(dict.fromkeys(wrong))


def test_only_the_clock_room_reads_a_clock() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} reads {name}"
        for path in sources(*PACKAGES)
        if module_of(path) not in CLOCK_ROOMS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and (name := ast.unparse(node)) in CLOCKS | {"datetime.now", "datetime.utcnow"}
    ]
    assert not wrong, "\n".join(wrong)


def test_randomness_is_handed_in() -> None:
    """`random.Random` may be named as a type anywhere; the global generator nowhere."""
    wrong = []
    for path in sources(*PACKAGES):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or ast.unparse(node.value) != "random":
                continue
            if node.attr != "Random":
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} uses random.{node.attr}")
        made = [
            node.lineno
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "random.Random"
        ]
        if made and module_of(path) not in RANDOM_ROOMS:
            wrong.append(f"{path.relative_to(ROOT)}:{made[0]} makes a generator of its own")
    assert not wrong, "\n".join(wrong)


def test_only_the_disk_room_opens_files() -> None:
    wrong = []
    for path in sources(*PACKAGES):
        if module_of(path) in FILE_ROOMS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            is_path_call = isinstance(node.func, ast.Attribute) and name.endswith(
                tuple(f".{call}" for call in FILE_CALLS - {"open", "read_bytes", "unlink"})
            )
            if name in ("open", "io.open") or is_path_call:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} calls {name}")
    assert not wrong, "\n".join(wrong)


def test_every_file_opens_with_its_map() -> None:
    wrong = []
    for path in sources(*PACKAGES, "tests", "scripts"):
        text = path.read_text(encoding="utf-8")
        if path.name == "__init__.py" and not text.strip():
            continue
        if not ast.get_docstring(ast.parse(text)):
            wrong.append(str(path.relative_to(ROOT)))
    assert not wrong, wrong


def test_what_a_header_names_as_its_proof_exists() -> None:
    """Only of paths under tests/: "Proved by: tests/node/test_config.py"."""
    wrong = []
    for path in sources(*PACKAGES):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        proofs = docstring.partition("Proved by:")[2]
        wrong += [
            f"{path.relative_to(ROOT)} names {named}"
            for named in re.findall(r"tests/[\w/]+\.\w+", proofs)
            if not (ROOT / named).exists()
        ]
    assert not wrong, "\n".join(wrong)


def test_rooms_are_small() -> None:
    lines_of = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in sources(*PACKAGES)
    }
    wrong = [
        f"{name} has {lines} lines: split it, or name it in LONG with a reason"
        for name, lines in lines_of.items()
        if lines > LINES_MAX and name not in LONG
    ]
    wrong += [
        f"{name} is short again: take it off LONG" for name in LONG if lines_of[name] <= LINES_MAX
    ]
    assert not wrong, "\n".join(wrong)


def test_functions_are_short() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {length} lines"
        for path in sources(*PACKAGES)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert not wrong, "\n".join(wrong)


def test_every_door_leads_somewhere() -> None:
    """Once node.app is there the layout is whole: a door that is gone is a rule gone stale."""
    if not (ROOT / "node/app.py").exists():
        pytest.skip("node/app.py is not there yet: the layout is not whole")
    modules = {module_of(path) for path in sources(*PACKAGES)}
    doors = {door for rooms in DOORS.values() for door in rooms} | CLOCK_ROOMS | FILE_ROOMS
    gone = {door for door in doors if not any(within(module, door) for module in modules)}
    assert not gone, gone
