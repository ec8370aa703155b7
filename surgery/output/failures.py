"""Images that a run could not finish."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be read, or that the model could not take."""

    path: str
    reason: str
    number: int = 0
    """The place of the image among those of the run, from 0."""
