"""State_dicts under the keys of the public pix2pix code, and the architectures that keys and shapes imply.

The public keys are those of github.com/junyanz/pytorch-CycleGAN-and-pix2pix, whose checkpoints are plain state_dicts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias

from surgery.models.pix2pix.patchgan import PatchGAN, PixelGAN
from surgery.models.pix2pix.resnet import ResNet
from surgery.models.pix2pix.unet import UNet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

    from surgery.models.pix2pix.norms import Norm

Network: TypeAlias = UNet | ResNet | PatchGAN | PixelGAN


def to_public(model: Network) -> dict[str, Tensor]:
    """Return the model's state_dict under the public keys, in their order: what the public code saves and loads."""
    names = public_paths(model)
    return {f"{names[module]}.{leaf}": value for (module, leaf), value in _split_keys(model.state_dict())}


def from_public(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return a public state_dict under our keys; None if the keys are not public ones.

    Running statistics of instance norms, which files of 2018 still contain, are left out.
    """
    paths = _match_public_keys(state)
    if paths is None:
        return None
    ours = {public: module for module, public in paths.items()}
    kept = [
        ((module, leaf), value)
        for (module, leaf), value in _split_keys(state)
        if leaf not in ("running_mean", "running_var", "num_batches_tracked") or f"{module}.weight" in state
    ]
    return {f"{ours.get(module, module)}.{leaf}": value for (module, leaf), value in kept}


def public_paths(model: Network) -> dict[str, str]:
    """Return the public path of each module with parameters, by our path."""
    if isinstance(model, UNet):
        return _unet_paths(model.depth)
    if isinstance(model, ResNet):
        return _resnet_paths(len(model.blocks), dropout=model.dropout)
    if isinstance(model, PatchGAN):
        return _patchgan_paths(model.depth)
    return _PIXELGAN_PATHS


def read_architecture(state: Mapping[str, Tensor]) -> tuple[type[Network], dict[str, Any]] | None:
    """Return the class and options of the network with these keys, public or ours; None if there is none.

    Only the public keys of a ResNet show whether there is dropout. Otherwise it is assumed, as the public code does.
    """
    dropout = "model.10.conv_block.5.weight" not in state
    state = from_public(state) or state

    options: dict[str, Any]

    def shape(name: str) -> tuple[int, ...]:
        return tuple(state[name].shape) if name in state else ()

    if len(first := shape("down1.conv.weight")) == 4 and "up1.deconv.weight" in state and "down3.conv.weight" in state:
        depth = _count(state, r"down(\d+)\.conv\.weight")
        options = {"depth": depth, "out_channels": shape("up1.deconv.weight")[1]}
        norm = _norm(state, "down2.conv", "down2.norm")
        return UNet, {**options, "in_channels": first[1], "width": first[0], "norm": norm}
    if len(first := shape("stem.conv.weight")) == 4 and "head.conv.weight" in state:
        options = {
            "blocks": _count(state, r"blocks\.(\d+)\.conv1\.weight"),
            "out_channels": shape("head.conv.weight")[0],
        }
        norm = _norm(state, "stem.conv", "stem.norm")
        return ResNet, {**options, "in_channels": first[1], "width": first[0], "norm": norm, "dropout": dropout}
    if len(first := shape("layer1.conv.weight")) == 4 and "score.weight" in state:
        norm = _norm(state, "layer2.conv", "layer2.norm")
        options = {"in_channels": first[1], "width": first[0], "norm": norm}
        if first[2] == 1:
            return PixelGAN, options
        return PatchGAN, {"depth": _count(state, r"layer(\d+)\.conv\.weight") - 1, **options}
    return None


def _norm(state: Mapping[str, Tensor], conv: str, norm: str) -> Norm:
    if f"{norm}.weight" in state:
        return "batch"
    return "instance" if f"{conv}.bias" in state else "none"


def _count(state: Iterable[str], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in state)


def _split_keys(state: Mapping[str, Tensor]) -> Iterable[tuple[tuple[str, str], Tensor]]:
    for name, value in state.items():
        module, _, leaf = name.rpartition(".")
        yield (module, leaf), value


def _match_public_keys(state: Mapping[str, Tensor]) -> dict[str, str] | None:
    """Return the public path of each module, by our path, for public keys; None for other keys."""
    if "model.model.0.weight" in state:
        depth = 1
        while f"{_level(depth + 1)}.1.weight" in state:
            depth += 1
        return _unet_paths(depth) if depth > 1 else None
    if "model.10.conv_block.1.weight" in state:
        blocks = _count(state, r"model\.\d+\.conv_block\.1\.weight")
        return _resnet_paths(blocks, dropout="model.10.conv_block.5.weight" not in state)
    if "net.0.weight" in state:
        return _PIXELGAN_PATHS
    if "model.0.weight" in state and "model.2.weight" in state:
        convs = sum(name.endswith(".weight") and value.ndim == 4 for name, value in state.items())
        return _patchgan_paths(convs - 2) if convs > 2 else None
    return None


def _level(level: int) -> str:
    """Return the public path of a level of the U-Net: each level is inside the one before."""
    return "model.model" + (".1.model" if level > 1 else "") + ".3.model" * (level - 2)


def _unet_paths(depth: int) -> dict[str, str]:
    names = {"down1.conv": "model.model.0", "up1.deconv": "model.model.3"}
    for level in range(2, depth + 1):
        prefix = _level(level)
        names[f"down{level}.conv"] = f"{prefix}.1"
        if level < depth:
            names[f"down{level}.norm"] = f"{prefix}.2"
        names[f"up{level}.deconv"] = f"{prefix}.{5 if level < depth else 3}"
        names[f"up{level}.norm"] = f"{prefix}.{6 if level < depth else 4}"
    return names


def _resnet_paths(blocks: int, *, dropout: bool) -> dict[str, str]:
    names: dict[str, str] = {}
    for stage, index in (("stem", 1), ("down1", 4), ("down2", 7)):
        names |= {f"{stage}.conv": f"model.{index}", f"{stage}.norm": f"model.{index + 1}"}
    second = 6 if dropout else 5
    for block in range(blocks):
        prefix = f"model.{10 + block}.conv_block"
        names |= {f"blocks.{block}.conv1": f"{prefix}.1", f"blocks.{block}.norm1": f"{prefix}.2"}
        names |= {f"blocks.{block}.conv2": f"{prefix}.{second}", f"blocks.{block}.norm2": f"{prefix}.{second + 1}"}
    after = 10 + blocks
    for stage, index in (("up2", after), ("up1", after + 3)):
        names |= {f"{stage}.deconv": f"model.{index}", f"{stage}.norm": f"model.{index + 1}"}
    return names | {"head.conv": f"model.{after + 7}"}


def _patchgan_paths(depth: int) -> dict[str, str]:
    names = {"layer1.conv": "model.0"}
    for layer in range(2, depth + 2):
        prefix = 2 + 3 * (layer - 2)
        names |= {f"layer{layer}.conv": f"model.{prefix}", f"layer{layer}.norm": f"model.{prefix + 1}"}
    return names | {"score": f"model.{2 + 3 * depth}"}


_PIXELGAN_PATHS = {"layer1.conv": "net.0", "layer2.conv": "net.2", "layer2.norm": "net.3", "score": "net.5"}
