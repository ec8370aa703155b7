"""The watchers of a run: plugin functions that are called at its start, with each activation, and at its end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from surgery.plugins import describe_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from surgery.output import Report, RunStart, Watcher
    from surgery.stages import Write


class WatcherList:
    """Calls the watchers of one run. A watcher that raises an error is not called again, and the run goes on."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._active = dict(enumerate(watchers))
        self._warnings: list[str] = []

    @property
    def writes(self) -> list[Write]:
        """The functions to call with each activation; none if no watcher wants activations."""
        return [self._write(number) for number, watcher in self._active.items() if watcher.activation]

    def started(self, start: RunStart) -> None:
        """Call the watchers before the first image."""
        for number, watcher in list(self._active.items()):
            self._call(number, watcher.started, start)

    def finished(self, report: Report) -> Report:
        """Call the watchers after the last image. Return the report with a warning for each that raised an error."""
        for number, watcher in list(self._active.items()):
            self._call(number, watcher.finished, report)
        return replace(report, warnings=tuple(self._warnings))

    def _write(self, number: int) -> Write:
        def write(activation: Any) -> None:
            if number in self._active:
                self._call(number, self._active[number].activation, activation)

        return write

    def _call(self, number: int, function: Callable[[Any], object] | None, value: object) -> None:
        if function is None:
            return
        try:
            function(value)
        except Exception as error:  # noqa: BLE001 - a watcher must not end a run
            name = self._active.pop(number).name
            self._warnings.append(f"{name} raised {describe_error(error)}; it was left out of the rest of the run")
