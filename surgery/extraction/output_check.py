"""The comparison of a rewritten model's output with the original's, on the first batch of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from surgery.eager import copy_to_run
from surgery.errors import TraceError
from surgery.graph import bitwise_equal, describe_difference, named_tensors
from surgery.inputs import split_arguments
from surgery.text import format_count

if TYPE_CHECKING:
    from collections.abc import Mapping

HINT = "`surgery check` shows the first operation that differs"


def compare_with_original(
    original: nn.Module,
    values: Mapping[str, Any],
    output: Any,
    device: torch.device,
    seed: int,
    *,
    gradients: bool = False,
) -> None:
    """Raise TraceError if an output differs from the original model's, bit for bit.

    The original runs on `values`, its inputs by name, with random numbers from `seed`, and with autograd if `gradients`
    is true.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.set_grad_enabled(gradients):
        torch.manual_seed(seed)
        arguments, named = split_arguments(original, values)
        truth = copy_to_run(original, nn.Module())(*arguments, **named)
    found, expected = list(named_tensors(output)), list(named_tensors(truth))
    if len(found) != len(expected):
        count = format_count(len(found), "tensor")
        raise TraceError(f"the rewritten model returns {count} and the original {len(expected)}; {HINT}")
    for (key, _), (original_key, _) in zip(found, expected, strict=True):
        if key != original_key:
            raise TraceError(
                f"the rewritten model returns output{key} where the original returns output{original_key}; {HINT}"
            )
    for (key, ours), (_, theirs) in zip(found, expected, strict=True):
        if not bitwise_equal(ours, theirs):
            raise TraceError(
                f"the rewritten model does not return the output{key} of the original: "
                f"{describe_difference(ours, theirs)}; {HINT}"
            )
