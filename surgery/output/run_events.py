"""What a run tells its watchers and its caller while it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgery.text import format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from surgery.output.address import Place
    from surgery.output.report import Report
    from surgery.types import Activation, Operation


@dataclass(frozen=True, slots=True)
class RunStart:
    """What a run is about to do."""

    folder: Place
    """Where the run writes to: a folder, or an address."""
    images: Sequence[object]
    """The inputs in order: a path for a file of this machine, else a value whose ``str()`` is the address. Some may
    turn out to be unreadable."""
    operations: tuple[Operation, ...]
    """The selected operations in order of execution."""
    about: Mapping[str, str]
    """The run in words: model, weights, mode, seed and the recipe of its pictures."""

    def __repr__(self) -> str:
        counts = f"{format_count(len(self.images), 'image')}, {format_count(len(self.operations), 'operation')}"
        return f"RunStart({str(self.folder)!r}: {counts})"


@dataclass(frozen=True, slots=True)
class Watcher:
    """Functions that are called during a run. A watcher that raises an error is not called again, and is reported.

    `activation` is called inside the model's forward pass, like a sink: it must copy the values that it keeps.
    """

    name: str
    """The plugin that watches, for the report."""
    started: Callable[[RunStart], object] | None = None
    activation: Callable[[Activation], object] | None = None
    finished: Callable[[Report], object] | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, in images."""

    done: int
    failed: int
    total: int
    image: str
    """The name of the image that was finished last."""
