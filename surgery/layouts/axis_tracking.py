"""Runs of a rewritten model that track the meaning of every value's axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from surgery.graph import named_tensors
from surgery.layouts.layout_decision import NO_HINTS, LayoutHints
from surgery.layouts.value_axes import ValueAxes
from surgery.layouts.watched_runs import find_watched_run

if TYPE_CHECKING:
    from torch import nn


class AxisTracker:
    """Runs a rewritten model, and tracks the axes of its values.

    The axes of a value are known before an extractor receives it. Those of a graph depend on the shapes of its inputs
    alone, so they are tracked when these change; those of an observed model are tracked in each run.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._input_shapes: list[tuple[int, ...]] | None = None
        self._axes: ValueAxes | None = None

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Return the model's output. Raises the model's errors."""
        watched = find_watched_run(self._model)
        if watched is None:
            return self._model(*args, **kwargs)
        shapes = [tuple(tensor.shape) for _, tensor in named_tensors([args, kwargs])] if watched.is_static else None
        if watched.is_static and shapes == self._input_shapes:
            return watched.run(None, args, kwargs)
        self._input_shapes = None
        if watched.is_static or self._axes is None:
            self._axes = ValueAxes(self._model)
        self._axes.begin(args, kwargs)
        output = watched.run(self._axes.add_call, args, kwargs)
        self._axes.end(output)
        self._input_shapes = shapes
        return output

    def hints(self, path: str | None, key: str) -> LayoutHints:
        """Return what is known about a tensor in an operation's value, or in the output if `path` is None."""
        return NO_HINTS if self._axes is None else LayoutHints(self._axes.find(path, key), None, self._axes.image_size)
