"""A TEST DOUBLE of `trimaran serve`: a process for the supervisor to keep, and no store.

    python tests/support/standin_node.py --config FILE

It loads the same configuration, dies with its supervisor the same way, listens on its client
port, prints `ready` and waits for SIGTERM. What it does beside that is told by a file
`behaviour` beside its configuration, with words for each node, read again at each start:

    n1 exit=70            end at once with this exit code, after a line that says why
    n2 deaf               do not react to SIGTERM
    n3 chatty             write 20,000 lines before it listens
    n1 never_ready        run, and never say `ready`
    n1 helper             start a process that holds stdout, and live on

Does not do: anything that a client could ask for.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from node.config import Config
from node.orphan import die_with_supervisor


def main() -> int:
    """Do as the words for this node say."""
    die_with_supervisor()
    path = Path(sys.argv[sys.argv.index("--config") + 1])
    config = Config.load(path)
    words = _behaviour(path.parent / "behaviour").get(config.node.id, [])
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in words else _end)
    (path.parent / f"{config.node.id}.starts").open("a").write("x")
    for word in words:
        if word.startswith("exit="):
            print(f"stand-in of {config.node.id} was told to end", flush=True)
            return int(word.removeprefix("exit="))
    if "chatty" in words:
        for number in range(20_000):
            print(f"line {number} of many", flush=True)
    address = config.member.client
    with socket.create_server((address.host, address.port)):
        if "helper" in words:
            subprocess.Popen(["sleep", "30"])
        if "never_ready" not in words:
            print("ready", flush=True)
        while True:
            time.sleep(60)


def _behaviour(path: Path) -> dict[str, list[str]]:
    if not path.exists():
        return {}
    lines = [line.split() for line in path.read_text().splitlines()]
    return {line[0]: line[1:] for line in lines if line}


def _end(_number: int, _frame: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    raise SystemExit(main())
