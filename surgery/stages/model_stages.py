"""Where models come from: factories and families by name, and readers of weights files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class LoadedNetwork:
    """A network that was loaded from a weights file, and which of the networks in the file it is."""

    model: nn.Module
    part: str = ""
    """The name of its entry in the file; empty if the file holds a single network."""
    averaged: bool = False
    """Whether its weights are averages over the training (EMA, SWA)."""
    others: tuple[str, ...] = ()
    """The names of the other networks in the file."""
    notes: tuple[str, ...] = ()
    """What viewers of its pictures should know, each a clause about the network: ``its norms use ...``."""


class CheckpointReader(Protocol):
    """Builds the network of a weights file of another code base.

    Takes the path of the file and its state_dict; returns the network with these weights, or None if it does not know
    this kind of file. The keys have no prefixes of wrappers (``module.``, ``_orig_mod.``). The state_dict is empty if
    the file has none, or none that can be read without running code from the file: then the reader may read the file
    itself, and return a `LoadedNetwork` if there is more to say than the network.

    Optional attributes of a reader that reads files itself:

    - ``suffixes``: suffixes of the names of its files, such as ``(".h5",)``, in lower case.
    - ``reads_parts``: true for a reader that takes a keyword argument `part`: the name of the network that the user
      requests of a file with several, or None. It raises CheckpointError if there is none of this name.
    - ``recognizes_folder(path)``: a method that says whether a folder is a checkpoint for this reader, at little cost.
      Without it, the reader is not called with folders.
    """

    def __call__(self, path: Path, state: Mapping[str, Tensor], /) -> nn.Module | LoadedNetwork | None: ...


ModelFactory: TypeAlias = "Callable[[], nn.Module]"


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """A family of models, which users select as ``family/name``."""

    build: Callable[[str], nn.Module]
    """Takes a name without the family; returns the model."""
    names: Callable[[], Sequence[str]]
    """Returns all names that `build` accepts."""
    trained: Callable[[str], str] | None = None
    """For a model with random weights: takes its name, returns a clause that says how to get trained weights."""
