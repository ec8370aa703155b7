"""Files of all formats that are read, and damage to them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from surgery.models.pix2pix.patchgan import PatchGAN
from surgery.models.pix2pix.state_dicts import to_public

if TYPE_CHECKING:
    from random import Random


def damage(whole: bytes, random: Random) -> bytes:
    """Return a file with one to five damages: flipped bits, cuts, blocks that are zeroed, repeated or random."""
    data = bytearray(whole)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        if not data:
            break
        # Half of the damage hits the header, where a reader decides what to do.
        place = random.randrange(min(len(data), 600) if random.random() < 0.5 else len(data))
        size = random.choice((1, 2, 8, 64, 500))
        match random.randrange(8):
            case 0 | 1 | 2:
                data[place] ^= 1 << random.randrange(8)
            case 3:
                del data[place:]
            case 4:
                data[place : place + size] = bytes(size)
            case 5:
                data[place:place] = data[place : place + size]
            case 6:
                del data[place : place + size]
            case _:
                data[place : place + size] = random.randbytes(size)
    return bytes(data)


def _saved(content: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


def weights() -> dict[str, bytes]:
    """Weights files of a small network, by format."""
    torch.manual_seed(0)
    state = to_public(PatchGAN(width=1))
    dense = {name: value.clone() for name, value in state.items()}
    return {
        "legacy": _saved({"state_dict": state, "epoch": 3}, _use_new_zipfile_serialization=False),
        "zip": _saved({"netG": state, "options": {"lr": 0.1, "name": "a"}}),
        "safetensors": save(dense, {"format": "pt"}),
    }


def images() -> dict[str, bytes]:
    """Image files, by ending."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    found: dict[str, bytes] = {}
    for ending in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, ending)
        found[ending] = file.getvalue()
    for name, deep in (("deep.png", pixels[..., 0].astype(np.uint16) * 257), ("float.tiff", pixels[..., 0] / 255)):
        file = io.BytesIO()
        Image.fromarray(deep if deep.dtype == np.uint16 else deep.astype(np.float32)).save(file, name.split(".")[1])
        found[name] = file.getvalue()
    return found


def tensors() -> dict[str, bytes]:
    """Files of tensors, by ending."""
    values = np.random.default_rng(0).random((1, 3, 8, 8), np.float32)
    npy, npz = io.BytesIO(), io.BytesIO()
    np.save(npy, values)
    np.savez(npz, x=values, y=values[0])
    tensor = torch.from_numpy(values)
    return {
        "npy": npy.getvalue(),
        "npz": npz.getvalue(),
        "pt": _saved({"x": tensor}),
        "legacy.pt": _saved({"x": tensor}, _use_new_zipfile_serialization=False),
        "safetensors": save({"x": tensor, "y": tensor[0].clone()}),
    }
