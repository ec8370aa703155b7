"""Decoding image files: color spaces, transparency and orientation to plain RGB or gray pixels."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from surgery.errors import ImageError, first_line
from surgery.inputs.deep_color import apply_orientation, composite_over_white, read_deep_color
from surgery.inputs.notes import add_note
from surgery.inputs.pixels import DecodingOptions, Pixels, scale_to_pixels
from surgery.interrupts import raising_interrupts

if TYPE_CHECKING:
    from pathlib import Path

_BACKGROUND = (255, 255, 255)
_ORIENTATION = 0x0112
"""The EXIF tag of the orientation."""
_NEED_OTHER_PROGRAMS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
"""Formats that Pillow recognizes but can't decode without other programs."""


def decodable_suffixes() -> set[str]:
    """Return the suffixes, in lower case, of the image files that can be decoded."""
    known = Image.registered_extensions()
    suffixes = {suffix for suffix, kind in known.items() if kind in Image.OPEN and kind not in _NEED_OTHER_PROGRAMS}
    return suffixes | {".mpo"}


def decode(path: Path, channels: int, options: DecodingOptions) -> Pixels:
    """Return the pixels of an image file in 3 channels (RGB) or 1 (gray).

    The EXIF orientation is applied, transparent pixels are composited over white, and other color spaces are converted.
    Each of these choices is noted. Raises ImageError for a file that can't be decoded, and for more pixels than
    Pillow's decompression bomb limit.
    """
    if not path.exists():
        raise ImageError(f"there is no image {path}")
    try:
        with raising_interrupts(), warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return _decode(path, image, channels, options)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{path} has more than {Image.MAX_IMAGE_PIXELS:,} pixels, Pillow's limit; reduce it first"
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is not an image that can be read") from error
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them raise
        raise ImageError(f"can't read {path}: {first_line(error)}") from error


def file_channels(path: Path) -> int:
    """Return the number of channels to read an image file in if none is requested: 1 for a gray file, else 3."""
    try:
        with raising_interrupts(), Image.open(path) as image:
            return 1 if image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I") else 3
    except Exception:  # noqa: BLE001 - `decode` reports why the file can't be read
        return 3


def _decode(path: Path, image: Image.Image, channels: int, options: DecodingOptions) -> Pixels:
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        add_note(path, "the file holds several images; the first is read")
    deep = read_deep_color(path, image)
    image.load()
    if image.getexif().get(_ORIENTATION, 1) not in (0, 1):
        add_note(path, "rotated as its EXIF orientation says")
    upright = ImageOps.exif_transpose(image)
    if deep is not None:
        values = composite_over_white(path, apply_orientation(image, deep))
        return scale_to_pixels(values, path, channels, options)
    if upright.mode.startswith("I") or upright.mode == "F" or (upright.mode == "P" and options.indices):
        return scale_to_pixels(np.asarray(upright)[..., None], path, channels, options)
    converted = _convert(upright, path, channels)
    if options.white is None and not options.black:
        return Pixels((converted,))
    return scale_to_pixels(np.atleast_3d(np.asarray(converted)), path, channels, options)


def _convert(image: Image.Image, path: Path, channels: int) -> Image.Image:
    """Return an image with 8 bits per channel in mode RGB or L."""
    if image.mode == "P" and channels == 1 and _has_color(image):
        add_note(
            path, "has a palette: the lightness of its colors is read; --reader image:indices=yes reads its indices"
        )
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if np.asarray(rgba)[..., 3].min(initial=255) < 255:
            add_note(path, "transparent pixels are laid over white")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (*_BACKGROUND, 255)), rgba)
    if image.mode in ("CMYK", "LAB", "HSV"):
        add_note(path, f"{image.mode} colors are converted to RGB without a color profile")
    if image.mode == "LAB":
        image = _convert_lab(image)
    return image.convert("RGB" if channels == 3 else "L")


def _has_color(image: Image.Image) -> bool:
    red, green, blue = image.convert("RGB").split()
    return red.tobytes() != green.tobytes() or green.tobytes() != blue.tobytes()


def _convert_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab = ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(image, lab, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert converted is not None  # noqa: S101 - None is returned only for a conversion in place
    return converted
