from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import surgery
from surgery.graph.copies import copy_sharing_parameters


class Entangled(nn.Module):
    """A module under two names, a shared dict, a reference to the parent, and modules in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.again = self.first
        self.second = nn.BatchNorm1d(2)
        self.nothing = None
        self.register_module("none", None)
        self.register_buffer("scratch", torch.zeros(2), persistent=False)
        self.store: dict[str, Any] = {}
        self.second.store = self.store  # type: ignore[assignment]
        self.others = [nn.ReLU(), self.first]
        self.second.parent = (self,)  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        self.store["last"] = x
        return self.others[0](self.second(self.again(x)))


def test_a_copy_shares_parameters_and_nothing_else() -> None:
    model = Entangled()
    other = copy_sharing_parameters(model)
    assert type(other) is Entangled
    assert list(vars(other)) == list(vars(model))
    assert [id(p) for p in other.parameters()] == [id(p) for p in model.parameters()]
    for (name, one), (same_name, copied) in zip(model.named_modules(), other.named_modules(), strict=True):
        assert name == same_name
        assert one is not copied
        assert list(vars(one)) == list(vars(copied))
        for attribute, value in vars(one).items():
            if isinstance(value, (dict, set, list, Tensor)):
                assert vars(copied)[attribute] is not value, attribute
                assert type(vars(copied)[attribute]) is type(value)
    assert other.scratch is not model.scratch
    assert other._non_persistent_buffers_set == {"scratch"}


def test_an_object_that_occurs_twice_in_a_model_occurs_twice_in_its_copy() -> None:
    other: Any = copy_sharing_parameters(Entangled())
    assert other.again is other.first
    assert other.others[1] is other.first
    assert other.second.store is other.store
    assert other.second.parent[0] is other
    other(torch.ones(3, 2))
    assert list(other.second.store) == ["last"]


class Own(nn.Linear):
    """Has a `__getstate__` of its own."""

    how = ""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "how": "pickled"}


class Deep(nn.Linear):
    how = ""

    def __deepcopy__(self, memo: dict[int, Any]) -> Deep:
        other = Deep(2, 2)
        other.how = "deep"
        return other


@pytest.mark.parametrize(("kind", "how"), [(Own, "pickled"), (Deep, "deep")])
def test_the_copy_protocol_of_a_module_is_used(kind: type[Any], how: str) -> None:
    assert copy_sharing_parameters(kind(2, 2)).how == how
    assert copy_sharing_parameters(nn.Sequential(nn.ReLU(), kind(2, 2)))[1].how == how


def test_a_parametrized_module_is_copied() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 2)))
    copied = copy_sharing_parameters(model)
    assert type(copied[0]) is type(model[0])
    assert torch.equal(copied[0].weight, model[0].weight)
    assert copied[0].parametrizations.weight.original0 is model[0].parametrizations.weight.original0


def test_a_compiled_call_is_not_copied() -> None:
    model = nn.Linear(2, 2)
    model.compile(backend="eager")
    assert "_compiled_call_impl" not in vars(copy_sharing_parameters(model))
    assert list(vars(copy_sharing_parameters(model))) == list(vars(copy.deepcopy(model)))


def test_a_deep_copy_of_a_traced_or_rewritten_model_has_its_own_parameters() -> None:
    model = nn.Sequential(nn.Linear(2, 1)).eval()
    x = torch.ones(1, 2)
    expected = model(x)
    traced = surgery.trace(model, x)
    for graph_module in (traced, surgery.insert(traced, surgery.operations(traced))):
        copied = copy.deepcopy(graph_module)
        assert torch.equal(copied(x), expected)
        copied.load_state_dict({name: value * 0 + 9 for name, value in copied.state_dict().items()})
        copied(x).sum().backward()
        assert torch.equal(model(x), expected)
        assert all(parameter.grad is None for parameter in model.parameters())
