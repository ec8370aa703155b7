"""`list_modules` lists what `named_modules` yields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from torch import nn
from torchvision.models import get_model

from surgery.graph.module_walks import list_modules


class Shared(nn.Module):
    """Has a module in two places, one that is missing, and one inside of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU()))
        self.second = nn.ModuleDict({"again": self.first[1], "none": nn.Identity()})
        self.missing = None
        self.register_module("missing_too", None)
        self.second["circle"] = self


class Own(nn.Module):
    """Has an idea of its own of its modules."""

    def __init__(self) -> None:
        super().__init__()
        self.shown, self.hidden = nn.ReLU(), nn.Linear(2, 2)

    def named_modules(self, memo: Any = None, prefix: str = "", remove_duplicate: bool = True) -> Iterator[Any]:  # type: ignore[override]
        del memo, remove_duplicate
        yield prefix, self
        yield f"{prefix}.shown".strip("."), self.shown


@pytest.mark.parametrize(
    "make", [Shared, Own, lambda: nn.Sequential(Own(), nn.ReLU(), Shared()), lambda: get_model("mobilenet_v3_small")]
)
def test_modules_are_listed_as_torch_does(make: Any) -> None:
    model = make()
    assert list_modules(model) == list(model.named_modules())
