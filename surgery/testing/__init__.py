"""What a plugin's stages have to keep, as checks for its tests.

    from surgery.testing import check_colormap

    def test_ember() -> None:
        check_colormap(["black", "darkred", "orange", "white"])

Each check tries a stage on ordinary and on awkward inputs, and raises AssertionError with a line for each promise that
it breaks and the input that broke it; ``surgery plugins check`` prints the same lines. What each stage promises stands
in `surgery.types` and `surgery.hookspecs`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from surgery.testing.drawing import colormap_faults, normalizer_faults, tiler_faults
from surgery.testing.models import model_faults
from surgery.testing.promises import lines_of
from surgery.testing.sinks import sink_faults
from surgery.types import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from surgery.testing.promises import Fault
    from surgery.types import Colormap, ModelFactory, ModelFamily, Normalizer, Sink, Tiler

__all__ = ["broken_promises", "check_colormap", "check_model", "check_normalizer", "check_sink", "check_tiler"]

_FAULTS: dict[str, Callable[[Any], Iterator[Fault]]] = {
    "normalizer": normalizer_faults,
    "tiler": tiler_faults,
    "colormap": colormap_faults,
    "sink": sink_faults,
    "model": model_faults,
}


def broken_promises(kind: str, stage: Any) -> list[str]:
    """A line for each promise of its kind that a stage breaks, with the input that broke it; empty where it keeps all.

    `kind` is that of the hook in the singular: ``"normalizer"``.
    """
    return lines_of(_FAULTS[kind](stage))


def check_normalizer(normalizer: Normalizer) -> None:
    """Limits that are finite, ordered and broadcastable, the same each time; the input is not written to."""
    _check("normalizer", normalizer)


def check_tiler(tiler: Tiler) -> None:
    """``(B, N, H, W)`` codes of the input or background, each image's own, the same each time; its input is kept."""
    _check("tiler", tiler)


def check_colormap(colormap: Colormap) -> None:
    """``(N, 3)`` or ``(N, 4)`` in [0, 1] for any N levels, each level's color its own, or what `cmap` takes."""
    _check("colormap", colormap)


def check_sink(sink: Sink) -> None:
    """Takes every kind of value, unchanged; writes whole files through the folder; loses nothing and hides no error.

    It is opened once for each run, and in a run its calls come one after another; several runs may go on at once in
    several threads, each with a folder of its own, with one and the same sink.
    """
    _check("sink", sink)


def check_model(model: ModelFactory | ModelFamily) -> None:
    """Gives an ``nn.Module``; a family does so under each of its names, of which the first is tried."""
    _check("model", model)


def _check(kind: str, stage: object) -> None:
    if lines := broken_promises(kind, stage):
        raise AssertionError("\n".join(f"{kind} {describe(stage)}: {line}" for line in lines))
