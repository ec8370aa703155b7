"""Python's `is`, `id` and `isinstance`, which answer for a proxy while a model is traced."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.traps import trap


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.same, self.drop, self.relu = nn.Identity(), nn.Dropout(0.5), nn.ReLU(inplace=True)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)


@trap(refused="the graph gives another mul")
class NoWeights(Base):
    def forward(self, x: Tensor) -> Tensor:
        y, weights = self.attend(x[:, 0], x[:, 0], x[:, 0], need_weights=False)
        return y if weights is None else y * 7  # here


@trap(lambda: ((torch.randn(2, 3, 8, 8), None),), refused="the graph gives another mul")
class NoneInATuple(Base):
    def forward(self, pair: tuple[Tensor, Any]) -> Tensor:
        x, mask = pair
        return self.conv(x) if mask is None else self.conv(x) * 2  # here


@trap(lambda: ({"x": torch.randn(2, 3, 8, 8), "mask": None},), refused="the graph gives another mul")
class NoneInADict(Base):
    def forward(self, batch: dict[str, Any]) -> Tensor:
        y = self.conv(batch["x"])
        return y if batch["mask"] is None else y * 2  # here


@trap(refused="the graph gives another mul")
class SameAsTheInput(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * (2 if self.same(x) is x else 1)  # here


@trap(refused="the graph gives another mul")
class SameInPlace(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        z = self.relu(y)
        return z * (2 if z is y else 1)  # here


@trap(refused="the graph gives another mul")
class SameInEvalMode(Base):
    """A dropout returns its input in eval mode, and a new tensor in train mode."""

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * (2 if self.drop(x) is x else 1)  # here


@trap(refused="the graph gives another mul")
class SameInTrainMode(Base):
    """Only the mode that the model is not in takes another branch."""

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.training else x * 1
        return self.conv(x) * (2 if self.same(y) is x else 1)  # here


@trap(refused="the graph gives another mul")
class SameAfterTo(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * (2 if x.to(torch.float32) is x else 1)  # here


@trap(refused="the graph gives another mul")
class SameIdentity(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * (2 if id(self.same(x)) == id(x) else 1)  # here


@trap(refused="the graph gives another mul")
class TypedTensor(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * (2 if isinstance(x, torch.FloatTensor) else 1)  # here


@trap(refused="the model computes sin, which its graph does not")
class OtherSteps(Base):
    """The outputs are the same, and the operations are not."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.same(x) is x:
            y = y + torch.sin(x).mean() * 0  # here
        return y


@trap(refused="the graph computes cos@1, which the model does not")
class MoreSteps(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.cos(self.conv(x))
        return y if self.same(x) is x else torch.cos(y) * 0 + y  # here
