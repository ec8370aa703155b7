"""Decoding an image file: its pixels, and which of its values are black and white."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from surgery.errors import ImageError, first_line
from surgery.inputs.notes import add_note

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

_BACKDROP = (255, 255, 255)
_DEPTHS = (8, 10, 12, 14, 16)
_UNREADABLE = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
"""Formats that Pillow recognizes and needs other programs to decode."""


def decodable_suffixes() -> set[str]:
    """Suffixes, in lower case, of the image files that can be decoded."""
    known = Image.registered_extensions()
    return {suffix for suffix, kind in known.items() if kind in Image.OPEN and kind not in _UNREADABLE} | {".mpo"}


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """Which values of a file are black and white. It matters for images of more than 8 bits, and for palettes."""

    black: float = 0.0
    white: float | None = None
    """None: 255 for 8 bits, 1 for floats up to 1, else the greatest value of as many bits as the image uses."""
    indices: bool = False
    """Whether the indices of an image with a palette are read in place of its colors."""

    def __post_init__(self) -> None:
        if self.white is not None and not self.black < self.white:
            raise ImageError(f"black is less than white, not {self.black:g} and {self.white:g}")


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """A decoded image: one Pillow image of 8 bits, mode RGB or L, or one of mode F, from 0 to 1, for each channel."""

    parts: tuple[Image.Image, ...]

    @property
    def width(self) -> int:
        return self.parts[0].width

    @property
    def height(self) -> int:
        return self.parts[0].height

    def cropped(self, box: tuple[int, int, int, int]) -> Pixels:
        """The pixels in a box: left, top, right, bottom."""
        return self.each(lambda part: part.crop(box))

    def each(self, change: Callable[[Image.Image], Image.Image]) -> Pixels:
        """The image with a change, such as a resize, made to each of its parts."""
        return Pixels(tuple(change(part) for part in self.parts))

    def array(self) -> NDArray[Any]:
        """``(H, W, C)``: uint8, or float32 from 0 to 1."""
        arrays = [np.atleast_3d(np.array(part)) for part in self.parts]
        values = np.concatenate(arrays, -1)
        return values if values.dtype == np.uint8 else values.clip(0, 1)


def decode(path: Path, channels: int, depth: DecodingOptions) -> Pixels:
    """The pixels of an image file in 3 channels (RGB) or 1 (gray).

    A camera's orientation is applied, transparent pixels are laid over white, other color spaces are converted. What
    the file leaves open is decided and noted. Raises ImageError for what can't be decoded, and for more pixels than
    Pillow's guard against bombs allows.
    """
    if not path.exists():
        raise ImageError(f"there is no image {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return _decode(path, image, channels, depth)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{path} has more pixels than an honest image ({Image.MAX_IMAGE_PIXELS:,})") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is no image that can be read") from error
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them raise
        raise ImageError(f"can't read {path}: {first_line(error)}") from error


def file_channels(path: Path) -> int:
    """How many channels an image file is read in where nobody says: 1 where it is gray, else 3."""
    try:
        with Image.open(path) as image:
            return 1 if image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I") else 3
    except Exception:  # noqa: BLE001 - whoever decodes it says why it can't be read
        return 3


def _decode(path: Path, image: Image.Image, channels: int, depth: DecodingOptions) -> Pixels:
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        add_note(path, "the file holds several images; the first is read")
    deep = _deep_color(path, image)
    image.load()
    if image.getexif().get(0x0112, 1) not in (0, 1):
        add_note(path, "turned as its EXIF orientation says")
    turned = ImageOps.exif_transpose(image)
    if deep is not None:
        return _in_channels(_over_white(path, _turned(image, deep)), path, channels, depth)
    if turned.mode.startswith("I") or turned.mode == "F" or (turned.mode == "P" and depth.indices):
        return _in_channels(np.asarray(turned)[..., None], path, channels, depth)
    converted = _converted(turned, path, channels)
    if depth.white is None and not depth.black:
        return Pixels((converted,))
    return _in_channels(np.atleast_3d(np.asarray(converted)), path, channels, depth)


def _converted(image: Image.Image, path: Path, channels: int) -> Image.Image:
    """An image of 8 bits a channel as RGB or L."""
    if image.mode == "P" and channels == 1 and _has_color(image):
        add_note(
            path, "has a palette: the lightness of its colors is read; --reader image:indices=yes reads its indices"
        )
    if image.has_transparency_data:
        solid = image.convert("RGBA")
        if np.asarray(solid)[..., 3].min(initial=255) < 255:
            add_note(path, "transparent pixels are laid over white")
        image = Image.alpha_composite(Image.new("RGBA", solid.size, (*_BACKDROP, 255)), solid)
    if image.mode in ("CMYK", "LAB", "HSV"):
        add_note(path, f"{image.mode} colors are converted to RGB, without a profile of their own")
    if image.mode == "LAB":
        image = _from_lab(image)
    return image.convert("RGB" if channels == 3 else "L")


def _has_color(image: Image.Image) -> bool:
    red, green, blue = image.convert("RGB").split()
    return red.tobytes() != green.tobytes() or green.tobytes() != blue.tobytes()


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab = ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(image, lab, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert converted is not None  # noqa: S101 - it is None where the image is changed in place
    return converted


def _deep_color(path: Path, image: Image.Image) -> NDArray[np.uint16] | None:
    """The colors of an image of 16 bits a channel, ``(H, W, 3 or 4)``, of which Pillow reads the upper 8 bits alone.

    None where the image has 8 bits, or one channel, or the lower bits can't be had.
    """
    tiles = list(getattr(image, "tile", []))
    modes = {tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in tiles if tile[3]}
    if image.mode not in ("RGB", "RGBA") or not any(";16" in str(mode) for mode in modes):
        return None
    lower = _lower_bits(path, image.mode, modes)
    if lower is None:
        add_note(path, "of 16 bits a channel the upper 8 are read", doubtful=True)
        return None
    upper = np.asarray(image).astype(np.uint16)
    return upper * np.uint16(256) + lower


def _lower_bits(path: Path, mode: str, raw_modes: set[Any]) -> NDArray[np.uint16] | None:
    """What Pillow reads where it is told that the bytes of a number lie the other way round."""
    little, big = f"{mode};16L", f"{mode};16B"
    native = little if sys.byteorder == "little" else big
    swapped = {little: big, big: little, f"{mode};16N": big if native == little else little}
    if len(raw_modes) != 1 or not raw_modes <= set(swapped):
        return None
    raw = next(iter(raw_modes))
    again: Any
    with Image.open(path) as again:
        again.tile = [
            (*tile[:3], swapped[raw] if isinstance(tile[3], str) else (swapped[raw], *tile[3][1:]))
            for tile in again.tile
        ]
        return np.asarray(again).astype(np.uint16)


def _turned(image: Image.Image, values: NDArray[Any]) -> NDArray[Any]:
    """Values of an image, turned as Pillow turns the image."""
    orientation = image.getexif().get(0x0112, 1)
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values


def _over_white(path: Path, values: NDArray[np.uint16]) -> NDArray[Any]:
    if values.shape[2] == 3:
        return values
    alpha = values[..., 3:].astype(np.float64) / 65535
    if alpha.min(initial=1) == 1:
        return values[..., :3]
    add_note(path, "transparent pixels are laid over white")
    return np.rint(values[..., :3] * alpha + 65535 * (1 - alpha)).astype(np.uint16)


def _in_channels(values: NDArray[Any], path: Path, channels: int, depth: DecodingOptions) -> Pixels:
    """Values ``(H, W, 1 or 3)`` of any range, in so many channels, from 0 for black to 1 for white."""
    white = depth.white if depth.white is not None else _white(values, path, depth.black)
    kept = np.nan_to_num(values, nan=depth.black, posinf=white, neginf=depth.black)
    if kept.size and (kept.min() < depth.black or kept.max() > white):
        add_note(path, f"values below {depth.black:g} are black, and values above {white:g} white", doubtful=False)
    if channels == 1 and kept.shape[2] == 3:
        kept = (kept @ np.array([0.299, 0.587, 0.114]))[..., None]
    elif channels == 3 and kept.shape[2] == 1:
        kept = kept.repeat(3, 2)
    if (depth.black, white) == (0, 255) and kept.dtype.kind in "iu":
        kept = kept.clip(0, 255).astype(np.uint8)
        return Pixels((Image.fromarray(kept if channels == 3 else kept[..., 0]),))
    unit = ((kept.astype(np.float64) - depth.black) / (white - depth.black)).clip(0, 1).astype(np.float32)
    return Pixels(tuple(Image.fromarray(np.ascontiguousarray(unit[..., channel])) for channel in range(channels)))


def _white(values: NDArray[Any], path: Path, black: float) -> float:
    """Which value is white, where the file and the user do not say."""
    if values.dtype == np.uint8:
        return 255
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if finite.size < values.size:
        add_note(path, "values that are NaN are read as black, infinite ones as black or white", doubtful=True)
    least, most = (finite.min().item(), finite.max().item()) if finite.size else (0, 0)
    if least < 0 or most > 65535 or (values.dtype.kind == "f" and most > 255):
        raise ImageError(
            f"{path} holds values from {least:g} to {most:g}, and nothing says which of them are black and white; "
            f"set them: --reader image:black={least:g},white={most:g} (black={least:g}, white={most:g} in Python)"
        )
    if values.dtype.kind == "f":
        if most <= 1:
            return 1
        add_note(path, "floats above 1 are read as from 0 to 255; --reader image:white=N changes that", doubtful=True)
        return 255
    bits = next(bits for bits in _DEPTHS if most < 2**bits)
    if bits < 16:
        text = (
            f"no value of the 16 bits is above {2**bits - 1}, so that is white; --reader image:white=65535 changes it"
        )
        add_note(path, f"{text} (white=65535 in Python)", doubtful=True)
    return max(float(2**bits - 1), black + 1)
