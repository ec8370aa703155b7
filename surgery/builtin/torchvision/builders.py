"""How torchvision's models are built, and what it publishes weights of."""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from surgery.stages import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn


def construct_model(name: str, weights: Any = None, **options: Any) -> nn.Module:
    """A model as torchvision builds it, for some of its weights or with random ones; nothing is downloaded for None."""
    from torchvision import models

    # Without this, these two draw their weights from scipy's slow sampler, and warn that they will not for ever.
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = weights is None
    if name in models_with_backbone():
        options["weights_backbone"] = None
    model: nn.Module = models.get_model(name, weights=weights, **options)
    return model


def with_state_dict_version(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state_dict as one of today's code: MNASNet refuses what does not say so."""
    current = OrderedDict(state)
    current._metadata = {"": {"version": 2}}  # type: ignore[attr-defined]  # noqa: SLF001 - where torch keeps it
    return current


class LocalWeights:
    """Published weights of torchvision, read from a file here.

    A builder of torchvision asks the weights that it is given how to build the model for them, and to fetch
    themselves, which downloads, and unpickles whatever the file says. It accepts what is of the class of these weights.
    """

    def __init__(self, member: Any, state: Mapping[str, Tensor]) -> None:
        self._member = member
        self._state = state

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._member)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._member, name)

    def __eq__(self, other: object) -> bool:
        return bool(self._member == other)

    def __hash__(self) -> int:
        return hash(self._member)

    def get_state_dict(self, *_arguments: Any, **_options: Any) -> dict[str, Tensor]:
        """What the file holds; a builder asks for it with options of a download."""
        return with_state_dict_version(self._state)


def with_preprocessing(model: nn.Module, member: Any) -> nn.Module:
    """The model, which says that it is given images as published weights want them; as it was where they do not say."""
    if (own := _preprocessing(member)) is not None:
        model.preprocessing = own  # type: ignore[assignment]
    return model


def _preprocessing(member: Any) -> Preprocessing | None:
    """What torchvision gives a model with these weights; None where they do not take one image."""
    settings = getattr(member, "transforms", None)
    if getattr(getattr(settings, "func", None), "__name__", None) not in (
        "ImageClassification",
        "SemanticSegmentation",
    ):
        return None
    told: Any = settings()  # type: ignore[misc]
    around = told.resize_size[0]
    side = told.crop_size[0] if hasattr(told, "crop_size") else around
    return Preprocessing((side, side), tuple(told.mean), tuple(told.std), side / around, told.interpolation.value)


@cache
def models_with_backbone() -> frozenset[str]:
    """The models for segmentation and detection, whose builders would download weights for their backbones."""
    from torchvision import models

    return frozenset((*models.list_models(models.segmentation), *models.list_models(models.detection)))


def is_detector(name: str) -> bool:
    """Whether a model finds boxes."""
    from torchvision import models

    return name in models.list_models(models.detection)


def published_weights(name: str) -> dict[str, Any]:
    """The published weights of a model, by name."""
    from torchvision import models

    return {**models.get_model_weights(name).__members__}


def cache_path(member: Any) -> Path:
    """Where torch keeps these weights once they were downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / str(member.url).rpartition("/")[2]
