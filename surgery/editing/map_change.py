"""An edit at its place: it changes the maps of one operation's value."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from surgery.editing.blending import edit_values

if TYPE_CHECKING:
    from surgery.layouts import MapView
    from surgery.stages import Edit


class MapChange(nn.Module):
    """Takes the value of an operation; returns it with its maps changed by an edit.

    What is not part of the maps, such as a class token before a grid of tokens, stays as it is. Copies of a model share
    the edit, unless it is a module.
    """

    def __init__(self, edit: Edit, view: MapView, path: str, text: str) -> None:
        """`view` shows the maps of a value, `path` is the operation's, for messages, and `text` says what is done."""
        super().__init__()
        self.edit = edit
        self.view = view
        self.path = path
        self.text = text

    def forward(self, value: Tensor) -> Tensor:
        """Return the changed value, in new memory. Raises EditError for what the edit can't do with its maps."""
        maps = self.view(value)
        changed = edit_values(self.edit, maps, self.path)
        if maps.shape == value.shape and maps.stride() == value.stride():
            return changed
        return self.view.put(value, changed)

    def __deepcopy__(self, memo: dict[int, Any]) -> MapChange:
        edit = copy.deepcopy(self.edit, memo) if isinstance(self.edit, nn.Module) else self.edit
        return MapChange(edit, self.view, self.path, self.text).train(self.training)
