"""From a stored model to the network of a known code, with its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from surgery_tensorflow import affinelayer, tutorial
from surgery_tensorflow.keras_config import OtherNetworkError, read_patchgan_settings, read_unet_settings
from surgery_tensorflow.layer_kinds import StoredNorm, split_layers
from surgery_tensorflow.networks import BatchNorm2d, PatchGAN, UNet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

    from surgery_tensorflow.layer_kinds import StoredConvolution
    from surgery_tensorflow.stored_values import Settings, StoredModel


@dataclass(frozen=True, slots=True)
class RecognizedNetwork:
    """A stored model that is a network of a known code."""

    is_generator: bool
    build: Callable[[], nn.Module]
    """Returns the network with its weights. Raises CheckpointError if they can't be read."""
    notes: tuple[str, ...] = ()
    """What viewers of its pictures should know."""


def recognize(model: StoredModel) -> RecognizedNetwork | None:
    """Return the network that a stored model is; None if it is none of a known code.

    Raises OtherNetworkError, which says why, if its shapes are those of one and its description is not.
    """
    if (levels := affinelayer.match_unet(model)) is not None:
        return _affinelayer_unet(*levels)
    if (layers := affinelayer.match_patchgan(model)) is not None:
        places = [*affinelayer.named_layers(layers[:-1], "layer{}", "conv"), ("score", layers[-1].conv)]
        notes = (affinelayer.BATCH_STATISTICS,)
        return RecognizedNetwork(False, lambda: _load(lambda: affinelayer.build_patchgan(layers), places), notes)
    split = split_layers(model.layers)
    if split is None:
        return None
    if (unet := tutorial.match_unet(*split)) is not None:
        return _tutorial_unet(unet, model)
    if (patchgan := tutorial.match_patchgan(*split)) is not None:
        if model.config is not None:
            settings = read_patchgan_settings(model.config, len(patchgan), has_norms=bool(split[1]))
        else:
            settings = _known_settings(model)
        places = [*_places(patchgan[:-1], range(1, len(patchgan)), "layer{}", "conv"), ("score", patchgan[-1][0])]
        return RecognizedNetwork(False, lambda: _load(lambda: tutorial.build_patchgan(patchgan, settings), places))
    return None


def _affinelayer_unet(encoder: list[Any], decoder: list[Any]) -> RecognizedNetwork:
    places = [
        *affinelayer.named_layers(encoder, "down{}", "conv"),
        *affinelayer.named_layers(decoder, "up{}", "deconv"),
    ]

    def build() -> UNet:
        return affinelayer.build_unet(encoder, decoder)

    return RecognizedNetwork(True, lambda: _load(build, places), (affinelayer.BATCH_STATISTICS,))


def _tutorial_unet(layers: tutorial.UNetLayers, model: StoredModel) -> RecognizedNetwork:
    depth = len(layers.downs)
    if model.config is not None:
        settings = read_unet_settings(model.config, depth, has_norms=layers.ups[0][1] is not None)
    else:
        settings = _known_settings(model)
    places = [
        *_places(layers.downs, range(1, depth + 1), "down{}", "conv"),
        *_places(layers.ups, range(depth, 0, -1), "up{}", "deconv"),
    ]
    return RecognizedNetwork(True, lambda: _load(lambda: tutorial.build_unet(layers, settings), places))


def _known_settings(model: StoredModel) -> Settings:
    if model.settings is None:
        raise OtherNetworkError("its program has no LeakyReLU, or several slopes or epsilons")
    return model.settings


def _places(
    layers: Sequence[tuple[StoredConvolution, StoredNorm | None]], numbers: Iterable[int], template: str, conv: str
) -> list[tuple[str, StoredConvolution | StoredNorm]]:
    places: list[tuple[str, StoredConvolution | StoredNorm]] = []
    for number, (convolution, norm) in zip(numbers, layers, strict=True):
        places.append((f"{template.format(number)}.{conv}", convolution))
        if norm is not None:
            places.append((f"{template.format(number)}.norm", norm))
    return places


def _load(build: Callable[[], UNet | PatchGAN], places: Iterable[tuple[str, Any]]) -> nn.Module:
    """Return a network with the weights of the stored layers. Its modules are built without memory for weights."""
    with torch.device("meta"):
        network = build()
    state: dict[str, Tensor] = {}
    for path, layer in places:
        if isinstance(layer, StoredNorm):
            module = network.get_submodule(path)
            tracked = isinstance(module, BatchNorm2d) and module.track_running_stats
            weights = layer.weights(tracked=tracked)
        else:
            weights = layer.weights()
        state |= {f"{path}.{name}": value for name, value in weights}
    network.load_state_dict(state, assign=True)
    return network
