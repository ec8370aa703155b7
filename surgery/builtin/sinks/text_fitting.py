"""Text in pictures: a font, letters that it lacks as escapes, and texts that are too long for their place."""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import ImageFont

FONT_SCALE = 0.9
"""Of the size that is asked for: letters of DejaVu Sans are larger than those of other fonts of their size."""
_MISSING_GLYPH = "\uffff"


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font of sheets, of about this height in pixels."""
    from PIL import ImageFont

    from surgery.data import font as file

    return ImageFont.truetype(file(), max(1, round(size * FONT_SCALE)))


@lru_cache(maxsize=4096)
def escape_missing_glyphs(text: str) -> str:
    r"""The text with an escape in the place of each character that the font has no letter for: ``\u56f3``."""
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
    """Pixels that a text is wide."""
    return font(size).getlength(text)


def shorten_to_width(text: str, size: int, room: float) -> str:
    """The text as it can be drawn, with its middle left out if it is wider than there is room."""
    text = escape_missing_glyphs(text)
    if text_width(text, size) <= room:
        return text
    low, high = 0, len(text)  # letters that are kept
    while low < high:
        keep = (low + high + 1) // 2
        low, high = (keep, high) if text_width(_cut_middle(text, keep), size) <= room else (low, keep - 1)
    return _cut_middle(text, low)


def _cut_middle(text: str, keep: int) -> str:
    return f"{text[: keep // 2]}…{text[len(text) - (keep - keep // 2) :]}"


def join_to_width(parts: list[str], between: str, size: int, room: float) -> str:
    """Texts joined to one line. Of what is too wide, the longest lose their middle, and none more than they must."""
    parts = [escape_missing_glyphs(part) for part in parts]
    room -= text_width(between, size) * (len(parts) - 1)
    widths = [text_width(part, size) for part in parts]
    left, share = room, 0.0
    for place, wide in enumerate(sorted(widths)):
        share = left / (len(parts) - place)
        if wide > share:
            break
        left -= wide
    else:
        return between.join(parts)
    return between.join(shorten_to_width(part, size, share) for part in parts)
