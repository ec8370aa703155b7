"""Text in pictures: a font, letters that it lacks as escapes, and texts that are too long for their place."""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import ImageFont

SHARE = 0.9
"""Of the size that is asked for: letters of DejaVu Sans are larger than those of other fonts of their size."""
_NO_LETTER = "\uffff"


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font of sheets, of about this height in pixels."""
    from PIL import ImageFont

    from surgery.data import font as file

    return ImageFont.truetype(file(), max(1, round(size * SHARE)))


@lru_cache(maxsize=4096)
def lettered(text: str) -> str:
    r"""The text with an escape in the place of each character that the font has no letter for: ``\u56f3``."""
    return "".join(char if _has(char) else _escaped(char) for char in unicodedata.normalize("NFC", text))


@lru_cache(maxsize=4096)
def _has(char: str) -> bool:
    if not char.isprintable() or "\ud800" <= char <= "\udfff":
        return False
    return char.isspace() or _drawn(char) != _drawn(_NO_LETTER)


@lru_cache(maxsize=4096)
def _drawn(char: str) -> bytes:
    mask: Any = font(20).getmask(char)
    return bytes(mask) + str(mask.size).encode()


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def width(text: str, size: int) -> float:
    """Pixels that a text is wide."""
    return font(size).getlength(text)


def shortened(text: str, size: int, room: float) -> str:
    """The text as it can be drawn, with its middle left out if it is wider than there is room."""
    text = lettered(text)
    if width(text, size) <= room:
        return text
    low, high = 0, len(text)  # letters that are kept
    while low < high:
        keep = (low + high + 1) // 2
        low, high = (keep, high) if width(_cut(text, keep), size) <= room else (low, keep - 1)
    return _cut(text, low)


def _cut(text: str, keep: int) -> str:
    return f"{text[: keep // 2]}…{text[len(text) - (keep - keep // 2) :]}"


def fitted(parts: list[str], between: str, size: int, room: float) -> str:
    """Texts joined to one line. Of what is too wide, the longest lose their middle, and none more than they must."""
    parts = [lettered(part) for part in parts]
    room -= width(between, size) * (len(parts) - 1)
    widths = [width(part, size) for part in parts]
    left, share = room, 0.0
    for place, wide in enumerate(sorted(widths)):
        share = left / (len(parts) - place)
        if wide > share:
            break
        left -= wide
    else:
        return between.join(parts)
    return between.join(shortened(part, size, share) for part in parts)
