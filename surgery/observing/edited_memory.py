"""Edited values of an observed run that have had memory in common with other values."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from surgery.errors import EditError
from surgery.graph import find_user_line, format_location, named_tensors, storage_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from surgery.eager import ObservedCall


@dataclass(slots=True)
class _Pair:
    """A value and what an edit returned in its place, in other memory."""

    path: str
    former: Tensor
    new: Tensor
    former_version: int
    new_version: int
    former_line: str | None = None
    """Where the memory of the former value was written to after the edit."""
    new_line: str | None = None


class EditedMemory:
    """Finds out whether edited values would have had to stay in the memory that they shared with others.

    After an edit, some of the model's variables have the new memory, and others the former one. So neither may be
    written to while the other is still read. This holds the memory of each edited value that is a view.
    """

    def __init__(self) -> None:
        self._pairs: list[_Pair] = []

    def add(self, path: str, value: Any, edited: Any, call: ObservedCall) -> None:
        """Watch what an edit of the operation at `path` returned, if the call gave a view of one of its arguments."""
        shared = {storage_id(tensor) for _, tensor in named_tensors([call.args, call.kwargs])} - {None}
        for (_, former), (_, new) in zip(named_tensors(value), named_tensors(edited), strict=True):
            if former is not new and storage_id(former) in shared and not former.is_inference():
                alias, new_alias = former.detach(), new.detach()
                self._pairs.append(_Pair(path, alias, new_alias, alias._version, new_alias._version))  # noqa: SLF001

    def check_call(self, call: ObservedCall) -> None:
        """Check what a call has read, and note what it has written. Raises EditError with the line that wrote."""
        if not self._pairs:
            return
        self.check_reads(tensor for _, tensor in named_tensors([call.args, call.kwargs]))
        line: str | None = None
        for pair in self._pairs:
            for name in ("former", "new"):
                version = getattr(pair, name)._version  # noqa: SLF001
                if version != getattr(pair, f"{name}_version"):
                    line = line or format_location(find_user_line(sys._getframe(3))) or "its code"  # noqa: SLF001
                    setattr(pair, f"{name}_version", version)
                    setattr(pair, f"{name}_line", line)

    def check_reads(self, tensors: Iterable[Tensor]) -> None:
        """Raise EditError if a tensor that the model reads lacks what was written to the other memory of a pair."""
        for tensor in tensors if self._pairs else ():
            for pair in self._pairs:
                line = pair.new_line if _overlap(tensor, pair.former) else None
                line = line or (pair.former_line if _overlap(tensor, pair.new) else None)
                if line is not None:
                    raise EditError(
                        f"{pair.path} can't be edited: {line} writes to its memory, which other values share that are "
                        "read later; write out of place there, or edit an operation after it"
                    )


def _overlap(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have a place in memory in common."""
    identity = storage_id(one)
    if identity is None or identity != storage_id(other):
        return False
    if one.dtype != other.dtype:
        return True
    size = one.untyped_storage().nbytes() // one.element_size()
    is_in_other = torch.zeros(size, dtype=torch.bool)
    is_in_other.as_strided(other.shape, other.stride(), other.storage_offset()).fill_(True)
    return bool(is_in_other.as_strided(one.shape, one.stride(), one.storage_offset()).any())
