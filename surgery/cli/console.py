"""Rich consoles and texts that print names and messages from outside safely."""

from __future__ import annotations

import os
import shutil
import sys
from typing import IO, Any, Self, cast

from rich.console import Console
from rich.text import Text as RichText

from surgery.cli.standard_streams import SafeStream
from surgery.text import escape_unprintable

PIPED_WIDTH = 160
"""Columns of output that isn't printed to a terminal: wide enough for every column of every table."""


class Text(RichText):
    """Rich text in one line without control characters: names and messages come from files, models and plugins."""

    def __init__(self, text: str = "", *options: Any, **more: Any) -> None:
        super().__init__(escape_unprintable(text), *options, **more)

    def append(self, text: RichText | str, style: Any = None) -> Self:
        """Add text at the end."""
        super().append(escape_unprintable(text) if isinstance(text, str) else text, style)
        return self

    @classmethod
    def assemble(cls, *parts: Any, **options: Any) -> Self:
        """Return the concatenation of parts, each a text or a pair of a text and its style."""
        return cast("Self", super().assemble(*parts, **options))


def open_console(*, stderr: bool = False) -> Console:
    """Return a console for standard output or standard error.

    It doesn't interpret markup. It is as wide as the terminal, or `PIPED_WIDTH` columns where there is none.
    """
    stream = sys.stderr if stderr else sys.stdout
    file = cast("IO[str]", SafeStream(stream)) if stream is not None else None
    settings: dict[str, Any] = {"file": file, "stderr": stderr, "markup": False, "emoji": False, "highlight": False}
    console = Console(**settings)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        return Console(**settings, width=PIPED_WIDTH)
    if console.is_dumb_terminal:  # rich would assume 80 columns
        return Console(**settings, width=shutil.get_terminal_size().columns, height=25)
    return console
