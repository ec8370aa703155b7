"""Changes of single rows of a batch: each row of a value is that of another variant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from surgery.errors import EditError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery.rewriting import Change


class RowChanges(nn.Module):
    """Takes a value of a batch; returns it with each row changed by a change of its own, in new memory.

    `changes` has one change for each row, or None for a row that stays as it is. A batch of one row is changed as a
    whole, whatever its axes are.
    """

    def __init__(self, batch_axis: int = 0) -> None:
        super().__init__()
        self.batch_axis = batch_axis
        self.changes: Sequence[Change | None] = ()

    @property
    def text(self) -> str:
        """What the changes of the rows do."""
        return next((change.text for change in self.changes if change is not None), "nothing")

    def forward(self, value: Tensor) -> Tensor:
        """Return the changed value. Raises EditError for a value that has another number of rows."""
        if len(self.changes) == 1:
            return value.clone() if self.changes[0] is None else self.changes[0](value)
        if value.ndim <= self.batch_axis or value.shape[self.batch_axis] != len(self.changes):
            raise EditError(f"a value of {tuple(value.shape)} has no row for each of {len(self.changes)} variants")
        result = value.clone()
        for row, change in enumerate(self.changes):
            if change is not None:
                changed = change(value.narrow(self.batch_axis, row, 1))
                result.narrow(self.batch_axis, row, 1).copy_(changed)
        return result
