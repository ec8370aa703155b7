"""Checks of everything that a plugin offers against the contracts of its kinds."""

from __future__ import annotations

from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from typing import TYPE_CHECKING, Any
from warnings import warn

from surgery.errors import PluginError
from surgery.plugins import KINDS
from surgery.testing.checkpoint_checks import checkpoint_violations
from surgery.testing.drawing_checks import (
    colormap_violations,
    normalizer_violations,
    tiler_violations,
    transform_violations,
)
from surgery.testing.edit_checks import edit_violations
from surgery.testing.engine_checks import engine_violations
from surgery.testing.measure_checks import measure_violations
from surgery.testing.model_checks import model_violations
from surgery.testing.reader_checks import reader_violations
from surgery.testing.sink_checks import sink_violations
from surgery.testing.violations import summarize_violations
from surgery.testing.watcher_checks import watcher_violations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from surgery.plugins import Kind, Plugin
    from surgery.testing.violations import Violation


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of checking one object that a plugin offers, or the plugin itself."""

    kind: str
    """A kind of plugin object such as ``"sink"``, or ``"watcher"``, or ``"plugin"``."""
    name: str
    violations: tuple[str, ...]
    """One line for each violation of the contract, with the first input that caused it; empty if there is none."""

    @property
    def faults(self) -> tuple[str, ...]:
        """The old name of `violations`."""
        warn("CheckResult.faults is now CheckResult.violations", DeprecationWarning, stacklevel=2)
        return self.violations


def run_checks(
    plugin: Plugin, files: Sequence[Path] = (), on_progress: Callable[[str], object] = lambda _: None
) -> Iterator[CheckResult]:
    """Check each object that a plugin offers, one after the other, and yield the results.

    Readers and checkpoint readers are also called on those of `files` that have their suffixes. `on_progress` is called
    before each step with a description of it: ``"sink ranges: a second run"``.
    """
    try:
        remarks = plugin.load()
    except PluginError as error:
        yield CheckResult("plugin", plugin.name, (str(error),))
        return
    if remarks:
        yield CheckResult("plugin", plugin.name, tuple(remarks))
    for kind in KINDS:
        try:
            offers, remarks = plugin.collect_offers(kind)
        except PluginError as error:
            yield CheckResult("plugin", plugin.name, (str(error),))
            continue
        if remarks:
            yield CheckResult("plugin", plugin.name, tuple(remarks))
        for name, value in offers.items():
            title = f"{kind} {name}"
            on_progress(title)
            violations = _find_violations(kind, value, files, partial(_report_step, on_progress, title))
            yield CheckResult(kind, name, _summarize_silently(violations))
    if (watcher := plugin.create_watcher()) is not None:
        yield CheckResult("watcher", plugin.name, _summarize_silently(watcher_violations(watcher)))


def _report_step(on_progress: Callable[[str], object], title: str, step: str) -> None:
    on_progress(f"{title}: {step}")


def _summarize_silently(violations: Iterator[Violation]) -> tuple[str, ...]:
    """Run the checks without showing what the plugin prints to standard output."""
    with redirect_stdout(StringIO()):
        return tuple(summarize_violations(violations))


def _find_violations(
    kind: Kind, value: Any, files: Sequence[Path], on_progress: Callable[[str], object]
) -> Iterator[Violation]:
    if kind == "sink":
        return sink_violations(value, on_progress)
    if kind == "engine":
        return engine_violations(value, on_progress)
    if kind == "reader":
        suffixes = getattr(value, "suffixes", ())
        return reader_violations(value, [file for file in files if not suffixes or file.suffix.lower() in suffixes])
    if kind == "checkpoint":
        from surgery.models import WEIGHTS_SUFFIXES

        suffixes = (*WEIGHTS_SUFFIXES, *getattr(value, "suffixes", ()))
        recognizes = getattr(value, "recognizes_folder", lambda _: False)
        own = [file for file in files if (recognizes(file) if file.is_dir() else file.suffix.lower() in suffixes)]
        return checkpoint_violations(value, own)
    return _CHECKS[kind](value)


_CHECKS: Mapping[Kind, Callable[[Any], Iterator[Violation]]] = {
    "transform": transform_violations,
    "normalizer": normalizer_violations,
    "tiler": tiler_violations,
    "colormap": colormap_violations,
    "edit": edit_violations,
    "measure": measure_violations,
    "model": model_violations,
}
