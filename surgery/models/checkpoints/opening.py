"""Opening a weights file: the network in it that a reader recognizes, with its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from surgery.errors import CheckpointError
from surgery.models.checkpoints.nearest_architecture import describe_nearest
from surgery.models.checkpoints.pix2pix_recognition import recognize_pix2pix
from surgery.models.checkpoints.stored_networks import find_networks, other_networks
from surgery.models.checkpoints.weights_files import read_weights, refuse_failed_download
from surgery.stages import LoadedNetwork

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

    from torch import Tensor, nn

    from surgery.models.checkpoints.stored_networks import StoredNetwork
    from surgery.stages import CheckpointReader


def load_checkpoint(
    path: str | os.PathLike[str], part: str | None = None, readers: Iterable[CheckpointReader] | None = None
) -> nn.Module:
    """Return the network in a weights file, or in a folder that a reader recognizes, as constructed (in train mode).

    pix2pix's networks have float32 parameters. `readers` are called in order until one recognizes the file; None is
    only the reader of pix2pix's networks. `.pth` and `.pt` files are loaded with ``weights_only=True``, so that no code
    in them runs. If a file holds several networks, `part` names one; None prefers a generator, and averaged weights to
    those of the last step.

    Raises CheckpointError if the file can't be read, or if its keys fit no known architecture.
    """
    return open_checkpoint(path, part, readers).model


def open_checkpoint(
    path: str | os.PathLike[str], part: str | None = None, readers: Iterable[CheckpointReader] | None = None
) -> LoadedNetwork:
    """Return what `load_checkpoint` returns, and which network of the file it is."""
    path = Path(path)
    lazy_readers = _LazyReaders((recognize_pix2pix,) if readers is None else readers)
    refuse_failed_download(path)
    try:
        networks = find_networks(path, read_weights(path), part)
    except CheckpointError:
        if not path.exists() or (loaded := _open_without_state(path, lazy_readers, part)) is None:
            raise
        return loaded
    refusals: list[tuple[StoredNetwork, CheckpointError]] = []
    for network in networks:
        # If the layout of a network is known but its keys do not fit, its parts are not networks either.
        if any(network.is_inside(refused) for refused, _ in refusals):
            continue
        model = _recognize(path, network, lazy_readers, refusals)
        if model is not None:
            loaded = model if isinstance(model, LoadedNetwork) else LoadedNetwork(model)
            others = tuple(other_networks(network, networks))
            return replace(loaded, part=network.name, averaged=network.averaged, others=others)
    if refusals:
        raise refusals[0][1]
    raise CheckpointError(f"{path}: {describe_nearest(networks[0].state)}")


def read_state(path: str | os.PathLike[str], part: str | None = None) -> Mapping[str, Tensor]:
    """Return the state_dict of the network that `load_checkpoint` would load.

    Raises CheckpointError if the file can't be read, or if it has no network, or none named `part`.
    """
    path = Path(path)
    return find_networks(path, read_weights(path), part)[0].state


class _LazyReaders:
    """Readers that are taken from an iterable when they are first needed, since a plugin is imported by that."""

    def __init__(self, readers: Iterable[CheckpointReader]) -> None:
        self._taken: list[CheckpointReader] = []
        self._rest = iter(readers)

    def __iter__(self) -> Iterator[CheckpointReader]:
        yield from tuple(self._taken)
        for reader in self._rest:
            self._taken.append(reader)
            yield reader


def _open_without_state(path: Path, readers: Iterable[CheckpointReader], part: str | None) -> LoadedNetwork | None:
    """Return the network of the first reader that reads the file or folder itself; None if there is none.

    With `part`, and for a folder, only those readers are called that know about them.
    """
    empty: Mapping[str, Tensor] = MappingProxyType({})
    for reader in readers:
        given = {"part": part} if getattr(reader, "reads_parts", False) else {}
        if (part is not None and not given) or (path.is_dir() and not _recognizes_folder(reader, path)):
            continue
        if (model := reader(path, empty, **given)) is not None:
            return model if isinstance(model, LoadedNetwork) else LoadedNetwork(model)
    return None


def _recognizes_folder(reader: CheckpointReader, path: Path) -> bool:
    recognizes = getattr(reader, "recognizes_folder", None)
    return recognizes is not None and bool(recognizes(path))


def _recognize(
    path: Path,
    network: StoredNetwork,
    readers: Iterable[CheckpointReader],
    refusals: list[tuple[StoredNetwork, CheckpointError]],
) -> nn.Module | LoadedNetwork | None:
    """Return what the first reader that recognizes a network returns; None if there is none.

    The error of a reader that knows the layout, but finds that the keys do not fit, is added to `refusals`.
    """
    state = MappingProxyType(dict(network.state))
    for reader in readers:
        try:
            model = reader(path, state)
        except CheckpointError as error:
            refusals.append((network, error))
            continue
        if model is not None:
            return model
    return None
