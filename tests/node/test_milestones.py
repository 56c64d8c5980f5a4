"""Milestones against a plain list of sizes: never off by more than a step and an entry."""

from __future__ import annotations

import random

import pytest

from node.milestones import Milestones

STEP = Milestones.STEP_BYTES
ENTRY_MAX = 20_000


@pytest.mark.parametrize("seed", range(20))
def test_sums_and_places_are_right_to_within_a_step(seed: int) -> None:
    chance = random.Random(seed)
    marks = Milestones()
    sizes: dict[int, int] = {}
    first = next_index = chance.choice([1, 700])
    cut_bytes = 0
    for _ in range(300):
        for _ in range(chance.randrange(8)):
            sizes[next_index] = chance.randrange(40, ENTRY_MAX)
            marks.add(next_index, sizes[next_index])
            next_index += 1
        if chance.random() < 0.1 and next_index - first > 5:
            index = next_index - chance.randrange(1, 4)
            gone = [sizes.pop(each) for each in range(index, next_index)]
            marks.take_back(index, sum(gone))
            next_index = index
        if chance.random() < 0.05 and next_index - first > 10:
            first += chance.randrange(5)
            for each in [each for each in sizes if each < first]:
                cut_bytes += sizes.pop(each)
            marks.forget_below(first)
        if not sizes:
            continue
        assert marks.end_bytes == cut_bytes + sum(sizes.values())
        index = chance.randrange(first, next_index)
        true_bytes = cut_bytes + sum(size for each, size in sizes.items() if each < index)
        assert true_bytes - STEP - ENTRY_MAX < marks.bytes_before(index) <= true_bytes
        found = marks.first_behind(true_bytes)
        if found > first:
            before = cut_bytes + sum(size for each, size in sizes.items() if each < found)
            assert true_bytes <= before < true_bytes + STEP + 2 * ENTRY_MAX
        else:
            assert found in (0, first) or found <= first


def test_memory_is_a_few_bytes_for_each_step() -> None:
    marks = Milestones()
    for index in range(1, 100_001):
        marks.add(index, 400)
    assert len(marks._indexes) <= 100_000 * 400 / STEP + 1
    marks.forget_below(90_000)
    assert len(marks._indexes) <= 10_000 * 400 / STEP + 2
