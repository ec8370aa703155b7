"""The contracts of the kinds of plugins, as functions for the tests of plugin authors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from surgery.plugins import Plugin
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
from surgery.testing.plugin_checks import run_checks
from surgery.testing.reader_checks import reader_violations
from surgery.testing.sink_checks import sink_violations
from surgery.testing.violations import summarize_violations
from surgery.testing.watcher_checks import watcher_violations
from surgery.text import describe_stage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import ModuleType

    from surgery.output import Watcher
    from surgery.stages import (
        CheckpointReader,
        Colormap,
        Edit,
        Engine,
        Measure,
        ModelFactory,
        ModelFamily,
        Normalizer,
        Reader,
        Sink,
        Tiler,
        Transform,
    )
    from surgery.testing.violations import Violation


def check_plugin(module: ModuleType, *files: Path) -> None:
    """Check everything that a module offers through its hooks.

    Readers and checkpoint readers are also called on `files`. Raises AssertionError with one line for each violation.
    """
    plugin = Plugin(module.__name__, "", "a module", lambda: [module])
    lines = [
        f"{result.kind} {result.name}: {violation}"
        for result in run_checks(plugin, files)
        for violation in result.violations
    ]
    if lines:
        raise AssertionError("\n".join(lines))


def check_transform(transform: Transform) -> None:
    """Check that a transform returns ``(B, C', H', W')`` float and does not write to its input.

    The same input gives the same maps, and the maps of an image do not depend on the other images of the batch.
    """
    _check("transform", transform, transform_violations(transform))


def check_normalizer(normalizer: Normalizer) -> None:
    """Check that a normalizer returns finite, ordered, broadcastable limits and does not write to its input.

    The same input gives the same limits. With ``of_extremes`` or ``are_extremes``, the shortcut gives the same limits
    as the call.
    """
    _check("normalizer", normalizer, normalizer_violations(normalizer))


def check_tiler(tiler: Tiler) -> None:
    """Check that a tiler returns ``(B, N, H', W')`` uint8 with codes of its input, or 255, the background.

    The same input gives the same pictures, the pictures of an image do not depend on the other images of the batch, and
    the input is not written to.
    """
    _check("tiler", tiler, tiler_violations(tiler))


def check_colormap(colormap: Colormap) -> None:
    """Check that a colormap returns ``(N, 3)`` or ``(N, 4)`` in [0, 1] for any N levels, or is one that `cmap` knows.

    The color of a level does not depend on the other levels of the call.
    """
    _check("colormap", colormap, colormap_violations(colormap))


def check_edit(edit: Edit) -> None:
    """Check that an edit returns a replacement of the shape, dtype and device of its input, in any float dtype.

    The same input gives the same replacement, also by a copy of the edit; the input is not written to, torch's global
    random numbers are left alone, and gradients flow through the edit or end at it. An edit with ``of_reference`` is
    given the values of a reference, which it may not keep without copying them.
    """
    _check("edit", edit, edit_violations(edit))


def check_measure(measure: Measure) -> None:
    """Check that a measure returns a number for each channel, or one of all, and says how to read it.

    The same input gives the same numbers, also by a copy of the measure and for an image by itself; the input is not
    written to, and torch's global random numbers are left alone. What its `of_operation` returns is checked too.
    """
    _check("measure", measure, measure_violations(measure))


def check_sink(sink: Sink) -> None:
    """Check that a sink accepts every kind of value, writes complete files through its folder, and hides no error.

    It is called in several runs: complete ones, one that fails, two at once in two threads, each with a folder of its
    own, with the same sink. After a failure, the files of the images before it are complete, and no file of the failed
    image is left.
    """
    _check("sink", sink, sink_violations(sink))


def check_engine(engine: Engine) -> None:
    """Check that an engine delivers what its workers send, replaces those that are killed, and ends all of them.

    Runs of a tiny model, in which a worker is killed and in which an image kills every worker, give the files of a run
    in this process. What needs a worker of another process is left out for an engine of this one.
    """
    _check("engine", engine, engine_violations(engine))


def check_model(model: ModelFactory | ModelFamily) -> None:
    """Check that a factory returns an ``nn.Module`` that accepts the input it declares.

    Of a family, the first name is built.
    """
    _check("model", model, model_violations(model))


def check_reader(reader: Reader, *files: Path) -> None:
    """Check that a reader returns a new ``(1, C, H, W)`` float tensor, with the same values at every call.

    It has to read each of `files`, and is also called, in another thread than the caller's, on small files with its
    suffixes. For a file that it can't read it raises ImageError.
    """
    _check("reader", reader, reader_violations(reader, files))


def check_checkpoint(reader: CheckpointReader, *files: Path) -> None:
    """Check that a checkpoint reader returns a network with its weights loaded, or None for any other file.

    It has to recognize each of `files`, which may be folders, and is also called on weights of no known network. It
    must not write to the state_dict.
    """
    _check("checkpoint", reader, checkpoint_violations(reader, files))


def check_watcher(watcher: Watcher) -> None:
    """Check that a watcher accepts every kind of value, does not write to it, and raises nothing.

    That includes a run after one that was started and never finished.
    """
    _check("watcher", watcher, watcher_violations(watcher))


def _check(kind: str, value: Any, violations: Iterable[Violation]) -> None:
    if lines := summarize_violations(violations):
        raise AssertionError("\n".join(f"{kind} {describe_stage(value)}: {line}" for line in lines))
