"""The errors that `surgery` raises on purpose.

    SurgeryError
    ├── ModelError            a model can't be loaded
    │   └── CheckpointError   a weights file can't be read, or fits no known architecture
    ├── TraceError            a model can't be traced; the message has the user's file and line
    ├── SelectionError        a selection can't be parsed, or matches no operation
    ├── EditError             an edit can't be read, or doesn't fit the value of its operation
    ├── ImageError            an input image can't be read, or the model can't take it
    ├── RenderError           a stage returned something that can't be drawn
    ├── MeasureError          a measure raised, or gave no number for each channel
    ├── OutputError           a result can't be written
    └── PluginError           a plugin can't be loaded, or no plugin offers this name

Each message is one line: what was asked, what there is, what to do.
"""

from __future__ import annotations

import errno
from difflib import get_close_matches
from typing import TYPE_CHECKING

from surgery.text import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Iterable


class SurgeryError(Exception):
    """An error that the caller can fix. The command line prints it without a traceback.

    ``str(error)`` is one line, with control characters escaped.
    """

    def __str__(self) -> str:
        return escape_unprintable(super().__str__())


class ModelError(SurgeryError):
    """A model can't be loaded from the source that was named."""


class CheckpointError(ModelError):
    """A weights file can't be read, or its keys fit no known architecture."""


class TraceError(SurgeryError):
    """A model can't be traced. The message has the file and line of the code that prevents it."""


class SelectionError(SurgeryError):
    """A selection can't be parsed, or matches no operation."""


class EditError(SurgeryError):
    """An edit can't be read, or does not fit the value of its operation."""


class ImageError(SurgeryError):
    """An input image can't be read, or has a size that the model can't take."""


class RenderError(SurgeryError):
    """A transform, normalizer, tiler or colormap returned something that can't be drawn."""


class MeasureError(SurgeryError):
    """A measure raised, or returned something other than a number for each channel."""


class OutputError(SurgeryError):
    """A result can't be written."""


class PluginError(SurgeryError):
    """A plugin can't be loaded, or no plugin offers the requested name."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that is not empty, or the name of the error's class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def describe_os_error(error: OSError) -> str:
    """Return the reason of an OSError in lower case: ``permission denied``, ``the disk is full``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    return (error.strerror or str(error)).lower()


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return ``"; did you mean 'viridis'?"`` for the choice that is most similar to `name`, or an empty text."""
    folded = {choice.lower(): choice for choice in choices}
    near = get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""
