"""The report of a run: what its plan, its trace and its images say together."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from surgery.output import Report, format_notes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from surgery.extraction.run_plan import RunPlan, TotalResult
    from surgery.graph import TraceInfo
    from surgery.interrupts import Interrupts


def make_report(
    plan: RunPlan,
    result: TotalResult,
    info: TraceInfo,
    model_notes: Iterable[str],
    started: float,
    interrupts: Interrupts,
) -> Report:
    """Return the report of a run that has ended. `started` is the `time.perf_counter` of its beginning."""
    trace_notes = (info.note,) if info.note else ()
    return Report(
        folder=plan.workspace.place,
        images=len(result.tally.finished),
        files=result.tally.files,
        failed=result.failures,
        summaries=result.tally.ordered_summaries(),
        seconds=time.perf_counter() - started,
        hazards=info.hazards,
        trace=info,
        not_reached=result.tally.not_reached,
        notes=(*model_notes, *trace_notes, *format_notes(result.notes)),
        interrupted=result.interrupted or interrupts.received,
        overview=None if result.tally.overview is None else plan.workspace.place / result.tally.overview[1],
        finished_before=len(plan.finished),
    )
