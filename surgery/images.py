"""Reading input images: what was asked for to files, a file to a tensor."""

from __future__ import annotations

import glob
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from surgery.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from surgery.types import Preprocessing

Side: TypeAlias = Literal["left", "right", "none"]
Size: TypeAlias = int | tuple[int, int] | Literal["native"] | None

_BACKDROP = (255, 255, 255)


def find_images(
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], suffixes: Collection[str] | None = None
) -> list[Path]:
    """The image files meant by files, folders (the images directly in them) and patterns such as ``facades/*.png``.

    In the order given, those of a folder or pattern sorted. `suffixes`, in lower case, are those of the files that are
    taken from a folder; None are those of images. A file that was named is in the list whether it exists or not. Raises
    ImageError for a folder or a pattern with no image.
    """
    given = [images] if isinstance(images, (str, os.PathLike)) else images
    found: list[Path] = []
    for item in given:
        path = Path(item)
        if path.is_dir():
            wanted = Image.registered_extensions() if suffixes is None else suffixes
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in wanted and file.is_file())
            if not inside:
                said = "image" if suffixes is None else f"file in {', '.join(suffixes)}"
                raise ImageError(f"the folder {path} has no {said} in it")
            found += inside
        elif not path.exists() and glob.has_magic(str(item)):
            matches = sorted(Path(match) for match in glob.glob(str(item), recursive=True))  # noqa: PTH207
            if not matches:
                raise ImageError(f"no file matches {item}")
            found += [match for match in matches if match.is_file()]
        else:
            found.append(path)
    if not found:
        raise ImageError("no images were given")
    return found


def load_image(
    path: str | os.PathLike[str],
    *,
    size: Size = None,
    side: Side = "none",
    range: tuple[float, float] = (-1.0, 1.0),  # noqa: A002
    channels: int = 3,
    preprocessing: Preprocessing | None = None,
) -> Tensor:
    """An image as ``(1, C, H, W)`` float32 in `range`, as a pix2pix network takes it.

    `side` takes one half of an AB pair, split at width // 2, before the image is resized. `size` is the side of a
    square or (height, width), reached by Pillow's bicubic filter; None and "native" leave the image as it is.
    `channels` is 3 (RGB) or 1 (gray). Grayscale, palette and 16-bit images are converted, transparent ones are laid
    over white, and a camera's orientation is applied. With `preprocessing` the image is resized and cut as that says,
    to `size` if one is given, and its colors become ``(color - mean) / std``; `range` does not matter then.

    Raises ImageError for what can't be read, and for more pixels than Pillow's guard against bombs allows.
    """
    if side not in ("left", "right", "none"):
        raise ImageError(f"side is left, right or none, not {side!r}")
    channels = len(preprocessing.mean) if preprocessing is not None else channels
    if channels not in (1, 3):
        raise ImageError(f"an image has 3 channels or 1, and {channels} are wanted; run this model from Python")
    image = _read(Path(path)).convert("RGB" if channels == 3 else "L")
    if side != "none":
        middle = image.width // 2
        if not middle:
            raise ImageError(f"{path} is {image.width} pixel wide and has no {side} half")
        image = image.crop((0, 0, middle, image.height) if side == "left" else (middle, 0, image.width, image.height))
    wanted = preprocessing.size if preprocessing is not None and size is None else size
    if wanted is not None and wanted != "native":
        height, width = (wanted, wanted) if isinstance(wanted, int) else wanted
        if min(height, width) < 1:
            raise ImageError(f"a size is at least 1, not {height}x{width}")
        if preprocessing is None:
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        else:
            image = _covered(image, height, width, preprocessing)
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    values = pixels.reshape(image.height, image.width, channels).permute(2, 0, 1).to(torch.float32).div(255)
    if preprocessing is not None:
        mean, std = (torch.tensor(part)[:, None, None] for part in (preprocessing.mean, preprocessing.std))
        return values.sub(mean).div(std).unsqueeze(0).contiguous()
    low, high = range
    # For [-1, 1] exactly what the public pix2pix code computes, down to the rounding.
    values = values.sub(0.5).div(0.5) if (low, high) == (-1.0, 1.0) else values.mul(high - low).add(low)
    return values.unsqueeze(0).contiguous()


def suffixes_of(reader: object) -> tuple[str, ...] | None:
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


def _read(path: Path) -> Image.Image:
    if not path.exists():
        raise ImageError(f"there is no image {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(path)
            image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{path} has more pixels than an honest image ({Image.MAX_IMAGE_PIXELS:,})") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is no image that can be read") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"can't read {path}: {error}") from error
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_bytes(np.asarray(image)))
    if image.has_transparency_data:
        solid = image.convert("RGBA")
        backdrop = Image.new("RGBA", solid.size, (*_BACKDROP, 255))
        return Image.alpha_composite(backdrop, solid)
    return image


def _bytes(deep: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Gray values of 16 bits, or floats up to 1, as bytes."""
    values = np.nan_to_num(deep.astype(np.float64))
    if deep.dtype.kind == "f":
        values = values * 255 if values.max(initial=0) <= 1 else values
    elif deep.dtype == np.uint16 or values.max(initial=0) > 255:
        values = values / 257
    return np.rint(values).clip(0, 255).astype(np.uint8)
