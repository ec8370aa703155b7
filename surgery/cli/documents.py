"""Terminal output as SVG and HTML documents."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from rich.console import Console

from surgery.text import escape_unprintable

if TYPE_CHECKING:
    from rich.console import RenderableType


def render_document(view: RenderableType, width: int, kind: str, title: str) -> str:
    """Return what would be printed as a document of kind "svg" or "html" that needs no other file."""
    with open(os.devnull, "w", encoding="utf-8") as null_device:  # noqa: PTH123
        console = Console(
            record=True,
            width=width,
            file=null_device,
            force_terminal=True,
            color_system="truecolor",
            markup=False,
            emoji=False,
            highlight=False,
        )
        console.print(view)
        if kind == "html":
            return console.export_html()
        return re.sub(r"@font-face\s*\{[^}]*\}", "", console.export_svg(title=escape_unprintable(title)))
