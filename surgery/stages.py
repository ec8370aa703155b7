"""The protocols of the stages, what a model asks of its inputs, and the recipe of a picture.

The letters in shapes are those of `surgery.types`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import index
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args
from warnings import warn

from surgery.errors import ImageError, RenderError
from surgery.text import describe_stage

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from surgery.layouts import LayoutRule
    from surgery.output import OutputFolder
    from surgery.types import Activation, ValueLayout


class Normalizer(Protocol):
    """Says which values become the two ends of the scale.

    ``(B, C, H, W)`` float32 or float64, any range, finite (NaN has been replaced by the mean of its channel's finite
    values, an infinity by their greatest or least) -> `low` and `high`, each broadcastable to ``(B, C, 1, 1)``, finite,
    with ``low <= high``. It must not write to its input.

    One that needs the least and the greatest value of each channel alone spares a pass over the values with a method
    ``of_extremes(least, most)``, both ``(B, C, 1, 1)``, that gives the same limits. One whose limits are those two says
    so by an attribute ``are_extremes`` that is true: then they are found and used in one pass.
    """

    def __call__(self, values: Tensor, /) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True, slots=True)
class TileLayout:
    """How equal maps lie in the pictures of an activation: row by row, from the top left, on background."""

    shown: int
    """The first so many maps are drawn."""
    tiles: int
    """Maps in a picture; `shown` is a multiple of it, unless the layout is `uneven`."""
    columns: int
    """Maps in a row."""
    factor: int = 1
    """A pixel of a map becomes so many in height and in width."""
    gap: int = 0
    """Pixels of background between maps."""
    uneven: bool = False
    """Whether the last of several pictures may have fewer maps than the others, and background in their place."""

    def __post_init__(self) -> None:
        for name in ("shown", "tiles", "columns", "factor", "gap"):
            try:
                object.__setattr__(self, name, index(getattr(self, name)))
            except TypeError as error:
                raise RenderError(f"a layout is of whole numbers, not {self}") from error
        if min(self.shown, self.tiles, self.columns, self.factor) < 1 or self.gap < 0:
            raise RenderError(f"the numbers of a layout are at least 1, and its gap at least 0, not {self}")
        if self.shown % self.tiles and not self.uneven:
            raise RenderError(f"{self.shown} maps are no whole number of pictures of {self.tiles}")


class Tiler(Protocol):
    """Lays the channels of an activation out in pictures.

    ``(B, C, H, W)`` uint8 codes -> ``(B, N, H', W')`` uint8 codes: N pictures of each image. What is no map is
    `BACKGROUND`. It must not write to its input.

    One that lays maps in rows of equal tiles says how by a method ``layout(channels, height, width)`` that gives a
    `TileLayout` for the same pictures: then codes are made where they are drawn, and PNG files are written
    without a copy.
    """

    def __call__(self, levels: Tensor, /) -> Tensor: ...


Colormap: TypeAlias = "Callable[[NDArray[np.float64]], NDArray[np.floating[Any]]] | Any"
"""``(N,)`` float64 in [0, 1] -> ``(N, 3)`` or ``(N, 4)`` in [0, 1]; or anything that `cmap.Colormap` takes:
a name, a list of colors, an array."""


class Transform(Protocol):
    """Makes other maps of an activation's, before their limits are found.

    ``(B, C, H, W)`` float32 or float64, any range, NaN and infinities as they were computed -> ``(B, C', H', W')`` of a
    float dtype, each image's own. It must not write to its input, which are the live values of the model. One that has
    an attribute ``color`` that is true gives C' == 3: red, green and blue of one picture.
    """

    def __call__(self, maps: Tensor, /) -> Tensor: ...


class Reader(Protocol):
    """Reads one input: a path -> ``(1, C, H, W)`` float tensor, as the model takes it.

    One that has an attribute ``suffixes``, such as ``(".npy",)`` in lower case, is given the files of a folder that end
    so. It raises ImageError for a file that can't be read: that input is left out, and the run goes on. It is called on
    another thread than the model.
    """

    def __call__(self, path: Path, /) -> Tensor: ...


CheckpointReader: TypeAlias = "Callable[[Path, Mapping[str, Tensor]], nn.Module | None]"
"""The path of a weights file and its state_dict -> the network with its weights loaded, or None where the file is not
of the kind that it knows. Keys come without the prefixes of wrappers (``module.``, ``_orig_mod.``); the state_dict is
empty where the file holds none that can be read without running what is in it."""

Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a network was trained to be given. A model may carry it in an attribute ``preprocessing``.

    An image is resized, its proportions kept, until it just covers ``size / crop``; the middle of `size` is cut out;
    its colors in [0, 1] become ``(color - mean) / std``.
    """

    size: tuple[int, int]
    """Height and width."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Of each channel, of colors in [0, 1]; as many as the network has input channels, 3 or 1."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    crop: float = 1.0
    """Share of the resized image's side that is kept, above 0 and at most 1."""
    interpolation: Interpolation = "bicubic"
    """Pillow's filter of that name."""

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise ImageError(f"the size of a preprocessing is (height, width), at least 1, not {self.size}")
        if not 0 < self.crop <= 1:
            raise ImageError(f"the crop of a preprocessing is above 0 and at most 1, not {self.crop:g}")
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3) or min(self.std) <= 0:
            raise ImageError(
                f"a preprocessing has a mean and a positive std for 3 channels or 1, not {self.mean} and {self.std}"
            )
        if self.interpolation not in get_args(Interpolation):
            known = ", ".join(get_args(Interpolation))
            raise ImageError(f"the interpolation of a preprocessing is {known}, not {self.interpolation!r}")

    @property
    def limits(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """What becomes of black and what of white in each channel."""
        pairs = list(zip(self.mean, self.std, strict=True))
        return tuple(-mean / std for mean, std in pairs), tuple((1 - mean) / std for mean, std in pairs)


Limits: TypeAlias = "tuple[float | Sequence[float], float | Sequence[float]]"
"""What is drawn as black and what as white: a number each, or one for each channel."""

Write: TypeAlias = "Callable[[Activation], None]"
"""Takes one activation. Called inside the model's forward: what is kept of `values` must be copied."""


class Sink(Protocol):
    """Opens a place, takes activations, closes it whole: a ``@contextmanager`` function that yields a `Write`.

    One that has an attribute ``deferred`` that is true uses levels, pictures and facts alone: it is called on another
    thread, in the same order, while the model runs on, and the `values` that it sees have a shape and a dtype and
    nothing in them. One that has an attribute ``alone`` that is true writes nothing that is of several images, so that
    several processes can each write theirs. An attribute ``places``, such as ``("video",)``, has the names that it uses
    in the folder itself: no image's folder is called so.
    """

    def __call__(self, folder: OutputFolder, /) -> AbstractContextManager[Write]: ...


ModelFactory: TypeAlias = "Callable[[], nn.Module]"


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """Models that are named ``family/name``."""

    build: Callable[[str], nn.Module]
    """Takes the part behind the slash."""
    names: Callable[[], Sequence[str]]
    """All that `build` takes."""
    trained: Callable[[str], str] | None = None
    """How a model of this name is had with trained weights, as a clause, for one whose weights are random."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How activations are drawn: plain values, so that it can be pickled, compared and printed."""

    normalizer: Normalizer
    tiler: Tiler
    colormap: Colormap = None
    """None: what the normalizer names in an attribute `colormap`, else viridis."""
    stats: bool = False
    """Whether the facts have exact mean, deviation, share of zeros and counts: further passes over the values."""
    transforms: tuple[Transform, ...] = ()
    """What becomes of the maps before their limits are found, in order."""
    layouts: tuple[LayoutRule, ...] = ()
    """How values are to be read as maps. Of several rules for an operation the last holds; without one it is found."""

    def layout_for(self, path: str | None) -> ValueLayout | None:
        """The layout that was asked for an operation, by its path; None where it is to be found."""
        rules = (rule for rule in reversed(self.layouts) if rule.paths is None or path in rule.paths)
        rule = next(rules, None)
        return rule.layout if rule is not None else None

    def describe(self) -> Mapping[str, str]:
        """The recipe in words, as it is recorded beside each picture."""
        return {
            "transforms": ", ".join(describe_stage(transform) for transform in self.transforms) or "none",
            "normalizer": describe_stage(self.normalizer),
            "tiler": describe_stage(self.tiler),
            "colormap": describe_stage(self.colormap),
            "layouts": ", ".join(map(str, self.layouts)) or "auto",
        }


def __getattr__(name: str) -> object:
    """Return `TileLayout` under its former name `TileLayout`, for one release."""
    if name != "Layout":
        raise AttributeError(f"module 'surgery.stages' has no attribute {name!r}")
    warn("surgery.stages.Layout is now called TileLayout", DeprecationWarning, stacklevel=2)
    return TileLayout


def declared_attribute(stage: object, name: str) -> Any:
    """An attribute that goes with how a stage is called; None where it has none, or a subclass is called otherwise.

    What a class inherits says nothing of a ``__call__`` of its own.
    """
    kind = type(stage)
    own = name in getattr(stage, "__dict__", ()) or _goes_with_call(kind, name)  # type: ignore[arg-type]
    return getattr(stage, name) if own else None


@lru_cache(maxsize=256)
def _goes_with_call(kind: type, name: str) -> bool:
    """Whether a class, the first of it and its bases that has either, has the attribute."""
    owner = next((base for base in kind.__mro__ if name in vars(base) or "__call__" in vars(base)), None)
    return owner is not None and name in vars(owner)
