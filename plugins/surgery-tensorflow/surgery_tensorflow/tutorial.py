"""The networks of TensorFlow's pix2pix tutorial, which is also its module of examples for pix2pix and CycleGAN.

tensorflow.org/tutorials/generative/pix2pix and github.com/tensorflow/examples, tensorflow_examples/models/pix2pix.
Convolutions have no bias but for the last; then come a norm and an activation, and dropout before it in the first three
levels of the decoder. Weights alone do not tell the slope of the LeakyReLUs and the epsilon of the norms: these are
Keras' defaults unless the file describes the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from surgery_tensorflow.networks import BatchNorm2d, Block, InstanceNorm2d, PatchGAN, UNet, build_preprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery_tensorflow.layer_kinds import StoredConvolution, StoredNorm
    from surgery_tensorflow.stored_values import Settings

MOMENTUM = 0.01
"""PyTorch's momentum for Keras' 0.99."""
_KERNEL = (4, 4)


@dataclass(frozen=True, slots=True)
class UNetLayers:
    """The layers of a U-Net: `downs` and `ups` in the order in which they run, each with its norm or None."""

    downs: tuple[tuple[StoredConvolution, StoredNorm | None], ...]
    ups: tuple[tuple[StoredConvolution, StoredNorm | None], ...]


def match_unet(convolutions: Sequence[StoredConvolution], norms: Sequence[StoredNorm]) -> UNetLayers | None:
    """Return which layers are which in the tutorial's U-Net; None if their shapes are not those of one."""
    depth = len(convolutions) // 2
    if depth < 2 or len(convolutions) % 2 or len(norms) not in (0, 2 * depth - 2):
        return None
    transposed = ["transpose" in each.path.lower() for each in convolutions]
    if any(transposed):
        downs = [each for each, is_transposed in zip(convolutions, transposed, strict=True) if not is_transposed]
        ups = [each for each, is_transposed in zip(convolutions, transposed, strict=True) if is_transposed]
    else:
        downs, ups = list(convolutions[:depth]), list(convolutions[depth:])
    ups.sort(
        key=lambda each: each.bias is not None and not all(up.bias is not None for up in ups)
    )  # the last is biased
    if len(downs) != depth or len(ups) != depth:
        return None
    widths = [down.shape[3] for down in downs]
    inputs = [downs[0].shape[2], *widths[:-1]]
    outputs = [up.shape[2] for up in ups]
    ups_inputs = [widths[-1], *(one + other for one, other in zip(outputs, reversed(widths[:-1]), strict=False))]
    missing: list[StoredNorm | None] = [None] * (depth - 1)
    down_norms = [None, *(norms[: depth - 1] or missing)]
    up_norms = [*(norms[depth - 1 :] or missing), None]
    fits = (
        all(each.shape[:2] == _KERNEL for each in convolutions)
        and [down.shape[2] for down in downs] == inputs
        and [up.shape[3] for up in ups] == ups_inputs
        and all(each.bias_size in (None, size) for each, size in zip((*downs, *ups), (*widths, *outputs), strict=True))
        and _norms_fit(down_norms, widths)
        and _norms_fit(up_norms, outputs)
    )
    if not fits:
        return None
    return UNetLayers(tuple(zip(downs, down_norms, strict=True)), tuple(zip(ups, up_norms, strict=True)))


def match_patchgan(
    convolutions: Sequence[StoredConvolution], norms: Sequence[StoredNorm]
) -> tuple[tuple[StoredConvolution, StoredNorm | None], ...] | None:
    """Return the layers of the tutorial's PatchGAN with their norms, the score last; None if shapes are of no one."""
    count = len(convolutions)
    if count < 3 or len(norms) not in (0, count - 2):
        return None
    widths = [each.shape[3] for each in convolutions]
    missing: list[StoredNorm | None] = [None] * (count - 2)
    found = [None, *(norms or missing), None]
    fits = (
        all(each.shape[:2] == _KERNEL and "transpose" not in each.path.lower() for each in convolutions)
        and [each.shape[2] for each in convolutions[1:]] == widths[:-1]
        and all(each.bias_size in (None, size) for each, size in zip(convolutions, widths, strict=True))
        and widths[-1] == 1
        and _norms_fit(found, widths)
    )
    return tuple(zip(convolutions, found, strict=True)) if fits else None


def build_unet(layers: UNetLayers, settings: Settings) -> UNet:
    """Return the tutorial's U-Net for stored layers, without values."""
    downs = [
        Block({"conv": _conv(conv, 2, 1), "norm": _norm(norm, settings), "act": nn.LeakyReLU(settings.slope)})
        for conv, norm in layers.downs
    ]
    ups = []
    for number, (conv, norm) in enumerate(layers.ups):
        _, _, outputs, inputs = conv.shape
        deconv = nn.ConvTranspose2d(inputs, outputs, _KERNEL, 2, 1, bias=conv.bias is not None)
        if number == len(layers.ups) - 1:
            ups.append(Block({"deconv": deconv, "tanh": nn.Tanh()}))
            continue
        rate = settings.dropouts[number] if number < len(settings.dropouts) else 0
        dropout = nn.Dropout(rate) if rate else None
        ups.append(Block({"deconv": deconv, "norm": _norm(norm, settings), "dropout": dropout, "act": nn.ReLU()}))
    network = UNet(downs, ups, layers.downs[0][0].shape[2])
    network.preprocessing = build_preprocessing(network, "nearest", pair_side="right")
    return network


def build_patchgan(layers: Sequence[tuple[StoredConvolution, StoredNorm | None]], settings: Settings) -> PatchGAN:
    """Return the tutorial's PatchGAN for stored layers, without values."""
    *inner, (score, _) = layers
    blocks = [
        Block(
            {
                "conv": _conv(conv, 1 if number == len(inner) - 1 else 2, 1),
                "norm": _norm(norm, settings),
                "act": nn.LeakyReLU(settings.slope),
            }
        )
        for number, (conv, norm) in enumerate(inner)
    ]
    network = PatchGAN(blocks, _conv(score, 1, 1), layers[0][0].shape[2])
    network.multiple = 2 ** (len(inner) - 1)
    network.preprocessing = build_preprocessing(network, "nearest", pair_side="right,left")
    return network


def _norms_fit(norms: Sequence[StoredNorm | None], widths: Sequence[int]) -> bool:
    return all(norm is None or norm.channels == width for norm, width in zip(norms, widths, strict=True))


def _conv(stored: StoredConvolution, stride: int, padding: int) -> nn.Conv2d:
    _, _, inputs, outputs = stored.shape
    return nn.Conv2d(inputs, outputs, _KERNEL, stride, padding, bias=stored.bias is not None)


def _norm(stored: StoredNorm | None, settings: Settings) -> nn.Module | None:
    if stored is None:
        return None
    if stored.kind == "batch":
        return BatchNorm2d(stored.channels, settings.epsilon or 1e-3, MOMENTUM)
    return InstanceNorm2d(stored.channels, settings.epsilon or 1e-5)
