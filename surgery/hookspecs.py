"""The hooks: what a plugin can offer.

A plugin is a module, in a file or in an installed distribution with an entry point of group ``surgery``, in which
functions marked with `surgery.hookimpl` have these names. Each returns a mapping from names to values that are ready to
be used; it is called once, and only when that kind of thing is wanted, so imports of heavy libraries belong inside.
Names of several plugins stand side by side; one that two of them offer is written ``plugin:name``. Colormaps of plugins
stand before those of the `cmap` library, which has 1,500 names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.types import Colormap, ModelFactory, ModelFamily, Normalizer, Sink, Tiler

PROJECT = "surgery"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def surgery_normalizers() -> Mapping[str, Normalizer]:  # type: ignore[empty-body]
    """Which values are the two ends of the scale.

    Each is a function of ``(B, C, H, W)`` float32 or float64, finite, any range, that returns `low` and `high`, each
    broadcastable to ``(B, C, 1, 1)``, with ``low <= high``. It must not write to its input. One with options is a
    frozen dataclass with ``__call__``, whose fields the command line sets: ``--normalizer above:least=0.5``.

        @surgery.hookimpl
        def surgery_normalizers():
            return {"unit": lambda values: (torch.tensor(0.0), torch.tensor(1.0))}
    """


@hookspec
def surgery_tilers() -> Mapping[str, Tiler]:  # type: ignore[empty-body]
    """How the channels of one activation lie in a picture.

    Each is a function of ``(B, C, H, W)`` uint8 codes that returns ``(B, N, H', W')`` uint8 codes, N pictures for each
    image; code 255 is background. It must not write to its input. Options as for normalizers.

        @surgery.hookimpl
        def surgery_tilers():
            return {"first": lambda levels: levels[:, :1]}
    """


@hookspec
def surgery_colormaps() -> Mapping[str, Colormap]:  # type: ignore[empty-body]
    """Which color each level has.

    Each is a list of colors, anything else that `cmap.Colormap` takes, or a function of ``(N,)`` float64 in [0, 1] that
    returns ``(N, 3)`` or ``(N, 4)`` in [0, 1].

        @surgery.hookimpl
        def surgery_colormaps():
            return {"ember": ["black", "darkred", "orange", "white"]}
    """


@hookspec
def surgery_sinks() -> Mapping[str, Sink]:  # type: ignore[empty-body]
    r"""Where activations go.

    Each is a ``@contextmanager`` function that takes the run's `OutputFolder` and yields a function of one
    `Activation`. That is called inside the model's forward: what is kept of ``activation.values`` must be copied.
    Pictures are made when ``activation.pictures`` is read. Files are written through ``folder.file(name)``, which
    makes them appear whole and lists them in the manifest; ``folder.when_finished(callback)`` tells when all
    activations of an image have been offered. Options as for normalizers.

        @surgery.hookimpl
        def surgery_sinks():
            @contextmanager
            def ranges(folder):
                rows = []
                def write(activation):
                    rows.append(f"{activation.image},{activation.path},{activation.facts.min},{activation.facts.max}")
                yield write
                with folder.file("ranges.csv") as path:
                    path.write_text("\n".join(rows))
            return {"ranges": ranges}
    """


@hookspec
def surgery_models() -> Mapping[str, ModelFactory | ModelFamily]:  # type: ignore[empty-body]
    """Models that can be opened by name.

    Each is a function without arguments that returns an ``nn.Module``, or a `surgery.types.ModelFamily` for models
    that are named ``family/name``.

        @surgery.hookimpl
        def surgery_models():
            return {"tiny": lambda: torch.nn.Conv2d(3, 8, 3)}
    """
