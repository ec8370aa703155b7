"""Why the keys of a state_dict fit no known architecture, and which architecture comes nearest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from surgery.models.checkpoints.pix2pix_recognition import label
from surgery.models.pix2pix.patchgan import PatchGAN, PixelGAN
from surgery.models.pix2pix.resnet import ResNet
from surgery.models.pix2pix.state_dicts import to_public
from surgery.models.pix2pix.unet import UNet
from surgery.text import abbreviate_list, format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from surgery.models.pix2pix.state_dicts import Network

_OTHER_PROJECTS = {
    (r"down1\.model\.0\.weight",): "PyTorch-GAN's GeneratorUNet",
    (r"model1\.\d|model1_1\.",): "pix2pixHD's LocalEnhancer",
    (r"scale0_layer0\.",): "pix2pixHD's MultiscaleDiscriminator",
    (r"model\.10\.weight", r"model\.1\d\.conv_block\."): "pix2pixHD's GlobalGenerator",
}
"""Networks that are not built in, by patterns that all occur among their keys."""
_FSDP_SHARD = "_flat_param"
"""The last part of the keys of FSDP's shards, in which parameters have no names and shapes of their own."""


def describe_nearest(state: Mapping[str, Tensor]) -> str:
    """Return what the keys of a state_dict are, or how many of them fit the nearest known architecture."""
    if any(name.rpartition(".")[2] == _FSDP_SHARD for name in state):
        return "these are shards of FSDP, whose parameters have no names; save a full state_dict (FULL_STATE_DICT)"
    for patterns, network in _OTHER_PROJECTS.items():
        if all(any(re.match(pattern, key) for key in state) for pattern in patterns):
            return f"these are the keys of {network}, which is not built in; load it as package.module:callable"
    names = set(state)
    nearest, greatest_share = None, 0.0
    for model in _candidates():
        for keys in (set(to_public(model)), set(model.state_dict())):
            share = len(names & keys) / len(names | keys)
            if share > greatest_share:
                nearest, greatest_share = (model, keys), share
    if nearest is None:
        shown = abbreviate_list(sorted(names))
        return f"its keys ({shown}) fit no known architecture; load it as package.module:callable"
    model, keys = nearest
    missing, unexpected = sorted(keys - names), sorted(names - keys)
    common = f"{len(keys & names)} of {format_count(len(keys), 'key')}"
    return (
        f"fits no known architecture; the nearest is {label(model)}, of which it has {common}"
        + (f"; missing {abbreviate_list(missing)}" if missing else "")
        + (f"; unexpected {abbreviate_list(unexpected)}" if unexpected else "")
    )


def _candidates() -> Iterator[Network]:
    builders: list[Callable[..., Network]] = [
        lambda norm: UNet(7, norm=norm),
        lambda norm: UNet(8, norm=norm),
        lambda norm: ResNet(6, norm=norm),
        lambda norm: ResNet(9, norm=norm),
        lambda norm: ResNet(9, norm=norm, dropout=False),
        lambda norm: PatchGAN(3, norm=norm),
        lambda norm: PatchGAN(5, norm=norm),
        lambda norm: PixelGAN(norm=norm),
    ]
    with torch.device("meta"):
        for build in builders:
            for norm in ("batch", "instance", "none"):
                yield build(norm)
