"""Rewritten models in torch.compile and torch.export."""

from __future__ import annotations

import copy
import shutil
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import surgery
from surgery.errors import TraceError
from surgery.graph.tensors import named_tensors
from surgery.types import Activation
from tests.nets import Containers, InPlace, TwoWays

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch's own, while it compiles and exports
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


class Views(nn.Module):
    """In-place operations on views, which change a value that is read too late."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        part = h[:, 1:]
        part.mul_(2)
        h += 1
        torch.relu_(h)
        return h.sum(1) + part.flatten(1).sum(1)[:, None, None]


class Nests(nn.Module):
    """Operations whose values are tuples and lists, with tensors that are written to later."""

    def forward(self, x: Tensor) -> dict[str, Any]:
        first, second = torch.split(x * 2, 3, dim=1)
        top, places = second.topk(2)
        first.add_(1)
        return {"sum": first + second, "more": [top, places]}


NETS = [(Views, (2, 3, 8, 8)), (InPlace, (2, 3, 8, 8)), (Nests, (2, 6, 4))]


def everywhere(model: nn.Module) -> fx.GraphModule:
    traced = surgery.trace(model)
    assert isinstance(traced, fx.GraphModule)
    return surgery.insert(traced, surgery.operations(traced))


def exact(activations: tuple[Activation, ...]) -> list[tuple[str, Any]]:
    return [(activation.path, activation.values.tolist()) for activation in activations]


@pytest.mark.parametrize(("net", "shape", "gradients"), [*((*case, False) for case in NETS), (*NETS[0], True)])
def test_a_compiled_model_passes_its_values_to_the_listener_in_order(
    net: type[nn.Module], shape: tuple[int, ...], gradients: bool
) -> None:
    torch._dynamo.reset()
    opened = everywhere(net().eval())
    compiled = torch.compile(opened, fullgraph=True, backend="aot_eager")
    x = torch.randn(shape)
    with torch.set_grad_enabled(gradients):
        truth = exact(surgery.record(opened, x.clone()))
        for _ in range(2):
            assert exact(surgery.record(compiled, x.clone())) == truth
    assert len(truth) >= 5


def test_listening_to_a_compiled_model_compiles_it_once_more_and_not_again() -> None:
    torch._dynamo.reset()
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(everywhere(Views()), fullgraph=True, backend=counter)
    x = torch.randn(1, 3, 5, 5)
    counts = []
    for _ in range(3):
        compiled(x)
        surgery.record(compiled, x)
        counts.append(counter.frame_count)
    assert counts == [2, 2, 2]
    silent, listened = (str(graph.graph) for graph in counter.graphs)
    assert "surgery.notify" in listened
    assert "surgery.notify" not in silent


def test_gradients_of_a_compiled_model_are_those_of_the_model() -> None:
    torch._dynamo.reset()
    model = Views()
    opened = copy.deepcopy(everywhere(model))
    compiled = torch.compile(opened, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 3, 8, 8)
    model(x).sum().backward()
    from surgery.rewriting.extractor import listening

    with listening(compiled, lambda operation, value: None):
        compiled(x).sum().backward()
    found = {name: parameter.grad for name, parameter in opened.named_parameters()}
    for name, parameter in model.named_parameters():
        assert found[name] is not None
        assert torch.equal(found[name], parameter.grad)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_activations_arrive_from_inductor() -> None:
    torch._dynamo.reset()
    opened = everywhere(Views())
    compiled = torch.compile(opened, fullgraph=True)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        truth = surgery.record(opened, x)
        seen = surgery.record(compiled, x)
    assert [one.path for one in seen] == [one.path for one in truth]
    for one, other in zip(seen, truth, strict=True):  # inductor's own arithmetic differs in the last bits
        torch.testing.assert_close(one.values, other.values)


def test_the_error_of_exporting_a_rewritten_model_says_what_to_do() -> None:
    with pytest.raises(TraceError, match=r"torch.export would drop the value of conv; export surgery.as_outputs"):
        torch.export.export(everywhere(Views()), (torch.randn(2, 3, 8, 8),), strict=False)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("net", "shape"), [*NETS, (Containers, (2, 6, 4))])
def test_an_exported_model_has_the_values_as_named_outputs(
    net: type[nn.Module], shape: tuple[int, ...], strict: bool
) -> None:
    torch._dynamo.reset()
    opened = everywhere(net().eval())
    x = torch.randn(shape)
    exported = torch.export.export(surgery.as_outputs(opened), (x.clone(),), strict=strict)
    with torch.no_grad():
        truth = surgery.record(opened, x.clone())
        output = opened(x.clone())
        result, values = exported.module()(x.clone())
    assert [(key, tensor.tolist()) for key, tensor in named_tensors(result)] == [
        (key, tensor.tolist()) for key, tensor in named_tensors(output)
    ]
    found = {key: tensor for path, value in values.items() for key, tensor in named_tensors(value, path)}
    assert {path: values.tolist() for path, values in found.items()} == dict(exact(truth))


def test_values_as_outputs_follow_the_mode() -> None:
    outputs = surgery.as_outputs(everywhere(TwoWays().eval()))
    _, values = outputs(torch.randn(2, 3))
    assert list(values) == ["first", "dropout", "mul", "relu"]
    _, values = outputs.train()(torch.randn(2, 3))
    assert list(values) == ["first", "dropout", "mul"]
