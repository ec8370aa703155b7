"""Weights files: read without running what is in them, and turned into the network that they are of."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from surgery.errors import CheckpointError
from surgery.pix2pix import PatchGAN, PixelGAN, ResNet, UNet, from_public, read_architecture, to_public

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import nn

    from surgery.pix2pix import Network
    from surgery.types import CheckpointReader

SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt", ".bin")
"""Endings of the names of weights files."""

_GENERATORS = ("generator", "netG", "net_G", "G", "g", "netG_A", "netG_A2B", "G_A", "g_ema", "G_ema", "gen")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module", *_GENERATORS)
_DISCRIMINATORS = ("discriminator", "netD", "net_D", "D", "d", "netD_A", "D_A", "dis", "disc")
_PREFIXES = ("module.", "_orig_mod.")


def load_checkpoint(
    path: str | os.PathLike[str], part: str | None = None, readers: Iterable[CheckpointReader] | None = None
) -> nn.Module:
    """The network in a weights file, as constructed (in train mode); of pix2pix's, with float32 parameters.

    `readers` are asked in order until one recognises the file, by default that of pix2pix's layouts alone. `.pth` and
    `.pt` files are loaded with ``weights_only=True``, so that nothing in them is run. Of a file with several networks
    the generator is taken, or the entry that `part` names.

    Raises CheckpointError where the file can't be read, or its keys fit no known architecture.
    """
    path = Path(path)
    state: dict[str, Tensor] = {}
    unreadable: CheckpointError | None = None
    try:
        state = _only_state(path, read_weights(path), part)
    except CheckpointError as error:
        if not path.is_file() or part is not None:
            raise
        unreadable = error
    refused: CheckpointError | None = None
    for reader in (read_pix2pix,) if readers is None else readers:
        try:
            model = reader(path, MappingProxyType(state))
        except CheckpointError as error:
            refused = refused or error
            continue
        if model is not None:
            return model
    raise refused or unreadable or CheckpointError(f"{path}: {_nearest(state)}")


def read_pix2pix(path: Path, state: Mapping[str, Tensor]) -> Network | None:
    """The network of pix2pix whose state_dict this is, in the public layout or in ours; None if it is of none.

    The architecture is read from the keys and shapes. Raises CheckpointError where some of them do not fit it.
    """
    found = read_architecture(state)
    if found is None:
        return None
    kind, options = found
    with torch.random.fork_rng(devices=[]):  # the random initial weights are about to be replaced
        model = kind(**options)
    ours = from_public(state) or dict(state)
    if complaint := _mismatch(model, ours):
        raise CheckpointError(f"{path}: {complaint}")
    model.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in ours.items()})
    return model


def read_weights(path: Path) -> Any:
    """What is in a weights file: tensors in dicts. Raises CheckpointError in plain words where there is none."""
    if not path.exists():
        raise CheckpointError(f"there is no file {path}")
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name the weights file in it")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror}") from error
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a git-LFS pointer, not weights: run `git lfs pull`")
    if not head:
        raise CheckpointError(f"{path} is empty")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path, head)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no whole safetensors file ({error}); it may have been cut short") from error


def _read_pickled(path: Path, head: bytes) -> Any:
    zipped = head.startswith(b"PK\x03\x04")
    if not zipped and not head.startswith(b"\x80"):
        raise CheckpointError(f"{path} is no weights file that torch.save has written")
    if zipped and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any("/code/" in name for name in archive.namelist()):
                raise CheckpointError(f"{path} is a TorchScript program, not weights; save its state_dict() instead")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "truncated" in str(error) or "Ran out of input" in str(error):
            raise CheckpointError(f"{path} is cut short; fetch it again") from error
        blocked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if blocked is None:
            raise CheckpointError(f"{path} is no weights file that torch.save has written") from error
        raise CheckpointError(
            f"{path} is a pickled program object ({blocked[1]}), and reading one runs whatever it says; save the "
            "weights alone, with torch.save(model.state_dict(), path)"
        ) from error
    except (EOFError, RuntimeError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} is cut short or damaged ({str(error).splitlines()[0]}); fetch it again"
        ) from error


def _only_state(path: Path, content: Any, part: str | None) -> dict[str, Tensor]:
    """The one state_dict in what a file holds, its keys without the prefixes of wrappers."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state_dict")
    if part is not None:
        if not isinstance(content.get(part), Mapping):
            inside = ", ".join(name for name, value in content.items() if isinstance(value, Mapping)) or "no networks"
            raise CheckpointError(f"{path} has no network {part!r}; there is {inside}")
        content = content[part]
    while not any(isinstance(value, Tensor) for value in content.values()):
        entry = next((name for name in (*_WRAPPERS, *_DISCRIMINATORS) if isinstance(content.get(name), Mapping)), None)
        if entry is None:
            names = ", ".join(map(str, list(content)[:6])) or "nothing"
            raise CheckpointError(f"{path} holds no weights under a name that is known; it holds {names}")
        content = content[entry]
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    for name in (*_GENERATORS, *_DISCRIMINATORS):  # side by side in one flat dict: netG.model..., netD.model...
        inner = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        if inner and read_architecture(inner):
            return inner
    return state


def _mismatch(model: Network, state: Mapping[str, Tensor]) -> str | None:
    """Which keys or shapes keep a state_dict (under our names) from fitting the network that was read from it."""
    expected = model.state_dict()
    missing = [name for name in expected if name not in state]
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


def _nearest(state: Mapping[str, Tensor]) -> str:
    """How near the keys come to the nearest architecture that is known."""
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
