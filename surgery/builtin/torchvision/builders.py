"""torchvision's builders of models, the weights that it publishes, and the preprocessing that they require."""

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
    """Return a model as torchvision builds it. With `weights` None, they are random and nothing is downloaded."""
    from torchvision import models

    # Otherwise these two initialize with scipy's slow sampler, and warn that this will change.
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = weights is None
    if name in models_with_backbone():
        options["weights_backbone"] = None
    model: nn.Module = models.get_model(name, weights=weights, **options)
    return model


def with_state_dict_version(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state_dict with the version of the current code, without which MNASNet refuses it."""
    current = OrderedDict(state)
    current._metadata = {"": {"version": 2}}  # type: ignore[attr-defined]  # noqa: SLF001 - where torch keeps it
    return current


class LocalWeights:
    """Published weights of torchvision whose values come from a local file.

    A builder of torchvision asks its weights how to build the model for them, and then lets them download and unpickle
    themselves. Here they return a state_dict that was read before. A builder only accepts weights of the class that it
    knows, so `__class__` is that of the published weights.
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
        """Return the state_dict; the arguments are a builder's options for a download."""
        return with_state_dict_version(self._state)


def with_preprocessing(model: nn.Module, member: Any) -> nn.Module:
    """Return the model, with the attribute `preprocessing` if published weights `member` define one for images."""
    if (own := _preprocessing(member)) is not None:
        model.preprocessing = own  # type: ignore[assignment]
    return model


def _preprocessing(member: Any) -> Preprocessing | None:
    """Return the preprocessing that published weights define; None if their input is not one image."""
    settings = getattr(member, "transforms", None)
    if getattr(getattr(settings, "func", None), "__name__", None) not in (
        "ImageClassification",
        "SemanticSegmentation",
    ):
        return None
    transforms: Any = settings()  # type: ignore[misc]
    resized = transforms.resize_size[0]
    side = transforms.crop_size[0] if hasattr(transforms, "crop_size") else resized
    return Preprocessing(
        (side, side), tuple(transforms.mean), tuple(transforms.std), side / resized, transforms.interpolation.value
    )


@cache
def models_with_backbone() -> frozenset[str]:
    """Return the models for segmentation and detection, whose builders download weights of backbones by default."""
    from torchvision import models

    return frozenset((*models.list_models(models.segmentation), *models.list_models(models.detection)))


def is_detector(name: str) -> bool:
    """Return whether a model is one for detection."""
    from torchvision import models

    return name in models.list_models(models.detection)


def published_weights(name: str) -> dict[str, Any]:
    """Return the published weights of a model, by name."""
    from torchvision import models

    return {**models.get_model_weights(name).__members__}


def cache_path(member: Any) -> Path:
    """Return the path at which torch stores these weights when they are downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / str(member.url).rpartition("/")[2]
