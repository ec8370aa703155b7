"""Random numbers that are the same in every run, while the generators of the process keep their state."""

from __future__ import annotations

import random
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from surgery.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator


def check_seed(seed: object) -> None:
    """Raise ModelError for a value that torch can't take as a seed."""
    if not isinstance(seed, int) or not -(2**63) <= seed < 2**64:
        raise ModelError(f"a seed is a whole number from -2**63 to 2**64 - 1, not {str(seed)[:60]}")


@contextmanager
def seeded_generators(seed: int) -> Iterator[None]:
    """Within the block, the random generators of torch, Python and numpy (if it is imported) start from `seed`.

    Afterwards they have their former state. Raises ModelError for a seed that torch can't take.
    """
    check_seed(seed)
    with unchanged_generators():
        # Not torch.manual_seed: it also seeds devices that are not initialized yet, whose state can't be restored.
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)
        random.seed(seed)
        if numpy := sys.modules.get("numpy"):
            numpy.random.seed(seed % 2**32)
        yield


@contextmanager
def unchanged_generators() -> Iterator[None]:
    """After the block, the random generators of torch, Python and numpy have the state that they had before it."""
    numpy = sys.modules.get("numpy")
    python, old = random.getstate(), numpy.random.get_state() if numpy else None
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            if numpy:
                numpy.random.set_state(old)
