"""Metrics as text, to the letter."""

from __future__ import annotations

from node.meters import Histogram
from node.web.exposition import family, histogram


def test_a_family_is_help_type_and_a_line_for_each_sample() -> None:
    assert family("x_bytes", "gauge", "How many.", [({}, 3), ({"a": "1", "b": "2"}, 0.25)]) == (
        '# HELP x_bytes How many.\n# TYPE x_bytes gauge\nx_bytes 3\nx_bytes{a="1",b="2"} 0.25\n'
    )


def test_a_family_without_samples_is_left_out() -> None:
    assert family("x", "gauge", "None.", []) == ""
    assert histogram("x", "None.", []) == ""


def test_labels_are_escaped() -> None:
    assert 'a="q\\"b\\\\s\\nn"' in family("x", "gauge", "h", [({"a": 'q"b\\s\nn'}, 1)])


def test_buckets_add_up_and_end_with_infinity() -> None:
    row = Histogram((0.5, 2))
    for value in (0.1, 1, 1, 7):
        row.observe(value)
    assert histogram("t_seconds", "h", [({"p": "w"}, row)]).splitlines()[2:] == [
        't_seconds_bucket{p="w",le="0.5"} 1',
        't_seconds_bucket{p="w",le="2"} 3',
        't_seconds_bucket{p="w",le="+Inf"} 4',
        't_seconds_sum{p="w"} 9.1',
        't_seconds_count{p="w"} 4',
    ]
