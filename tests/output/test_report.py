"""The report of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from surgery.output import OperationSummary, Report
from surgery.types import Facts, Operation


def test_the_former_names_of_a_report_still_work_and_warn() -> None:
    summary = OperationSummary(Operation("conv", "conv", "conv2d", 1), Facts(None, None, 0, 0, nan=False, inf=False))
    report = Report(Path("out"), 1, 1, (), (summary,), 1.0, warnings=("a watcher raised an error",))
    with pytest.warns(DeprecationWarning, match="Report.findings is now Report.summaries"):
        assert report.findings == report.summaries == (summary,)
    with pytest.warns(DeprecationWarning, match="Report.troubles is now Report.warnings"):
        assert report.troubles == report.warnings == ("a watcher raised an error",)
