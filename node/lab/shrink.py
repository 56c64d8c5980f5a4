"""The smallest part of a broken history that is broken by itself: what a person can read.

    minimal(operations of one key, model, culprit) -> some operations, in order

Nothing that ends after the culprit, or starts after it, is needed. What is left is cut from the
front as far as it stays broken, then single operations are left out as long as it stays
broken. An operation whose answer needs a value is only kept together with whoever may have
made that value, so that the part is broken for the reason the whole is, and not for a gap.

The result is locally minimal (leaving out any one operation mends it), not the global minimum.
Of machines whose every answer depends on all that was before (counter, list, set) nothing can be
left out without making a gap: of those the last operations up to the culprit are shown.

Proved by: tests/lab/test_linear.py
"""

from __future__ import annotations

from typing import Final

from node.lab.history import FAIL, Operation
from node.lab.linear import BROKEN, check_key
from node.lab.models import NOTHING, SOME, Model

__all__ = ["minimal"]

_ONE_BY_ONE_MAX: Final = 300
_CONFIGURATIONS_MAX: Final = 20_000
_SHOWN: Final = 20


def minimal(operations: list[Operation], model: Model, culprit: Operation) -> list[Operation]:
    """A locally minimal broken part that ends with the culprit."""
    part = [
        each
        for each in operations
        if each.outcome != FAIL
        and each.start_us <= culprit.end_us
        and model.action(each) is not None
    ]
    changes = [
        action for each in part if (action := model.action(each)) and not model.reads(action)
    ]
    if any(model.makes(action) is SOME for action in changes):
        return part[-_SHOWN:]
    size = len(part) // 2
    while size >= 1:
        start = 0
        # From the front in pieces, large ones first (Zeller's ddmin, complements only).
        while start < len(part) and len(part) > 2:
            smaller = part[:start] + part[start + size :]
            if culprit in part[start : start + size]:
                start += size
                continue
            smaller = _closed(smaller, model)
            if culprit in smaller and _is_broken(smaller, model):
                part = smaller
            else:
                start += size
        size //= 2
        if size == 1 and len(part) > _ONE_BY_ONE_MAX:
            break
    return part


def _closed(part: list[Operation], model: Model) -> list[Operation]:
    """Without operations that need what nobody in the part makes."""
    while True:
        actions = [(each, action) for each in part if (action := model.action(each)) is not None]
        made = {model.makes(action) for _, action in actions if not model.reads(action)}
        made |= {model.initial, NOTHING, SOME}
        kept = [each for each, action in actions if model.needs(action) in made]
        if len(kept) == len(part):
            return part
        part = kept


def _is_broken(part: list[Operation], model: Model) -> bool:
    verdict, _ = check_key(part, model, configurations_max=_CONFIGURATIONS_MAX)
    return verdict == BROKEN
