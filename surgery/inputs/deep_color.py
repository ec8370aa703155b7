"""All 16 bits of color images, of which Pillow decodes the upper 8 only."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from surgery.inputs.notes import add_note

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def read_deep_color(path: Path, image: Image.Image) -> NDArray[np.uint16] | None:
    """Return the colors of an image with 16 bits per channel: ``(H, W, 3 or 4)``, as they are stored.

    None for images of 8 bits or of one channel, and where Pillow can't be made to decode the lower bits.
    """
    tiles = list(getattr(image, "tile", []))
    modes = {tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in tiles if tile[3]}
    if image.mode not in ("RGB", "RGBA") or not any(";16" in str(mode) for mode in modes):
        return None
    lower = _read_lower_bits(path, image.mode, modes)
    if lower is None:
        add_note(path, "only the upper 8 of 16 bits per channel are read", doubtful=True)
        return None
    upper = np.asarray(image).astype(np.uint16)
    return upper * np.uint16(256) + lower


def _read_lower_bits(path: Path, mode: str, raw_modes: set[Any]) -> NDArray[np.uint16] | None:
    """Return the lower bytes: with the opposite byte order declared, Pillow takes them for the upper ones."""
    little, big = f"{mode};16L", f"{mode};16B"
    native = little if sys.byteorder == "little" else big
    swapped = {little: big, big: little, f"{mode};16N": big if native == little else little}
    if len(raw_modes) != 1 or not raw_modes <= set(swapped):
        return None
    raw = next(iter(raw_modes))
    image: Any
    with Image.open(path) as image:
        image.tile = [
            (*tile[:3], swapped[raw] if isinstance(tile[3], str) else (swapped[raw], *tile[3][1:]))
            for tile in image.tile
        ]
        return np.asarray(image).astype(np.uint16)


def apply_orientation(image: Image.Image, values: NDArray[Any]) -> NDArray[Any]:
    """Return values ``(H, W, C)`` of an image rotated and mirrored as `PIL.ImageOps.exif_transpose` does it."""
    orientation = image.getexif().get(0x0112, 1)
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values


def composite_over_white(path: Path, values: NDArray[np.uint16]) -> NDArray[Any]:
    """Return ``(H, W, 3)`` of ``(H, W, 3 or 4)``: transparent pixels over white."""
    if values.shape[2] == 3:
        return values
    alpha = values[..., 3:].astype(np.float64) / 65535
    if alpha.min(initial=1) == 1:
        return values[..., :3]
    add_note(path, "transparent pixels are laid over white")
    return np.rint(values[..., :3] * alpha + 65535 * (1 - alpha)).astype(np.uint16)
