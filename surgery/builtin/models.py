"""The models that come with the project: pix2pix's networks, the trained demo weights, torchvision's models."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from surgery.data import weights
from surgery.stages import ModelFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from surgery.stages import CheckpointReader, ModelFactory


def _build_pix2pix(name: str, **options: Any) -> nn.Module:
    """Return a network of pix2pix with random weights."""
    from surgery.models import pix2pix

    network: nn.Module = getattr(pix2pix, name)(**options)
    return network


def _load_shipped(name: str) -> nn.Module:
    from surgery.models import load_checkpoint

    return load_checkpoint(weights(name))


def _import_when_called(name: str) -> Callable[..., Any]:
    """Return a function of `surgery.builtin.torchvision`, imported at its first call, since this imports torch."""

    def call(*arguments: Any) -> Any:
        from surgery.builtin import torchvision

        return getattr(torchvision, name)(*arguments)

    return call


def _recognize_pix2pix(path: Path, state: Mapping[str, Tensor]) -> nn.Module | None:
    """Generators and discriminators of pix2pix, under the public keys or ours."""
    from surgery.models import recognize_pix2pix

    return recognize_pix2pix(path, state)


def _recognize_torchvision(path: Path, state: Mapping[str, Tensor]) -> nn.Module | None:
    """Torchvision's models for classification, segmentation and detection, under its own keys."""
    from surgery.builtin.torchvision import recognize

    return recognize(path, state)


CHECKPOINTS: dict[str, CheckpointReader] = {"pix2pix": _recognize_pix2pix, "torchvision": _recognize_torchvision}

MODELS: dict[str, ModelFactory | ModelFamily] = {
    "facades": partial(_load_shipped, "facades"),
    "facades_1000": partial(_load_shipped, "facades-1000"),
    "facades_300": partial(_load_shipped, "facades-300"),
    "facades_100": partial(_load_shipped, "facades-100"),
    "facades_discriminator": partial(_load_shipped, "facades-discriminator"),
    "unet_128": partial(_build_pix2pix, "UNet", depth=7),
    "unet_256": partial(_build_pix2pix, "UNet", depth=8),
    "resnet_6blocks": partial(_build_pix2pix, "ResNet", blocks=6),
    "resnet_9blocks": partial(_build_pix2pix, "ResNet", blocks=9),
    "patchgan_basic": partial(_build_pix2pix, "PatchGAN", depth=3),
    "patchgan_n_layers": partial(_build_pix2pix, "PatchGAN", depth=5),
    "patchgan_pixel": partial(_build_pix2pix, "PixelGAN"),
    "torchvision": ModelFamily(*map(_import_when_called, ("build", "list_models", "suggest_trained_weights"))),
}
