"""Values as maps `(B, C, H, W)`, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from surgery.graph import call_arguments, copy_isolating_hooks, find_edges
from surgery.layouts.axes import BATCH, CHANNEL
from surgery.layouts.axis_tracking import AxisTracker
from surgery.layouts.layout_decision import decide_layout
from surgery.layouts.layout_functions import MAX_EXTRA_TOKENS, ChannelsFirst, ChannelsLast, Tokens
from surgery.layouts.operation_kinds import CHANNELS_LAST_KINDS, module_kind
from surgery.rewriting import parse_selection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from surgery.layouts.axes import Axes
    from surgery.layouts.layout_rules import RequestedLayouts
    from surgery.types import Operation, ValueLayout


@dataclass(frozen=True, slots=True)
class MapView:
    """Takes a value; returns its maps ``(B, C, H, W)``, a view of it where its strides allow one.

    ``(B, C)`` gives maps of one value each, ``(B, C, L)`` and ``(B, T, D)`` maps of one row, and ``(B, C, D, H, W)``
    maps with the slices below each other. Tokens on a grid are maps of this grid, without the tokens before it.
    """

    axes: int = 0
    """The number of axes of the values that the other fields are for."""
    batch_axis: int | None = 0
    """None for a value of one image without such an axis."""
    channel_axis: int = 1
    grid: tuple[int, int] | None = None
    """Rows and columns of the tokens; None for other values."""
    is_requested: bool = False
    """Whether the user requested this layout."""

    def without_grid(self) -> MapView:
        """Return the view of tokens as one row, with those that are not on the grid; any other view as it is."""
        return self if self.grid is None else replace(self, grid=None)

    def __call__(self, value: Tensor) -> Tensor:
        if value.ndim < 2:
            return value.reshape(-1, 1, 1, 1)
        view = self._fitting(value)
        return _show_maps(view._move_axes(value), view.grid)  # noqa: SLF001 - another view

    def put(self, value: Tensor, maps: Tensor) -> Tensor:
        """Return a value with other maps, and with its strides. What is not part of the maps stays as it is.

        The result is in new memory if the maps are.
        """
        if value.ndim < 2:
            return maps.reshape(value.shape)
        view = self._fitting(value)
        # Axes that were permuted are parts of one only once they are in order.
        moved = view._move_axes(value).clone(memory_format=torch.contiguous_format)  # noqa: SLF001 - another view
        _show_maps(moved, view.grid).copy_(maps)
        result = torch.empty_like(value)
        view._move_axes(result).copy_(moved)  # noqa: SLF001 - another view
        return result

    def _move_axes(self, value: Tensor) -> Tensor:
        """Return a view of a value whose first axes are batch and channel."""
        if self.batch_axis is None:
            return value[None].movedim(1 + self.channel_axis, 1)
        return value.movedim((self.batch_axis, self.channel_axis), (0, 1))

    def _fitting(self, value: Tensor) -> MapView:
        return self if value.ndim == self.axes else _default_view(value.ndim)


def _show_maps(moved: Tensor, grid: tuple[int, int] | None) -> Tensor:
    """Return the maps of a value whose first axes are batch and channel."""
    if moved.ndim == 2:
        return moved[:, :, None, None]
    if moved.ndim > 3:
        return moved.flatten(2, -2)
    count = 0 if grid is None else grid[0] * grid[1]
    extra = moved.shape[2] - count
    if grid is None or not 0 <= extra <= MAX_EXTRA_TOKENS:  # of another size than the example
        return moved[:, :, None, :]
    shown: Tensor = moved.narrow(2, extra, count).unflatten(2, grid)
    return shown


def _default_view(axes: int) -> MapView:
    """Return the view of values of which nothing is known but their number of axes."""
    return MapView(axes, 0, 2 if axes == 3 else 1)


def find_map_views(
    traced: nn.Module, chosen: Sequence[Operation], layouts: RequestedLayouts = None
) -> Mapping[str, MapView]:
    """Return how the values of chosen operations are read as maps, by the paths of the operations.

    The layouts that the user requests come first: channels first, channels last, or tokens. Otherwise the axes are
    those of a run on zeros of the example's shapes, if it may tell more than the number of axes.
    """
    tracker = _track_axes(traced, chosen)
    views: dict[str, MapView] = {}
    for operation in chosen:
        shape = operation.shape
        if shape is not None:
            requested = _requested_view(_find_layout(layouts, operation), len(shape))
            views[operation.path] = requested or _known_view(operation, shape, tracker)
    return views


def _find_layout(layouts: RequestedLayouts, operation: Operation) -> ValueLayout | None:
    if not isinstance(layouts, Mapping):
        return layouts
    selections = [(parse_selection(at) if isinstance(at, str) else at, layout) for at, layout in layouts.items()]
    return next((layout for selection, layout in reversed(selections) if selection.matches(operation)), None)


def _requested_view(layout: ValueLayout | None, axes: int) -> MapView | None:
    if isinstance(layout, ChannelsFirst):
        return MapView(axes, is_requested=True)
    grid = (layout.rows, layout.columns) if isinstance(layout, Tokens) else None
    is_last = grid is not None or isinstance(layout, ChannelsLast)
    return MapView(axes, 0, axes - 1, grid, is_requested=True) if is_last else None


def _known_view(operation: Operation, shape: tuple[int, ...], tracker: AxisTracker | None) -> MapView:
    view = MapView(len(shape)) if operation.kind.endswith("1d") else _default_view(len(shape))
    hints = tracker.hints(operation.path, "") if tracker is not None else None
    if hints is None or hints.axes is None or hints.axes.shape != shape:
        return view
    batch, channel = _find_axis(hints.axes, BATCH), _find_axis(hints.axes, CHANNEL)
    name = decide_layout(shape, None, hints).name
    grid = tuple(map(int, name.removeprefix("tokens:").split("x"))) if name.startswith("tokens:") else ()
    if batch is None and not (hints.axes.is_known and all(axis.factors for axis in hints.axes.items)):
        batch = view.batch_axis
    channel = view.channel_axis if channel is None else channel
    return view if batch == channel else MapView(len(shape), batch, channel, (grid[0], grid[1]) if grid else None)


def _find_axis(axes: Axes, name: str) -> int | None:
    """Return the axis that counts something of this name first; None if there is none."""
    places = (place for place, axis in enumerate(axes.items) if axis.factors and axis.factors[0].name == name)
    return next(places, None)


def _track_axes(traced: nn.Module, chosen: Sequence[Operation]) -> AxisTracker | None:
    """Run a copy of a model on zeros of its example's shapes, and return the tracker of the run.

    Returns None if the axes follow from their number alone, or if there is no example or the model does not take zeros.
    """
    inputs = find_edges(traced).inputs
    batches = {each.shape[:1] for source in inputs for each in source.tensors or ()}
    is_plain = all(
        operation.shape is not None and len(operation.shape) in (2, 4) and {operation.shape[:1]} == batches
        for operation in chosen
    )
    if is_plain and not any(module_kind(module) in CHANNELS_LAST_KINDS for module in traced.modules()):
        return None
    values: dict[str, Any] = {}
    reference = next(iter(traced.parameters()), None)
    for source in inputs:
        if source.tensors is None or len(source.tensors) != 1 or source.tensors[0].key:
            return None
        dtype = getattr(torch, source.tensors[0].dtype)
        values[source.path] = torch.zeros(
            source.tensors[0].shape, dtype=dtype, device=None if reference is None else reference.device
        )
    tracker = AxisTracker(model := copy_isolating_hooks(traced))
    try:
        args, kwargs = call_arguments(model, values)
        with torch.random.fork_rng(), torch.no_grad():
            tracker.run(*args, **kwargs)
    except Exception:  # noqa: BLE001 - the model's code may raise anything
        return None
    return tracker
