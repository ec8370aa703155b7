"""The values that pass between the stages, and the shapes of the stages themselves.

The letters used in shapes, here and everywhere:

    B  images in a batch          C  channels of a map
    H  height, W width            N  pictures of one activation
    T  tokens                     D  features of a token, or depth of a volume
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf
from operator import index
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

from surgery.errors import ImageError, RenderError, SurgeryError, first_line
from surgery.modules import plain_name
from surgery.notebooks import Html, escaped, inline, png

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor, nn

    from surgery.folder import OutputFolder
    from surgery.layouts import Arrangement, LayoutRule, ValueLayout

LEVELS = 251
"""How many of a byte's 256 codes stand for values: 0 is `low`, 125 the middle, 250 is `high`."""

NAN, MINUS_INF, PLUS_INF, BACKGROUND = 252, 253, 254, 255
"""The codes of what is not a value."""
INK = 251
"""The code of what is written into a picture."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor in the value of an operation, as the example run found it."""

    key: str
    """Where in the value it is: ``""`` for the value itself, ``"[0]"`` or ``"[logits]"`` inside a container."""
    shape: tuple[int, ...]
    dtype: str
    """torch's name for it, without the prefix: ``"float32"``."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A node of a traced graph that computes a value."""

    name: str
    """Unique in its graph, an identifier, the name of its node: ``down3_conv``."""
    path: str
    """Readable and unique: ``down3.conv``, ``up2.cat``; ``@1`` marks the second of that path."""
    kind: str
    """What is called, lower case, the same for a module, function or method: ``conv2d``, ``cat``, ``add``."""
    index: int
    """Position in order of execution, from 1: 0 is the input, and the output comes one after the last."""
    scopes: tuple[str, ...] = ()
    """Paths of the modules it is in, the outermost first; a leaf module's own path is the last."""
    source: str | None = None
    """The user's line that calls it: ``models/unet.py:41``."""
    tensors: tuple[TensorSpec, ...] | None = None
    """What it computes; empty where that is no tensor, None where no example has run."""

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of its value, where that is one tensor and an example has run."""
        return self.tensors[0].shape if self.tensors is not None and len(self.tensors) == 1 else None

    @property
    def dtype(self) -> str | None:
        """The dtype of its value, where that is one tensor and an example has run."""
        return self.tensors[0].dtype if self.tensors is not None and len(self.tensors) == 1 else None

    def __repr__(self) -> str:
        return f"Operation({self.path!r}, {self.kind}{f', {self.shapes()}' if self.tensors else ''})"

    def shapes(self) -> str:
        """The shapes of what it computes, as text: empty where they are not known."""
        shown = [str(spec.shape) for spec in (self.tensors or ())[:3]]
        return ", ".join(shown) + (f" and {len(self.tensors or ()) - 3} more" if len(self.tensors or ()) > 3 else "")

    def __deepcopy__(self, _memo: dict[int, object]) -> Operation:
        """Itself, since nothing in it can change: copies of a rewritten model have their operations in common."""
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """The values of one activation as bytes, and the scale that reads them back.

    ``indices[c]`` less than `LEVELS` stands for ``low[c] + indices[c] / 250 * (high[c] - low[c])``, right to half a
    level for a value within the limits. A channel whose limits are equal is drawn in the middle, at 125.
    """

    indices: NDArray[np.uint8]
    """``(C, H, W)``, `LEVELS` codes of value and the codes of what is none."""
    low: NDArray[np.float64]
    """``(C,)``, the value drawn as 0."""
    high: NDArray[np.float64]
    """``(C,)``, the value drawn as 250."""

    def __repr__(self) -> str:
        return f"Levels({self.indices.shape}, from {self.low.min(initial=inf):g} to {self.high.max(initial=-inf):g})"


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """Indexed pixels and a palette, or pixels that are color by nature and no palette."""

    pixels: NDArray[np.uint8]
    """``(H, W)`` codes into the palette, or ``(H, W, 3)`` RGB."""
    palette: NDArray[np.uint8] | None
    """``(256, 3)`` RGB; None for RGB pixels."""
    low: NDArray[np.float64]
    """``(C,)``, or ``(1,)`` in the picture of a single channel: the value drawn as code 0 in each tile."""
    high: NDArray[np.float64]
    """Like `low`: the value drawn as code 250."""
    lines: NDArray[np.uint8] | None = None
    """``(H, 1 + W)``: where the pixels lie, with a zero before each line, as a PNG file has them; None where they lie
    otherwise."""
    channels: tuple[int, int] | None = None
    """The first and the last channel in it, where others are in other pictures of the same activation."""
    part: tuple[int, int] | None = None
    """Which part it is, from 1, and of how many, where one picture of them all would be too large to be opened."""
    label: str | None = None
    """What tells it from the other pictures of the activation in the names of files: ``part1``."""

    def __post_init__(self) -> None:
        # A copy that was given other pixels is not to be written as what it was made of.
        if self.lines is not None and self.lines[:, 1:].__array_interface__ != self.pixels.__array_interface__:
            object.__setattr__(self, "lines", None)

    def image(self) -> Image.Image:
        """The picture as a Pillow image, of mode P or RGB."""
        from PIL import Image

        image = Image.fromarray(self.pixels)
        if self.palette is not None:
            image.putpalette(self.palette.tobytes())
        return image

    def __repr__(self) -> str:
        height, width = self.pixels.shape[:2]
        return f"Picture({width}x{height}, {'RGB' if self.palette is None else 'palette'})"

    def _repr_png_(self) -> bytes:
        """How a notebook shows it: a picture of more than 2048 pixels a side is made smaller."""
        return png(self.image(), 2048)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the passes over an activation's values found. Numbers are of the finite values alone."""

    min: float | None
    """None where no value is finite."""
    max: float | None
    channels: int
    constant_channels: int
    """Channels of more than one value, all of them equal."""
    nan: bool
    inf: bool
    mean: float | None = None
    """This and what follows only where exact statistics were asked for."""
    std: float | None = None
    """Of the population (divided by the count)."""
    zeros: float | None = None
    """Share of the values that are exactly zero, from 0 to 1."""
    nan_count: int | None = None
    inf_count: int | None = None


class Drawing(Protocol):
    """The pictures of the activations of one batch, made when first asked for and kept for the next who asks."""

    @property
    def arrangement(self) -> Arrangement: ...
    def levels(self, position: int, /) -> Levels: ...
    def pictures(self, position: int, /) -> tuple[Picture, ...]: ...
    def facts(self, position: int, /) -> Facts: ...
    def settle(self, *, pixels: bool) -> int:
        """Take from the values what facts, and `pixels` if they are wanted, need: from now on they may be overwritten.

        Returns the bytes that are kept for it; 0 where that was done before.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Activation:
    """What one operation produced for one input image."""

    operation: Operation
    path: str
    """The operation's path; where its value holds several tensors, followed by which: ``attention[0]``."""
    image: str | None
    """Name of the input image that it belongs to; None where it belongs to the whole batch."""
    values: Tensor
    """As they were computed: dtype and device are the model's. Of one image, without the batch axis; of the whole
    batch where `image` is None. While a model runs they are live: a later operation may write into them, so a
    sink that keeps them copies them before it returns."""
    drawing: Drawing = field(repr=False)
    position: int = field(default=0, repr=False)
    """Which part of the drawing is this activation's."""

    def __repr__(self) -> str:
        image = f", image={self.image!r}" if self.image is not None else ""
        return f"Activation({self.path!r}, {self.summary()}{image})"

    def summary(self) -> str:
        """Shape and dtype of the values as text, with the device where that is not the CPU."""
        device = "" if self.values.device.type in ("cpu", "meta") else f" on {self.values.device}"
        return f"{tuple(self.values.shape)} {str(self.values.dtype).removeprefix('torch.')}{device}"

    def thumbnail(self, most: int) -> Html:
        """Its first picture as HTML, of at most `most` pixels a side; why there is none, where it can't be drawn."""
        try:
            pictures = self.pictures
            return inline(pictures[0].image(), most) if pictures else Html("")
        except (SurgeryError, RuntimeError) as error:
            return escaped(f"{type(error).__name__}: {first_line(error)}")

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        return f"<div>{escaped(repr(self))}</div>{self.thumbnail(768)}"

    @property
    def layout(self) -> Arrangement:
        """How the values are read as maps, its ``name``, and how that was decided, its ``reason``."""
        return self.drawing.arrangement

    @property
    def levels(self) -> Levels:
        """The values as bytes, ``(C, H, W)``, and their limits."""
        return self.drawing.levels(self.position)

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """One picture, or as many as the tiler makes of one activation."""
        return self.drawing.pictures(self.position)

    @property
    def facts(self) -> Facts:
        """Least and greatest value, constant channels, whether NaN or infinities are among them."""
        return self.drawing.facts(self.position)


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
class Layout:
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
    `Layout`, which stands for the same pictures: then codes are made where they are drawn, and PNG files are written
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
            "transforms": ", ".join(describe(transform) for transform in self.transforms) or "none",
            "normalizer": describe(self.normalizer),
            "tiler": describe(self.tiler),
            "colormap": describe(self.colormap),
            "layouts": ", ".join(map(str, self.layouts)) or "auto",
        }


def shortcut(stage: object, name: str) -> Any:
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


def describe(stage: object) -> str:
    """A stage in words: ``MinMax(per='channel')`` of a dataclass, ``module.name`` of a function, a name as it is."""
    if isinstance(stage, str):
        return stage
    if stage is None:
        return "default"
    name = getattr(stage, "__qualname__", None)
    return f"{plain_name(getattr(stage, '__module__', '?'))}.{name}" if name is not None else repr(stage)


__all__ = [
    "BACKGROUND",
    "LEVELS",
    "MINUS_INF",
    "NAN",
    "PLUS_INF",
    "Activation",
    "CheckpointReader",
    "Colormap",
    "Drawing",
    "Facts",
    "Interpolation",
    "Layout",
    "Levels",
    "Limits",
    "ModelFactory",
    "ModelFamily",
    "Normalizer",
    "Operation",
    "Picture",
    "Preprocessing",
    "Reader",
    "Recipe",
    "Sink",
    "TensorSpec",
    "Tiler",
    "Transform",
    "Write",
    "describe",
    "shortcut",
]
