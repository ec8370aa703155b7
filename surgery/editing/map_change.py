"""An edit at its place: it changes the maps of one operation's value."""

from __future__ import annotations

import copy
from types import FunctionType
from typing import TYPE_CHECKING, Any, SupportsIndex

from torch import Tensor, nn

from surgery.editing.blending import edit_values
from surgery.errors import EditError

if TYPE_CHECKING:
    from surgery.layouts import MapView
    from surgery.stages import Edit


def view_for(edit: Edit, view: MapView) -> MapView:
    """Return how an edit reads values as maps: tokens as a grid only if it has a region or a mask, or is spatial."""
    places = (getattr(edit, name, None) for name in ("region", "mask_shares", "shares"))
    is_placed = any(place is not None for place in places) or getattr(edit, "is_spatial", False)
    return view if is_placed or view.is_requested else view.without_grid()


class MapChange(nn.Module):
    """Takes the value of an operation; returns it with its maps changed by an edit.

    Tokens are one row of their maps, those beside a grid included. For an edit that asks where a token is, the maps are
    the grid alone, and a class token stays as it is. Copies of a model share the edit, unless it is a module.
    """

    def __init__(self, edit: Edit, view: MapView, path: str, text: str) -> None:
        """`view` shows the maps of a value, `path` is the operation's, for messages, and `text` says what is done."""
        super().__init__()
        self.edit = edit
        self.view = view_for(edit, view)
        self.path = path
        self.text = text

    def forward(self, value: Tensor) -> Tensor:
        """Return the changed value, in new memory. Raises EditError for what the edit can't do with its maps."""
        maps = self.view(value)
        changed = edit_values(self.edit, maps, self.path, self.text)
        if maps.shape == value.shape and maps.stride() == value.stride():
            return changed
        return self.view.put(value, changed)

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """Return what a file keeps. Raises EditError for a function that a file can't name."""
        if isinstance(self.edit, FunctionType) and "<" in self.edit.__qualname__:  # of a function, or a lambda
            raise EditError(
                f"the edit of {self.path}, {self.text}, can't be saved: a file keeps the name of a function alone, and "
                "this one has none in its module; define it there by `def`"
            )
        return super().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> MapChange:
        edit = copy.deepcopy(self.edit, memo) if isinstance(self.edit, nn.Module) else self.edit
        return MapChange(edit, self.view, self.path, self.text).train(self.training)
