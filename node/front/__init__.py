"""Client front-end processes: they hold the clients' sockets, the node holds the sessions.

    client --TCP/TLS--> worker 1 --+
    client --TCP/TLS--> worker 2 --+-- frames, gathered per loop turn --> Streams --> Session
                                       (a socket pair for each worker)

With `client.workers = N` accepting, TLS, and reading from and writing to hundreds of sockets is
done by N processes, which the kernel shares the port out to (SO_REUSEPORT). The node has one socket
for each of them. What a client sends crosses as the bytes that it is, under a number: the session
cannot tell a worker from a socket of its own, so every command works as without (MULTI,
subscriptions, tracking, watches), by the same code.

Choice (2026-11): bytes, not parsed commands, cross, so that there is one parser, one set of limits
and one session. Price: the node still parses, 0.6 us for a SET of 256 bytes where unpacking it
would take 0.1 us: about 1 % of what a write costs it, up to 14 % of a pipelined eventual read.

A worker that dies: the kernel closes its clients' sockets (they see a lost connection), their
sessions end, another worker takes over its listening socket with all who wait there, because the
node holds that open. A node that dies: its workers see the end of the pair and end, or the kernel
ends them (node.orphan).

Proved by: tests/node/test_front.py, tests/node/test_server.py (all of it, through workers)
"""

from node.front.desk import Front

__all__ = ["Front"]
