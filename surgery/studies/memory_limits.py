"""The memory that a study may hold, and what one run of a model holds."""

from __future__ import annotations

import re
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from surgery.eager import DispatchMode
from surgery.errors import ModelError

DEFAULT_MEMORY = "2GB"
"""What a study may hold beside the model, if nothing else is said."""
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
BRANCH_FACTOR = 3
"""The values of a run are held so many times at most: those before a cut, their copies, and an edited value."""


def parse_memory(limit: int | str) -> int:
    """Return a limit in bytes: a number of them, or a text such as ``500MB``. Raises ModelError for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?B|)\s*", str(limit).upper(), re.ASCII)
    size = 0 if match is None else int(float(match[1]) * _UNITS[match[2]])
    if match is None or not 0 < size < 2**62:
        raise ModelError(f"a limit of memory is a number of bytes, or a text such as 2GB or 500MB, not {limit!r:.60}")
    return size


def format_memory(size: float) -> str:
    """Return a number of bytes as text: ``1.5 GB``."""
    unit = next(name for name in ("TB", "GB", "MB", "KB", "B") if size >= _UNITS[name] or name == "B")
    return f"{size / _UNITS[unit]:.3g} {unit}"


def find_width(peak: int, fixed: int, variants: int, limit: int) -> int:
    """Return how many variants can run in one batch, from 1 to `variants`.

    `peak` is what one run holds, and `fixed` what is held beside the runs, in bytes. Raises ModelError if one variant
    alone would hold more than `limit`.
    """
    each = max(1, BRANCH_FACTOR * peak)
    if each + fixed > limit:
        needed = format_memory(each + fixed)
        raise ModelError(
            f"one variant may hold {needed}, and the limit is {format_memory(limit)}; raise the limit, or make the "
            "images smaller"
        )
    return max(1, min(variants, (limit - fixed) // each))


class MemoryMeter(DispatchMode):
    """Within its block, counts the bytes of the tensors that torch's operators make on this thread, while they live.

    It does not see the scratch memory of kernels. It notices whether a single number is read out of a tensor, as
    ``if x.any():``, ``x.item()`` and ``range(x)`` do.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held = 0
        self.peak = 0
        """The most bytes that were held at once."""
        self.reads_numbers = False
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.reads_numbers |= func is torch.ops.aten._local_scalar_dense.default  # noqa: SLF001
        for value in pytree.tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value)
        return result

    def _count(self, tensor: Tensor) -> None:
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):  # a kind of tensor without memory of its own
            return
        key = storage._cdata  # noqa: SLF001
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.held += self._sizes[key]
            self.peak = max(self.peak, self.held)
            weakref.finalize(storage, self._forget, key).atexit = False

    def _forget(self, key: int) -> None:
        self.held -= self._sizes.pop(key, 0)


def tensor_bytes(values: Any) -> int:
    """Return the bytes of the tensors in a nested value."""
    return sum(
        value.numel() * value.element_size() for value in pytree.tree_leaves(values) if isinstance(value, Tensor)
    )
