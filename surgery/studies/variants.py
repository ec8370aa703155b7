"""From a selection and an edit to variants: what is edited in each run of a study."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from surgery.editing import MapChange, edit_text
from surgery.errors import EditError
from surgery.graph import operations
from surgery.layouts import MapView
from surgery.studies.variant_runs import EditPoint, make_edit_point

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from surgery.plugins import Plugins
    from surgery.rewriting import Change
    from surgery.stages import Edit
    from surgery.types import Operation


@dataclass(frozen=True, slots=True)
class Unit:
    """What is edited in one variant: operations, or channels of one operation."""

    operations: tuple[Operation, ...]
    channels: tuple[int, int] | None = None
    """The first and the last channel; None for all."""
    module: str | None = None
    """The path of the module whose last operation it is, in a study of modules."""

    @property
    def path(self) -> str:
        """The path of the operation, or how many operations there are."""
        paths = [operation.path for operation in self.operations]
        return paths[0] if len(paths) == 1 else f"{len(paths)} operations"

    @property
    def channel_text(self) -> str:
        """The channels as text: ``7``, ``0-15``; empty for all of them."""
        if self.channels is None:
            return ""
        first, last = self.channels
        return str(first) if first == last else f"{first}-{last}"

    @property
    def label(self) -> str:
        """What a table or a sheet calls it: ``up3.cat``, ``up3.cat 0-15``, or the path of the module."""
        return f"{self.module or self.path} {self.channel_text}".rstrip()


@dataclass(frozen=True, slots=True, eq=False)
class UnitGroup:
    """Units whose edits come at the same point, so that they can share a batch."""

    point: EditPoint
    units: tuple[Unit, ...]
    variants: tuple[Mapping[str, Change], ...]
    """The changes of each unit."""
    views: Mapping[str, MapView]


def check_each(each: str) -> int | None:
    """Return how many channels a unit has; None for a study of operations or modules. Raises EditError."""
    if each in ("operation", "module", "all"):
        return None
    size = re.fullmatch(r"group:(\d{1,9})", each, re.ASCII)
    if each != "channel" and (size is None or int(size[1]) == 0):
        raise EditError(f"each is operation, module, channel, group:N or all, not {each!r:.60}")
    return 1 if size is None else int(size[1])


def make_units(traced: nn.Module, chosen: Sequence[Operation], each: str, views: Mapping[str, MapView]) -> list[Unit]:
    """Return the units of a study of chosen operations, in order of execution.

    `each` is ``operation``; ``module`` for the innermost modules around the operations, each with the value of its last
    operation; ``channel``; ``group:N`` for groups of N neighbouring channels; or ``all`` for all operations at once.
    Raises EditError for anything else, and for channels of a value that is not a single tensor.
    """
    size = check_each(each)
    if each == "all":
        return [Unit(tuple(chosen))]
    if each == "module":
        return list(_find_modules(traced, chosen))
    if size is None:
        return [Unit((operation,)) for operation in chosen]
    units: list[Unit] = []
    for operation in chosen:
        count = count_channels(operation, views.get(operation.path, MapView()))
        starts = range(0, count, size)
        units += [Unit((operation,), (start, min(start + size, count) - 1)) for start in starts]
    return units


def count_channels(operation: Operation, view: MapView) -> int:
    """Return how many channels the maps of an operation's value have. Raises EditError if it is not one tensor."""
    if operation.shape is None:
        raise EditError(f"{operation.path} has no channels: its value is not a single tensor; ablate it as a whole")
    return view(torch.empty(operation.shape, device="meta")).shape[1]


def _find_modules(traced: nn.Module, chosen: Sequence[Operation]) -> Iterator[Unit]:
    wanted = dict.fromkeys(scopes[-1] for operation in chosen if (scopes := _outer_scopes(operation)))
    last = {scope: operation for operation in operations(traced) for scope in _outer_scopes(operation)}
    yield from (Unit((last[scope],), module=scope) for scope in sorted(wanted, key=lambda scope: last[scope].index))


def _outer_scopes(operation: Operation) -> tuple[str, ...]:
    """Return the modules around an operation, without the one that it is itself."""
    is_module = operation.scopes[-1:] == (operation.path.partition("@")[0],)
    return operation.scopes[:-1] if is_module else operation.scopes


def group_units(
    traced: nn.Module,
    units: Sequence[Unit],
    edits: Mapping[str, Edit],
    views: Mapping[str, MapView],
    text: str,
) -> tuple[list[UnitGroup], list[str]]:
    """Return groups of units with the same operations, and why others can't be edited, a line for each.

    `edits` are the edits of each operation by its path, and `text` describes them. Raises EditError if none can be.
    """
    by_place: dict[tuple[Operation, ...], list[Unit]] = {}
    for unit in units:
        by_place.setdefault(unit.operations, []).append(unit)
    groups: list[UnitGroup] = []
    reasons: list[str] = []
    first: EditError | None = None
    for place, members in by_place.items():
        axes = {each.path: view.batch_axis or 0 for each in place if (view := views.get(each.path)) is not None}
        try:
            point = make_edit_point(traced, place, axes)
        except EditError as error:
            first = first or error
            reasons.append(f"left out: {error}")
            continue
        variants = tuple(_changes(unit, edits, views, text) for unit in members)
        groups.append(UnitGroup(point, tuple(members), variants, views))
    if first is not None and not groups:
        raise first
    return groups, reasons


def _changes(unit: Unit, edits: Mapping[str, Edit], views: Mapping[str, MapView], text: str) -> dict[str, Change]:
    """Return what changes the value of each operation of a unit."""
    changes: dict[str, Change] = {}
    for operation in unit.operations:
        edit = edits[operation.path]
        confined = edit if unit.channels is None else ChannelEdit(edit, unit.channel_text)
        changes[operation.path] = MapChange(confined, views.get(operation.path, MapView()), operation.path, text)
    return changes


class ChannelEdit:
    """An edit that takes effect in some channels alone."""

    def __init__(self, edit: Edit, channels: str) -> None:
        self.edit = edit
        self.channels = channels

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the edit, such as its region or its amount."""
        return getattr(self.edit, name)

    def __call__(self, values: Tensor, /) -> Tensor:
        return self.edit(values)


def check_channels(edit: Edit, each: str, plugins: Plugins | None = None) -> None:
    """Raise EditError for an edit of chosen channels in a study of channels."""
    if check_each(each) is not None and getattr(edit, "channels", None) is not None:
        raise EditError(
            f"a study of each {each.partition(':')[0]} chooses the channels itself; leave channels out of "
            f"{edit_text(edit, plugins)}"
        )
