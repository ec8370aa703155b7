"""The built-in stages and models, offered through the same hooks as those of plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.plugins import hookimpl

if TYPE_CHECKING:
    from collections.abc import Mapping

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


@hookimpl
def surgery_transforms() -> Mapping[str, Transform]:
    from surgery.builtin.transforms import TRANSFORMS

    return TRANSFORMS


@hookimpl
def surgery_normalizers() -> Mapping[str, Normalizer]:
    from surgery.builtin.normalizers import NORMALIZERS

    return NORMALIZERS


@hookimpl
def surgery_tilers() -> Mapping[str, Tiler]:
    from surgery.builtin.tilers import TILERS

    return TILERS


@hookimpl
def surgery_colormaps() -> Mapping[str, Colormap]:
    from surgery.drawing import COLORMAPS

    return COLORMAPS


@hookimpl
def surgery_edits() -> Mapping[str, Edit]:
    from surgery.builtin.edits import EDITS

    return EDITS


@hookimpl
def surgery_measures() -> Mapping[str, Measure]:
    from surgery.builtin.measures import MEASURES

    return MEASURES


@hookimpl
def surgery_sinks() -> Mapping[str, Sink]:
    from surgery.builtin.sinks import SINKS

    return SINKS


@hookimpl
def surgery_models() -> Mapping[str, ModelFactory | ModelFamily]:
    from surgery.builtin.models import MODELS

    return MODELS


@hookimpl
def surgery_checkpoints() -> Mapping[str, CheckpointReader]:
    from surgery.builtin.models import CHECKPOINTS

    return CHECKPOINTS


@hookimpl
def surgery_readers() -> Mapping[str, Reader]:
    from surgery.builtin.readers import READERS

    return READERS


@hookimpl
def surgery_engines() -> Mapping[str, Engine]:
    from surgery.builtin.engines import ENGINES

    return ENGINES
