"""Which keys and shapes of a state_dict do not fit a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgery.text import abbreviate_list, format_count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

BATCH_COUNTER = ".num_batches_tracked"
"""The end of the keys of a batch norm's counter. No result depends on it, and files of PyTorch before 0.4.1 lack it."""


@dataclass(frozen=True, slots=True)
class KeyMismatch:
    """The differences between the keys of a network and those of a state_dict."""

    fitting: int
    """The number of keys that are in both with the same shape."""
    expected: int
    """The number of keys of the network."""
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()
    """Keys with another shape, each with both shapes in words."""

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)

    def describe(self, network: str = "") -> str:
        """Return the differences in words; `network` is the name of the network."""
        parts = [f"{self.fitting} of {format_count(self.expected, 'key')} fit{f' {network}' if network else ''}"]
        parts += [f"missing {abbreviate_list(self.missing)}"] if self.missing else []
        parts += [f"unexpected {abbreviate_list(self.unexpected)}"] if self.unexpected else []
        parts += [abbreviate_list(self.reshaped)] if self.reshaped else []
        return "; ".join(parts)


def compare_keys(expected: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor]) -> KeyMismatch:
    """Compare the keys and shapes that a network expects with those of a state_dict.

    Counters of batch norms may be missing. The result is false if everything fits.
    """
    missing = [name for name in expected if name not in state and not name.endswith(BATCH_COUNTER)]
    reshaped = [
        f"{name} is {tuple(state[name].shape)}, not {shape}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    return KeyMismatch(
        fitting=len(expected) - len(missing) - len(reshaped),
        expected=len(expected),
        missing=tuple(missing),
        unexpected=tuple(name for name in state if name not in expected),
        reshaped=tuple(reshaped),
    )
