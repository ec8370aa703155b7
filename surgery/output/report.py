"""What `extract` returns."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote
from warnings import warn

from surgery.errors import OutputError
from surgery.output.address import Address
from surgery.output.summaries import way_notes
from surgery.page import INDEX
from surgery.text import MAX_TABLE_ROWS, escape_html, format_count, html_table, image_tag

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from surgery.graph import Hazard, TraceInfo
    from surgery.output.address import Place
    from surgery.output.failures import Failure
    from surgery.output.summaries import OperationSummary


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did."""

    folder: Place
    """Where the run wrote to: a folder, or an address."""
    images: int
    """The number of finished images, those of earlier runs too."""
    files: int
    """The number of files of the run, the manifest included."""
    failed: tuple[Failure, ...]
    summaries: tuple[OperationSummary, ...]
    """What was found at each operation, in order of execution."""
    seconds: float
    """Wall time."""
    hazards: tuple[Hazard, ...] = ()
    """What the trace of the model found."""
    interrupted: bool = False
    """Whether Ctrl-C ended the run. Finished images stay, and the same call goes on with the others."""
    finished_before: int = 0
    """How many of the images an earlier run into the folder has finished."""
    notes: tuple[str, ...] = ()
    """A line for each thing to know about the pictures, such as random weights, or an AB pair that was not cut."""
    overview: Place | None = None
    """The file to look at first: the page of the run, or the first file that shows a whole image, such as its sheet."""
    trace: TraceInfo | None = None
    """How the model was traced."""
    not_reached: Mapping[str, int] = field(default_factory=dict)
    """How many of the finished images did not reach a selected operation, by its path."""
    warnings: tuple[str, ...] = ()
    """A line for each watcher that raised an error."""

    @property
    def findings(self) -> tuple[OperationSummary, ...]:
        """The old name of `summaries`, for one more release."""
        warn("Report.findings is now Report.summaries", DeprecationWarning, stacklevel=2)
        return self.summaries

    @property
    def troubles(self) -> tuple[str, ...]:
        """The old name of `warnings`, for one more release."""
        warn("Report.troubles is now Report.warnings", DeprecationWarning, stacklevel=2)
        return self.warnings

    def page(self) -> Path:
        """Write the page of the run, to walk through it in a browser, and return its path. See `surgery.write_page`."""
        from surgery.output.page_writer import write_page

        if isinstance(self.folder, Address):
            raise OutputError(f"a page is written into a folder of this machine; copy {self.folder} to one first")
        return write_page(self.folder)

    def way_notes(self) -> list[str]:
        """Return a line on operations that not all images reached, and one on those that the example did not."""
        return way_notes(self.summaries, self.not_reached, self.images)

    def __repr__(self) -> str:
        return f"Report({self._title()})"

    def _title(self) -> str:
        numbers = {"image": self.images, "file": self.files, "operation": len(self.summaries)}
        counts = [format_count(number, noun) for noun, number in numbers.items()]
        counts += [f"{len(self.failed)} failed"] if self.failed else []
        counts += [f"{self.finished_before} finished before"] if self.finished_before else []
        counts += ["interrupted"] if self.interrupted else []
        return f"{str(self.folder)!r}: {', '.join(counts)}, {self.seconds:.1f} s"

    def _repr_html_(self) -> str:
        """Return a table for notebooks, with the sheet of the first image if there is one."""
        rows = []
        for summary in self.summaries:
            operation = summary.operation
            rows.append((operation.index, operation.path, operation.kind, operation.shapes(), summary.summary()))
        header = ("", "operation", "kind", "shape", "values")
        failures = [f"{failure.path}: {failure.reason}" for failure in self.failed]
        lines = [*failures, *map(str, self.hazards), *self.notes, *self.way_notes(), *self.warnings]
        messages = "".join(f"<div>{escape_html(line)}</div>" for line in lines[:MAX_TABLE_ROWS])
        return html_table(self._title(), header, rows) + messages + self._page_link() + self._sheet()

    def _page_link(self) -> str:
        page = self.folder / INDEX
        if isinstance(page, Address) or not page.is_file():
            return ""
        return f'<div><a href="{escape_html(quote(page.as_posix()))}" target="_blank">walk through the run</a></div>'

    def _sheet(self) -> str:
        from PIL import Image

        if isinstance(self.folder, Address):
            return ""
        for file in sorted(self.folder.glob("*/sheet*.png"))[:1]:
            with suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError), Image.open(file) as sheet:
                top = sheet.convert("RGB").crop((0, 0, sheet.width, min(sheet.height, 2 * sheet.width)))
                return image_tag(top, 1024)
        return ""
