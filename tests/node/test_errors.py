"""The families of errors: who is caught by what, and what they carry."""

from __future__ import annotations

from node import errors
from node.errors import ConfigError, KVError, NotLeader, Unavailable
from statemachine import errors as machine_errors


def test_a_nodes_errors_are_in_the_state_machines_families() -> None:
    assert issubclass(Unavailable, machine_errors.Unavailable)
    assert issubclass(NotLeader, Unavailable)
    assert issubclass(ConfigError, KVError)
    assert errors.Fatal is machine_errors.Fatal


def test_unavailable_says_why_in_a_word_that_clients_know() -> None:
    assert Unavailable("no leader").code == "CLUSTERDOWN"
    assert Unavailable("full", code="BUSY").code == "BUSY"
    assert str(Unavailable("full", code="BUSY")) == "full"
    assert NotLeader("127.0.0.1:7002").address == "127.0.0.1:7002"


def test_a_config_error_names_every_problem() -> None:
    error = ConfigError((("raft.heartbeat_ms", "is 0"), ("node.id", "is missing")))
    assert error.problems == (("raft.heartbeat_ms", "is 0"), ("node.id", "is missing"))
    assert str(error) == "raft.heartbeat_ms: is 0; node.id: is missing"
