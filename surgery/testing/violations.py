"""A violation of a contract, and the comparisons that find one."""

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
class Violation:
    """One violation of a contract."""

    message: str
    """What the object did: ``"writes to its input"``."""
    case: str = ""
    """The input with which it did so: ``"maps of 1x1"``; empty if every input shows it."""


def summarize_violations(violations: Iterable[Violation]) -> list[str]:
    """Return one line for each kind of violation, with the first input that caused it and the number of others."""
    kinds: dict[str, list[Violation]] = {}
    for violation in violations:
        # Messages that differ in numbers alone, such as shapes, are one kind.
        kinds.setdefault(re.sub(r"[-+\d.()\[\], ]+", " ", violation.message), []).append(violation)
    lines = []
    for first, *others in kinds.values():
        line = f"{first.message}, given {first.case}" if first.case else first.message
        count = len({first.case, *(other.case for other in others)}) - 1
        lines.append(f"{line} (and {count} more)" if count else line)
    return lines


@contextmanager
def detect_state_changes(case: str) -> Iterator[list[Violation]]:
    """Yield a list that receives, when the block ends, a violation for each global setting of torch that it changed.

    The settings are restored. They are: the random number generator of the CPU, the default dtype, the number of
    threads, whether gradients are recorded.
    """
    violations: list[Violation] = []
    state, dtype = torch.random.get_rng_state(), torch.get_default_dtype()
    threads, gradients = torch.get_num_threads(), torch.is_grad_enabled()
    try:
        yield violations
    finally:
        if not torch.equal(torch.random.get_rng_state(), state):
            torch.random.set_rng_state(state)
            message = "draws from torch's global random numbers, which the model uses; use a torch.Generator"
            violations.append(Violation(message, case))
        if torch.get_default_dtype() != dtype:
            torch.set_default_dtype(dtype)
            violations.append(Violation("changes torch's default dtype", case))
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
            violations.append(Violation("changes torch's number of threads", case))
        if torch.is_grad_enabled() != gradients:
            torch.set_grad_enabled(gradients)
            violations.append(Violation("switches gradients on or off", case))


def list_devices() -> list[str]:
    """Return the devices on which stages are checked: the CPU, and CUDA if it is available."""
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def is_equal(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have the same shape and values; NaN equals NaN."""
    return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())  # noqa: PLR0124


def describe_exception(error: BaseException) -> str:
    """Return one line: the message of an error of this project, or ``raises <class>: <message>``."""
    if isinstance(error, SurgeryError):
        return first_line(error)
    return f"raises {type(error).__name__}: {first_line(error)}" if str(error) else f"raises {type(error).__name__}"


def describe_value(value: object) -> str:
    """Return the shape and dtype of a tensor, or the type of any other value."""
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
