"""Reading input images: what was asked for to files, a file to a tensor."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from PIL import Image

from surgery.errors import ImageError
from surgery.inputs.decoding import DecodingOptions, Pixels, decodable_suffixes, decode
from surgery.inputs.notes import add_note
from surgery.output import has_manifest

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from torch import Tensor

    from surgery.stages import Preprocessing

Side: TypeAlias = Literal["left", "right", "both", "left,right", "right,left", "none"]
"""Of an AB pair: one half, or both as channels. ``both`` is ``left,right``."""
Size: TypeAlias = int | tuple[int, int] | Literal["native"] | None

_LARGEST = 2**30
"""Pixels that an image is resized to."""
_HALVES: dict[str, tuple[str, ...]] = {
    "none": ("whole",),
    "left": ("left",),
    "right": ("right",),
    "both": ("left", "right"),
    "left,right": ("left", "right"),
    "right,left": ("right", "left"),
}


def find_images(
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], suffixes: Collection[str] | None = None
) -> list[Path]:
    """The image files meant by files, folders (the images directly in them) and patterns such as ``facades/*.png``.

    In the order given, those of a folder or pattern sorted. `suffixes`, in lower case, are those of the files that are
    taken from a folder; None are those of images. Other files of a folder, hidden files, and other files that match a
    pattern without a suffix, are left out and noted. A file that was named is in the list whether it exists or not.
    A pattern with ``**`` finds no files in folders of runs, which are those with a manifest. Raises ImageError for a
    folder or a pattern with no image.
    """
    given = [images] if isinstance(images, (str, os.PathLike)) else images
    wanted = decodable_suffixes() if suffixes is None else suffixes
    what = "image" if suffixes is None else f"file in {', '.join(suffixes)}"
    found: list[Path] = []
    for item in given:
        if not str(item).strip():
            raise ImageError("the name of an image is empty; is a variable of the shell not set?")
        path = Path(item)
        if path.is_dir():
            try:
                inside = sorted(file for file in path.iterdir() if file.is_file())
            except OSError as error:
                raise ImageError(f"can't read the folder {path}: {(error.strerror or str(error)).lower()}") from error
            taken = _without_others(path, inside, wanted)
            if not taken:
                others = f"; it holds {_shown(inside)}" if inside else ""
                raise ImageError(f"the folder {path} has no {what} in it{others}")
            found += taken
        elif not path.exists() and glob.has_magic(str(item)):
            matches = sorted(Path(match) for match in glob.glob(str(item), recursive=True))  # noqa: PTH207
            if "**" in str(item):
                runs = set(filter(has_manifest, {folder for match in matches for folder in match.parents}))
                matches = [match for match in matches if runs.isdisjoint(match.parents)]
            files = [match for match in matches if match.is_file()]
            any_suffix = glob.has_magic(path.suffix) or not path.suffix
            taken = _without_others(path, files, wanted) if any_suffix else files
            if not taken:
                others = f"; it matches {_shown(files)}, and no {what}" if files else ""
                raise ImageError(f"no file matches {item}{others}")
            found += taken
        else:
            found.append(path)
    if not found:
        raise ImageError("no images were given")
    return found


def _without_others(place: Path, files: Sequence[Path], wanted: Collection[str]) -> list[Path]:
    """The files that are taken from a folder or pattern; how many are not is noted."""
    taken = [file for file in files if file.suffix.lower() in wanted and not file.name.startswith(".")]
    others = [file for file in files if file not in set(taken)]
    if others and taken:
        count = "1 other file is" if len(others) == 1 else f"{len(others)} other files are"
        add_note(place, f"{count} left out: {_shown(others)}")
    return taken


def _shown(files: Sequence[Path], most: int = 3) -> str:
    names = ", ".join(file.name for file in files[:most])
    return f"{names} and {len(files) - most} more" if len(files) > most else names


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
    """An image as ``(1, C, H, W)`` float32 in `range`, as a pix2pix network takes it.

    `side` takes one half of an AB pair, split at width // 2, before the image is resized; "both" (the same as
    "left,right") and "right,left" take both halves as channels, in that order. A discriminator of the public code takes
    its generator's input first: "both" where it was trained from A to B, "right,left" from B to A. `size` is the side
    of a square or (height, width), reached by Pillow's bicubic filter; None and "native" leave the image as it is.
    `channels` is 3 (RGB) or 1 (gray), twice that for both halves. Transparent images are laid over white, a camera's
    orientation is applied, and other color spaces are converted. With `preprocessing` each half is resized and cut as
    that says, to `size` if one is given, and its colors become ``(color - mean) / std``; `range` does not matter then.

    The values `black` and `white` of the file become the two ends of `range`. `white` None is 255 for 8 bits and 1 for
    floats up to 1; of 16 bits it is the greatest value of 8, 10, 12, 14 or 16 bits that the image needs, so that label
    ids are read alike from 8 and from 16 bits, and a warning says so. `indices` reads the indices of an image with a
    palette in place of its colors.

    Raises ImageError for what can't be read, for values of which nothing says what is white, and for more pixels than
    Pillow's guard against bombs allows.
    """
    if side not in _HALVES:
        raise ImageError(f"side is left, right or none, or both, left,right or right,left; not {side!r}")
    halves = _HALVES[side]
    channels = len(preprocessing.mean) * len(halves) if preprocessing is not None else channels
    each = channels // len(halves)
    if each not in (1, 3) or each * len(halves) != channels:
        raise ImageError(_misfit(channels, halves))
    pixels = decode(Path(path), each, DecodingOptions(black, white, indices))
    wanted = preprocessing.size if preprocessing is not None and size is None else size
    if wanted is not None and wanted != "native":
        if not isinstance(wanted, int) and (isinstance(wanted, str) or len(wanted) != 2):
            raise ImageError(f"a size is a number, (height, width) or 'native', not {wanted!r}")
        height, width = (wanted, wanted) if isinstance(wanted, int) else wanted
        if min(height, width) < 1 or height * width > _LARGEST:
            said = f"{str(height)[:40]}x{str(width)[:40]}"
            raise ImageError(f"a size is at least 1, and of at most {_LARGEST:,} pixels, not {said}")
        if side == "none" and preprocessing is None and height == width and 1.9 <= pixels.width / pixels.height <= 2.1:
            pair = f"twice as wide as high, and squeezed into {height}x{width}: it looks like an AB pair; "
            add_note(path, f"{pair}--side left or --side right takes one half (side= in Python)", doubtful=True)
    values = torch.cat([_resized(part, wanted, preprocessing) for part in _cut(Path(path), pixels, halves)])
    if preprocessing is not None:
        mean, std = (
            torch.tensor(part * len(halves))[:, None, None] for part in (preprocessing.mean, preprocessing.std)
        )
        return values.sub(mean).div(std).unsqueeze(0).contiguous()
    low, high = range
    # For [-1, 1] exactly what the public pix2pix code computes, down to the rounding.
    values = values.sub(0.5).div(0.5) if (low, high) == (-1.0, 1.0) else values.mul(high - low).add(low)
    return values.unsqueeze(0).contiguous()


def _misfit(channels: int, halves: Sequence[str]) -> str:
    if len(halves) == 2:
        return f"two halves have 3 channels each or 1, 6 or 2 together, and {channels} are wanted"
    pair = "; --side both gives it both halves of an AB pair (side= in Python)" if channels in (2, 6) else ""
    return (
        f"an image has 3 channels or 1, and {channels} are wanted{pair or '; --reader tensor reads files of tensors'}"
    )


def _cut(path: Path, pixels: Pixels, halves: Sequence[str]) -> list[Pixels]:
    middle, width, height = pixels.width // 2, pixels.width, pixels.height
    boxes = {"whole": (0, 0, width, height), "left": (0, 0, middle, height), "right": (middle, 0, width, height)}
    if halves != ("whole",) and not middle:
        raise ImageError(f"{path} is {width} pixel wide and has no {' and no '.join(halves)} half")
    return [pixels.cropped(boxes[half]) for half in halves]


def _resized(pixels: Pixels, size: int | tuple[int, int] | str | None, preprocessing: Preprocessing | None) -> Tensor:
    """``(C, H, W)`` float32 from 0 to 1."""
    if isinstance(size, (int, tuple)):
        height, width = (size, size) if isinstance(size, int) else size
        if preprocessing is None:
            pixels = pixels.each(lambda part: part.resize((width, height), Image.Resampling.BICUBIC))
        else:
            pixels = pixels.each(lambda part: _covered(part, height, width, preprocessing))
    values = torch.from_numpy(pixels.array()).permute(2, 0, 1)
    return values.to(torch.float32).div(255) if values.dtype == torch.uint8 else values


def reader_suffixes(reader: object) -> tuple[str, ...] | None:
    """The suffixes that a reader takes from a folder; None, which are those of images, where it says none."""
    suffixes = getattr(reader, "suffixes", None)
    return None if suffixes is None else tuple(suffixes)


def _covered(image: Image.Image, height: int, width: int, preprocessing: Preprocessing) -> Image.Image:
    """The image resized, its proportions kept, until it just covers ``size / crop``, and the middle of it."""
    tall, wide = (int(side / preprocessing.crop + 1e-6) for side in (height, width))
    if tall * image.width >= wide * image.height:  # the height decides
        resized = (max(width, image.width * tall // image.height), tall)
    else:
        resized = (wide, max(height, image.height * wide // image.width))
    image = image.resize(resized, Image.Resampling[preprocessing.interpolation.upper()])
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
