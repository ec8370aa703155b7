"""The protocols that plugins implement, the preprocessing that a model needs, and the recipe of a picture.

The letters in shapes are those of `surgery.types`: B images, C channels, H height, W width, N pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
    from surgery.types import Activation, Operation, ValueLayout


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


class Edit(Protocol):
    """Computes what takes the place of an operation's value while the model runs.

    Takes maps ``(B, C, H, W)`` of the dtype and on the device of the model, of any range, with NaN and infinities as
    the model computed them. Returns the replacement, of the same shape, dtype and device, and the same for the same
    maps. It must not write to its input, and nothing is written to the replacement, which may share memory with the
    input. For values that it has no replacement for, such as integers, it raises EditError.

    Optional attributes, usually the fields of a dataclass, say where the replacement takes effect. The edit itself need
    not regard them, since it is mixed with the value as it was by those who call it:

    - ``channels``: numbers and ranges of channels, ``range(16)``, ``("0-15", 20)`` or ``"0-15,20"``; None for all.
    - ``region``: top, left, height and width in shares of the map, from 0 to 1; None for everywhere.
    - ``amount``: the share of the replacement in the result, from 0 to 1.
    - ``mask_shares``: such shares at each position, a tensor ``(H, W)`` that is resized to the map; None for none.
    - ``of_reference(values)``: a method that takes the values ``(N, C, H, W)`` of the operation in a run on N reference
      images, and returns the edit for them.
    - ``is_spatial``: true for an edit to which it matters which positions are neighbors. Then tokens are maps of their
      grid, without those beside it; else all tokens are a map of one row.
    - ``needs_reference``: true for an edit that can't be called, but for the one that ``of_reference`` returns.
    """

    def __call__(self, values: Tensor, /) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class MeasuredOperation:
    """The operation whose maps a measure is going to take, and what the traced model says about it."""

    operation: Operation
    module: nn.Module | None = None
    """The leaf module that it calls; None for a function, an operator or a method."""
    upsampling: int | None = None
    """The factor of the last upsampling in it or before it; None if there is none, or if it is not known."""
    is_upsampling: bool = False


class Measure(Protocol):
    """Computes a number for each channel of an activation.

    Takes maps as a `Transform` does. Returns ``(B, C)`` float64, or ``(B, 1)`` for one number of all channels; those of
    image b depend only on image b. NaN stands for no number. It must not write to its input, memory of the model.

    Its attributes ``unit`` ("share", "ratio") and ``reading`` say in words what the numbers are, and how to read them.
    An optional method ``of_operation(measured)`` returns the measure for a `MeasuredOperation`; None for no measure.
    """

    def __call__(self, maps: Tensor, /) -> Tensor: ...


class Reader(Protocol):
    """Reads one input file as a tensor ``(1, ...)`` that the model takes: ``(1, C, H, W)`` floats for an image.

    A file that holds several inputs gives them by name, the parameters of the model's forward. Tensors of floats get
    the dtype of the model's weights, and other tensors keep theirs.

    It raises ImageError if it can't read the file; the run then continues without this input. It is called on other
    threads than the model's, on several at once if a run has several readers. In a folder it reads the files with the
    suffixes in its optional attribute ``suffixes``, such as ``(".npy",)``, in lower case.
    """

    def __call__(self, path: Path, /) -> Tensor | Mapping[str, Tensor]: ...


CheckpointReader: TypeAlias = "Callable[[Path, Mapping[str, Tensor]], nn.Module | None]"
"""Takes the path of a weights file and its state_dict; returns the network with these weights, or None if it does not
know this kind of file. The keys have no prefixes of wrappers (``module.``, ``_orig_mod.``). The state_dict is empty if
the file has none, or none that can be read without running code from the file."""

Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The preprocessing of images that a network was trained with. A model may have it as an attribute `preprocessing`.

    An image keeps its aspect ratio and is resized until it just covers ``size / crop``. Its center of `size` is cut
    out, and its colors in [0, 1] become ``(color - mean) / std``. Raises ImageError for values that are out of range.
    """

    size: tuple[int, int]
    """Height and width in pixels."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Of each input channel of the network (3 or 1), for colors in [0, 1]."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """In the order of `mean`, above 0."""
    crop: float = 1.0
    """The fraction of each side of the resized image that is kept, above 0 and at most 1."""
    interpolation: Interpolation = "bicubic"
    """The name of a Pillow filter."""

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
            names = ", ".join(get_args(Interpolation))
            raise ImageError(f"the interpolation of a preprocessing is one of {names}, not {self.interpolation!r}")

    @property
    def limits(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The input values for black and for white, in each channel."""
        pairs = list(zip(self.mean, self.std, strict=True))
        return tuple(-mean / std for mean, std in pairs), tuple((1 - mean) / std for mean, std in pairs)


Limits: TypeAlias = "tuple[float | Sequence[float], float | Sequence[float]]"
"""The values that are drawn as black and as white: a number each, or one for each channel."""

Write: TypeAlias = "Callable[[Activation], None]"
"""Takes one activation. It is called during the model's forward, so it must copy whatever it keeps of `values`."""


class Sink(Protocol):
    """Writes activations: a ``@contextmanager`` function that opens files, yields a `Write`, and completes the files.

    Optional attributes:

    - ``deferred``: true for a sink that uses only levels, pictures and facts. It is called on another thread, in the
      same order, while the model runs on. The `values` that it receives have a shape and a dtype, but no data.
    - ``alone``: true for a sink whose every file belongs to a single image. Several processes or writers may open it.
    - ``places``: names that it uses at the top of the output folder, such as ``("video",)``, which no image gets.
    - ``complete(folder)``: a method that gets the path of the finished folder, and may return that of a file to show.
    """

    def __call__(self, folder: OutputFolder, /) -> AbstractContextManager[Write]: ...


ModelFactory: TypeAlias = "Callable[[], nn.Module]"


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """A family of models, which users select as ``family/name``."""

    build: Callable[[str], nn.Module]
    """Takes a name without the family; returns the model."""
    names: Callable[[], Sequence[str]]
    """Returns all names that `build` accepts."""
    trained: Callable[[str], str] | None = None
    """For a model with random weights: takes its name, returns a clause that says how to get trained weights."""


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


def _former_layout(shown: int, *args: Any, **options: Any) -> TileLayout:
    return TileLayout(shown, *args, **options)


def __getattr__(name: str) -> object:
    """Return a function that makes a `TileLayout` under the former name `Layout`, for one release."""
    if name != "Layout":
        raise AttributeError(f"module 'surgery.stages' has no attribute {name!r}")
    warn("surgery.stages.Layout is now called TileLayout", DeprecationWarning, stacklevel=2)
    return _former_layout
