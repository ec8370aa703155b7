"""The sink that makes the page of a run."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from surgery.output import OutputFolder
    from surgery.stages import Write
    from surgery.types import Activation


@dataclass(frozen=True, slots=True)
class Page:
    """`index.html` and `page/`: the run to walk through in a browser, from files, offline.

    The page shows the PNG files of the run, which the sink `png` writes. It is made of them when the run is finished,
    as `surgery view` does for any run.
    """

    deferred: ClassVar[bool] = True
    alone: ClassVar[bool] = True
    places: ClassVar[tuple[str, ...]] = ("page", "index.html")

    @contextmanager
    def __call__(self, folder: OutputFolder, /) -> Iterator[Write]:  # noqa: ARG002 - it waits for the manifest
        def write(activation: Activation) -> None:
            """Write nothing."""

        yield write

    def complete(self, folder: Path) -> Path:
        """Write the page of the finished run in a folder, and return its path."""
        from surgery.output import write_page

        return write_page(folder)
