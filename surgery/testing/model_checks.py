"""Checks of models that plugins offer by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from surgery.graph import copy_sharing_parameters
from surgery.inputs import input_channels
from surgery.stages import ModelFamily, Preprocessing
from surgery.testing.violations import Violation, describe_exception, describe_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.stages import ModelFactory


def model_violations(model: ModelFactory | ModelFamily) -> Iterator[Violation]:
    """Yield a violation if a factory does not build an ``nn.Module``, or if the module rejects its declared input.

    Of a family, the first of its names is built.
    """
    name = ""
    if isinstance(model, ModelFamily):
        try:
            names = list(model.names())
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            yield Violation(f"{describe_exception(error)} when asked for its names")
            return
        if not names:
            yield Violation("is a family without a name")
            return
        if wrong := [name for name in names if not isinstance(name, str)]:
            yield Violation(f"has a name that is {describe_value(wrong[0])}, not text")
            return
        name = names[0]
    try:
        built: object = model.build(name) if isinstance(model, ModelFamily) else model()
    except Exception as error:  # noqa: BLE001
        yield Violation(describe_exception(error), name)
        return
    if isinstance(built, nn.Module):
        yield from _check_declared_input(built, name)
    else:
        yield Violation(f"gives {describe_value(built)}, not a torch.nn.Module", name)


def _check_declared_input(model: nn.Module, name: str) -> Iterator[Violation]:
    """Run a model on zeros of the size that it declares in ``preprocessing`` or ``size``, if it declares one."""
    preprocessing = getattr(model, "preprocessing", None)
    if preprocessing is not None and not isinstance(preprocessing, Preprocessing):
        wrong = describe_value(preprocessing)
        yield Violation(f"has {wrong} as preprocessing, not a surgery.stages.Preprocessing", name)
        return
    size = preprocessing.size if preprocessing is not None else getattr(model, "size", None)
    if size is None:
        return
    channels = len(preprocessing.mean) if preprocessing is not None else input_channels(model)
    height, width = size if isinstance(size, tuple) else (size, size)
    try:
        with torch.no_grad():
            copy_sharing_parameters(model).eval()(torch.zeros(1, channels, height, width))
    except Exception as error:  # noqa: BLE001
        declared = f"{channels}x{height}x{width}"
        yield Violation(f"does not take the {declared} that it says it takes: {describe_exception(error)}", name)
