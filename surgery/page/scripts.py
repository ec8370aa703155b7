"""Scripts that hold data: a call of the page's application with a JSON value, or with a file in base64."""

from __future__ import annotations

from typing import Any

import orjson
from pybase64 import b64encode

_END = b'");\n'


def data_script(function: str, *values: Any) -> bytes:
    """Return a script that calls a function of the application with values: ``surgeryPage.run({...});``."""
    return f"surgeryPage.{function}(".encode() + b",".join(map(script_json, values)) + b");\n"


def script_json(value: Any) -> bytes:
    """Return a value as JSON that may stand in any script, also inside of an HTML page. NaN becomes null."""
    text = orjson.dumps(value)
    for character in (b"<", "\u2028".encode(), "\u2029".encode()):
        text = text.replace(character, f"\\u{ord(character.decode()):04x}".encode())
    return text


def picture_script(key: str, png: bytes) -> bytes:
    """Return the script of a picture: ``surgeryPage.pixels("facade-1/003-down2.conv", "iVBORw0K...");``."""
    return b"".join((_picture_start(key), b64encode(png), _END))


def picture_script_size(key: str, size: int) -> int:
    """Return the number of bytes of the script of a PNG file with `size` bytes."""
    return len(_picture_start(key)) + (size + 2) // 3 * 4 + len(_END)


def _picture_start(key: str) -> bytes:
    return b"surgeryPage.pixels(" + script_json(key) + b', "'
