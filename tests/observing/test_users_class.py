"""An observed model runs as an instance of its user's class, wherever forward or a hook asks who it is."""

from __future__ import annotations

import copy
import pickle
from abc import ABC
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.errors import TraceError

X = torch.linspace(-1, 1, 4).view(1, 4)
M = TypeVar("M", bound=nn.Module)


def opened(model: M) -> M:
    traced = surgery.trace(model, X, front_end="observed")
    return surgery.insert(traced, surgery.operations(traced))  # type: ignore[return-value]


class AsksForItsClass(nn.Module, ABC):
    """Takes another way in a subclass, and calls the children of its own kind."""

    def __init__(self, depth: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.inner = AsksForItsClass(depth - 1) if depth else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x) * (2 if type(self) is AsksForItsClass else 3)
        for child in self.children():
            if isinstance(child, self.__class__):
                x = child(x)
        return x


class Subclass(AsksForItsClass):
    pass


class SavesLittle(AsksForItsClass):
    """Has its own idea of its state."""

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_surgery")}


@pytest.mark.parametrize("kind", [AsksForItsClass, Subclass, SavesLittle])
def test_forward_finds_the_users_class_in_an_observed_model_and_its_copies(kind: type[AsksForItsClass]) -> None:
    model = kind()
    rewritten = opened(model)
    unpickled = pickle.loads(pickle.dumps(rewritten))  # noqa: S301 - of this test
    for copied in (rewritten, copy.deepcopy(rewritten), copy.copy(rewritten), unpickled):
        assert torch.equal(copied(X), model(X))
        assert len(surgery.record(copied, X)) == len(surgery.operations(rewritten))
        assert copied.state_dict().keys() == model.state_dict().keys()


def test_questions_for_the_class_of_an_observed_model_change_no_answer_for_the_users_class() -> None:
    rewritten = opened(AsksForItsClass())
    assert not isinstance(Subclass(), type(rewritten))
    assert isinstance(Subclass(), AsksForItsClass)
    assert isinstance(rewritten, AsksForItsClass)


def test_hooks_find_each_module_in_their_closure() -> None:
    model = AsksForItsClass()
    names = {module: name for name, module in model.named_modules()}
    seen: list[str] = []
    for module in model.modules():
        module.register_forward_hook(lambda module, *_: seen.append(names[module]))
    rewritten = opened(model)
    assert torch.equal(opened(rewritten)(X), rewritten(X))
    assert not seen  # the copies of the hooks have a list of their own


def test_a_run_sees_the_attributes_of_the_observed_model() -> None:
    rewritten = opened(AsksForItsClass())
    with torch.no_grad():
        before = rewritten(X)
        rewritten.inner = None
        assert not torch.equal(rewritten(X), before)


class Slotted(nn.Module):
    __slots__ = ("width",)

    def forward(self, x: Tensor) -> Tensor:
        return x + 1


def test_a_class_with_slots_is_refused_in_one_line() -> None:
    with pytest.raises(TraceError, match="Slotted can't be observed: remove __slots__ from its class"):
        opened(Slotted())
