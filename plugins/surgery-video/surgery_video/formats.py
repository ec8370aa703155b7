"""The file formats of animations, and their suffixes."""

from __future__ import annotations

from typing import Literal, TypeAlias

from surgery.errors import OutputError

Format: TypeAlias = Literal["apng", "webp"]
SUFFIXES: dict[Format, str] = {"apng": ".png", "webp": ".webp"}


def check_options(fps: float, format: str) -> None:  # noqa: A002
    """Raise OutputError for frames per second that are out of range, and for an unknown format."""
    if not 0.1 <= fps <= 100:
        raise OutputError(f"fps is 0.1 to 100, not {fps:g}")
    if format not in SUFFIXES:
        raise OutputError(f"format is {' or '.join(SUFFIXES)}, not {format!r}")
