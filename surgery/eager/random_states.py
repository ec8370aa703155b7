"""The random generators of Python, numpy and torch, which belong to the whole process."""

from __future__ import annotations

import random
from typing import Any, TypeAlias

import numpy as np
import torch

GeneratorStates: TypeAlias = "tuple[Any, Any]"
"""The states of Python's generator and of numpy's."""


def generator_states() -> GeneratorStates:
    """Return the states of both generators as they are now."""
    return random.getstate(), np.random.get_state()  # noqa: NPY002


def have_drawn_since(states: GeneratorStates) -> bool:
    """Return whether numbers were drawn from one of the generators, by any thread, since `states` were read."""
    return _comparable(generator_states()) != _comparable(states)


def _comparable(states: GeneratorStates) -> tuple[Any, ...]:
    """Return states as values that `==` compares: numpy's has an array."""
    name, keys, *rest = states[1]
    return states[0], name, bytes(keys), *rest


def restore_generators(states: GeneratorStates) -> None:
    """Put both generators back to earlier states."""
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002


def seed_torch(seed: int) -> None:
    """Seed all random generators of torch, as `torch.manual_seed` does."""
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # torch.manual_seed would format the stack for each kind of device, which takes longer than a small model
        torch.default_generator.manual_seed(seed)
