"""Deterministic simulation: whole clusters in one process, on virtual time, from one seed.

    run.py        one seed: plan -> world -> hosts, clients, faults -> peace -> verdict
    loop.py       virtual time; a life is a process: what a dead one left undone never runs
    network.py    connections that are cut, held one way, doubled, slowed and reset
    disk.py       page cache and platter; power cuts at any disk operation; EIO, ENOSPC, bit flips
    host.py       a machine: disk, clock and one node.app.Node at a time
    clients.py    RESP clients with every family of commands, and what they were told
    plan.py       what goes wrong and when, from a seed and a profile; plain data
    faults.py     does it
    oracles.py    what must hold at every step; model.py: the state machine once more
    coverage.py   how often each rare event came about
    minimise.py   a failing plan made small, and written as a regression test
    planted/      bugs that are put in on purpose, to see that they are found
    campaign.py   many seeds, in several processes

docs/simulation.md says what is simulated and what is not.
"""
