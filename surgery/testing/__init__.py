"""What a plugin has to keep, as checks for its tests.

    import ember

    from surgery.testing import check_plugin

    def test_it_keeps_every_promise() -> None:
        check_plugin(ember)

`check_plugin` checks everything that a module offers, the others one thing of a kind. Each tries it on ordinary and on
awkward inputs, and raises AssertionError with a line for each promise that it breaks and the input that broke it;
``surgery plugins check`` prints the same lines. What each kind promises stands in `surgery.types` and
`surgery.plugins.hook_specifications`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from surgery.plugins import Plugin
from surgery.testing.drawing import colormap_faults, normalizer_faults, tiler_faults, transform_faults
from surgery.testing.inputs import checkpoint_faults, reader_faults
from surgery.testing.models import model_faults
from surgery.testing.promises import lines_of
from surgery.testing.sinks import sink_faults
from surgery.testing.verdicts import Verdict, verdicts
from surgery.testing.watchers import watcher_faults
from surgery.text import describe_stage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import ModuleType

    from surgery.output import Watcher
    from surgery.stages import (
        CheckpointReader,
        Colormap,
        ModelFactory,
        ModelFamily,
        Normalizer,
        Reader,
        Sink,
        Tiler,
        Transform,
    )
    from surgery.testing.promises import Fault

__all__ = [
    "Verdict",
    "check_checkpoint",
    "check_colormap",
    "check_model",
    "check_normalizer",
    "check_plugin",
    "check_reader",
    "check_sink",
    "check_tiler",
    "check_transform",
    "check_watcher",
    "verdicts",
]


def check_plugin(module: ModuleType, *files: Path) -> None:
    """Everything that a module offers through its hooks keeps what its kind promises.

    Readers and checkpoint readers are tried on `files` as well.
    """
    plugin = Plugin(module.__name__, "", "a module", lambda: [module])
    lines = [
        f"{verdict.kind} {verdict.name}: {fault}" for verdict in verdicts(plugin, files) for fault in verdict.faults
    ]
    if lines:
        raise AssertionError("\n".join(lines))


def check_transform(transform: Transform) -> None:
    """``(B, C', H', W')`` float, each image's own, the same each time; the input is not written to."""
    _check("transform", transform, transform_faults(transform))


def check_normalizer(normalizer: Normalizer) -> None:
    """Limits that are finite, ordered and broadcastable, the same each time; the input is not written to."""
    _check("normalizer", normalizer, normalizer_faults(normalizer))


def check_tiler(tiler: Tiler) -> None:
    """``(B, N, H', W')`` codes of the input or background, each image's own, the same each time; its input is kept."""
    _check("tiler", tiler, tiler_faults(tiler))


def check_colormap(colormap: Colormap) -> None:
    """``(N, 3)`` or ``(N, 4)`` in [0, 1] for any N levels, each level's color its own, or what `cmap` takes."""
    _check("colormap", colormap, colormap_faults(colormap))


def check_sink(sink: Sink) -> None:
    """Takes every kind of value, unchanged; writes whole files through the folder; loses nothing and hides no error.

    It is opened once for each run, and in a run its calls come one after another. Several runs may go on at once in
    several threads, each with a folder of its own, with one and the same sink. When a run fails, what belongs to the
    images before is there, and nothing of the image that failed.
    """
    _check("sink", sink, sink_faults(sink))


def check_model(model: ModelFactory | ModelFamily) -> None:
    """Gives an ``nn.Module`` that takes the input that it says it takes; of a family, the first name is tried."""
    _check("model", model, model_faults(model))


def check_reader(reader: Reader, *files: Path) -> None:
    """``(1, C, H, W)`` float, the same each time, of memory of its own; a file that can't be read does not end a run.

    It is called on another thread than the model. It is tried on `files`, which it has to read, and on small files of
    its suffixes where they are of a common kind.
    """
    _check("reader", reader, reader_faults(reader, files))


def check_checkpoint(reader: CheckpointReader, *files: Path) -> None:
    """A network with its weights, the same each time, or None for a file of another kind; what it is given is kept.

    It is tried on `files`, which it has to recognise, and on weights of nobody's.
    """
    _check("checkpoint", reader, checkpoint_faults(reader, files))


def check_watcher(watcher: Watcher) -> None:
    """Takes every kind of value, unchanged; raises nothing, also after a run that never came to its end."""
    _check("watcher", watcher, watcher_faults(watcher))


def _check(kind: str, thing: Any, faults: Iterable[Fault]) -> None:
    if lines := lines_of(faults):
        raise AssertionError("\n".join(f"{kind} {describe_stage(thing)}: {line}" for line in lines))
