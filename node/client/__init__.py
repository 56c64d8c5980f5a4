"""Clients of a cluster, thin on redis-py.

    connection   one connection to one node: the command line's way in
    statuses     every member asked

    Store        a cluster by its addresses: what redis-py does not know
      .call        any command, at the next node while nothing can have been applied
      .lock        mutual exclusion with a fencing token, kept alive in the background
      .election    the same under a name: who leads
      .lease       many keys that live as long as somebody says so
      .watch       changes, in order, none missing, resumed at another node
      .session     writes with an identity: exactly once, whatever becomes of an answer

    store        Store, with threads           aio    the same for asyncio
    protocols    what both say to a node, and what an answer or its loss means: no I/O
    events       watch frames: bytes to Event  held   how long something is ours

Proved by: tests/node/test_client.py, tests/node/test_protocols.py, tests/cluster/test_store.py
"""

from node.client.connection import Client, can_listen
from node.client.events import Compacted, Event
from node.client.held import Lost
from node.client.protocols import Done
from node.client.statuses import NodeStatus, find_leader, statuses
from node.client.store import Store

__all__ = [
    "Client",
    "Compacted",
    "Done",
    "Event",
    "Lost",
    "NodeStatus",
    "Store",
    "can_listen",
    "find_leader",
    "statuses",
]
