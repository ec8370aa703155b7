"""The file formats of animations, and their suffixes."""

from __future__ import annotations

from typing import Literal, TypeAlias

Format: TypeAlias = Literal["apng", "webp"]
SUFFIXES: dict[Format, str] = {"apng": ".png", "webp": ".webp"}
