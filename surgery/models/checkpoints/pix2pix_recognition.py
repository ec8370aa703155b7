"""Recognizes the pix2pix network of a state_dict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from surgery.errors import CheckpointError, first_line
from surgery.interrupts import raising_interrupts
from surgery.models.checkpoints.key_mismatch import BATCH_COUNTER, compare_keys
from surgery.models.pix2pix.patchgan import PatchGAN
from surgery.models.pix2pix.resnet import ResNet
from surgery.models.pix2pix.state_dicts import from_public, read_architecture
from surgery.models.pix2pix.unet import UNet
from surgery.text import format_count

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from surgery.models.checkpoints.key_mismatch import KeyMismatch
    from surgery.models.pix2pix.state_dicts import Network


def recognize_pix2pix(path: Path, state: Mapping[str, Tensor]) -> Network | None:
    """Return the pix2pix network that fits this state_dict, with its weights; None if none fits.

    The keys are the public code's or ours; the architecture is read from them and from the shapes. Counters of batch
    norms may be missing, as in files of PyTorch before 0.4.1. Raises CheckpointError if other keys do not fit the
    architecture, or if a weight can't be converted to float32.
    """
    architecture = read_architecture(state)
    if architecture is None:
        return None
    network, options = architecture
    try:
        # On meta, since the sizes in a damaged file may need more memory than there is.
        with raising_interrupts(), torch.device("meta"):
            model = network(**options)
    except Exception as error:
        raise CheckpointError(f"{path}: no network has these shapes ({first_line(error)})") from error
    ours = from_public(state) or dict(state)
    expected = model.state_dict()
    if mismatch := compare_keys({name: tuple(value.shape) for name, value in expected.items()}, ours):
        raise CheckpointError(f"{path}: {mismatch.describe(label(model))}{_suggest_cause(mismatch)}")
    weights = {name: _to_dense_float(path, name, value) for name, value in ours.items()}
    counters = {name: torch.zeros((), dtype=torch.int64) for name in expected if name.endswith(BATCH_COUNTER)}
    model.to_empty(device="cpu").load_state_dict(counters | weights)
    return model


def _to_dense_float(path: Path, name: str, value: Tensor) -> Tensor:
    """Return a weight as a dense tensor of float32 or of integers. Raises CheckpointError if it can't be one."""
    weight = f"{path}: {name}"
    if value.is_meta:
        raise CheckpointError(f"{weight} has a shape and no values: it was saved from the meta device")
    if value.is_complex():
        dtype = str(value.dtype).removeprefix("torch.")
        raise CheckpointError(f"{weight} is {dtype}, and weights of a network are real")
    try:
        if value.is_quantized:
            value = value.dequantize()
        elif value.layout is not torch.strided:
            value = value.to_dense()
        elif value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CheckpointError(f"{weight} has fewer values in the file than its shape {tuple(value.shape)} requires")
        return value.float() if value.is_floating_point() else value
    except (RuntimeError, MemoryError, NotImplementedError) as error:
        raise CheckpointError(f"{weight} can't be made float32: {first_line(error)}") from error


def _suggest_cause(mismatch: KeyMismatch) -> str:
    """Return the likely cause of a mismatch in norm layers only or in one level only; an empty text for any other."""
    absent = (*mismatch.missing, *mismatch.unexpected)
    if all(".norm" in name for name in (*absent, *mismatch.reshaped)):
        return "; all differences are in norm layers; the network may use a norm other than batch, instance or none"
    if len({name.partition(".")[0] for name in absent}) == 1 and not mismatch.reshaped:
        return "; all differences are in one level; the network may have another depth"
    return ""


def label(model: Network) -> str:
    """Return the name of an architecture: ``unet_256 with norm 'batch' and width 64``."""
    if isinstance(model, UNet):
        name = f"unet_{model.size}"
    elif isinstance(model, ResNet):
        name = f"resnet_{len(model.blocks)}blocks"
    else:
        name = f"patchgan of {format_count(model.depth, 'layer')}" if isinstance(model, PatchGAN) else "pixelgan"
    return f"{name} with norm {model.norm!r} and width {model.width}"
