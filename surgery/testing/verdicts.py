"""Everything that a plugin offers, held against what its kind promises."""

from __future__ import annotations

from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from typing import TYPE_CHECKING, Any

from surgery.errors import PluginError
from surgery.plugins import KINDS
from surgery.testing.drawing import colormap_faults, normalizer_faults, tiler_faults, transform_faults
from surgery.testing.inputs import checkpoint_faults, reader_faults
from surgery.testing.models import model_faults
from surgery.testing.promises import lines_of
from surgery.testing.sinks import sink_faults
from surgery.testing.watchers import watcher_faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from surgery.plugins import Kind, Plugin
    from surgery.testing.promises import Fault


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one thing that a plugin offers, or of the plugin itself."""

    kind: str
    """One of the kinds of things, ``"watcher"``, or ``"plugin"``."""
    name: str
    faults: tuple[str, ...]
    """A line for each promise that it breaks, with the input that broke it; empty where it keeps all."""


def verdicts(
    plugin: Plugin, files: Sequence[Path] = (), doing: Callable[[str], object] = lambda _: None
) -> Iterator[Verdict]:
    """Each thing that a plugin offers, tried in turn; readers are tried on `files` as well.

    `doing` is told, before it is done, what is tried: ``"sink ranges: a second run"``.
    """
    try:
        remarks = plugin.load()
    except PluginError as error:
        yield Verdict("plugin", plugin.name, (str(error),))
        return
    if remarks:
        yield Verdict("plugin", plugin.name, tuple(remarks))
    for kind in KINDS:
        try:
            offered, remarks = plugin.collect_offers(kind)
        except PluginError as error:
            yield Verdict("plugin", plugin.name, (str(error),))
            continue
        if remarks:
            yield Verdict("plugin", plugin.name, tuple(remarks))
        for name, thing in offered.items():
            what = f"{kind} {name}"
            doing(what)
            yield Verdict(kind, name, _lines(_faults(kind, thing, files, partial(_of_it, doing, what))))
    if (watcher := plugin.create_watcher()) is not None:
        yield Verdict("watcher", plugin.name, _lines(watcher_faults(watcher)))


def _lines(faults: Iterator[Fault]) -> tuple[str, ...]:
    """What is found while what the plugin prints is kept from the terminal."""
    with redirect_stdout(StringIO()):
        return tuple(lines_of(faults))


def _of_it(doing: Callable[[str], object], what: str, run: str) -> None:
    doing(f"{what}: {run}")


def _faults(kind: Kind, thing: Any, files: Sequence[Path], doing: Callable[[str], object]) -> Iterator[Fault]:
    if kind == "sink":
        return sink_faults(thing, doing)
    if kind == "reader":
        suffixes = getattr(thing, "suffixes", ())
        return reader_faults(thing, [file for file in files if not suffixes or file.suffix.lower() in suffixes])
    if kind == "checkpoint":
        from surgery.models import WEIGHTS_SUFFIXES

        return checkpoint_faults(thing, [file for file in files if file.suffix.lower() in WEIGHTS_SUFFIXES])
    return _FAULTS[kind](thing)


_FAULTS: Mapping[Kind, Callable[[Any], Iterator[Fault]]] = {
    "transform": transform_faults,
    "normalizer": normalizer_faults,
    "tiler": tiler_faults,
    "colormap": colormap_faults,
    "model": model_faults,
}
