"""The maps of a batch while its values are in memory."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from surgery.drawing.maps import as_maps, as_real, as_vectors
from surgery.errors import RenderError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from surgery.types import LayoutDecision


class LiveMaps:
    """The maps of ``(B, ...)`` values, until they are released.

    They share the memory of the values if possible, which a later operation of the model may overwrite. If `windows`,
    the second axis counts windows.
    """

    def __init__(self, values: Tensor, layout_decision: LayoutDecision, *, windows: bool) -> None:
        self._layout_decision = layout_decision
        self._windows = windows
        self._rank = values.ndim
        self._values: Tensor | None = values

    @property
    def values(self) -> Tensor:
        """The values as the model computed them. Raises RenderError after the release."""
        if self._values is None:
            raise RenderError("the values of an activation are gone once the model has run on; draw it while it runs")
        return self._values

    @property
    def is_released(self) -> bool:
        """Whether the values can no longer be read."""
        return self._values is None

    def release(self) -> None:
        """Drop the values and the maps."""
        self._values = None
        for name in ("raw", "maps", "outside"):
            self.__dict__.pop(name, None)

    @cached_property
    def raw(self) -> Tensor:
        """``(B, C, H, W)`` maps as the layout gives them, the input of transforms."""
        layout = self._layout_decision.layout
        if layout is None:
            return as_maps(self.values, windows=self._windows)
        maps = layout(as_real(self.values))
        if maps is None:
            raise RenderError(f"layout {self._layout_decision.name} does not fit {tuple(self.values.shape)}")
        return as_maps(maps).contiguous()  # as the compiled kernels need them

    @cached_property
    def maps(self) -> Tensor:
        """The maps that are drawn without transforms: `raw`, with maps of one value joined to vectors."""
        return as_vectors(self.raw)

    @cached_property
    def outside(self) -> Tensor | None:
        """``(B, 1, 1, N)`` values outside of any map, such as those of a class token; None if there are none."""
        left_out = getattr(self._layout_decision.layout, "left_out", None)
        values = None if left_out is None else left_out(as_real(self.values))
        return None if values is None else values.reshape(len(values), 1, 1, -1)

    @cached_property
    def shape(self) -> torch.Size:
        """Shape of `raw`. If it was read before the release, it can be read after."""
        return self.raw.shape

    @property
    def is_empty(self) -> bool:
        """Whether there are no values."""
        return 0 in self.shape

    def are_vectors(self, maps: Tensor) -> bool:
        """Whether `maps`, these or transformed ones, are rows without spatial meaning."""
        is_single = maps.shape[1] == 1 and (self._rank == 3 or self.shape[2:] == (1, 1))
        return maps.shape[2] == 1 and (self._rank <= 2 or is_single)
