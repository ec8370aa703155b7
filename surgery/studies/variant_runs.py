"""Runs of a model in variants: each has other edits at the same operations, and several share a batch."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from surgery.eager import ExternalState
from surgery.errors import ImageError, SurgeryError, first_line
from surgery.graph import call_arguments, clone_inputs, contexts, input_names, named_tensors
from surgery.inputs import input_dtype
from surgery.rewriting import find_edits, insert_edits, listening, original_path
from surgery.studies.graph_runs import GraphRun, find_cut
from surgery.studies.memory_limits import MemoryMeter
from surgery.studies.row_changes import RowChanges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from surgery.rewriting import Change
    from surgery.types import Operation

    Listener = Callable[[Operation, Any], None]
    Variant = Mapping[str, Change]
    """A change for each edited operation, by its path."""
    Consumer = Callable[[range, Any], None]
    """Takes the numbers of the variants in the first rows of a batch, and the output of the batch."""


@dataclass(frozen=True, slots=True, eq=False)
class EditPoint:
    """Operations of a model, and a copy of it in which their values can be changed row by row."""

    operations: tuple[Operation, ...]
    edited: nn.Module
    rows: Mapping[str, Sequence[RowChanges]]
    """What changes the value of each operation, by its path: one for each graph of a model that has several."""
    cut: int | None
    """How many nodes of the graph come before the first edit; None if the model has to run as a whole."""

    def choose(self, variants: Sequence[Variant | None]) -> None:
        """Let each row of the next run be that of a variant; None for a row without edits."""
        for path, of_graphs in self.rows.items():
            for changes in of_graphs:
                changes.changes = [None if variant is None else variant[path] for variant in variants]


def _raise_error(_number: int, error: Exception) -> None:
    raise error


def make_edit_point(
    traced: nn.Module, operations: Sequence[Operation], batch_axes: Mapping[str, int] | None = None
) -> EditPoint:
    """Return a point for edits of operations. `batch_axes` are the axes of their values that count the rows, by path.

    Raises EditError if the values can't be edited: if nothing reads them, or if they can't be kept apart from others.
    """
    axes = batch_axes or {}
    edited = insert_edits(traced, operations, lambda operation: RowChanges(axes.get(operation.path, 0)))
    rows: dict[str, list[RowChanges]] = {operation.path: [] for operation in operations}
    for edit in find_edits(edited):
        if isinstance(edit.change, RowChanges):
            rows[original_path(edit.operation.path)].append(edit.change)
    cut = None
    if isinstance(traced, fx.GraphModule) and isinstance(edited, fx.GraphModule):
        cut = find_cut(traced, edited)
    return EditPoint(tuple(operations), edited, rows, cut)


@dataclass(frozen=True, slots=True, eq=False)
class PointRuns:
    """The variants that are to run at one point, and what becomes of their outputs."""

    point: EditPoint
    variants: Sequence[Variant]
    consume: Consumer
    fail: Callable[[int, Exception], None] = _raise_error
    """Takes the number of a variant whose run has raised an error, and the error."""

    def run(self, width: int, run_batch: Callable[[], Any]) -> None:
        """Run the variants, `width` in a batch. The variants of a batch that raises an error run once more, each alone.

        `run_batch` runs the model with the edits that were chosen. The rows of a batch that no variant is left for run
        without edits, so that all batches have one size.
        """
        count = len(self.variants)
        waiting = deque(range(first, min(first + width, count)) for first in range(0, count, width))
        while waiting:
            numbers = waiting.popleft()
            rows = [self.variants[number] for number in numbers]
            self.point.choose([*rows, *[None] * (width - len(rows))])
            try:
                with contexts.closing():
                    output = run_batch()
            except (MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # noqa: BLE001 - the model's code may raise anything
                if len(numbers) == 1:
                    self.fail(numbers[0], error)
                waiting.extendleft(range(number, number + 1) for number in reversed(numbers) if len(numbers) > 1)
                continue
            self.consume(numbers, output)


class VariantRunner:
    """Runs a traced model on one image in many variants.

    Each run starts from the same seed, the same buffers, and the same attributes of the model and global names. What
    comes before an edit point is computed once; each batch of variants runs from there. Models without a graph, and
    graphs that can't be cut there, run as a whole.
    """

    def __init__(self, traced: nn.Module, device: torch.device, seed: int) -> None:
        self.traced = traced
        self.device = device
        self.dtype = input_dtype(traced)
        """That of the weights; None for a model without floats."""
        self.draws_random_numbers = False
        """Whether a run has drawn from torch's generator."""
        self._seed = seed
        self._external = ExternalState(traced)
        self._names = input_names(traced)
        self._buffers = {name: buffer.clone() for name, buffer in traced.named_buffers()}

    def run(self, values: Mapping[str, Any], model: nn.Module | None = None, listener: Listener | None = None) -> Any:
        """Return the output of the traced model, or of a rewritten `model`, for inputs by name.

        `listener` is called by the extractors of the model.
        """
        with self._running(model):  # before the listener is known to the model, so that what it keeps is not restored
            args, kwargs = self._arguments(values)
            running = self.traced if model is None else model
            with nullcontext() if listener is None else listening(running, listener):
                return running(*args, **kwargs)

    def measure(self, values: Mapping[str, Any]) -> tuple[Any, MemoryMeter]:
        """Return the output of the traced model, and what was noticed about its memory on the way.

        Raises ImageError if the model does not take the values.
        """
        with MemoryMeter() as meter:
            output = self.run_original(values)
        return output, meter

    def run_original(self, values: Mapping[str, Any]) -> Any:
        """Return the output of the traced model. Raises ImageError if it does not take the values."""
        try:
            return self.run(values)
        except SurgeryError:
            raise
        except Exception as error:
            shapes = ", ".join(str(tuple(tensor.shape)) for _, tensor in named_tensors(values))
            raise ImageError(f"the model does not take it as {shapes}: {first_line(error)}") from error

    def run_points(self, values: Mapping[str, Any], points: Sequence[PointRuns], width: int) -> None:
        """Run the variants of several points, `width` in a batch.

        `values` are the inputs by name, already repeated for each row of a batch.
        """
        whole = [each for each in points if each.point.cut is None]
        cut = sorted((each for each in points if each.point.cut is not None), key=lambda each: each.point.cut or 0)
        if cut and isinstance(self.traced, fx.GraphModule):
            with self._running(None):
                args, _ = self._arguments(values)
                run = GraphRun(self.traced, args, self.device)
                del args
                for each in cut:
                    run.advance(each.point.cut or 0)
                    each.run(width, partial(run.branch, each.point.edited))  # type: ignore[arg-type]
        for each in whole:
            each.run(width, partial(self.run, values, each.point.edited))

    def _arguments(self, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        copies = clone_inputs({name: values[name] for name in self._names if name in values})
        return call_arguments(self.traced, copies)

    @contextmanager
    def _running(self, model: nn.Module | None) -> Iterator[None]:
        """Within the block, one run goes from the initial state; after it, that state is back."""
        with torch.no_grad():
            for name, buffer in (self.traced if model is None else model).named_buffers():
                if name in self._buffers:
                    buffer.copy_(self._buffers[name])
        devices = [self.device] if self.device.type == "cuda" else []
        external = self._external if model is None else ExternalState(model)
        with torch.random.fork_rng(devices=devices), torch.no_grad(), contexts.closing(), external.restart():
            torch.manual_seed(self._seed)
            seeded = torch.get_rng_state()
            yield
            self.draws_random_numbers |= not torch.equal(seeded, torch.get_rng_state())


def repeat_inputs(values: Mapping[str, Any], names: Sequence[str], width: int) -> dict[str, Any]:
    """Return inputs of one image for each row of a batch: those in `names` are repeated, others stay as they are."""
    return {name: _repeat(value, width) if name in names else value for name, value in values.items()}


def _repeat(value: Any, width: int) -> Any:
    if isinstance(value, Tensor):
        return value.repeat(width, *[1] * (value.ndim - 1))
    return value * width if isinstance(value, list) else value
