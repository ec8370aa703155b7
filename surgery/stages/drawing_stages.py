"""The stages that turn values into pictures, and the recipe that holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from surgery.errors import RenderError
from surgery.text import describe_stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from surgery.layouts import LayoutRule
    from surgery.types import ValueLayout


class Normalizer(Protocol):
    """Chooses the limits: the two values that are drawn as code 0 and code 250.

    Takes ``(B, C, H, W)`` float32 or float64 of any range. All values are finite: a NaN has been replaced by the mean
    of the finite values of its channel, and an infinity by their maximum or minimum. Returns `low` and `high`, finite
    tensors that broadcast to ``(B, C, 1, 1)``, with ``low <= high``. It must not write to its input.

    Two optional attributes save passes over the values. A method ``of_extremes(minimum, maximum)``, which takes the
    minimum and the maximum of each channel as ``(B, C, 1, 1)``, returns the same limits as a call. An attribute
    ``are_extremes`` that is true says that the limits are these two values themselves.
    """

    def __call__(self, values: Tensor, /) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True, slots=True)
class TileLayout:
    """Where the maps of an activation are placed in its pictures: row by row from the top left, on background.

    Raises RenderError if the numbers are not whole numbers or don't fit each other.
    """

    maps: int
    """How many maps are drawn. They are the first ones."""
    tiles: int
    """Maps in one picture. `maps` is a multiple of it unless the layout is `uneven`."""
    columns: int
    """Maps in one row."""
    factor: int = 1
    """Each pixel of a map is drawn as ``factor x factor`` pixels."""
    gap: int = 0
    """Pixels of background between two maps."""
    uneven: bool = False
    """Whether the last of several pictures may have fewer maps than the others, and background in place of the rest."""

    def __post_init__(self) -> None:
        for name in ("maps", "tiles", "columns", "factor", "gap"):
            try:
                object.__setattr__(self, name, index(getattr(self, name)))
            except TypeError as error:
                raise RenderError(f"a tile layout needs whole numbers, not {self}") from error
        if min(self.maps, self.tiles, self.columns, self.factor) < 1 or self.gap < 0:
            raise RenderError(f"the gap of a tile layout is at least 0 and its other numbers at least 1, not {self}")
        if self.maps % self.tiles and not self.uneven:
            raise RenderError(
                f"{self.maps} maps don't fill whole pictures of {self.tiles}; set uneven=True to allow it"
            )


class Tiler(Protocol):
    """Places the maps of an activation in pictures.

    Takes ``(B, C, H, W)`` uint8 codes; returns ``(B, N, H', W')`` uint8 codes: N pictures of each image. Pixels outside
    of any map have the code `BACKGROUND`. It must not write to its input.

    A tiler that places equal tiles in rows can have a method ``layout(channels, height, width)`` that returns the
    `TileLayout` of the same pictures. Then codes are computed where they are drawn, and PNG files are written without a
    copy.
    """

    def __call__(self, codes: Tensor, /) -> Tensor: ...


Colormap: TypeAlias = "Callable[[NDArray[np.float64]], NDArray[np.floating[Any]]] | Any"
"""A function from ``(N,)`` float64 in [0, 1] to colors ``(N, 3)`` or ``(N, 4)`` in [0, 1]; or anything that
`cmap.Colormap` takes: a name, a list of colors, an array."""


class Transform(Protocol):
    """Computes other maps from those of an activation, before their limits are chosen.

    Takes ``(B, C, H, W)`` float32 or float64 of any range, with NaN and infinities as the model computed them. Returns
    ``(B, C', H', W')`` of a float dtype; image b of the result depends only on image b of the input. It must not write
    to its input, which is memory of the running model.

    If it has an attribute ``color`` that is true, C' is 3: red, green and blue of a single picture.
    """

    def __call__(self, maps: Tensor, /) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """The stages that draw the pictures of a run. It can be pickled, compared and printed."""

    normalizer: Normalizer
    tiler: Tiler
    colormap: Colormap = None
    """None stands for the attribute `colormap` of the normalizer if it has one, and for viridis otherwise."""
    stats: bool = False
    """Whether to compute exact statistics (mean, deviation, zeros, counts), which takes more passes over the values."""
    transforms: tuple[Transform, ...] = ()
    """Applied to the maps in this order, before the limits are chosen."""
    layouts: tuple[LayoutRule, ...] = ()
    """The layouts that the user requests; the last rule that applies to an operation counts."""

    def layout_for(self, path: str | None) -> ValueLayout | None:
        """Return the layout requested for the operation with this path, or None if there is no rule for it."""
        rules = (rule for rule in reversed(self.layouts) if rule.paths is None or path in rule.paths)
        rule = next(rules, None)
        return rule.layout if rule is not None else None

    def describe(self) -> Mapping[str, str]:
        """Return the recipe as texts, which are recorded in each picture and in the manifest."""
        return {
            "transforms": ", ".join(describe_stage(transform) for transform in self.transforms) or "none",
            "normalizer": describe_stage(self.normalizer),
            "tiler": describe_stage(self.tiler),
            "colormap": describe_stage(self.colormap),
            "layouts": ", ".join(map(str, self.layouts)) or "auto",
        }
