"""Text that fits into pictures: missing letters become escapes, and long texts are shortened."""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import ImageFont

FONT_SCALE = 0.9
"""Font size per requested size: the letters of DejaVu Sans are larger than those of other fonts of its size."""
_MISSING_GLYPH = "\uffff"
"""A character that no font has; it is drawn as the font's box for missing characters."""


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font of sheets, about `size` pixels high."""
    from PIL import ImageFont

    from surgery.data import font as font_file

    return ImageFont.truetype(font_file(), max(1, round(size * FONT_SCALE)))


@lru_cache(maxsize=4096)
def draw_text(text: str, size: int, stroke: float = 0) -> tuple[NDArray[np.uint8], int]:
    """Return a text as ``(H, W)`` uint8, the share of ink in each pixel, and how far its first line is below its top.

    The array begins one pixel left of where the text is written.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    _, top, right, bottom = font(size).getbbox(text, stroke_width=stroke)
    image = Image.new("L", (max(1, int(right) + 2), max(1, int(bottom) - int(top) + 2)))
    ImageDraw.Draw(image).text((1, 1 - int(top)), text, fill=255, font=font(size), stroke_width=stroke)
    return np.asarray(image), int(top) - 1


@lru_cache(maxsize=4096)
def escape_missing_glyphs(text: str) -> str:
    r"""Return the text with an escape in place of each character that the font lacks: ``\u56f3``."""
    return "".join(char if _has_glyph(char) else _escape(char) for char in unicodedata.normalize("NFC", text))


@lru_cache(maxsize=4096)
def _has_glyph(char: str) -> bool:
    if not char.isprintable() or "\ud800" <= char <= "\udfff":
        return False
    return char.isspace() or _glyph_bitmap(char) != _glyph_bitmap(_MISSING_GLYPH)


@lru_cache(maxsize=4096)
def _glyph_bitmap(char: str) -> bytes:
    mask: Any = font(20).getmask(char)
    return bytes(mask) + str(mask.size).encode()


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def text_width(text: str, size: int) -> float:
    """Return the width of a text in pixels."""
    return font(size).getlength(text)


@lru_cache(maxsize=4096)
def shorten_to_width(text: str, size: int, width: float) -> str:
    """Return the text with missing glyphs escaped, and with its middle left out if it is wider than `width` pixels."""
    text = escape_missing_glyphs(text)
    if text_width(text, size) <= width:
        return text
    low, high = 0, len(text)  # the number of characters that are kept
    while low < high:
        keep = (low + high + 1) // 2
        low, high = (keep, high) if text_width(_cut_middle(text, keep), size) <= width else (low, keep - 1)
    return _cut_middle(text, low)


def _cut_middle(text: str, keep: int) -> str:
    return f"{text[: keep // 2]}…{text[len(text) - (keep - keep // 2) :]}"


def join_to_width(parts: list[str], separator: str, size: int, width: float) -> str:
    """Return texts joined to a line of at most `width` pixels; the longest are shortened, as little as needed."""
    parts = [escape_missing_glyphs(part) for part in parts]
    available = width - text_width(separator, size) * (len(parts) - 1)
    widths = [text_width(part, size) for part in parts]
    limit = 0.0  # for the width of each part
    for place, part_width in enumerate(sorted(widths)):
        limit = available / (len(parts) - place)
        if part_width > limit:
            break
        available -= part_width
    else:
        return separator.join(parts)
    return separator.join(shorten_to_width(part, size, limit) for part in parts)
