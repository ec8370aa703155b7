"""Every architecture of segmentation_models_pytorch, and its Unet on an encoder of each family."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.zoo.zoo_model import ZooModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

_PACKAGES = ("segmentation_models_pytorch",)


def list_models() -> Iterator[ZooModel]:
    """Yield each architecture, on a small encoder; a Unet on each family of encoders, and with a classifier."""
    for name in ARCHITECTURES.split():
        encoder = "tu-vit_tiny_patch16_224" if name == "DPT" else "resnet18"
        size = {"DPT": 224, "PAN": 128}.get(name, 64)
        yield ZooModel("segmentation_models_pytorch", name, partial(_build, name, encoder), (3, size, size), _PACKAGES)
    for encoder in ENCODERS.split():
        yield ZooModel(
            "segmentation_models_pytorch", f"Unet-{encoder}", partial(_build, "Unet", encoder), (3, 64, 64), _PACKAGES
        )
    factory = partial(_build, "Unet", "resnet18", decoder_attention_type="scse", aux_params={"classes": 2})
    yield ZooModel("segmentation_models_pytorch", "Unet-classifier", factory, (3, 64, 64), _PACKAGES)


def _build(name: str, encoder: str, **options: Any) -> nn.Module:
    import segmentation_models_pytorch as smp

    model: nn.Module = getattr(smp, name)(encoder_name=encoder, encoder_weights=None, **options)
    return model


ARCHITECTURES = "Unet UnetPlusPlus MAnet Linknet FPN PSPNet DeepLabV3 DeepLabV3Plus PAN UPerNet Segformer DPT"

ENCODERS = """
    resnext50_32x4d dpn68 vgg11_bn se_resnet50 densenet121 inceptionresnetv2 inceptionv4 efficientnet-b0 mobilenet_v2
    xception timm-efficientnet-b0 timm-tf_efficientnet_lite0 timm-skresnet18 mit_b0 mobileone_s0
"""
