"""Checks of edits."""

from __future__ import annotations

import copy
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from surgery.builtin import check_amount, check_region, find_channel_ranges
from surgery.testing.sample_tensors import generate_edited_maps
from surgery.testing.violations import Violation, describe_exception, describe_value, detect_state_changes, is_equal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.stages import Edit


def edit_violations(edit: Edit) -> Iterator[Violation]:
    """Yield a violation for each input of which an edit makes a wrong replacement.

    A replacement has the shape, the dtype and the device of its input, and is the same at every call. An edit that
    needs a reference is called with one.
    """
    yield from _field_violations(edit)
    for name, values in generate_edited_maps():
        argument = values.clone()
        reference = values[-1:].clone()
        try:
            with detect_state_changes(name) as found:
                ready = _of_reference(edit, reference)
                replacement, again = ready(argument), ready(argument)
                copied = copy.deepcopy(ready)(argument)
                reference.fill_(7)  # as memory of the model's run is used again
                late = ready(argument)
        except Exception as error:  # noqa: BLE001
            yield Violation(describe_exception(error), name)
            continue
        yield from found
        given, expected = describe_value(replacement), describe_value(values)
        if given != expected:
            yield Violation(f"gives {given} in place of {expected}", name)
            continue
        if replacement.device != values.device:
            yield Violation(f"gives values on {replacement.device}, not on {values.device}", name)
        if not is_equal(argument, values):
            yield Violation("writes to its input", name)
            continue
        if not is_equal(replacement, again):
            yield Violation("gives other values the second time", name)
        elif not is_equal(replacement, late):
            yield Violation("keeps the values of its reference without copying them", name)
        elif not is_equal(replacement, copied):
            yield Violation("gives other values when it has been copied", name)
        yield from _gradient_violations(ready, values, name)


def _field_violations(edit: Edit) -> Iterator[Violation]:
    """Check the optional attributes that say where an edit takes effect."""
    if is_dataclass(edit) and not type(edit).__dataclass_params__.frozen:
        yield Violation("is a dataclass that is not frozen: two models that share it could change each other")
    try:
        find_channel_ranges(getattr(edit, "channels", None))
        check_region(getattr(edit, "region", None))
        check_amount(getattr(edit, "amount", 1.0))
    except Exception as error:  # noqa: BLE001
        yield Violation(describe_exception(error))


def _of_reference(edit: Any, reference: Tensor) -> Edit:
    """Return the edit, or the one that it makes of the values of a reference."""
    takes_reference = hasattr(edit, "of_reference") or getattr(edit, "needs_reference", False)
    return edit.of_reference(reference) if takes_reference else edit  # type: ignore[no-any-return]


def _gradient_violations(edit: Edit, values: Tensor, name: str) -> Iterator[Violation]:
    """Check that gradients flow through an edit, or end at it."""
    leaf = values.clone().requires_grad_()
    try:
        with torch.enable_grad():
            replacement = edit(leaf)
            if replacement.requires_grad:
                replacement.sum().backward()
    except Exception as error:  # noqa: BLE001
        yield Violation(f"has no gradient: {describe_exception(error)}", name)
