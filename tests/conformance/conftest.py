from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.table import summary

if TYPE_CHECKING:
    from benchmarks.truth import Row

ROWS = pytest.StashKey[list["Row"]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


@pytest.fixture
def rows(pytestconfig: pytest.Config) -> list[Row]:
    """What was found of the models so far."""
    return pytestconfig.stash[ROWS]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if rows := config.stash.get(ROWS, None):
        terminalreporter.section("the zoos")
        terminalreporter.write_line(summary(rows))
