"""Those who watch a run: told of it while it goes on, and never in its way."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from surgery.plugins import describe_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from surgery.output import Report, RunStart, Watcher
    from surgery.stages import Write


class WatcherList:
    """The watchers of one run. One that raises is not called again, and is a line in the report."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._there = dict(enumerate(watchers))
        self._warnings: list[str] = []

    @property
    def writes(self) -> list[Write]:
        """What is to be called with each activation, as a sink's; empty where nobody watches them."""
        return [self._write(number) for number, watcher in self._there.items() if watcher.activation]

    def started(self, start: RunStart) -> None:
        """Tell that a run is about to begin."""
        for number, watcher in list(self._there.items()):
            self._tell(number, watcher.started, start)

    def finished(self, report: Report) -> Report:
        """Tell that a run is over. Returns the report, with a line for each watcher that raised at any time."""
        for number, watcher in list(self._there.items()):
            self._tell(number, watcher.finished, report)
        return replace(report, warnings=tuple(self._warnings))

    def _write(self, number: int) -> Write:
        def write(activation: Any) -> None:
            if number in self._there:
                self._tell(number, self._there[number].activation, activation)

        return write

    def _tell(self, number: int, call: Callable[[Any], object] | None, value: object) -> None:
        if call is None:
            return
        try:
            call(value)
        except Exception as error:  # noqa: BLE001 - whoever watches does not end a run
            name = self._there.pop(number).name
            self._warnings.append(f"{name} raised {describe_error(error)}; it was left out of the rest of the run")
