"""Contents of weights files: those that trainers write, and odd ones."""

from __future__ import annotations

import argparse
import datetime as dt
import pathlib
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from surgery.models.pix2pix.patchgan import PatchGAN
from surgery.models.pix2pix.state_dicts import to_public
from tests.fuzz.odd_texts import odd_text

if TYPE_CHECKING:
    from random import Random

NAMES = ("state_dict", "netG", "netD", "model", "params_ema", "module", "optimizer", "epoch", "", "G_AB", "0", 0, None)
PREFIXES = ("module.", "_orig_mod.", "netG.", "model.", "_fsdp_wrapped_module.")
DTYPES = (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.complex64)


@cache
def state_dict() -> dict[str, Tensor]:
    """Return the state_dict of a small pix2pix network."""
    torch.manual_seed(0)
    return to_public(PatchGAN(width=1))


def content(random: Random, depth: int = 0) -> Any:
    """Return nested dicts and lists of state_dicts, some of them incomplete, and of other objects."""
    if depth > 2 or random.random() < 0.2:
        return _state(random) if random.random() < 0.7 else _object(random)
    inside = [content(random, depth + 1) for _ in range(random.choice((1, 2, 3)))]
    match random.randrange(6):
        case 0:
            return inside
        case 1:
            return tuple(inside)
        case 2:
            inside.append(inside)
            return {"state_dict": inside}
        case _:
            return {random.choice((*NAMES, odd_text(random))): value for value in inside}


def _object(random: Random) -> Any:
    two = torch.zeros(2, 2)
    plain = (1, 2.5, None, "text", b"x", True, {1, 2}, object, len, torch.Size([1]), nn.Linear(1, 1))
    tensors = (torch.tensor(3), torch.arange(3.0), two, torch.zeros(0), two.to_sparse(), two.to(torch.complex64))
    odd_ones = (torch.empty(2, 2, device="meta"), torch.quantize_per_tensor(two, 0.1, 0, torch.qint8))
    harmless = (np.float64(1.5), np.arange(3), argparse.Namespace(a=1), pathlib.PurePosixPath("x"), dt.timedelta(1))
    return random.choice((*plain, *tensors, *odd_ones, *harmless))


def _state(random: Random) -> dict[Any, Any]:
    """Return a state_dict with at most one change to its names or values."""
    own: dict[Any, Any] = dict(state_dict())
    name = random.choice(list(own))
    changes: dict[int, Any] = {
        0: lambda: {key: value for key, value in own.items() if key != name},
        1: lambda: own | {name: _object(random)},
        2: lambda: own | {f"{name}.{odd_text(random)}": own[name]},
        3: lambda: dict(zip((f"{random.choice(PREFIXES)}{key}" for key in own), own.values(), strict=True)),
        4: lambda: {f"{prefix}{key}": value for prefix in [random.choice(PREFIXES)] for key, value in own.items()},
        5: lambda: {key: value.to(dtype) for dtype in [random.choice(DTYPES)] for key, value in own.items()},
        6: lambda: own | {name: own[name].to_sparse()},
        7: lambda: own | {name: torch.zeros(1).expand(random.choice((1, 7, 10**6)), *own[name].shape[1:])},
        8: lambda: {key.replace("model", text): value for text in [odd_text(random)] for key, value in own.items()},
    }
    return changes.get(random.randrange(12), lambda: own)()
