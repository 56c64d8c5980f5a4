"""Chaos: a real cluster, everything that can break, clients that remember, and the verdict.

proxy     the network between the nodes, in the test's hand
namespaces  the same with real packets, for root
nemesis   what is broken, one fault after the other, by a seed
clients   unique writes, appends, counters, leases, registers: what they asked and were told
registers whether what was read and written can have happened one after the other
run       all of it together, for so many minutes; scripts/chaos and tests/cluster/test_chaos.py
"""
