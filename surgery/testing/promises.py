"""What a stage did, held against what it promised, and how a broken promise is said."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from surgery.errors import SurgeryError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Fault:
    """A promise that was broken."""

    what: str
    """``"writes to its input"``."""
    given: str = ""
    """What it was given when it broke it: ``"maps of 1x1"``; empty where that does not matter."""


def lines_of(faults: Iterable[Fault]) -> list[str]:
    """A line for each promise, with the first input that broke it and how many more did."""
    found: dict[str, list[Fault]] = {}
    for fault in faults:
        # Numbers differ from input to input, and the promise is the same.
        found.setdefault(re.sub(r"[-+\d.()\[\], ]+", " ", fault.what), []).append(fault)
    lines = []
    for same in found.values():
        others = len({fault.given for fault in same}) - 1
        line = f"{same[0].what}, given {same[0].given}" if same[0].given else same[0].what
        lines.append(f"{line} (and {others} more)" if others else line)
    return lines


@contextmanager
def left_alone(given: str) -> Iterator[list[Fault]]:
    """What is found to have changed of torch's own state when the block ends, and is put back then."""
    found: list[Fault] = []
    state, dtype = torch.random.get_rng_state(), torch.get_default_dtype()
    threads, gradients = torch.get_num_threads(), torch.is_grad_enabled()
    try:
        yield found
    finally:
        if not torch.equal(torch.random.get_rng_state(), state):
            torch.random.set_rng_state(state)
            found.append(
                Fault("draws from torch's random numbers, which are the model's; take a torch.Generator", given)
            )
        if torch.get_default_dtype() != dtype:
            torch.set_default_dtype(dtype)
            found.append(Fault("changes torch's default dtype", given))
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
            found.append(Fault("changes the number of torch's threads", given))
        if torch.is_grad_enabled() != gradients:
            torch.set_grad_enabled(gradients)
            found.append(Fault("switches gradients on or off", given))


def devices() -> list[str]:
    """Where stages are tried: on the CPU, and on a GPU where there is one."""
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def same(one: Tensor, other: Tensor) -> bool:
    """Equal values, NaN equal to NaN."""
    return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())  # noqa: PLR0124


def said(error: BaseException) -> str:
    """What an error says, in one line."""
    if isinstance(error, SurgeryError):
        return first_line(error)
    return f"raises {type(error).__name__}: {first_line(error)}" if str(error) else f"raises {type(error).__name__}"


def shown(value: object) -> str:
    """A value in a few words: shape and dtype of a tensor, else its type."""
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
