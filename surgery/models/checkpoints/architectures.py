"""From a state_dict to the network of pix2pix that it is of, or to how near it comes to one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from surgery.errors import CheckpointError, first_line
from surgery.models.pix2pix.patchgan import PatchGAN, PixelGAN
from surgery.models.pix2pix.resnet import ResNet
from surgery.models.pix2pix.state_dicts import from_public, read_architecture, to_public
from surgery.models.pix2pix.unet import UNet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from surgery.models.pix2pix.state_dicts import Network

_COUNTER = ".num_batches_tracked"
"""A buffer of batch norms since PyTorch 0.4.1, which no result depends on."""


def recognize_pix2pix(path: Path, state: Mapping[str, Tensor]) -> Network | None:
    """The network of pix2pix whose state_dict this is, in the public layout or in ours; None if it is of none.

    The architecture is read from the keys and shapes. Counters of batch norms may be missing, as in files of PyTorch
    before 0.4.1. Raises CheckpointError where other keys do not fit.
    """
    found = read_architecture(state)
    if found is None:
        return None
    kind, options = found
    try:
        with torch.device("meta"):  # what a damaged file says of sizes may be more than there is memory
            model = kind(**options)
    except Exception as error:
        raise CheckpointError(f"{path}: its shapes are of no network ({first_line(error)})") from error
    ours = from_public(state) or dict(state)
    if complaint := _describe_mismatch(model, ours):
        raise CheckpointError(f"{path}: {complaint}")
    weights = {name: _to_dense_float(path, name, value) for name, value in ours.items()}
    counters = {name: torch.zeros((), dtype=torch.int64) for name in model.state_dict() if name.endswith(_COUNTER)}
    model.to_empty(device="cpu").load_state_dict(counters | weights)
    return model


def _to_dense_float(path: Path, name: str, value: Tensor) -> Tensor:
    """A weight as a dense tensor of float32, or of integers. Raises CheckpointError where it can't be one."""
    said = f"{path}: {name}"
    if value.is_meta:
        raise CheckpointError(f"{said} has a shape and no values: it was saved from the meta device")
    if value.is_complex():
        raise CheckpointError(f"{said} is {str(value.dtype).removeprefix('torch.')}, and weights of a network are real")
    try:
        if value.is_quantized:
            value = value.dequantize()
        elif value.layout is not torch.strided:
            value = value.to_dense()
        elif value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CheckpointError(f"{said} has fewer values in the file than its shape {tuple(value.shape)}")
        return value.float() if value.is_floating_point() else value
    except (RuntimeError, MemoryError, NotImplementedError) as error:
        raise CheckpointError(f"{said} can't be made float32: {first_line(error)}") from error


def _describe_mismatch(model: Network, state: Mapping[str, Tensor]) -> str | None:
    """Which keys or shapes keep a state_dict (under our names) from fitting the network that was read from it."""
    expected = model.state_dict()
    missing = [name for name in expected if name not in state and not name.endswith(_COUNTER)]
    extra = [name for name in state if name not in expected]
    reshaped = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    if not (missing or extra or reshaped):
        return None
    fit = len(expected) - len(missing) - len(reshaped)
    said = [f"{fit} of {len(expected)} keys fit {_label(model)}"]
    said += [f"missing {_some(missing)}"] if missing else []
    said += [f"not part of it {_some(extra)}"] if extra else []
    said += [_some(reshaped)] if reshaped else []
    if all(".norm" in name for name in (*missing, *extra, *reshaped)):
        said += ["all of that is in norm layers, which a norm other than batch, instance or none would explain"]
    elif len({name.partition(".")[0] for name in (*missing, *extra)}) == 1 and not reshaped:
        said += ["all of that is in one level, which another depth would explain"]
    return "; ".join(said)


def describe_nearest(state: Mapping[str, Tensor]) -> str:
    """How near the keys come to the nearest architecture that is known."""
    if any(name.rpartition(".")[2] == _FLAT for name in state):
        return "these are shards of FSDP, whose parameters have no names; save a full state_dict (FULL_STATE_DICT)"
    for signs, name in _FOREIGN.items():
        if all(any(re.match(sign, key) for key in state) for sign in signs):
            return f"these are the keys of {name}, which is not built in; load it as package.module:callable"
    names = set(state)
    best, overlap = None, 0.0
    for model in _candidates():
        for keys in (set(to_public(model)), set(model.state_dict())):
            share = len(names & keys) / len(names | keys)
            if share > overlap:
                best, overlap = (model, keys), share
    if best is None:
        return f"its keys ({_some(sorted(names))}) fit no known architecture; load it as package.module:callable"
    model, keys = best
    missing, extra = sorted(keys - names), sorted(names - keys)
    had = f"{len(keys & names)} of {len(keys)} keys"
    said = f"fits no known architecture; the nearest is {_label(model)}, of which it has {had}"
    said += f"; missing {_some(missing)}" if missing else ""
    return said + (f"; not part of it {_some(extra)}" if extra else "")


_FOREIGN = {
    (r"down1\.model\.0\.weight",): "PyTorch-GAN's GeneratorUNet",
    (r"model1\.\d|model1_1\.",): "pix2pixHD's LocalEnhancer",
    (r"scale0_layer0\.",): "pix2pixHD's MultiscaleDiscriminator",
    (r"model\.10\.weight", r"model\.1\d\.conv_block\."): "pix2pixHD's GlobalGenerator",
}
_FLAT = "_flat_param"
"""The name of FSDP's shards, in which parameters have no names and shapes of their own."""


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


def _label(model: Network) -> str:
    """``unet_256 with norm 'batch' and width 64``."""
    if isinstance(model, UNet):
        name = f"unet_{model.size}"
    elif isinstance(model, ResNet):
        name = f"resnet_{len(model.blocks)}blocks"
    else:
        name = f"patchgan of {model.depth} layers" if isinstance(model, PatchGAN) else "pixelgan"
    return f"{name} with norm {model.norm!r} and width {model.width}"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
