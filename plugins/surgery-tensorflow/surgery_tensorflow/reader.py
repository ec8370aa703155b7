"""The checkpoint reader, which imports what it needs when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from surgery.stages import LoadedNetwork


class TensorFlowReader:
    """Opens the pix2pix networks that TensorFlow and Keras have saved, in HDF5, ``.keras`` and checkpoints."""

    suffixes: ClassVar[tuple[str, ...]] = (".h5", ".hdf5", ".keras", ".index")
    reads_parts: ClassVar[bool] = True

    def recognizes_folder(self, path: Path) -> bool:
        """Return whether a folder is a SavedModel, or has checkpoints of TensorFlow."""
        from surgery_tensorflow.locations import is_checkpoint_folder

        return is_checkpoint_folder(path)

    def __call__(self, path: Path, state: Mapping[str, Tensor], /, *, part: str | None = None) -> LoadedNetwork | None:
        """Return the network in a file or a folder; None for files of others.

        `part` names one of several networks in a checkpoint; None prefers a generator. Raises CheckpointError, which
        says why, for a file of TensorFlow or Keras that can't be opened.
        """
        if state:
            return None
        from surgery_tensorflow.locations import locate
        from surgery_tensorflow.opening import open_network

        location = locate(path)
        return None if location is None else open_network(path, location, part)
