"""The models that come with the project: pix2pix's networks, the trained one that ships, torchvision's."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from surgery.data import weights
from surgery.errors import ModelError, did_you_mean
from surgery.types import ModelFamily, Preprocessing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from surgery.types import CheckpointReader, ModelFactory


def _network(name: str, **options: Any) -> nn.Module:
    """A network of pix2pix with random weights."""
    import surgery.pix2pix

    network: nn.Module = getattr(surgery.pix2pix, name)(**options)
    return network


def _shipped(name: str) -> nn.Module:
    from surgery.checkpoints import load_checkpoint

    return load_checkpoint(weights(name))


def _torchvision(name: str) -> nn.Module:
    """A torchvision model with random weights."""
    from torchvision import models

    if name not in models.list_models():
        raise ModelError(f"torchvision has no model {name!r}{did_you_mean(name, models.list_models())}")
    # Without this, these two draw their weights from scipy's slow sampler, and warn that they will not for ever.
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    whole = {"weights_backbone": None} if "/" not in name and name in _with_backbone() else {}
    model: nn.Module = models.get_model(name, weights=None, **options, **whole)
    if (own := _preprocessing(name)) is not None:
        model.preprocessing = own  # type: ignore[assignment]
    return model


def _preprocessing(name: str) -> Preprocessing | None:
    """What torchvision gives a model of this name, as its weights say; None where those do not take one image."""
    from torchvision import models

    settings = getattr(getattr(models.get_model_weights(name), "DEFAULT", None), "transforms", None)
    if getattr(getattr(settings, "func", None), "__name__", None) not in (
        "ImageClassification",
        "SemanticSegmentation",
    ):
        return None
    told: Any = settings()  # type: ignore[misc]
    around = told.resize_size[0]
    side = told.crop_size[0] if hasattr(told, "crop_size") else around
    return Preprocessing((side, side), tuple(told.mean), tuple(told.std), side / around, told.interpolation.value)


def _with_backbone() -> Sequence[str]:
    from torchvision import models

    return [*models.list_models(models.segmentation), *models.list_models(models.detection)]


def _torchvision_names() -> Sequence[str]:
    from torchvision import models

    names: Sequence[str] = models.list_models()
    return names


def _pix2pix(path: Path, state: Mapping[str, Tensor]) -> nn.Module | None:
    """Generators and discriminators of pix2pix, in the public layout or in ours."""
    from surgery.checkpoints import read_pix2pix

    return read_pix2pix(path, state)


CHECKPOINTS: dict[str, CheckpointReader] = {"pix2pix": _pix2pix}

MODELS: dict[str, ModelFactory | ModelFamily] = {
    "facades": partial(_shipped, "facades"),
    "facades_1000": partial(_shipped, "facades-1000"),
    "facades_300": partial(_shipped, "facades-300"),
    "facades_100": partial(_shipped, "facades-100"),
    "facades_discriminator": partial(_shipped, "facades-discriminator"),
    "unet_128": partial(_network, "UNet", depth=7),
    "unet_256": partial(_network, "UNet", depth=8),
    "resnet_6blocks": partial(_network, "ResNet", blocks=6),
    "resnet_9blocks": partial(_network, "ResNet", blocks=9),
    "patchgan_basic": partial(_network, "PatchGAN", depth=3),
    "patchgan_n_layers": partial(_network, "PatchGAN", depth=5),
    "patchgan_pixel": partial(_network, "PixelGAN"),
    "torchvision": ModelFamily(_torchvision, _torchvision_names),
}
