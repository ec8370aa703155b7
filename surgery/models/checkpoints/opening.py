"""Weights files: read without running what is in them, and turned into the network that they are of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from surgery.errors import CheckpointError
from surgery.models.checkpoints.architectures import describe_nearest, recognize_pix2pix
from surgery.models.checkpoints.stored_networks import find_networks, other_networks
from surgery.models.checkpoints.weights_files import read_weights

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from torch import Tensor, nn

    from surgery.models.checkpoints.stored_networks import StoredNetwork
    from surgery.stages import CheckpointReader


@dataclass(frozen=True, slots=True)
class LoadedNetwork:
    """A network of a weights file."""

    model: nn.Module
    part: str = ""
    """The name of its entry in the file; empty where the file is one state_dict, or was read by a plugin alone."""
    averaged: bool = False
    """Whether its weights are averages over the training (EMA, SWA)."""
    others: tuple[str, ...] = ()
    """The names of the networks beside it."""


def load_checkpoint(
    path: str | os.PathLike[str], part: str | None = None, readers: Iterable[CheckpointReader] | None = None
) -> nn.Module:
    """The network in a weights file, as constructed (in train mode); of pix2pix's, with float32 parameters.

    `readers` are asked in order until one recognizes the file, by default that of pix2pix's layouts alone. `.pth` and
    `.pt` files are loaded with ``weights_only=True``, so that nothing in them is run. Of a file with several networks
    the one is taken that `part` names, by default a generator, and averaged weights rather than those of the last step.

    Raises CheckpointError where the file can't be read, or its keys fit no known architecture.
    """
    return open_checkpoint(path, part, readers).model


def open_checkpoint(
    path: str | os.PathLike[str], part: str | None = None, readers: Iterable[CheckpointReader] | None = None
) -> LoadedNetwork:
    """What `load_checkpoint` gives, and which network of the file it is."""
    path = Path(path)
    networks: list[StoredNetwork] = []
    unreadable: CheckpointError | None = None
    try:
        networks = find_networks(path, read_weights(path), part)
    except CheckpointError as error:
        if part is not None or not path.is_file():
            raise
        unreadable = error
    asked: list[CheckpointReader] = []
    coming = iter((recognize_pix2pix,) if readers is None else readers)
    refused: list[tuple[tuple[str, ...], CheckpointError]] = []
    for network in networks:
        if any(network.location[: len(location)] == location for location, _ in refused):
            continue  # a part of what has a known layout, and does not fit it, is no network
        model = _recognize(path, network, asked, coming, refused)
        if model is not None:
            return LoadedNetwork(model, network.name, network.averaged, tuple(other_networks(network, networks)))
    if not networks:
        for reader in coming:
            if (model := reader(path, MappingProxyType({}))) is not None:
                return LoadedNetwork(model)
    if refused:
        raise refused[0][1]
    raise unreadable or CheckpointError(f"{path}: {describe_nearest(networks[0].state)}")


def read_state(path: str | os.PathLike[str], part: str | None = None) -> Mapping[str, Tensor]:
    """The state_dict of the network in a weights file that `load_checkpoint` would take, or of that named by `part`."""
    path = Path(path)
    return find_networks(path, read_weights(path), part)[0].state


def _recognize(
    path: Path,
    network: StoredNetwork,
    asked: list[CheckpointReader],
    coming: Iterable[CheckpointReader],
    refused: list[tuple[tuple[str, ...], CheckpointError]],
) -> nn.Module | None:
    """What the first reader that recognizes a network makes of it.

    Each reader is taken from `coming` when those before it did not recognize the network, and kept in `asked`.
    """
    state = MappingProxyType(dict(network.state))

    def readers() -> Iterable[CheckpointReader]:
        yield from tuple(asked)
        for reader in coming:
            asked.append(reader)
            yield reader

    for reader in readers():
        try:
            model = reader(path, state)
        except CheckpointError as error:
            refused.append((network.location, error))
            continue
        if model is not None:
            return model
    return None
