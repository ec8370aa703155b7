"""The models that `benchmarks.truth` examines: small, with random weights, nothing is downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.zoo import diffusers, monai, retyped, smp, timm, torchvision, transformers
from benchmarks.zoo.zoo_model import ZooModel

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ZooModel", "list_models"]


def list_models() -> Iterator[ZooModel]:
    """Yield every model of torchvision and of segmentation_models_pytorch, and small ones of the other libraries.

    Whether a library is installed makes no difference: `ZooModel.missing_package` says so.
    """
    for zoo in (torchvision, timm, smp, transformers, diffusers, monai, retyped):
        yield from zoo.list_models()
