"""The command `trimaran`: words to calls, errors to exit codes.

    cluster  serve                                       node processes
    status  top  transfer  snapshot  get  set  del  cas  a client of running nodes
    member  rolling-restart                              a client that changes the cluster
    backup  export  import                               a client that carries data
    verify  dump  repair  restore  recover               files of a stopped node
    certs  completion                                    certificates for nodes, words for a shell
    lab                                                  experiments (node.lab)

    0 done   1 no (absent, not swapped, damaged)   2 usage, configuration, refused
    3 unavailable (certainly not done)   4 outcome unknown   70 fatal

Invariants:
  Every failure is one or a few lines on stderr that say what is wrong, and an exit code;
  a traceback is a bug of ours.
  stdout holds the answer alone: `get` prints the bytes of the value (and a line end only
  for a terminal), `status --json` one JSON object.
  Words and values are bytes: what the shell handed over, unchanged.
  The password is taken from the environment, never from the command line, where every
  user of the machine could read it.

Does not do: anything itself. Libraries that cost time to import (redis, rich, the node) are
imported by the command that needs them.

Proved by: tests/node/test_cli.py
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from node import cli_changes, cli_keep, cli_watch
from node.cli_parser import PASSWORD_VARIABLE, build_parser
from node.errors import ConfigError, Fatal, KVError, OutcomeUnknown
from statemachine.errors import Unavailable

if TYPE_CHECKING:
    from node.client import Client

__all__ = ["main"]

EXIT_DONE: Final = 0
EXIT_NO: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNAVAILABLE: Final = 3
EXIT_UNKNOWN: Final = 4
EXIT_FATAL: Final = 70
EXIT_INTERRUPTED: Final = 130  # As a shell shows SIGINT.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. Argparse exits with 2 by itself."""
    options = build_parser().parse_args(arguments)
    try:
        code = _HANDLERS[options.command](options)
        sys.stdout.flush()
        return code
    except ConfigError as error:
        for key, problem in error.problems:
            _complain(f"{key}: {problem}")
        return EXIT_USAGE
    except Unavailable as error:
        _complain(f"unavailable, nothing was done: {error}")
        return EXIT_UNAVAILABLE
    except OutcomeUnknown as error:
        _complain(f"it may or may not have been done: {error}")
        return EXIT_UNKNOWN
    except Fatal as error:
        _complain(str(error))
        return EXIT_FATAL
    except KVError as error:
        _complain(f"refused: {error}")
        return EXIT_USAGE
    except BrokenPipeError:
        # `trimaran dump FILE | head`: enough was read. Nothing more can be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _complain(text: str) -> None:
    print(f"trimaran: {text}", file=sys.stderr)


def _cluster(options: argparse.Namespace) -> int:
    from node import cluster
    from node.cluster_plan import Options

    return cluster.run(
        Options(
            nodes=options.nodes,
            # Absolute: cluster.json and the configurations are read from other directories too.
            data_dir=options.data_dir.absolute(),
            base_port=options.base_port,
            fresh=options.fresh,
            template=options.config,
            restart=not options.no_restart,
            tls=options.tls,
            lab=options.lab,
        )
    )


def _serve(options: argparse.Namespace) -> int:
    from node import logs
    from node.config import Config
    from node.orphan import die_with_supervisor

    die_with_supervisor()
    config = Config.load(options.config, options.set)
    logs.configure(config.log, config.node.id)
    from node.app import serve

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(serve(config, on_ready=lambda: print("ready", flush=True)))
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
            # asyncio's text names the address.
            raise Unavailable(error.strerror or str(error)) from error
        raise


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed; it is about twice as fast."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _connect(options: argparse.Namespace) -> Client:
    from node.client import Client

    return Client.connect(options.connect, os.environ.get(PASSWORD_VARIABLE, ""))


def _value(word: str) -> bytes:
    """A VALUE word: `-` is stdin, anything else itself."""
    return sys.stdin.buffer.read() if word == "-" else os.fsencode(word)


def _ttl(options: argparse.Namespace) -> tuple[str | int, ...]:
    return () if options.ttl_ms is None else ("PX", options.ttl_ms)


def _get(options: argparse.Namespace) -> int:
    with _connect(options) as client:
        if options.consistency is not None:
            client.set_consistency(options.consistency)
        value = client.read("GET", os.fsencode(options.key))
    if value is None:
        return EXIT_NO
    sys.stdout.buffer.write(value + b"\n" if sys.stdout.isatty() else value)
    return EXIT_DONE


def _set(options: argparse.Namespace) -> int:
    value = _value(options.value)
    with _connect(options) as client:
        client.write("SET", os.fsencode(options.key), value, *_ttl(options))
    print("OK")
    return EXIT_DONE


def _del(options: argparse.Namespace) -> int:
    with _connect(options) as client:
        removed = client.write("DEL", *map(os.fsencode, options.keys))
    print(removed)
    return EXIT_DONE if removed else EXIT_NO


def _cas(options: argparse.Namespace) -> int:
    if len(options.values) != (1 if options.absent else 2):
        raise ConfigError((("cas", "takes KEY EXPECTED NEW, or KEY NEW --absent"),))
    new = _value(options.values[-1])
    condition = ("NX",) if options.absent else ("IFEQ", os.fsencode(options.values[0]))
    with _connect(options) as client:
        reply = client.write("SET", os.fsencode(options.key), new, *condition, *_ttl(options))
    print("swapped" if reply is not None else "not swapped")
    return EXIT_DONE if reply is not None else EXIT_NO


def _transfer(options: argparse.Namespace) -> int:
    from node.client import Client, find_leader, statuses

    password = os.environ.get(PASSWORD_VARIABLE, "")
    leader = find_leader(statuses(options.connect, password))
    if leader is None:
        raise Unavailable("there is no leader now")
    words = () if options.node is None else (options.node,)
    with Client.connect([leader.address], password) as client:
        successor = client.write("TRI.TRANSFER", *words)
    print(f"{_text(successor)} leads")
    return EXIT_DONE


def _snapshot(options: argparse.Namespace) -> int:
    with _connect(options) as client:
        print(_text(client.write("TRI.SNAPSHOT")))
    return EXIT_DONE


def _text(reply: object) -> str:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)


def _verify(options: argparse.Namespace) -> int:
    from node.verify import verify

    if options.data_dir.is_file():
        return cli_keep.verify_backup(options.data_dir)
    if not options.data_dir.is_dir():
        raise ConfigError(((str(options.data_dir), "no such directory"),))
    problems = verify(options.data_dir)
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{options.data_dir}: sound")
    return EXIT_NO if problems else EXIT_DONE


def _dump(options: argparse.Namespace) -> int:
    from node.verify import dump

    if not options.file.is_file():
        raise ConfigError(((str(options.file), "no such file"),))
    for line in dump(options.file):
        print(line)
    return EXIT_DONE


def _lab(options: argparse.Namespace) -> int:
    from node.lab import cli as lab

    password = os.environ.get(PASSWORD_VARIABLE, "")
    return lab.main(options, loop_factory=_loop_factory(), password=password)


def _certs(options: argparse.Namespace) -> int:
    from node import certificates
    from node.clock import Clock
    from statemachine.fs import Disk

    ids = [word.strip() for word in options.nodes.split(",") if word.strip()]
    for path in certificates.make(options.dir, ids, options.days, Disk(), Clock().wall_ms()):
        print(path)
    return EXIT_DONE


_HANDLERS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {
    "cluster": _cluster,
    "serve": _serve,
    "status": cli_watch.status,
    "top": cli_watch.top,
    "completion": cli_watch.completion,
    "get": _get,
    "set": _set,
    "del": _del,
    "cas": _cas,
    "transfer": _transfer,
    "member": cli_changes.member,
    "rolling-restart": cli_changes.rolling_restart,
    "repair": cli_changes.repair,
    "snapshot": _snapshot,
    "backup": cli_keep.backup,
    "restore": cli_keep.restore,
    "export": cli_keep.export,
    "import": cli_keep.import_,
    "recover": cli_keep.recover,
    "verify": _verify,
    "dump": _dump,
    "certs": _certs,
    "lab": _lab,
}
