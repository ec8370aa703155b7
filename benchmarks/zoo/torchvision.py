"""Every model that torchvision lists, on small inputs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from unittest import mock

from benchmarks.zoo.inputs import Drawn, Listed
from benchmarks.zoo.zoo_model import ZooModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


def list_models() -> Iterator[ZooModel]:
    """Yield every model that torchvision lists, and those of its quantization also in int8."""
    from torchvision import models

    for zoo, names in (
        ("torchvision.classification", models.list_models(models)),
        ("torchvision.segmentation", models.list_models(models.segmentation)),
        ("torchvision.video", models.list_models(models.video)),
        ("torchvision.quantization", models.list_models(models.quantization)),
    ):
        for name in names:
            yield ZooModel(zoo, name, partial(_torchvision, name), _shape(name))
    for name in models.list_models(models.detection):
        takes: tuple[object, ...] = (Listed(Drawn(_shape(name))),)
        yield ZooModel("torchvision.detection", name, partial(_torchvision, name), takes=takes)
    for name in models.list_models(models.optical_flow):
        takes = (Drawn(_shape(name)), Drawn(_shape(name)))
        yield ZooModel("torchvision.optical_flow", name, partial(_torchvision, name), takes=takes)
    for name in models.list_models(models.quantization):
        yield ZooModel("torchvision.int8", f"{name}_int8", partial(_torchvision, name, quantize=True), _shape(name))


def _torchvision(name: str, **options: Any) -> nn.Module:
    from torchvision import models

    if "inception" in name or "googlenet" in name:
        options["init_weights"] = False
    if name.startswith("vit_"):
        options["image_size"] = _shape(name)[1]
    if name in models.list_models(models.segmentation) + models.list_models(models.detection):
        options["weights_backbone"] = None
    if name in models.list_models(models.detection) and not name.startswith("ssd"):
        options |= {"min_size": 128, "max_size": 256}  # they resize images to 800 pixels otherwise
    if name.startswith("mvit_"):
        return _small_mvit(name)
    model: nn.Module = models.get_model(name, weights=None, **options)
    return model


def _small_mvit(name: str) -> nn.Module:
    """Build a model for videos of the size `_shape`: torchvision's own function fixes 16 frames of 224 x 224."""
    from torchvision.models.video import mvit

    _, frames, *spatial = _shape(name)
    build = mvit._mvit  # noqa: SLF001

    def smaller(*args: Any, **options: Any) -> Any:
        return build(*args, **{**options, "spatial_size": tuple(spatial), "temporal_size": frames})

    with mock.patch.object(mvit, "_mvit", smaller):
        model: nn.Module = getattr(mvit, name)(weights=None)
    return model


def _shape(name: str) -> tuple[int, ...]:
    """Return about the smallest input that a model takes; the largest models get 32 pixels."""
    first = name.removeprefix("quantized_").partition("_")[0]
    return {
        "alexnet": (3, 64, 64),
        "inception": (3, 299, 299),
        "maxvit": (3, 224, 224),
        "vgg11": (3, 32, 32),
        "vgg13": (3, 32, 32),
        "vgg16": (3, 32, 32),
        "vgg19": (3, 32, 32),
        "regnet": (3, 32, 32),
        "s3d": (3, 13, 209, 209),
        "mc3": (3, 4, 32, 32),
        "r3d": (3, 4, 32, 32),
        "r2plus1d": (3, 4, 32, 32),
        "swin3d": (3, 4, 32, 32),
        "mvit": (3, 4, 64, 64),
        "raft": (3, 128, 128),
    }.get(first, (3, 56, 56) if name == "vit_h_14" else (3, 64, 64))
