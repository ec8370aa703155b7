"""The values of a model as a file holds them: layers with their variables, which are read when they are needed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StoredVariable:
    """A variable in a file."""

    shape: tuple[int, ...]
    read: Callable[[], NDArray[np.generic]]
    """Returns the values. Raises CheckpointError if they are damaged."""


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer with variables."""

    path: str
    """Its names from the model inward, such as ``sequential_3/conv2d_3``."""
    variables: Mapping[str, StoredVariable]
    """By the name in the layer: kernel, bias, gamma, beta, moving_mean, ... or, in Keras 3's HDF5, 0, 1, ..."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the weights of a network of TensorFlow's tutorial do not tell."""

    slope: float = 0.3
    """Of the LeakyReLUs. 0.3 is Keras' default."""
    epsilon: float | None = None
    """Of the norms. None for Keras' 1e-3 of batch norm, and for the 1e-5 of the tutorial's instance norm."""
    dropouts: tuple[float, ...] = (0.5, 0.5, 0.5)
    """The rates in the levels of the decoder, from the innermost outward."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model in a file."""

    name: str
    """The name of its entry in the file, ``generator``; empty if the file holds a single model."""
    layers: tuple[StoredLayer, ...]
    """In the order of the model, as far as the file tells it."""
    config: Mapping[str, Any] | None = field(default=None, compare=False)
    """Keras' description of the model, if the file has one."""
    settings: Settings | None = field(default_factory=Settings)
    """What a file without a description tells of a network of the tutorial. None: it can't be one."""


def natural_key(text: str) -> tuple[Any, ...]:
    """Return a key that sorts texts with numbers by these: ``sequential_9`` before ``sequential_10``."""
    parts = re.split(r"(\d+)", text)
    return tuple((1, int(part[:18]), "") if part.isdecimal() else (0, 0, part) for part in parts)


def order_by_names(paths: Iterable[str]) -> list[str]:
    """Return paths of layers in the order in which they were probably made.

    Keras numbers the layers of each class. Layers inside of others, the blocks of the networks, come before those that
    stand alone, the heads.
    """
    return sorted(paths, key=lambda path: ("/" not in path, natural_key(path)))
