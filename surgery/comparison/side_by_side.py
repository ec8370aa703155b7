"""All runs on one image, beside each other: they advance from operation to operation."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from surgery.comparison.graph_plans import GraphCopies
from surgery.comparison.own_differences import OwnDifferences
from surgery.comparison.random_streams import RandomStream
from surgery.comparison.steppers import GraphStepper, ThreadStepper, can_step, closing
from surgery.errors import ImageError, SurgeryError, first_line
from surgery.graph import clone_inputs, copy_isolating_hooks, named_tensors
from surgery.rewriting import original_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import fx

    from surgery.comparison.runs import PreparedRun
    from surgery.comparison.steppers import Stepper
    from surgery.graph import Operations
    from surgery.types import Operation


@dataclass(frozen=True, slots=True)
class StepValues:
    """The values of one operation of the first run and of its counterparts. They hold until the next step."""

    operation: Operation
    values: Sequence[Any]
    """For each run, the first one included: its value; None for a run that has no counterpart or did not reach it."""
    own: Sequence[Any]
    """For each run: what its operation gives for the inputs of the first run; `NOTHING` if that is what it gives there,
    and None if it is not known."""
    same_inputs: Sequence[bool]
    """For each run: whether the inputs of the operation are those of the first run. Then its difference is its own."""


class SideBySide:
    """Runs of prepared models on one image after the other."""

    def __init__(
        self,
        runs: Sequence[PreparedRun],
        chosen: Operations,
        counterparts: Sequence[Mapping[str, Operation]],
        *,
        own: bool,
    ) -> None:
        """`counterparts` has for each other run the operations that correspond to those of the first one, by path.

        With `own`, operations are also evaluated on the inputs of the first run, where both runs are graphs.
        """
        self._runs = runs
        self._chosen = chosen
        self._paths = [
            {operation.path: operation.path for operation in chosen},
            *({path: other.path for path, other in each.items()} for each in counterparts),
        ]
        self._can_step = [can_step(run.model) for run in runs]
        self._own = [
            OwnDifferences(runs[0], run) if own and self._can_step[0] and steps else None
            for run, steps in zip(runs[1:], self._can_step[1:], strict=True)
        ]
        self._copies = [
            GraphCopies(cast("fx.GraphModule", run.model)) if steps else None
            for run, steps in zip(runs, self._can_step, strict=True)
        ]
        self._streams: list[RandomStream] = []
        self.outputs: list[Any] = []
        """What the runs returned for the last image, if they ran to the end."""
        self.drawing: set[str] = set()
        """The names of runs that drew random numbers."""
        self.new: dict[str, dict[str, None]] = {}
        """For each run, the paths of operations that it had on some images, and not on the example: a longer loop."""

    @property
    def knows_own(self) -> Sequence[bool]:
        """For each other run, whether own differences can be told."""
        return [own is not None for own in self._own]

    def steps(self, inputs: Sequence[Mapping[str, Any]], *, to_the_end: bool = False) -> Iterator[StepValues]:
        """Yield the values of each chosen operation. `inputs` has the inputs of each run by name.

        The runs of graphs end after the last chosen operation, or, `to_the_end`, with their outputs.
        """
        self.outputs = []
        self._streams = [RandomStream(run.run.seed, run.device) for run in self._runs]
        steppers = [self._start(place, values) for place, values in enumerate(inputs)]
        with torch.no_grad(), closing(steppers):
            for operation in self._chosen:
                for place, stepper in enumerate(steppers):
                    if (path := self._paths[place].get(operation.path)) is not None:
                        with self._explaining(place, inputs):
                            stepper.prepare(original_path(path))
                own, same = self._evaluate_own(steppers, operation)
                values: list[Any] = []
                for place, stepper in enumerate(steppers):
                    path = self._paths[place].get(operation.path)
                    with self._explaining(place, inputs):
                        values.append(None if path is None else stepper.advance(path))
                yield StepValues(operation, values, own, same)
            for place, stepper in enumerate(steppers):
                if to_the_end or isinstance(stepper, ThreadStepper):  # which may have more operations than the example
                    with self._explaining(place, inputs):
                        self.outputs.append(stepper.finish())
        drawing = zip(self._runs, self._streams, strict=True)
        self.drawing |= {run.name for run, stream in drawing if stream.has_drawn}

    @contextmanager
    def _explaining(self, place: int, inputs: Sequence[Mapping[str, Any]]) -> Iterator[None]:
        """Turn an error of a model within the block into an ImageError that names the run."""
        try:
            yield
        except SurgeryError:
            raise
        except Exception as error:
            shapes = ", ".join(str(tuple(tensor.shape)) for _, tensor in named_tensors(inputs[place]))
            name = self._runs[place].name
            raise ImageError(f"{name}: the model does not take it as {shapes}: {first_line(error)}") from error

    def _start(self, place: int, values: Mapping[str, Any]) -> Stepper:
        run = self._runs[place]
        args, kwargs = run.arguments(clone_inputs(dict(values)))
        stream = self._streams[place]
        if (copies := self._copies[place]) is not None:
            return GraphStepper(copies.take(), args, stream)
        model = copy_isolating_hooks(run.model)  # which begins with the buffers that the model has
        new = self.new.setdefault(run.name, {})
        paths = set(self._paths[place].values())
        return ThreadStepper(model, paths, args, kwargs, stream, self._chosen.matches, new)

    def _evaluate_own(self, steppers: Sequence[Stepper], operation: Operation) -> tuple[list[Any], list[bool]]:
        results: list[Any] = [None]
        same: list[bool] = [True]
        first = steppers[0]
        for own, stepper, paths in zip(self._own, steppers[1:], self._paths[1:], strict=True):
            path = paths.get(operation.path)
            if (
                own is None
                or path is None
                or not isinstance(first, GraphStepper)
                or not isinstance(stepper, GraphStepper)
            ):
                results.append(None)
                same.append(False)
                continue
            value, has_same_inputs = own.evaluate(first, operation.path, stepper, path)
            results.append(value)
            same.append(has_same_inputs)
        return results, same
