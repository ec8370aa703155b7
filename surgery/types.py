"""The values that pass between the stages: operations, activations, pictures.

The letters in shapes, here and in all documentation:

    B  images in a batch          C  channels (maps) of an activation
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
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

LEVELS = 251
"""The number of codes that stand for values: 0 for `low`, 125 for the middle of the scale, 250 for `high`."""

INK, NAN, MINUS_INF, PLUS_INF, BACKGROUND = 251, 252, 253, 254, 255
"""The codes of text in a picture, of values that are not finite, and of pixels outside of any map."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Shape and dtype of one tensor in the value of an operation, known after an example has run."""

    key: str
    """Its position in the value: ``""`` for the value itself, ``"[0]"`` or ``"[logits]"`` inside a container."""
    shape: tuple[int, ...]
    dtype: str
    """The name in torch without its prefix: ``"float32"``."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A node of a traced graph that computes a value."""

    name: str
    """The name of its node, an identifier that is unique in the graph: ``down3_conv``."""
    path: str
    """Its address in the model, unique: ``down3.conv``, ``up2.cat``. A second call has the suffix ``@1``."""
    kind: str
    """What it calls, in lower case, the same for a module, a function and a method: ``conv2d``, ``cat``, ``add``."""
    index: int
    """Position in order of execution, from 1. The input has 0, and the output has the number after the last one."""
    scopes: tuple[str, ...] = ()
    """Paths of the modules that contain it, outermost first. The path of a leaf module comes last."""
    source: str | None = None
    """File and line of the call in the user's code: ``models/unet.py:41``."""
    tensors: tuple[TensorSpec, ...] | None = None
    """The tensors in its value; empty if it computes none, None before an example has run."""
    is_new: bool = False
    """Whether the run of an observed model's example did not have it. Then its index counts the new operations of its
    run, from the number after the output's."""

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of its value, or None if the value is not a single tensor or no example has run."""
        return self.tensors[0].shape if self.tensors is not None and len(self.tensors) == 1 else None

    @property
    def dtype(self) -> str | None:
        """The dtype of its value, or None if the value is not a single tensor or no example has run."""
        return self.tensors[0].dtype if self.tensors is not None and len(self.tensors) == 1 else None

    def __repr__(self) -> str:
        return f"Operation({self.path!r}, {self.kind}{f', {self.shapes()}' if self.tensors else ''})"

    def shapes(self) -> str:
        """Return the shapes of its tensors as text, at most three of them; an empty text if they are not known."""
        tensors = self.tensors or ()
        first = ", ".join(str(spec.shape) for spec in tensors[:3])
        return f"{first} and {len(tensors) - 3} more" if len(tensors) > 3 else first

    def __deepcopy__(self, _memo: dict[int, object]) -> Operation:
        """Return the same object, which is immutable: all copies of a rewritten model share their operations."""
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """One activation quantized to bytes, with the limits that turn the bytes back into values.

    A code of channel c below `LEVELS` stands for ``low[c] + code / 250 * (high[c] - low[c])``, which is exact to half a
    level for a value within the limits. A channel with equal limits has code 125.
    """

    codes: NDArray[np.uint8]
    """``(C, H, W)``. Codes that stand for no finite value are `NAN`, `MINUS_INF`, `PLUS_INF` and `BACKGROUND`."""
    low: NDArray[np.float64]
    """``(C,)``, the value of code 0."""
    high: NDArray[np.float64]
    """``(C,)``, the value of code 250."""

    @property
    def indices(self) -> NDArray[np.uint8]:
        """The former name of `codes`, for one release."""
        warn("surgery.types.Levels.indices is now called codes", DeprecationWarning, stacklevel=2)
        return self.codes

    def __repr__(self) -> str:
        return f"Levels({self.codes.shape}, from {self.low.min(initial=inf):g} to {self.high.max(initial=-inf):g})"


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An indexed picture with its palette, or an RGB picture without one."""

    pixels: NDArray[np.uint8]
    """``(H, W)`` codes into the palette, or ``(H, W, 3)`` RGB."""
    palette: NDArray[np.uint8] | None
    """``(256, 3)`` RGB; None for RGB pixels."""
    low: NDArray[np.float64]
    """``(C,)``, or ``(1,)`` for the picture of a single channel: the value of code 0 in each tile."""
    high: NDArray[np.float64]
    """The value of code 250, in the shape of `low`."""
    scanlines: NDArray[np.uint8] | None = None
    """``(H, 1 + W)``: the memory of `pixels` with a zero before each row, as in a PNG file, if there is such memory."""
    channels: tuple[int, int] | None = None
    """Its first and last channel, if an activation has several pictures."""
    part: tuple[int, int] | None = None
    """Its number, from 1, and the number of parts, if one picture of all channels would be too large to open."""
    label: str | None = None
    """The part of its file name that distinguishes it from other pictures of the same activation: ``part1``."""
    tiles: Mapping[str, int] | None = None
    """Where its `maps` are: `height`, `width`, `columns`, `factor`, `gap`, `top` (for a label); None if unknown."""

    def __post_init__(self) -> None:
        # `replace(picture, pixels=...)` must not keep the scanlines of the former pixels.
        if self.scanlines is not None and self.scanlines[:, 1:].__array_interface__ != self.pixels.__array_interface__:
            object.__setattr__(self, "scanlines", None)

    def image(self) -> Image.Image:
        """Return the picture as a Pillow image of mode P or RGB."""
        from PIL import Image

        image = Image.fromarray(self.pixels)
        if self.palette is not None:
            image.putpalette(self.palette.tobytes())
        return image

    def __repr__(self) -> str:
        height, width = self.pixels.shape[:2]
        return f"Picture({width}x{height}, {'RGB' if self.palette is None else 'palette'})"

    def _repr_html_(self) -> str:
        """Return HTML for a notebook."""
        return f"<div>{escape_html(repr(self))}</div>{image_tag(self.image(), 768)}"

    def _repr_png_(self) -> bytes:
        """Return a PNG for a notebook, at most 2048 pixels wide and high."""
        return encode_png(self.image(), 2048)


@dataclass(frozen=True, slots=True)
class Facts:
    """Statistics of an activation. All numbers are computed from its finite values."""

    min: float | None
    """None if no value is finite."""
    max: float | None
    channels: int
    constant_channels: int
    """The number of channels that have more than one value, all of them equal."""
    nan: bool
    inf: bool
    mean: float | None = None
    """This field and the following ones are None unless exact statistics were requested."""
    std: float | None = None
    """Standard deviation of the population (divided by the count)."""
    zeros: float | None = None
    """Fraction of the values that are exactly zero."""
    nan_count: int | None = None
    inf_count: int | None = None


ValueLayout: TypeAlias = "Callable[[Tensor], Tensor | None]"
"""Takes ``(B, ...)`` values; returns ``(B, C, H, W)`` maps, or None if it can't read this shape."""


@dataclass(frozen=True, slots=True)
class LayoutDecision:
    """The layout of an activation (how its values are read as maps), and why it was chosen."""

    name: str
    """``channels-first``, ``channels-last``, ``tokens:14x14``, ``windows:7x7``, ``vector``, ``flat``, ``image``."""
    reason: str
    """Why it was chosen, as a text."""
    layout: ValueLayout | None = None
    """The function that makes the maps; None for the default one, which goes by the number of axes."""
    batch_axis: int = 0
    """The axis that counts the images."""
    images: int | None = None
    """The number of images, if it is known."""
    is_requested: bool = False
    """Whether the user requested this layout."""
    is_guessed: bool = False
    """Whether it was chosen from the sizes of the axes alone."""
    is_fallback: bool = False
    """Whether the user requested another layout, which does not fit the shape."""


class Drawing(Protocol):
    """The pictures of the activations of one batch, which are made on first use and cached."""

    @property
    def layout_decision(self) -> LayoutDecision: ...
    def levels(self, position: int, /) -> Levels: ...
    def pictures(self, position: int, /) -> tuple[Picture, ...]: ...
    def facts(self, position: int, /) -> Facts: ...
    def quantize_now(self, *, pixels: bool) -> int:
        """Compute what `facts` needs, and `pictures` too if `pixels` is true; then the values may be overwritten.

        Returns the number of bytes that are held for it, or 0 if it has been done before.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Activation:
    """The value that one operation computed for one input image, or for the whole batch."""

    operation: Operation
    path: str
    """The operation's path, followed by a key if its value contains several tensors: ``attention[0]``."""
    image: str | None
    """The name of the input image; None for a value of the whole batch."""
    values: Tensor
    """The values of one image, without the batch axis, or of the whole batch, with the model's dtype and device. While
    the model runs, a later operation may write to them: a sink that keeps them must copy them before it returns."""
    drawing: Drawing = field(repr=False)
    position: int = field(default=0, repr=False)
    """The index of this activation in `drawing`."""
    gradient: Activation | None = field(default=None, repr=False)
    """The gradient with respect to the values, if `surgery.record` was asked for gradients and autograd follows the
    values: an activation of the same shape, whose path ends in ``.gradient``."""
    measures: Mapping[str, NDArray[np.float64]] = field(default_factory=dict, repr=False)
    """What the measures of a run say of the values, by name: ``(C,)``, or ``(1,)`` for one number of all channels."""

    def __repr__(self) -> str:
        image = f", image={self.image!r}" if self.image is not None else ""
        return f"Activation({self.path!r}, {self.summary()}{image})"

    def summary(self) -> str:
        """Return the shape and dtype of the values as text, and the device unless it is the CPU."""
        device = "" if self.values.device.type in ("cpu", "meta") else f" on {self.values.device}"
        return f"{tuple(self.values.shape)} {str(self.values.dtype).removeprefix('torch.')}{device}"

    def thumbnail(self, max_side: int) -> Html:
        """Return its first picture as HTML, at most `max_side` pixels wide and high, or why it can't be drawn."""
        try:
            return image_tag(self.pictures[0].image(), max_side) if self.pictures else Html("")
        except (SurgeryError, RuntimeError) as error:
            return escape_html(f"{type(error).__name__}: {first_line(error)}")

    def _repr_html_(self) -> str:
        """Return HTML for a notebook."""
        return f"<div>{escape_html(repr(self))}</div>{self.thumbnail(768)}"

    @property
    def layout(self) -> LayoutDecision:
        """How the values are read as maps (its `name`), and why (its `reason`)."""
        return self.drawing.layout_decision

    @property
    def levels(self) -> Levels:
        """The values quantized to bytes, ``(C, H, W)``, and their limits."""
        return self.drawing.levels(self.position)

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The pictures that the tiler makes of this activation, one or more."""
        return self.drawing.pictures(self.position)

    @property
    def facts(self) -> Facts:
        """Its minimum and maximum, the number of constant channels, and whether it has NaN or infinities."""
        return self.drawing.facts(self.position)


def __getattr__(name: str) -> object:
    """Return a name that has moved to `surgery.stages`, for one release."""
    stages = import_module("surgery.stages")
    if name not in (*stages.__all__, "Layout"):
        raise AttributeError(f"module 'surgery.types' has no attribute {name!r}")
    warn(f"surgery.types.{name} has moved to surgery.stages.{name}", DeprecationWarning, stacklevel=2)
    return getattr(stages, name)
