"""An image file as a tensor: one or both halves of a pair, in the size, range and channels that a network takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from PIL import Image

from surgery.errors import ImageError
from surgery.inputs.decoding import decode
from surgery.inputs.input_files import local_copy
from surgery.inputs.lightness import compute_lightness
from surgery.inputs.notes import add_note
from surgery.inputs.pixels import DecodingOptions, Pixels
from surgery.inputs.remote_files import as_input

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from surgery.stages import PairSide, Preprocessing

Side: TypeAlias = Literal["left", "right", "both", "left,right", "right,left", "none"]
"""Which half of an AB pair to read, or both as channels in this order. ``both`` is ``left,right``."""
Size: TypeAlias = int | tuple[int, int] | Literal["native"] | None
"""The side of a square, (height, width), or "native" for the size of the file. None leaves the choice to the model."""

_MAX_PIXELS = 2**30
"""The most pixels that an image is resized to."""
_HALVES: dict[str, tuple[str, ...]] = {
    "none": ("whole",),
    "left": ("left",),
    "right": ("right",),
    "both": ("left", "right"),
    "left,right": ("left", "right"),
    "right,left": ("right", "left"),
}


def load_image(
    path: str | os.PathLike[str],
    *,
    size: Size = None,
    side: Side = "none",
    range: tuple[float, float] = (-1.0, 1.0),  # noqa: A002
    channels: int = 3,
    preprocessing: Preprocessing | None = None,
    black: float = 0.0,
    white: float | None = None,
    indices: bool = False,
) -> Tensor:
    """Return an image file as a tensor ``(1, C, H, W)`` of float32 in `range`, as a pix2pix network takes it.

    `path` is a path, or an address of fsspec such as ``s3://bucket/a.png``.

    `size` is the side of a square or (height, width); Pillow's bicubic filter resizes to it. With None and "native" the
    image keeps its size.

    `side` "left" or "right" takes one half of an AB pair, split at width // 2 before the resize. "both" (the same as
    "left,right") and "right,left" take both halves as channels, in that order. A discriminator of the public code takes
    its generator's input first: use "both" if it was trained from A to B, and "right,left" if from B to A.

    `channels` is 3 (RGB) or 1 (gray), and 6 or 2 for both halves. Transparent images are composited over white, the
    EXIF orientation is applied, and other color spaces are converted.

    With `preprocessing` each half is resized and cropped as it says, to `size` if that is given, and normalized to
    ``(color - mean) / std``; `range` is ignored. It may say which half of an AB pair the network takes: that one is
    taken of an image that is twice as wide as high and becomes a square, unless `side` says otherwise.

    The values `black` and `white` of the file become the ends of `range`. If `white` is None, it is 255 for 8 bits and
    1 for floats up to 1. For 16 bits it is the greatest value of 8, 10, 12, 14 or 16 bits that the image needs, so that
    label ids are read alike from 8-bit and 16-bit files; a warning reports this choice. `indices` reads the indices of
    an image with a palette instead of its colors.

    Raises ImageError for a file that can't be decoded, for values whose white can't be determined, for more pixels than
    Pillow's decompression bomb limit, and for arguments that contradict each other.
    """
    with local_copy(as_input(path)) as file:
        return _load(file, size, side, range, channels, preprocessing, DecodingOptions(black, white, indices))


def _load(
    path: Path,
    size: Size,
    side: Side,
    value_range: tuple[float, float],
    channels: int,
    preprocessing: Preprocessing | None,
    options: DecodingOptions,
) -> Tensor:
    if side not in _HALVES:
        raise ImageError(f"side is left, right or none, or both, left,right or right,left; not {side!r}")
    halves = _HALVES[side]
    channels = len(preprocessing.mean) * len(halves) if preprocessing is not None else channels
    per_half = channels // len(halves)
    if per_half not in (1, 3) or per_half * len(halves) != channels:
        raise ImageError(_explain_channel_mismatch(channels, side))
    reads_lightness = preprocessing is not None and preprocessing.lightness
    pixels = decode(path, 3 if reads_lightness else per_half, options)
    target = parse_size(preprocessing.size if preprocessing is not None and size is None else size)
    if side == "none" and preprocessing is not None and preprocessing.pair_side != "none":
        halves = _HALVES[_choose_pair_side(path, pixels, preprocessing.pair_side, target)]
    elif target is not None and side == "none" and (preprocessing is None or preprocessing.stretch):
        _note_likely_pair(path, pixels, target)
    values = torch.cat([_resize(part, target, preprocessing) for part in _split_halves(path, pixels, halves)])
    values = _scale(values, value_range) if preprocessing is None else _normalize(values, preprocessing, len(halves))
    return values.unsqueeze(0).contiguous()


def parse_size(size: Size) -> tuple[int, int] | None:
    """Return (height, width), or None to keep the size of the file. Raises ImageError for an impossible size."""
    if size is None or size == "native":
        return None
    if not isinstance(size, int) and (isinstance(size, str) or len(size) != 2):
        raise ImageError(f"a size is a number, (height, width) or 'native', not {size!r}")
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1 or height * width > _MAX_PIXELS:
        shown = f"{str(height)[:40]}x{str(width)[:40]}"
        raise ImageError(f"a size is at least 1, and of at most {_MAX_PIXELS:,} pixels, not {shown}")
    return height, width


def _choose_pair_side(path: Path, pixels: Pixels, side: PairSide, size: tuple[int, int] | None) -> PairSide:
    """Return the side of an AB pair that a network takes; "none" for an image that is not a pair.

    Raises ImageError for such an image where the network takes both halves.
    """
    if _is_likely_pair(pixels, size):
        first, *second = side.split(",")
        halves = f"the {first} and the {second[0]} half are" if second else f"the {first} half is"
        text = f"twice as wide as high, so it is read as an AB pair: {halves} the input of this network; "
        add_note(path, f"{text}--side takes another (side= in Python)")
        return side
    if "," in side:
        raise ImageError(f"{path} is not an AB pair, twice as wide as high, and the model takes both halves of one")
    return "none"


def _is_likely_pair(pixels: Pixels, size: tuple[int, int] | None) -> bool:
    """Return whether an image is about twice as wide as high, and becomes a square."""
    return size is not None and size[0] == size[1] and 1.9 <= pixels.width / pixels.height <= 2.1


def _note_likely_pair(path: Path, pixels: Pixels, size: tuple[int, int]) -> None:
    height, width = size
    if _is_likely_pair(pixels, size):
        text = f"twice as wide as high, and resized to {height}x{width}: it looks like an AB pair; "
        add_note(path, f"{text}--side left or --side right takes one half (side= in Python)", doubtful=True)


def _scale(values: Tensor, value_range: tuple[float, float]) -> Tensor:
    low, high = value_range
    # For [-1, 1] exactly what the public pix2pix code computes, down to the rounding.
    return values.sub(0.5).div(0.5) if (low, high) == (-1.0, 1.0) else values.mul(high - low).add(low)


def _normalize(values: Tensor, preprocessing: Preprocessing, halves: int) -> Tensor:
    mean, std = (torch.tensor(part * halves)[:, None, None] for part in (preprocessing.mean, preprocessing.std))
    return values.sub(mean).div(std)


def _explain_channel_mismatch(channels: int, side: Side) -> str:
    if len(_HALVES[side]) == 2:
        return f"--side {side} (side={side!r}) gives 6 channels, or 2 in gray, and the model takes {channels}"
    if channels in (2, 6):
        advice = "--side both (side='both') gives it both halves of an AB pair"
    else:
        advice = "--reader tensor reads files of tensors"
    return f"an image has 3 channels, or 1 in gray, and the model takes {channels}; {advice}"


def _split_halves(path: Path, pixels: Pixels, halves: Sequence[str]) -> list[Pixels]:
    middle, width, height = pixels.width // 2, pixels.width, pixels.height
    boxes = {"whole": (0, 0, width, height), "left": (0, 0, middle, height), "right": (middle, 0, width, height)}
    if halves != ("whole",) and not middle:
        raise ImageError(f"{path} is {width} pixel wide and has no {' and no '.join(halves)} half")
    return [pixels.crop(boxes[half]) for half in halves]


def _resize(pixels: Pixels, size: tuple[int, int] | None, preprocessing: Preprocessing | None) -> Tensor:
    """Return ``(C, H, W)`` float32 from 0 to 1."""
    if size is not None:
        height, width = size
        if preprocessing is None:
            pixels = pixels.map(lambda part: part.resize((width, height), Image.Resampling.BICUBIC))
        else:
            pixels = pixels.map(lambda part: _resize_and_crop(part, height, width, preprocessing))
    values = torch.from_numpy(pixels.to_array()).permute(2, 0, 1)
    values = values.to(torch.float32).div(255) if values.dtype == torch.uint8 else values
    return compute_lightness(values) if preprocessing is not None and preprocessing.lightness else values


def _resize_and_crop(image: Image.Image, height: int, width: int, preprocessing: Preprocessing) -> Image.Image:
    """Resize to just cover ``size / crop`` with the proportions kept, then cut ``size`` out of the center."""
    if preprocessing.stretch:
        return image.resize((width, height), Image.Resampling[preprocessing.interpolation.upper()])
    tall, wide = (int(side / preprocessing.crop + 1e-6) for side in (height, width))
    if tall * image.width >= wide * image.height:  # the height decides
        resized = (max(width, image.width * tall // image.height), tall)
    else:
        resized = (wide, max(height, image.height * wide // image.width))
    image = image.resize(resized, Image.Resampling[preprocessing.interpolation.upper()])
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
