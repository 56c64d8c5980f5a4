"""Which port of `trimaran cluster` is whose, counted from the base port (client port of n1).

    base + i-1            clients of node i
    base + 1000 + i-1     its peers                 + 9 above: with --lab, where it really listens
    base + 2000 + i-1     its HTTP port             + 9 above n1's: with --lab, its page

Nine nodes are the most there can be, so nothing meets.

Proved by: tests/node/test_cluster_supervisor.py
"""

from __future__ import annotations

from typing import Final

from node.config import MEMBERS_MAX, Address, Config, Member

__all__ = ["HOST", "HTTP_PORTS_ABOVE", "member", "panel_address", "real_address"]

HOST: Final = "127.0.0.1"
PEER_PORTS_ABOVE: Final = 1_000
HTTP_PORTS_ABOVE: Final = 2_000


def member(number: int, base_port: int) -> Member:
    """The id and the three addresses of node `number` (from 1), as the Contract has them."""
    port = base_port + number - 1
    return Member(
        id=f"n{number}",
        client=Address(HOST, port),
        peer=Address(HOST, port + PEER_PORTS_ABOVE),
        http=Address(HOST, port + HTTP_PORTS_ABOVE),
    )


def panel_address(config: Config) -> Address:
    """Where the laboratory's page is. `config`: the first node's."""
    return Address(config.member.http.host, config.member.http.port + MEMBERS_MAX)


def real_address(config: Config) -> Address:
    """Where a node of a laboratory really listens for peers."""
    return Address(config.member.peer.host, config.member.peer.port + MEMBERS_MAX)
