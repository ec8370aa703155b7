"""The kinds of objects that plugins offer."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

Kind: TypeAlias = Literal[
    "transform", "normalizer", "tiler", "colormap", "edit", "measure", "sink", "model", "checkpoint", "reader", "engine"
]
"""The hook of a kind is called ``surgery_<kind>s``."""
KINDS: tuple[Kind, ...] = get_args(Kind)
