from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.truth_table import render_summary

if TYPE_CHECKING:
    from benchmarks.model_result import ModelResult

ROWS = pytest.StashKey[list["ModelResult"]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


@pytest.fixture
def rows(pytestconfig: pytest.Config) -> list[ModelResult]:
    """What was found of the models so far."""
    return pytestconfig.stash[ROWS]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if rows := config.stash.get(ROWS, None):
        terminalreporter.section("the zoos")
        terminalreporter.write_line(render_summary(rows))
