"""The model classes of diffusers that build small."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.zoo import diffusers_autoencoders, diffusers_transformers, diffusers_unets
from benchmarks.zoo.zoo_model import ZooModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


def list_models() -> Iterator[ZooModel]:
    """Yield a small model of each class: U-Nets, autoencoders, transformers."""
    for zoo, models in (
        ("diffusers.unets", diffusers_unets.MODELS),
        ("diffusers.autoencoders", diffusers_autoencoders.MODELS),
        ("diffusers.transformers", diffusers_transformers.MODELS),
    ):
        for name, (takes, options) in models.items():
            yield ZooModel(zoo, name, partial(_build, name, options), (), ("diffusers",), takes)


def _build(name: str, options: dict[str, Any]) -> nn.Module:
    from diffusers import models

    model: nn.Module = getattr(models, name.partition("-")[0])(**options)
    return model
