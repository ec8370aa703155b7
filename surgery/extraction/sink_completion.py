"""What sinks need before a run, and what they do when it is finished."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from surgery.builtin import Page, Png
from surgery.drawing import declared_attribute
from surgery.errors import OutputError
from surgery.output import Address
from surgery.text import describe_stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery.output import Place, Report
    from surgery.stages import Sink


def check_sinks(sinks: Sequence[Sink], place: Place) -> None:
    """Raise OutputError for a page without the pictures that it shows, and for sinks that need a folder at the end."""
    if any(isinstance(sink, Page) for sink in sinks) and not any(isinstance(sink, Png) for sink in sinks):
        raise OutputError("the sink page shows the files of the sink png; name both: png and page")
    for sink in sinks if isinstance(place, Address) else ():
        if callable(declared_attribute(sink, "complete")):
            raise OutputError(
                f"sink {describe_stage(sink)} needs the files of the run in a folder; leave it out, copy {place} to a "
                "folder when the run is finished, and use `surgery view` there"
            )


def complete_sinks(sinks: Sequence[Sink], report: Report) -> Report:
    """Call the ``complete`` of the sinks for a run that has finished an image. Return the report of what it made.

    The first path that is returned is what to look at.
    """
    for sink in reversed(sinks) if report.images and not isinstance(report.folder, Address) else ():
        complete = declared_attribute(sink, "complete")
        if callable(complete) and (path := complete(report.folder)) is not None:
            report = replace(report, overview=path)
    return report
