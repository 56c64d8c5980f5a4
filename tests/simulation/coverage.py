"""The rare events that a campaign must have seen: each at least once in a thousand seeds.

    missing(campaign) -> names of those that did not come about

An event that never happens is a fault that is not tested: then the profile is mended, and not
this list.

Proved by: tests/simulation/test_simulation_seeds.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.simulation.campaign import Campaign

__all__ = ["RARE", "missing"]

RARE: Final = (
    "a bit was turned in checkpoint",
    "a cache was told to forget",
    "a transaction found its key changed",
    "a watch was compared with a read",
    "a watch was told that it must begin anew",
    "a watch went on elsewhere",
    "a bit was turned in journal",
    "a crash while a snapshot is installed",
    "a crash while a snapshot is received",
    "a crash while a vote is written",
    "a crash while starting",
    "a crash with entries that are not durable",
    "a dead directory was seated",
    "a batch of a dead process came late",
    "a duplicate batch",
    "a failed disk stopped its node",
    "a gap of sequences",
    "a leader crashed",
    "a leader went deaf as it handed over",
    "a leader's own disk was behind its followers'",
    "a machine lost its disk",
    "a member was added",
    "a member was removed",
    "a removed node stopped",
    "a second connection of a pair",
    "a snapshot stream was disturbed (crash)",
    "a snapshot stream was disturbed (pause)",
    "a snapshot stream was disturbed (reset)",
    "a snapshot was installed",
    "a stranger was told so",
    "a sync that a truncation overtook",
    "a torn tail of the WAL was cut",
    "a torn tail of the journal was cut",
    "a truncation",
    "a truncation across a segment",
    "a truncation of several entries",
    "a vote or an acknowledgement came twice",
    "a wiped node was refused",
    "an acknowledgement of an old term came",
    "an acknowledgement was held back by the gate",
    "an election by transfer",
    "an election while a snapshot is on its way",
    "damage was noticed and the node did not start",
    "entries that left memory were read from the files",
    "log: journal begins anew behind the state",
    "log: one copy of the term is damaged, mended",
    "log: snapshot stream goes on",
    "log: writes refused",
    "power failed everywhere",
    "power lost between a rename and the directory's fsync",
    "power lost within a disk operation (sync)",
    "power lost within a disk operation (truncate)",
    "power lost within a disk operation (write)",
    "the journal was cut",
    "two candidates in one term",
)
"""As `World.count` names them."""


def missing(campaign: Campaign) -> list[str]:
    """Which of them did not come about."""
    return [event for event in RARE if not campaign.counts[event]]
