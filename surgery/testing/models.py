"""What a model that is offered by name promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from surgery.graph import copy_sharing_parameters
from surgery.inputs import input_channels
from surgery.stages import ModelFamily, Preprocessing
from surgery.testing.promises import Fault, said, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.stages import ModelFactory


def model_faults(model: ModelFactory | ModelFamily) -> Iterator[Fault]:
    """Gives an ``nn.Module``; a family does so under each of its names, of which the first is tried."""
    name = ""
    if isinstance(model, ModelFamily):
        try:
            names = list(model.names())
        except Exception as error:  # noqa: BLE001 - whatever a stranger's code raises is its fault
            yield Fault(f"{said(error)} when asked for its names")
            return
        if not names:
            yield Fault("is a family without a name")
            return
        if odd := [known for known in names if not isinstance(known, str)]:
            yield Fault(f"has a name that is {shown(odd[0])}, not text")
            return
        name = names[0]
    try:
        built: object = model.build(name) if isinstance(model, ModelFamily) else model()
    except Exception as error:  # noqa: BLE001
        yield Fault(said(error), name)
        return
    if isinstance(built, nn.Module):
        yield from _run(built, name)
    else:
        yield Fault(f"gives {shown(built)}, not a torch.nn.Module", name)


def _run(model: nn.Module, name: str) -> Iterator[Fault]:
    """Whether a model that says what input it takes does take it."""
    preprocessing = getattr(model, "preprocessing", None)
    if preprocessing is not None and not isinstance(preprocessing, Preprocessing):
        yield Fault(f"has {shown(preprocessing)} as preprocessing, not a surgery.types.Preprocessing", name)
        return
    side = preprocessing.size if preprocessing is not None else getattr(model, "size", None)
    if side is None:
        return
    channels = len(preprocessing.mean) if preprocessing is not None else input_channels(model)
    height, width = side if isinstance(side, tuple) else (side, side)
    try:
        with torch.no_grad():
            copy_sharing_parameters(model).eval()(torch.zeros(1, channels, height, width))
    except Exception as error:  # noqa: BLE001
        yield Fault(f"does not take the {channels}x{height}x{width} that it says it takes: {said(error)}", name)
