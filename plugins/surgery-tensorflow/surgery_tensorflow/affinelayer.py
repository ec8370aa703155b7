"""The networks of github.com/affinelayer/pix2pix-tensorflow, for TensorFlow 1.

Activations stand before the convolutions of the generator, and there are norms in its innermost levels too. The norms
use the statistics of the batch at test time as well. Two forms of the code are known: that of 2017, with variables
``conv/filter``, ``deconv/filter``, ``batchnorm/scale`` and no biases, and the later one, with layers of `tf.layers`,
which may be separable.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import nn

from surgery_tensorflow.layer_kinds import StoredConvolution, identify_convolution, identify_norm
from surgery_tensorflow.networks import BatchNorm2d, Block, PatchGAN, UNet, build_preprocessing
from surgery_tensorflow.stored_values import StoredLayer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery_tensorflow.layer_kinds import StoredNorm
    from surgery_tensorflow.stored_values import StoredModel

SLOPE, EPSILON = 0.2, 1e-5
BATCH_STATISTICS = "its norms use the statistics of each batch, in eval mode too, as the code of this network does"
"""A note for the viewer of pictures."""
_KERNEL = (4, 4)


@dataclass(frozen=True, slots=True)
class _Level:
    """A convolution with its norm. A separable one has a `depthwise` part, whose channels `conv` combines."""

    conv: StoredConvolution
    norm: StoredNorm | None
    depthwise: StoredConvolution | None = None

    @property
    def stored_inputs(self) -> int:
        return (self.depthwise or self.conv).shape[2]


def match_unet(model: StoredModel) -> tuple[list[_Level], list[_Level]] | None:
    """Return the levels of a generator's encoder from the outermost inward, and of its decoder; None for others."""
    encoder, decoder = _find_levels(model, "encoder"), _find_levels(model, "decoder")
    if len(encoder) < 2 or len(encoder) != len(decoder):
        return None
    widths = [level.conv.shape[3] for level in encoder]
    outputs = [_outputs(level) for level in decoder]
    inputs = [one + other for one, other in zip(widths[:-1], outputs[1:], strict=True)] + [widths[-1]]
    fits = (
        [level.stored_inputs for level in encoder[1:]] == widths[:-1]
        and [_inputs(level) for level in decoder] == inputs
        and all(
            _norm_fits(level, width) for level, width in zip((*encoder, *decoder), (*widths, *outputs), strict=True)
        )
    )
    return (encoder, decoder) if fits else None


def match_patchgan(model: StoredModel) -> list[_Level] | None:
    """Return the layers of a discriminator, the score last; None for another model."""
    levels = _find_levels(model, "layer")
    widths = [level.conv.shape[3] for level in levels]
    if len(levels) < 3 or any(level.depthwise for level in levels) or widths[-1] != 1:
        return None
    fits = [level.conv.shape[2] for level in levels[1:]] == widths[:-1] and all(map(_norm_fits, levels, widths))
    return levels if fits else None


def build_unet(encoder: list[_Level], decoder: list[_Level]) -> UNet:
    """Return affinelayer's generator for stored levels, without values."""
    downs = [
        Block({"act": nn.LeakyReLU(SLOPE) if number else None, "conv": _conv(level, 2), "norm": _norm(level)})
        for number, level in enumerate(encoder)
    ]
    depth = len(decoder)
    ups = []
    for number, level in reversed(list(enumerate(decoder, 1))):
        modules: dict[str, nn.Module | None] = {"act": nn.ReLU()}
        if level.depthwise is not None:
            modules |= {"upsample": nn.Upsample(scale_factor=2), "conv": _conv(level, 1)}
        else:
            bias = level.conv.bias is not None
            modules["deconv"] = nn.ConvTranspose2d(_inputs(level), _outputs(level), _KERNEL, 2, 1, bias=bias)
        modules["norm"] = _norm(level)
        modules["dropout"] = nn.Dropout(0.5) if number > max(1, depth - 3) else None
        modules["tanh"] = nn.Tanh() if number == 1 else None
        ups.append(Block(modules))
    network = UNet(downs, ups, encoder[0].stored_inputs)
    # The code colors images if it has one channel in and two out: those of Lab, the lightness and its colors.
    is_lab = (network.in_channels, _outputs(decoder[0])) == (1, 2)
    network.preprocessing = build_preprocessing(network, "box", lightness=is_lab)
    return network


def build_patchgan(levels: list[_Level]) -> PatchGAN:
    """Return affinelayer's discriminator for stored layers, without values."""
    *inner, last = levels
    blocks = [
        Block(
            {
                "conv": _conv(level, 1 if number == len(inner) - 1 else 2),
                "norm": _norm(level),
                "act": nn.LeakyReLU(SLOPE),
            }
        )
        for number, level in enumerate(inner)
    ]
    return PatchGAN(blocks, _conv(last, 1), levels[0].stored_inputs, sigmoid=True)


def named_layers(
    levels: list[_Level], template: str, conv: str
) -> Iterator[tuple[str, StoredConvolution | StoredNorm]]:
    """Yield the path of each module with weights in the network, with its stored layer.

    `template` is the path of a level by its number, and `conv` the name of its convolution.
    """
    for number, level in enumerate(levels, 1):
        place = template.format(number)
        if level.depthwise is not None:
            yield f"{place}.conv.depthwise", level.depthwise
            yield f"{place}.conv.pointwise", level.conv
        else:
            yield f"{place}.{conv}" if conv else place, level.conv
        if level.norm is not None:
            yield f"{place}.norm", level.norm


def _find_levels(model: StoredModel, name: str) -> list[_Level]:
    """Return the levels of a part of a model, from number 1 on without a gap; none if they are of another kind."""
    by_number: dict[int, list[StoredLayer]] = {}
    for layer in model.layers:
        if match := re.match(rf"(?:{model.name}/)?{name}_(\d{{1,3}})/", f"{layer.path}/"):
            by_number.setdefault(int(match[1]), []).append(layer)
    levels = [_identify_level(by_number.get(number, [])) for number in range(1, len(by_number) + 1)]
    known = [level for level in levels if level is not None]
    return known if len(known) == len(levels) else []


def _identify_level(layers: list[StoredLayer]) -> _Level | None:
    convs = [conv for layer in layers if (conv := identify_convolution(layer)) is not None]
    norms = [norm for layer in layers if (norm := identify_norm(layer)) is not None and norm.kind == "batch"]
    norms += [norm for layer in layers if (norm := identify_norm(layer)) is not None and norm.kind == "instance"]
    depthwise = None
    for layer in layers:
        parts = layer.variables
        if {"depthwise_kernel", "pointwise_kernel"} <= set(parts):
            pointwise = {"kernel": parts["pointwise_kernel"]} | {k: v for k, v in parts.items() if k == "bias"}
            depthwise = identify_convolution(StoredLayer(layer.path, {"kernel": parts["depthwise_kernel"]}))
            convs = [conv for each in (StoredLayer(layer.path, pointwise),) if (conv := identify_convolution(each))]
    if len(convs) != 1 or len(norms) > 1 or len(layers) != 1 + len(norms):
        return None
    conv = convs[0]
    if (depthwise or conv).shape[:2] != _KERNEL:
        return None
    if depthwise is not None:
        if conv.shape[:3] != (1, 1, depthwise.shape[2]) or depthwise.shape[3] != 1:
            return None
        depthwise = replace(depthwise, is_depthwise=True)
    return _Level(conv, norms[0] if norms else None, depthwise)


def _outputs(level: _Level) -> int:
    """Return the channels that a level of the decoder gives, whose kernels are those of transposed convolutions."""
    return level.conv.shape[2 if level.depthwise is None else 3]


def _inputs(level: _Level) -> int:
    """Return the channels that a level of the decoder takes."""
    return level.conv.shape[3] if level.depthwise is None else level.depthwise.shape[2]


def _norm_fits(level: _Level, width: int) -> bool:
    return level.conv.bias_size in (None, width) and (level.norm is None or level.norm.channels == width)


def _conv(level: _Level, stride: int) -> nn.Module:
    bias = level.conv.bias is not None
    _, _, inputs, outputs = level.conv.shape
    if level.depthwise is None:
        return nn.Conv2d(inputs, outputs, _KERNEL, stride, 1, bias=bias)
    # With stride 1, TensorFlow pads by 1 before and by 2 behind.
    pad = nn.ZeroPad2d((1, 2, 1, 2)) if stride == 1 else None
    depthwise = nn.Conv2d(inputs, inputs, _KERNEL, stride, 0 if pad else 1, groups=inputs, bias=False)
    return Block({"pad": pad, "depthwise": depthwise, "pointwise": nn.Conv2d(inputs, outputs, 1, bias=bias)})


def _norm(level: _Level) -> BatchNorm2d | None:
    return BatchNorm2d(level.norm.channels, EPSILON, track_running_stats=False) if level.norm else None
