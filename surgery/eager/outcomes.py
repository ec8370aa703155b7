"""The outcome of a run: output, buffers and random numbers, for a comparison with another run."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from surgery.eager.random_states import seed_torch
from surgery.eager.runs import SEED, output_structure
from surgery.errors import TraceError, first_line
from surgery.graph import bitwise_equal, describe_difference, named_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn


class ExampleError(TraceError):
    """The model itself does not run on the example."""


@dataclass(slots=True)
class RunOutcome:
    """The output of a run and the state after it."""

    structure: Any
    """The nesting of dicts, lists and tuples in the output."""
    tensors: list[tuple[str, Tensor]]
    """Clones of the tensors in the output, each with its place there."""
    buffers: dict[str, Tensor]
    generator: Tensor
    """The state of torch's random generator."""


def collect_outcome(output: Any, module: nn.Module) -> RunOutcome:
    """Return the outcome of a run, with clones of all tensors: a later run may write to them."""
    tensors = [(key, tensor.clone()) for key, tensor in named_tensors(output)]
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    return RunOutcome(output_structure(output), tensors, buffers, torch.random.get_rng_state())


@contextmanager
def seed_generators(inputs: Sequence[Any]) -> Iterator[None]:
    """Within the block, torch's random generators start from the same seed; after it, they are restored."""
    devices = {tensor.device for _, tensor in named_tensors(inputs) if tensor.is_cuda}
    with torch.random.fork_rng(devices=sorted(devices, key=str)):
        seed_torch(SEED)
        yield


def describe_outcome_difference(
    model: RunOutcome | Exception | None, other: RunOutcome | Exception | None, name: str = "graph"
) -> str | None:
    """Return the first difference between the outcome of a model and that of its graph (or `name`), in words.

    None if they are equal, if the model raised an error, or if one of them was not run.
    """
    if isinstance(model, RunOutcome) and isinstance(other, Exception):
        return f"the model runs, and its {name} does not: {first_line(other)}"
    if isinstance(model, RunOutcome) and isinstance(other, RunOutcome):
        return _describe_output_difference(model, other, name) or _describe_state_difference(model, other, name)
    return None


def _describe_output_difference(model: RunOutcome, other: RunOutcome, name: str) -> str | None:
    if model.structure != other.structure:
        return f"the {name} gives an output of another structure than the model"
    for (key, expected), (_, tensor) in zip(model.tensors, other.tensors, strict=False):
        if _is_comparable(expected, tensor) and not bitwise_equal(expected, tensor):
            return f"the {name} gives another output{key} than the model: {describe_difference(tensor, expected)}"
    return None


def _describe_state_difference(model: RunOutcome, other: RunOutcome, name: str) -> str | None:
    for path, expected in model.buffers.items():
        buffer = other.buffers.get(path)
        if buffer is not None and _is_comparable(expected) and not bitwise_equal(expected, buffer):
            difference = describe_difference(buffer, expected)
            return f"the {name} leaves another value in the buffer {path} than the model: {difference}"
    is_single_threaded = threading.active_count() == 1  # another thread may have drawn
    if is_single_threaded and not torch.equal(model.generator, other.generator):
        return f"the {name} draws other random numbers than the model"
    return None


def _is_comparable(*tensors: Tensor) -> bool:
    """Return whether all tensors have values, unlike those on the meta device, and a shape, unlike nested ones."""
    return not any(tensor.is_meta or tensor.is_nested for tensor in tensors)
