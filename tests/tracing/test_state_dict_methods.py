"""Models that save or load their state in their own way keep doing so when they are traced."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.errors import TraceError
from surgery.graph import trace_info

X = torch.ones(1, 3)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.factor = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight * self.factor


class Renaming(Scaled):
    """Takes the weights of an older version."""

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        state[f"{prefix}weight"] = state.pop(f"{prefix}old", state.get(f"{prefix}weight"))
        super()._load_from_state_dict(state, prefix, *rest)


class Prefixed(Scaled):
    def load_state_dict(self, state_dict: Any, *args: Any, **options: Any) -> Any:
        return super().load_state_dict({name.removeprefix("old."): value for name, value in state_dict.items()})


class Extra(Scaled):
    """Keeps a number beside its weights."""

    def get_extra_state(self) -> float:
        return self.factor

    def set_extra_state(self, state: float) -> None:
        self.factor = state


class Holder(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + 1  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("model", "rename", "front_end"),
    [
        (Holder(Renaming()), "inner.old", "symbolic"),  # the module in the graph is of its own class
        (Extra(), "weight", "observed"),
        (Holder(Extra()), "inner.weight", "observed"),
    ],
)
def test_a_traced_model_loads_what_the_model_loads(model: nn.Module, rename: str, front_end: str) -> None:
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.parameters()).mul_(2)
    for module in other.modules():
        if isinstance(module, Extra):
            module.factor = 5.0
    state = {rename if name.endswith("weight") else name: value for name, value in other.state_dict().items()}
    traced = surgery.trace(model, X)
    assert trace_info(traced).front_end == front_end
    traced.load_state_dict(dict(state))
    assert torch.equal(traced(X), other(X))
    assert traced.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(("model", "name"), [(Renaming(), "_load_from_state_dict"), (Prefixed(), "load_state_dict")])
def test_a_graph_does_not_load_what_only_the_model_can_read(model: nn.Module, name: str) -> None:
    traced = surgery.trace(model, X)
    assert trace_info(traced).is_verified
    line = (
        rf"test_state_dict_methods\.py:\d+: {type(model).__name__} has {name} of its own, which its graph does not call"
    )
    for graph in (traced, surgery.insert(traced, surgery.select(traced, "*")), copy.deepcopy(traced)):
        with pytest.raises(TraceError, match=line) as caught:
            graph.load_state_dict(model.state_dict())
        assert "\n" not in str(caught.value)
    observed = surgery.trace(model, X, front_end="observed")
    observed.load_state_dict(
        {"old": torch.full((3,), 2.0)} if name[0] == "_" else {"old.weight": torch.full((3,), 2.0)}
    )
    assert torch.equal(observed(X), torch.full((1, 3), 2.0))
    allowed = surgery.trace(model, X, allow=["state-dict"])
    allowed.load_state_dict({"weight": torch.full((3,), 2.0)})
    assert torch.equal(allowed(X), torch.full((1, 3), 2.0))


def test_a_module_whose_state_is_a_constant_of_the_graph_is_refused_with_the_line() -> None:
    with pytest.raises(TraceError, match=r"test_state_dict_methods\.py:\d+: set_extra_state of inner may change"):
        surgery.trace(Holder(Extra()), X, front_end="symbolic")
    assert trace_info(surgery.trace(Holder(Extra()), X, leaves=["inner"])).front_end == "symbolic"
    traced = surgery.trace(nn.Sequential(nn.BatchNorm1d(3)), torch.ones(4, 3))
    assert trace_info(traced).front_end == "symbolic"
    traced.load_state_dict(traced.state_dict())


@pytest.mark.parametrize("name", ["state_dict", "_save_to_state_dict"])
def test_a_model_that_saves_its_state_in_its_own_way_is_observed(name: str) -> None:
    kind = type("Own", (Scaled,), {name: lambda self, *args, **options: getattr(nn.Module, name)(self, *args)})
    assert trace_info(surgery.trace(kind(), X)).front_end == "observed"
    said = f"Own has {name} of its own, which its graph does not call; save the state of the model itself"
    with pytest.raises(TraceError, match=said):
        surgery.trace(kind(), X, front_end="symbolic")
