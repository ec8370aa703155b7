"""The inputs that an example gives: by position, by keyword, as a flag; and errors where a model can't be traced."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.errors import SurgeryError, TraceError

A, B = torch.randn(1, 3, 8, 8), torch.randn(1, 3, 8, 8)


class ByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 4, 3)

    def forward(self, *, first: Tensor, second: Tensor) -> Tensor:
        return self.conv(torch.cat([first, second], 1))


class WithFlag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor, features: bool = False, turns: int = 1, mask: Tensor | None = None) -> Any:
        y = x
        for _ in range(turns):
            y = self.conv(y)
        if mask is not None:
            y = y * mask
        return (y, x) if features else y


class OfADict(nn.Module):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["x"] * 2


class OfAnything(nn.Module):
    def forward(self, x: Tensor, **others: Tensor) -> Tensor:
        return x + others["more"]


def test_a_dict_gives_inputs_by_their_names() -> None:
    model = ByKeyword()
    traced = surgery.trace(model, {"second": B, "first": A})
    assert torch.equal(traced(first=A, second=B), model(first=A, second=B))
    opened = surgery.insert(traced, surgery.operations(traced))
    activations = surgery.record(opened, first=A, second=B)
    assert [activation.path for activation in activations] == ["cat", "conv"]


def test_a_model_that_takes_one_dict_receives_it() -> None:
    traced = surgery.trace(OfADict(), {"x": A})
    assert torch.equal(traced({"x": B}), B * 2)


def test_further_keywords_are_inputs_too() -> None:
    traced = surgery.trace(OfAnything(), {"x": A, "more": B})
    assert torch.equal(traced(x=B, more=A), A + B)


@pytest.mark.parametrize(
    ("model", "example", "said"),
    [
        (ByKeyword(), {"first": A}, "forward also needs second"),
        (ByKeyword(), {"first": A, "second": B, "third": A}, "takes no third; it takes first, second"),
        (ByKeyword(), (A, B), "the example has 2 inputs"),
    ],
)
def test_inputs_that_forward_does_not_take_are_named_in_the_error(model: nn.Module, example: Any, said: str) -> None:
    with pytest.raises(TraceError, match=said) as caught:
        surgery.trace(model, example)
    assert "\n" not in str(caught.value)


EXAMPLES = [
    *((A, True), (A, False, 3), (A, False, 2, B), (A, True, 1, None)),
    *({"x": A, "turns": 2}, {"x": A, "mask": B}),
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_may_have_flags_numbers_and_none(example: Any) -> None:
    model = WithFlag().eval()
    traced = surgery.trace(model, example)
    given = (
        dict(zip(("x", "features", "turns", "mask"), example, strict=False)) if isinstance(example, tuple) else example
    )
    fresh = {name: torch.randn_like(value) if isinstance(value, Tensor) else value for name, value in given.items()}
    ours, theirs = traced(**fresh), model(**fresh)
    pairs = zip(ours, theirs, strict=True) if isinstance(theirs, tuple) else [(ours, theirs)]
    assert all(torch.equal(one, other) for one, other in pairs)


def test_another_flag_than_the_examples_is_refused_when_the_graph_runs() -> None:
    traced = surgery.trace(WithFlag(), (A, True))
    assert len(traced(A)) == 2
    with pytest.raises(SurgeryError, match="traced with features=True, not False"):
        traced(A, False)


class AskingForAType(nn.Module):
    def forward(self, x: Tensor, gain: float = 1) -> Tensor:
        return x * gain if isinstance(gain, int) else x + gain


def test_a_model_that_asks_for_the_type_of_a_number_is_observed() -> None:
    traced = surgery.trace(AskingForAType(), (A, 2))
    assert "test_example_inputs.py" in traced.reason
    assert "checks the type of gain, which is a number in the example" in traced.reason
    assert torch.equal(traced(B, 2), B * 2)
    assert torch.equal(traced(B, 2.0), B + 2)


def test_a_number_is_an_input_of_the_graph_and_a_flag_is_not() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor, gain: float, twice: bool) -> Tensor:
            return x * gain * 2 if twice else x * gain

    traced = surgery.trace(Scaled(), (A, 2.0, True), front_end="symbolic")
    assert torch.equal(traced(B, 3.0, True), B * 6)
    with pytest.raises(SurgeryError, match="traced with twice=True, not False"):
        traced(B, 3.0, False)


def test_an_operation_that_no_line_of_the_model_makes_has_no_source_line() -> None:
    plain = surgery.trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), A)
    assert [operation.source for operation in surgery.operations(plain)] == [None, None]
    own = surgery.trace(WithFlag(), A)
    assert all("test_example_inputs.py" in (operation.source or "") for operation in surgery.operations(own))


class Inner(nn.Module):
    def merged(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else -x

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner.merged(self.inner(x))


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.outer, self.unused = Outer(), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(x) + 1


def test_the_error_names_the_module_whose_forward_runs_and_keeping_it_whole_helps() -> None:
    with pytest.raises(TraceError, match="leaves=\\['Inner'\\]"):
        surgery.trace(Around(), A, front_end="symbolic")
    with pytest.raises(TraceError, match="leaves=\\['Outer'\\]"):
        surgery.trace(Around(), A, leaves=["Inner"], front_end="symbolic")
    for leaves in (["Outer"], ["Inner", "Outer"], [Inner, "outer"]):
        assert [operation.path for operation in surgery.operations(surgery.trace(Around(), A, leaves=leaves))]


@pytest.mark.parametrize(
    ("leaf", "said"),
    [
        ("Around", "is the model itself"),
        ("Nothing", "neither the path nor the class of a module"),
        ("unused", "forward does not call unused"),
    ],
)
def test_a_leaf_that_forward_does_not_call_is_an_error(leaf: str, said: str) -> None:
    with pytest.raises(TraceError, match=said):
        surgery.trace(Around(), A, leaves=["Outer", leaf])


class Looping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(x.sum())):
            x = x + 1
        return x


def test_the_error_names_the_line_that_can_not_be_traced() -> None:
    with pytest.raises(TraceError, match=r"test_example_inputs\.py") as caught:
        surgery.trace(Looping(), A, front_end="symbolic")
    with open(__file__, encoding="utf-8") as file:  # noqa: PTH123
        line = next(number for number, text in enumerate(file, 1) if "range(int(x" in text)
    assert f"test_example_inputs.py:{line}: " in str(caught.value)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_a_rewritten_model_with_an_old_norm_is_copied_after_it_ran(norm: Any) -> None:
    model = nn.Sequential(norm(nn.Conv2d(3, 3, 3)), nn.ReLU()).eval()
    traced = surgery.trace(model, A)
    opened = surgery.insert(traced, surgery.operations(traced))
    opened(A)
    assert torch.equal(copy.deepcopy(opened)(A), model(A))


def test_functions_and_layers_of_einops_are_operations() -> None:
    einops = pytest.importorskip("einops")
    layers = pytest.importorskip("einops.layers.torch")

    class Rearranging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layers.Rearrange("b (h w) c -> b c h w", h=8)

        def forward(self, x: Tensor) -> Tensor:
            rows = einops.rearrange(x, "b c h w -> b (h w) c")
            return self.layer(rows) + einops.reduce(x, "b c h w -> b c 1 1", "mean")

    traced = surgery.trace(Rearranging(), A)
    assert [operation.path for operation in surgery.operations(traced)] == ["rearrange", "layer", "reduce", "add"]
    wide = torch.randn(2, 3, 8, 16)
    assert torch.equal(traced(wide), Rearranging()(wide))
    assert surgery.certify(Rearranging(), traced, A).same


class Backwards(nn.Module):
    """Registers the modules in another order than they run."""

    def __init__(self) -> None:
        super().__init__()
        self.again, self.first = nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(3, 64, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return x + self.again(x)


def test_an_image_has_the_channels_of_the_first_convolution_that_runs(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "in.png")
    report = surgery.extract(Backwards(), tmp_path / "in.png", at="first", out=tmp_path / "out")
    assert report.images == 1


class SameTwice(nn.Module):
    """Takes a shortcut if both inputs are one tensor, as self-attention does."""

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        return query * 2 if query is key else query + key + 1


def test_a_tensor_that_is_given_twice_is_one_tensor_for_model_and_graph() -> None:
    x = torch.ones(2, 3)
    observed = surgery.trace(SameTwice(), (x, x))
    assert "can't be traced faithfully" in str(observed.reason)
    assert torch.equal(observed(x, x), SameTwice()(x, x))
    traced = surgery.trace(SameTwice(), (x, x + 1))
    assert torch.equal(traced(x, x + 1), SameTwice()(x, x + 1))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_tensor_is_an_input_whose_shape_is_unknown() -> None:
    nested = torch.nested.nested_tensor([torch.randn(2, 3), torch.randn(4, 3)])
    traced = surgery.trace(nn.Sequential(nn.Linear(3, 2)), nested)
    assert [operation.shape for operation in surgery.operations(traced)] == [()]
    assert traced(nested).size(0) == 2


class Masked(nn.Module):
    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        return ids * 2 if mask is None else ids * mask


def test_a_dict_with_a_misspelt_name_is_said_to_be_one_input() -> None:
    with pytest.raises(TraceError, match=r"the dict was given as ids, .* forward takes ids, mask"):
        surgery.trace(Masked(), {"idz": A})


class Anything(nn.Module):
    def forward(self, *values: Tensor) -> Tensor:
        return values[0] * 2


class Nothing(nn.Module):
    def forward(self) -> Tensor:
        return torch.zeros(1)


@pytest.mark.parametrize("model", [Anything(), Nothing()])
def test_a_dict_for_a_model_without_named_inputs_is_one_line(model: nn.Module) -> None:
    with pytest.raises(TraceError) as caught:
        surgery.trace(model, {"x": A})
    assert "\n" not in str(caught.value)
