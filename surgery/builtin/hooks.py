"""What comes with the project, offered through the same hooks as a stranger's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.types import Colormap, ModelFactory, ModelFamily, Normalizer, Sink, Tiler


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
    from surgery.builtin.colormaps import COLORMAPS

    return COLORMAPS


@hookimpl
def surgery_sinks() -> Mapping[str, Sink]:
    from surgery.builtin.sinks import SINKS

    return SINKS


@hookimpl
def surgery_models() -> Mapping[str, ModelFactory | ModelFamily]:
    from surgery.builtin.models import MODELS

    return MODELS
