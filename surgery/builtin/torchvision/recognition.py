"""Which of torchvision's models a state_dict belongs to, by its keys and shapes."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from surgery.builtin.torchvision.builders import (
    cache_path,
    construct_model,
    is_detector,
    models_with_backbone,
    published_weights,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

_COUNTER = ".num_batches_tracked"
"""The end of the keys of a batch norm's counter, which no result depends on and old files lack."""
_AUXILIARY = frozenset(("aux_classifier", "AuxLogits", "aux1", "aux2"))
"""First parts of the keys of heads that are used in training only."""
_FIRST_PARTS = frozenset(
    "backbone classifier conv1 conv_proj Conv2d_1a_3x3 features fc head layer1 layers stem trunk_output".split()  # noqa: SIM905
)
"""First parts of the keys of torchvision's models."""


def may_be_torchvision(state: Mapping[str, Tensor]) -> bool:
    """Return whether it is worth the time to compare a state_dict with torchvision's models."""
    return len(state) > 1 and not _FIRST_PARTS.isdisjoint(_first_parts(state))


def candidate_models(path: Path, state: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield the models that a state_dict may belong to: first those whose published file has the name of `path`."""
    from torchvision import models

    families: dict[str, list[str]] = {}
    for module in (models, models.segmentation, models.detection):
        for name in models.list_models(module):
            families.setdefault(models.get_model_builder(name).__module__, []).append(name)
    for name in (name for family in families.values() for name in family):
        if any(path.name == cache_path(member).name for member in published_weights(name).values()):
            yield name
    parts = _first_parts(state)
    for family in families.values():
        shapes = _shapes(family[0])
        same_parts = parts - _AUXILIARY == _first_parts(shapes) - _AUXILIARY
        # The classifiers of one family share the first key; the other models are distinguished by their backbones.
        if same_parts and ("backbone" in parts or next(iter(shapes)) in state):
            yield from family


def _first_parts(keys: Mapping[str, object]) -> set[str]:
    return {key.partition(".")[0] for key in keys}


def infer_options(name: str, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Return the options with which a model has these keys and shapes; None if it never has."""
    options: dict[str, Any] = {}
    if any(key.startswith("aux_classifier.") for key in state):
        options["aux_loss"] = True
    if name.startswith("vit_") and "encoder.pos_embedding" in state and "conv_proj.weight" in state:
        patches = math.prod(state["encoder.pos_embedding"].shape[1:2]) - 1
        options["image_size"] = math.isqrt(max(patches, 1)) * max((0, *state["conv_proj.weight"].shape[-1:]))
    try:
        expected = _shapes(name, **options)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError):  # options that it lacks, or that are absurd
        return None
    actual = {key: tuple(value.shape) for key, value in state.items() if not key.endswith(_COUNTER)}
    auxiliary = {key for key in expected if key.partition(".")[0] in _AUXILIARY}
    if not set(expected) - auxiliary <= set(actual) <= set(expected):
        return None
    if auxiliary and not auxiliary & set(actual):
        if name not in ("googlenet", "inception_v3"):
            return None
        options["aux_logits"] = False
    reshaped = [key for key in actual if actual[key] != expected[key]]
    if not reshaped:
        return options
    default_classes = 91 if is_detector(name) else 21 if name in models_with_backbone() else 1000
    counts = {_count_classes(actual[key], expected[key], default_classes) for key in reshaped}
    return {**options, "num_classes": counts.pop()} if len(counts) == 1 and None not in counts else None


def _count_classes(shape: tuple[int, ...], default_shape: tuple[int, ...], default_classes: int) -> int | None:
    """Return the number of classes of a last layer, from its shape and that for `default_classes`; None if unclear."""
    if not shape or shape[1:] != default_shape[1:]:
        return None
    if default_shape[0] % default_classes or shape[0] * default_classes % default_shape[0]:
        return None
    return shape[0] * default_classes // default_shape[0] or None


@lru_cache(maxsize=512)
def _shapes(name: str, **options: Any) -> dict[str, tuple[int, ...]]:
    """Return the keys and shapes of a model, without the counters of batch norms."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                model = construct_model(name, **options)
        except NotImplementedError:  # the builder of RegNet reads values that it computes
            with _MetaEmpty():
                model = construct_model(name, **options)
    return {key: tuple(value.shape) for key, value in model.state_dict().items() if not key.endswith(_COUNTER)}


class _MetaEmpty(TorchFunctionMode):
    """Within the block, `torch.empty` returns tensors without memory; tensors that a builder computes have values."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.empty:
            kwargs = {**(kwargs or {}), "device": "meta"}
        return func(*args, **(kwargs or {}))


def update_key_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state_dict with the current keys: published DenseNets have ``norm.1`` where the code has ``norm1``."""
    return {re.sub(r"(\.denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key): v for key, v in state.items()}


def describe_mismatch(name: str, state: Mapping[str, Tensor]) -> str:
    """Return how many keys of a state_dict fit a model, and which do not."""
    from surgery.models import compare_keys

    return compare_keys(
        _shapes(name), {key: value for key, value in state.items() if not key.endswith(_COUNTER)}
    ).describe()
