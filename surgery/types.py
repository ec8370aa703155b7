"""The values that pass between the stages.

The letters used in shapes, here and everywhere:

    B  images in a batch          C  channels of a map
    H  height, W width            N  pictures of one activation
    T  tokens                     D  features of a token, or depth of a volume
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from math import inf
from typing import TYPE_CHECKING, Protocol, TypeAlias
from warnings import warn

from surgery.errors import SurgeryError, first_line
from surgery.text import Html, encode_png, escape_html, image_tag

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

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

    ``codes[c]`` less than `LEVELS` stands for ``low[c] + codes[c] / 250 * (high[c] - low[c])``, right to half a
    level for a value within the limits. A channel whose limits are equal is drawn in the middle, at 125.
    """

    codes: NDArray[np.uint8]
    """``(C, H, W)``, `LEVELS` codes of value and the codes of what is none."""
    low: NDArray[np.float64]
    """``(C,)``, the value drawn as 0."""
    high: NDArray[np.float64]
    """``(C,)``, the value drawn as 250."""

    @property
    def indices(self) -> NDArray[np.uint8]:
        """The former name of `codes`, for one release."""
        warn("surgery.types.Levels.indices is now called codes", DeprecationWarning, stacklevel=2)
        return self.codes

    def __repr__(self) -> str:
        return f"Levels({self.codes.shape}, from {self.low.min(initial=inf):g} to {self.high.max(initial=-inf):g})"


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
    scanlines: NDArray[np.uint8] | None = None
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
        if self.scanlines is not None and self.scanlines[:, 1:].__array_interface__ != self.pixels.__array_interface__:
            object.__setattr__(self, "scanlines", None)

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
        return encode_png(self.image(), 2048)


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


ValueLayout: TypeAlias = "Callable[[Tensor], Tensor | None]"
"""``(B, ...)`` values -> ``(B, C, H, W)`` maps, or None where it does not fit their shape."""

REQUESTED, DOES_NOT_FIT = "asked for", "does not fit it"
"""Why a layout was taken, and why one was not."""


@dataclass(frozen=True, slots=True)
class LayoutDecision:
    """How the values of an activation are read as maps, and how that was decided."""

    name: str
    """``channels-first``, ``channels-last``, ``tokens:14x14``, ``windows:7x7``, ``vector``, ``flat``, ``image``."""
    reason: str
    """What it was decided by, in words."""
    layout: ValueLayout | None = None
    """None: `surgery.drawing.quantization.as_maps` by the number of axes."""
    batch_axis: int = 0
    """Which axis counts the images."""
    images: int | None = None
    """How many there are, where that is known."""

    @property
    def is_requested(self) -> bool:
        """Whether it is what was asked for."""
        return self.reason == REQUESTED

    @property
    def is_guessed(self) -> bool:
        """Whether it was told from sizes alone."""
        return "guessed" in self.reason

    @property
    def is_fallback(self) -> bool:
        """Whether another was asked for, which does not fit."""
        return DOES_NOT_FIT in self.reason


class Drawing(Protocol):
    """The pictures of the activations of one batch, made when first asked for and kept for the next who asks."""

    @property
    def layout_decision(self) -> LayoutDecision: ...
    def levels(self, position: int, /) -> Levels: ...
    def pictures(self, position: int, /) -> tuple[Picture, ...]: ...
    def facts(self, position: int, /) -> Facts: ...
    def quantize_now(self, *, pixels: bool) -> int:
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
            return image_tag(pictures[0].image(), most) if pictures else Html("")
        except (SurgeryError, RuntimeError) as error:
            return escape_html(f"{type(error).__name__}: {first_line(error)}")

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        return f"<div>{escape_html(repr(self))}</div>{self.thumbnail(768)}"

    @property
    def layout(self) -> LayoutDecision:
        """How the values are read as maps, its ``name``, and how that was decided, its ``reason``."""
        return self.drawing.layout_decision

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


def __getattr__(name: str) -> object:
    """Names that have moved to `surgery.stages`, for a release."""
    stages = import_module("surgery.stages")
    if name.startswith("_") or not hasattr(stages, name):
        raise AttributeError(f"module 'surgery.types' has no attribute {name!r}")
    warn(f"surgery.types.{name} has moved to surgery.stages.{name}", DeprecationWarning, stacklevel=2)
    return getattr(stages, name)
