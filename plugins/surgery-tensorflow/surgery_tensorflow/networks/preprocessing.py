"""How images become inputs of TensorFlow's networks: resized without regard to their proportions, to [-1, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.stages import Preprocessing

if TYPE_CHECKING:
    from surgery.stages import Interpolation, PairSide
    from surgery_tensorflow.networks.patchgan import PatchGAN
    from surgery_tensorflow.networks.unet import UNet


def build_preprocessing(
    network: UNet | PatchGAN, interpolation: Interpolation, *, pair_side: PairSide = "none", lightness: bool = False
) -> Preprocessing | None:
    """Return the preprocessing of a network; None for one whose channels are not those of images.

    A `pair_side` of both halves is for a network that takes two images, as channels; if its channels are those of one
    image, there is no side.
    """
    halves = len(pair_side.split(","))
    channels = network.in_channels // halves
    if network.in_channels in (1, 3):
        channels, pair_side = network.in_channels, pair_side if halves == 1 else "none"
    elif channels not in (1, 3) or network.in_channels % halves:
        return None
    return Preprocessing(
        size=(network.size, network.size),
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
        interpolation=interpolation,
        stretch=True,
        pair_side=pair_side,
        lightness=lightness,
    )
