"""Which of torchvision's models a state_dict is of, by its keys and shapes."""

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
_AUXILIARY = frozenset(("aux_classifier", "AuxLogits", "aux1", "aux2"))
FIRST_KEY_PARTS = {
    "backbone",
    "classifier",
    "conv1",
    "conv_proj",
    "Conv2d_1a_3x3",
    "features",
    "fc",
    "head",
    "layer1",
    "layers",
}
FIRST_KEY_PARTS |= {"stem", "trunk_output"}
"""What keys of torchvision's models begin with: what has none of these is not compared with them."""


def candidate_models(path: Path, state: Mapping[str, Tensor]) -> Iterator[str]:
    """Models that a state_dict may be of: those whose published file is called so, and those of the same kind."""
    from torchvision import models

    kinds: dict[str, list[str]] = {}
    for module in (models, models.segmentation, models.detection):
        for name in models.list_models(module):
            kinds.setdefault(models.get_model_builder(name).__module__, []).append(name)
    for name in (name for several in kinds.values() for name in several):
        if any(path.name == cache_path(member).name for member in published_weights(name).values()):
            yield name
    heads = {key.partition(".")[0] for key in state}
    for several in kinds.values():
        like = _shapes(several[0])
        same_heads = heads - _AUXILIARY == {key.partition(".")[0] for key in like} - _AUXILIARY
        # A kind of classifiers begins with the same layer; the others are told by their backbones.
        if same_heads and ("backbone" in heads or next(iter(like)) in state):
            yield from several


def infer_options(name: str, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """With what options a model has these keys and shapes; None where it never has."""
    options: dict[str, Any] = {}
    if any(key.startswith("aux_classifier.") for key in state):
        options["aux_loss"] = True
    if name.startswith("vit_") and "encoder.pos_embedding" in state and "conv_proj.weight" in state:
        places = math.prod(state["encoder.pos_embedding"].shape[1:2]) - 1
        options["image_size"] = math.isqrt(max(places, 1)) * max((0, *state["conv_proj.weight"].shape[-1:]))
    try:
        shapes = _shapes(name, **options)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError):  # options that it has not, or that are absurd
        return None
    found = {key: tuple(value.shape) for key, value in state.items() if not key.endswith(_COUNTER)}
    auxiliary = {key for key in shapes if key.partition(".")[0] in _AUXILIARY}
    if not set(shapes) - auxiliary <= set(found) <= set(shapes):
        return None
    if auxiliary and not auxiliary & set(found):
        if name not in ("googlenet", "inception_v3"):
            return None
        options["aux_logits"] = False
    other = [key for key in found if found[key] != shapes[key]]
    if not other:
        return options
    own = 91 if is_detector(name) else 21 if name in models_with_backbone() else 1000
    counts = {_count_classes(found[key], shapes[key], own) for key in other}
    return {**options, "num_classes": counts.pop()} if len(counts) == 1 and None not in counts else None


def _count_classes(found: tuple[int, ...], usual: tuple[int, ...], own: int) -> int | None:
    """How many classes a last layer is for, by its shape and the usual one for `own` classes."""
    if not found or found[1:] != usual[1:] or usual[0] % own or found[0] * own % usual[0]:
        return None
    return found[0] * own // usual[0] or None


@lru_cache(maxsize=512)
def _shapes(name: str, **options: Any) -> dict[str, tuple[int, ...]]:
    """The keys and shapes of a model but for the counters of batch norms."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                model = construct_model(name, **options)
        except NotImplementedError:  # that of RegNet reads values that it computes
            with _MetaEmpty():
                model = construct_model(name, **options)
    return {key: tuple(value.shape) for key, value in model.state_dict().items() if not key.endswith(_COUNTER)}


class _MetaEmpty(TorchFunctionMode):
    """Within the block, only `torch.empty` gives tensors without memory: what a builder computes has values."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.empty:
            kwargs = {**(kwargs or {}), "device": "meta"}
        return func(*args, **(kwargs or {}))


def update_key_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state_dict with the names of today: published DenseNets have ``norm.1`` where the code has ``norm1``."""
    return {re.sub(r"(\.denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key): v for key, v in state.items()}


def describe_mismatch(name: str, state: Mapping[str, Tensor]) -> str:
    """How many keys of a state_dict fit a model, and which do not."""
    shapes = _shapes(name)
    fit = [key for key in shapes if key in state and tuple(state[key].shape) == shapes[key]]
    missing = next((key for key in shapes if key not in state), None)
    extra = next((key for key in state if key not in shapes and not key.endswith(_COUNTER)), None)
    other = next((key for key in shapes if key in state and tuple(state[key].shape) != shapes[key]), None)
    said = [f"{len(fit)} of {len(shapes)} keys fit"]
    said += [f"missing {missing}"] if missing else []
    said += [f"not part of it {extra}"] if extra else []
    said += [f"{other} is {tuple(state[other].shape)}, not {shapes[other]}"] if other else []
    return "; ".join(said)
