"""Which characters a terminal is given: nothing that steers it, and nothing that its encoding lacks."""

from __future__ import annotations

import unicodedata

_STAND_INS = dict(zip("├└┌│─▸◉×…–—→←✓✗µ•░▒▓█▀", "|`.|->*x~--><+Xu*.:+##", strict=True))
"""One ASCII character for one of ours, so that columns stay where they are."""


def escape_unprintable(text: str) -> str:
    r"""A text in one line, with an escape such as ``\x1b`` for each character that a terminal would obey or hide.

    These are control characters, line breaks, marks that turn the direction of writing, characters of no width, and
    bytes of a file name that are no text, which Python keeps as lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(map(_escaped, text))


def replace_unencodable(text: str, encoding: str | None) -> str:
    r"""A text that can be written in an encoding: stand-ins for the drawing characters that it lacks, else escapes.

    ``├─ 1×3`` is ``|- 1x3`` in ASCII, and ``é`` is ``\xe9``. An unknown encoding is taken for ASCII.
    """
    try:
        text.encode(encoding or "ascii")
    except UnicodeEncodeError:
        return "".join(character if _has(encoding, character) else _stand_in(character) for character in text)
    except LookupError:
        return replace_unencodable(text, "ascii")
    return text


def _escaped(character: str) -> str:
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


def _stand_in(character: str) -> str:
    return _STAND_INS.get(character) or character.encode("ascii", "backslashreplace").decode("ascii")
