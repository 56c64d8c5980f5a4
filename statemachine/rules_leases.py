"""Rules of leases that hold many keys. SET ... LEASE, which hangs a key on one, is rules_strings'.

    grant_lease        its id, or LEASEEXISTS: the id is taken
    keep_lease_alive   its time to live, which it has again in full; or NOLEASE
    revoke_lease       1, or 0: there is none

A key that hangs on a lease
    is set without KEEPTTL or LEASE, gets a deadline of its own, is persisted: it hangs on none
    is changed in place (INCR, APPEND ...), or set with KEEPTTL: it hangs on it as before
    is renamed or copied: the other one hangs on it, too
    goes with all keys (FLUSHALL): the lease stays

Invariants: as in rules.py. A lease ends by the replicated clock alone: at its deadline it is
there for nobody, whether or not a batch has swept it. A time beyond TIME_MS_MAX is refused.

Proved by: tests/statemachine/test_grants.py, test_store_model.py,
tests/node/test_commands_leases.py
"""

from __future__ import annotations

from statemachine.commands import LEASE_ID_MAX, TIME_MS_MAX, WriteCommand
from statemachine.keyspace import Keyspace
from statemachine.refusals import (
    BAD_LEASE_ID,
    BAD_LEASE_TIME,
    Result,
    lease_exists,
    no_such_lease,
)

__all__ = ["grant_lease", "keep_lease_alive", "revoke_lease"]


def grant_lease(keys: Keyspace, grant: WriteCommand.GrantLease) -> Result:
    if not 0 < grant.ttl_ms <= TIME_MS_MAX - keys.clock_ms:
        return BAD_LEASE_TIME
    if grant.id > LEASE_ID_MAX:
        return BAD_LEASE_ID
    lease_id = keys.grants.grant(grant.id, grant.ttl_ms, keys.clock_ms)
    return lease_exists(grant.id) if lease_id is None else lease_id


def keep_lease_alive(keys: Keyspace, keep: WriteCommand.KeepLeaseAlive) -> Result:
    lease = keys.grants.lease(keep.id, keys.clock_ms)
    if lease is None:
        return no_such_lease(keep.id)
    if lease.ttl_ms > TIME_MS_MAX - keys.clock_ms:
        return BAD_LEASE_TIME
    return keys.grants.keep_alive(keep.id, keys.clock_ms)


def revoke_lease(keys: Keyspace, revoke: WriteCommand.RevokeLease) -> Result:
    return int(keys.revoke_lease(revoke.id))
