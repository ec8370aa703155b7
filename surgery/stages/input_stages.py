"""The readers of a model's inputs, and the preprocessing of images that a model needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args

from surgery.errors import ImageError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


class Reader(Protocol):
    """Reads one input file as a tensor ``(1, ...)`` that the model takes: ``(1, C, H, W)`` floats for an image.

    A file that holds several inputs gives them by name, the parameters of the model's forward. Tensors of floats get
    the dtype of the model's weights, and other tensors keep theirs.

    It raises ImageError if it can't read the file; the run then continues without this input. It is called on other
    threads than the model's, on several at once if a run has several readers. In a folder it reads the files with the
    suffixes in its optional attribute ``suffixes``, such as ``(".npy",)``, in lower case.
    """

    def __call__(self, path: Path, /) -> Tensor | Mapping[str, Tensor]: ...


Interpolation: TypeAlias = Literal["nearest", "box", "bilinear", "bicubic", "lanczos"]

PairSide: TypeAlias = Literal["none", "left", "right", "left,right", "right,left"]
"""Which halves of an AB pair are the input."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The preprocessing of images that a network was trained with. A model may have it as an attribute `preprocessing`.

    An image keeps its aspect ratio and is resized until it just covers ``size / crop``. Its center of `size` is cut
    out, and its colors in [0, 1] become ``(color - mean) / std``. Raises ImageError for values that are out of range.

    With `stretch` an image is resized to `size` whatever its proportions, and nothing is cut off.
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
    stretch: bool = False
    """Whether the proportions of an image may change. `crop` is 1 then."""
    pair_side: PairSide = "none"
    """The half, or halves, that are the input of the network, of an AB pair: an image that is twice as wide as high,
    where the network takes a square. It counts where the user requests no side."""
    lightness: bool = False
    """Whether the one channel of the network is the lightness L* of CIELAB, of colors in sRGB and from 0 for black to 1
    for white. Otherwise it is the gray value, Pillow's mode L."""

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise ImageError(f"the size of a preprocessing is (height, width), at least 1, not {self.size}")
        if not 0 < self.crop <= 1:
            raise ImageError(f"the crop of a preprocessing is above 0 and at most 1, not {self.crop:g}")
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3) or min(self.std) <= 0:
            raise ImageError(
                f"a preprocessing has a mean and a positive std for 3 channels or 1, not {self.mean} and {self.std}"
            )
        if self.lightness and len(self.mean) != 1:
            raise ImageError(f"lightness is one channel, and this preprocessing has {len(self.mean)}")
        if self.stretch and self.crop != 1:
            raise ImageError(f"a preprocessing that stretches images does not crop them: crop is 1, not {self.crop:g}")
        if self.pair_side not in get_args(PairSide):
            raise ImageError(f"the side of a pair is one of {', '.join(get_args(PairSide))}, not {self.pair_side!r}")
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
