"""Values that a model keeps for its next run outside itself, or in itself under another name."""

from __future__ import annotations

from collections import UserDict
from typing import Any

import torch
from torch import Tensor, nn

from tests.traps import trap

GRIDS: dict[str, Tensor] = {}
FEATURES: dict[str, Tensor] = {}
LAST: Tensor | None = None


class Store:
    def __init__(self) -> None:
        self.kept: list[Tensor] = []


STORE = Store()


@trap(refused="a text is made of a value")
class GlobalGrid(nn.Module):
    """The table of grids of backward warping."""

    def forward(self, x: Tensor) -> Tensor:
        key = str(x.shape)  # here
        if key not in GRIDS:
            GRIDS[key] = torch.linspace(-1, 1, x.shape[3])
        return x + GRIDS[key]


@trap()
class GlobalTensor(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        global LAST  # noqa: PLW0603
        LAST = x * 2
        return LAST + 1


@trap()
class ObjectOutside(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        STORE.kept.append(x * 3)
        return STORE.kept[-1] + 1


class Slotted:
    __slots__ = ("grid",)
    grid: Tensor | None


SLOTTED, USER_DICT = Slotted(), UserDict[str, Tensor]()
SLOTTED.grid = None


@trap(refused="reads what an earlier run left outside the model")
class KeptInASlot(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if SLOTTED.grid is None:
            SLOTTED.grid = torch.linspace(0, 1, x.shape[3])
        return x * SLOTTED.grid


@trap(refused="reads what an earlier run left outside the model")
class KeptInAUserDict(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if "grid" not in USER_DICT:
            USER_DICT["grid"] = torch.linspace(0, 1, x.shape[3])
        return x * USER_DICT["grid"]


@trap(refused="reads what an earlier run left outside the model")
class ClassAttribute(nn.Module):
    grids: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if "grid" not in self.grids:
            self.grids["grid"] = torch.linspace(0, 1, 8)
        return x * self.grids["grid"]


@trap(refused="reads what an earlier run left outside the model")
class DefaultArgument(nn.Module):
    def forward(self, x: Tensor, cache: dict[str, Tensor] = {}) -> Tensor:  # noqa: B006
        if "grid" not in cache:
            cache["grid"] = torch.linspace(0, 1, 8)
        return x + cache["grid"]


@trap(picklable=False)
def hook_that_keeps() -> nn.Module:
    features: dict[str, Tensor] = {}
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1)), nn.ReLU())
    model[0].register_forward_hook(lambda _m, _i, value: features.__setitem__("conv", value))
    return model


class ReadsFeatures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.features: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + self.features["conv"] if "conv" in self.features else y


@trap(refused="the graph gives another add than the model")
def stale_features() -> nn.Module:
    """A hook of a module that is kept whole is not called while the model is traced."""
    model = ReadsFeatures().eval()
    store = model.features
    model.conv.register_forward_hook(lambda _m, _i, value: store.__setitem__("conv", value))
    model(torch.randn(2, 3, 8, 8))
    return model


@trap(refused="an earlier run may have left it in")
def stale_features_by_name() -> nn.Module:
    """A hook that reaches the model by a global name, as in a notebook."""
    model = MODELS["reads"] = ReadsFeatures().eval()
    model.conv.register_forward_hook(lambda _m, _i, value: MODELS["reads"].features.__setitem__("conv", value))
    model(torch.randn(2, 3, 8, 8))
    return model


MODELS: dict[str, Any] = {}


@trap(refused="an earlier run left outside the model (FEATURES)")
class ReadBeforeWritten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        FEATURES["last"] = torch.zeros(2, 3, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = x * 2 + FEATURES["last"]
        FEATURES["last"] = y
        return y


class Keeps(nn.Module):
    """Keeps a value of its last run in an attribute, as models that return features do."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv, self.kind = nn.Conv2d(3, 4, 1), kind
        self.kept: Any = None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        self.kept = {"list": [y], "dict": {"conv": y}, "tuple": (y,), "deep": [{"conv": (y,)}]}[self.kind]
        return y.relu()


def kept(kind: str) -> Any:
    def make() -> nn.Module:
        model = Keeps(kind)
        model(torch.randn(2, 3, 8, 8))  # the value has a gradient, which `copy.deepcopy` refuses
        return model

    make.__name__ = make.__qualname__ = f"kept_in_a_{kind}"
    return make


for _kind in ("list", "dict", "tuple", "deep"):
    trap(picklable=False)(kept(_kind))


@trap(refused="reads what an earlier run left outside the model")
class DependsOnTheFirstInput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if "mean" not in FIRST:
            FIRST["mean"] = x.mean()
        return x - FIRST["mean"]


@trap(refused="reads what an earlier run left outside the model")
class ReadsTheFirstOfAList(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        SEEN.append(x.mean())
        return x - SEEN[0]


FIRST: dict[str, Tensor] = {}
SEEN: list[Tensor] = []
