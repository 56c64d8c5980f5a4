"""The failover laboratory: an experiment is a command, its result a picture and a verdict.

    trimaran lab run configs/lab/kill-leader.toml --runs 20

    config      an experiment, read from TOML            cli, run    the commands; N runs of it
    workloads   what clients ask  -> driver, client      cluster     node processes
    faults      what is broken, when, whose              proxy       the peers' wires
    history     what was asked and answered              events      what the nodes said
    linear, models, shrink      linearizable or not, and the smallest proof that it is not
    revisions   the server's order of things against that of time
    checks      every other promise                      outage      an outage in its segments
    figures, charts, report, picture                     JSON, HTML and PNG of it all

Invariants:
  The nodes are seen only from outside: client port, processes, wires, and the log lines they
  print. No room here imports a room of the server (tests/architecture/test_imports.py), so
  the laboratory shares no bug with what it judges, and judges any RESP server.
  One seed decides everything that is random; one clock (CLOCK_MONOTONIC of this machine,
  microseconds since the run began) times everything.
  An operation whose answer was lost is `unknown`, never `fail`.

Does not do: run across machines. Everything is on this one.

Proved by: tests/lab
"""
