"""Checks of measures."""

from __future__ import annotations

import copy
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from surgery.drawing import fit_measure
from surgery.stages import MeasuredOperation
from surgery.testing.sample_tensors import generate_finite_maps, generate_nonfinite_maps
from surgery.testing.violations import Violation, describe_exception, describe_value, detect_state_changes, is_equal
from surgery.types import Operation, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.stages import Measure


def measure_violations(measure: Measure) -> Iterator[Violation]:
    """Yield a violation for each input of which a measure gives wrong numbers.

    They are ``(B, C)`` or ``(B, 1)`` float64, the same at every call and for each image by itself. What its
    `of_operation` returns for a few kinds of operations is checked too.
    """
    yield from _attribute_violations(measure)
    for name, maps in (*generate_finite_maps(), *generate_nonfinite_maps()):
        for fitted, case in _fitted_measures(measure, maps, name):
            if isinstance(fitted, Violation):
                yield fitted
            else:
                yield from _number_violations(fitted, maps, case)


def _attribute_violations(measure: Any) -> Iterator[Violation]:
    kind: Any = type(measure)
    if is_dataclass(measure) and not kind.__dataclass_params__.frozen:
        yield Violation("is a dataclass that is not frozen: two runs that share it could change each other")
    for name in ("unit", "reading"):
        text = getattr(measure, name, None)
        if not isinstance(text, str) or not text.strip() or "\n" in text:
            yield Violation(f"has no attribute {name!r}, a text of one line that says {_TEXTS[name]}")


_TEXTS = {"unit": "what its numbers are", "reading": "how to read them"}


def _fitted_measures(measure: Measure, maps: Tensor, name: str) -> Iterator[tuple[Measure | Violation, str]]:
    """Yield the measure, and those that it returns for operations that compute the maps, each with its case."""
    yield measure, name
    if not hasattr(measure, "of_operation"):
        return
    channels = maps.shape[1]
    spec = TensorSpec("", tuple(maps.shape), str(maps.dtype).removeprefix("torch."))
    modules = {
        "convtranspose2d": torch.nn.ConvTranspose2d(1, channels, 4, stride=2, padding=1),
        "batchnorm2d": torch.nn.BatchNorm2d(channels).eval(),
        "tanh": None,
        "add": None,
    }
    for kind, module in modules.items():
        operation = Operation("up", "up", kind, 1, tensors=(spec,))
        measured = MeasuredOperation(operation, module, 2 if kind == "convtranspose2d" else None)
        case = f"{name}, of {kind}"
        try:
            fitted = fit_measure("it", measure, measured)
        except Exception as error:  # noqa: BLE001
            yield Violation(describe_exception(error), case), case
            continue
        if fitted is not None and fitted is not measure:
            yield fitted, case


def _number_violations(measure: Measure, maps: Tensor, name: str) -> Iterator[Violation]:
    argument = maps.clone()
    try:
        with detect_state_changes(name) as found:
            numbers, again = measure(argument), measure(argument)
            copied = copy.deepcopy(measure)(argument)
            alone = [measure(image[None].clone()) for image in maps]
    except Exception as error:  # noqa: BLE001
        yield Violation(describe_exception(error), name)
        return
    yield from found
    images, channels = maps.shape[:2]
    right = isinstance(numbers, Tensor) and tuple(numbers.shape) in ((images, channels), (images, 1))
    if not right or numbers.dtype != torch.float64:
        expected = f"({images}, {channels}) or ({images}, 1) torch.float64"
        yield Violation(f"gives {describe_value(numbers)}, not {expected}", name)
        return
    if not is_equal(argument, maps):
        yield Violation("writes to its input", name)
        return
    if not is_equal(numbers, again):
        yield Violation("gives other numbers the second time", name)
    elif not is_equal(numbers, copied):
        yield Violation("gives other numbers when it has been copied", name)
    elif not torch.allclose(numbers, torch.cat(alone), rtol=1e-6, atol=1e-9, equal_nan=True):
        yield Violation("gives an image other numbers if there are other images beside it", name)
