"""Everything that `surgery` raises on purpose.

    SurgeryError
    ├── ModelError            a model can't be had
    │   └── CheckpointError   a weights file can't be read, or fits no known architecture
    ├── TraceError            a model can't be traced; names the user's file and line
    ├── SelectionError        a selection can't be parsed, or matches nothing
    ├── ImageError            an input image can't be read, or the model can't take it
    ├── RenderError           a stage gave something that can't be drawn
    ├── OutputError           a result can't be written
    └── PluginError           a plugin can't be loaded, or nothing is called so

The message of each is one line: what was asked, what there is, what to do.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from surgery.text import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Iterable


class SurgeryError(Exception):
    """Something the caller can put right. The command line prints it without a traceback.

    Its text is one line, in which control characters are escaped.
    """

    def __str__(self) -> str:
        return escape_unprintable(super().__str__())


class ModelError(SurgeryError):
    """A model can't be had from the source that was named."""


class CheckpointError(ModelError):
    """A weights file can't be read, or its keys fit no known architecture."""


class TraceError(SurgeryError):
    """A model can't be traced symbolically. The message names the file and line that stand in the way."""


class SelectionError(SurgeryError):
    """A selection can't be parsed, or matches no operation."""


class ImageError(SurgeryError):
    """An input image can't be read, or has a size that the model can't take."""


class RenderError(SurgeryError):
    """A normalizer, tiler or colormap gave something that can't be drawn."""


class OutputError(SurgeryError):
    """A result can't be written."""


class PluginError(SurgeryError):
    """A plugin can't be loaded, or no plugin offers what was named."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says anything, or the name of its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def did_you_mean(asked: str, known: Iterable[str]) -> str:
    """``"; did you mean 'viridis'?"``, or nothing where no known name is near enough."""
    folded = {name.lower(): name for name in known}
    near = get_close_matches(asked.lower(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""
