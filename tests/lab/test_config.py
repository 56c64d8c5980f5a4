"""Experiments: those that ship are sound, and whatever is wrong is named, all of it at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from node.lab.config import FAULT_KINDS, Experiment, ExperimentError
from node.lab.plan import node_documents, to_toml
from tests.support.supervised import ROOT

SHIPPED = sorted((ROOT / "configs/lab").glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_ships_can_be_read_and_says_what_it_is(path: Path) -> None:
    experiment = Experiment.load(path)
    assert experiment.name == path.stem
    assert len(experiment.about) > 20
    assert experiment.faults or experiment.chaos
    assert not experiment.cluster.config or Path(experiment.cluster.config).exists()


def test_every_kind_of_fault_ships_in_some_experiment() -> None:
    used = set().union(*(Experiment.load(path).kinds for path in SHIPPED))
    assert set(FAULT_KINDS) == used


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"workload": {"kind": "dance"}}, "workload.kind: 'dance'"),
        ({"workload": {"clients": "many"}}, "workload.clients: is 'many'"),
        ({"workload": {"levels": ["fresh"]}}, "workload.levels: 'fresh'"),
        ({"faults": [{"kind": "kick"}]}, "faults.kind: 'kick'"),
        ({"faults": [{"kind": "kill", "target": "cook"}]}, "faults.target: 'cook'"),
        ({"faults": [{"kind": "kill", "at_s": [2, 1]}]}, "faults[0].at_s: is [2, 1]"),
        ({"chaos": {"weights": {"kick": 1.0}}}, "chaos.weights: 'kick'"),
        ({"times": {"walk_s": 1}}, "times.walk_s: no such key"),
        ({"cluster": {"nodes": 10}}, "cluster.nodes"),
        ({"chaos": {"weights": {"kill": 1.0}, "at_once": 0}}, "at_once be at least 1"),
        ({"sweep": {"key": "x"}}, "sweep: takes key, values, and panels"),
        ({"times": 3}, "times: must be a table"),
    ],
)
def test_what_is_wrong_is_named(document: dict[str, Any], problem: str) -> None:
    with pytest.raises(ExperimentError, match=re.escape(problem)):
        Experiment.from_document({"name": "x", **document})


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ExperimentError) as caught:
        Experiment.from_document({"name": "x", "workload": {"a": 1}, "times": {"b": 2}})
    assert len(str(caught.value).splitlines()) == 2


def test_a_file_that_is_not_there_or_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"nothing\.toml"):
        Experiment.load(tmp_path / "nothing.toml")
    (tmp_path / "bad.toml").write_text("a = ", encoding="utf-8")
    with pytest.raises(ExperimentError, match=r"bad\.toml"):
        Experiment.load(tmp_path / "bad.toml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_nodes_can_be_started_with_what_they_are_told(path: Path, tmp_path: Path) -> None:
    """The configuration that the laboratory writes is one that the node takes."""
    from node.config import Config

    experiment = Experiment.load(path)
    values = experiment.sweep["values"].values() if experiment.sweep else [{}]
    for value in values:
        cluster = experiment.cluster
        cluster.settings.update(value)
        documents = node_documents(cluster, tmp_path, doors=True)
        for document in documents:
            (tmp_path / "node.toml").write_text(to_toml(document), encoding="utf-8")
            config = Config.load(tmp_path / "node.toml")
            assert len(config.members) == cluster.nodes
            assert config.lab.door == document["lab"]["door"]
