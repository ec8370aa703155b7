"""Texts that are safe to print: no control characters, and only characters that the terminal's encoding has."""

from __future__ import annotations

import unicodedata

_ASCII_REPLACEMENTS = dict(zip("├└┌│─▸◉◆×…–—→←✓✗µ•░▒▓█▀▁▂▃▄▅▆▇", "|`.|->*!x~--><+Xu*.:+##_.-=+*%", strict=True))
"""Each replacement is one character, so that columns stay aligned."""


def escape_unprintable(text: str) -> str:
    r"""Return `text` on one line, with an escape such as ``\x1b`` for each character that is not printable.

    These are control characters, line breaks, marks that change the direction of writing, characters of no width, and
    the lone surrogates by which Python represents undecodable bytes of a file name.
    """
    if text.isprintable():
        return text
    return "".join(map(_escape, text))


def replace_unencodable(text: str, encoding: str | None) -> str:
    r"""Return `text` with an ASCII replacement or an escape for each character that the encoding lacks.

    ``├─ 1×3`` becomes ``|- 1x3`` in ASCII, and ``é`` becomes ``\xe9``. ASCII is used if the encoding is unknown.
    """
    try:
        text.encode(encoding or "ascii")
    except UnicodeEncodeError:
        return "".join(character if _has(encoding, character) else _replace(character) for character in text)
    except LookupError:
        return replace_unencodable(text, "ascii")
    return text


def _escape(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def _has(encoding: str | None, character: str) -> bool:
    try:
        character.encode(encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _replace(character: str) -> str:
    return _ASCII_REPLACEMENTS.get(character) or character.encode("ascii", "backslashreplace").decode("ascii")
