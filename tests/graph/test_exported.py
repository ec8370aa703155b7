"""The operations of graphs that `torch.export` and `torch.fx` have made."""

from __future__ import annotations

import copy
import io
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import Dim
from torch.nn import functional as F
from torchvision.models import VisionTransformer, googlenet, resnet18

import surgery
from surgery.errors import ModelError, TraceError
from surgery.rewriting import stop_after_last_extractor

if TYPE_CHECKING:
    from collections.abc import Callable

    from surgery.types import Operation

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch's own, while it exports
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


class Calls(nn.Module):
    """Functions, operators and methods of which each is one or several operators of an exported graph."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.Tanh()), nn.Identity(), nn.Dropout(0.5)])

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.act(self.conv(x)))
        h = self.act(h + 1)
        h += 2
        h = h[:, 1:, ::2][..., None, 0]
        h = F.interpolate(F.normalize(h / 2), size=(8, 8))
        for block in self.blocks:
            h = block(h)
        h[:, 0] = 3
        h = (1 - h) % 3 + (2 / h) ** 2 + torch.einsum("nchw,ncvw->nchv", h, h)
        return torch.where((h > 0) & ~(h == 1), h, -h).relu_().to(torch.float64)


class Nests(nn.Module):
    """Modules and functions with several results, and outputs in a nest."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6)
        self.attention = nn.MultiheadAttention(6, 2)

    def forward(self, x: Tensor, *, scale: Tensor) -> dict[str, Any]:
        hidden, (state, _) = self.lstm(x * scale)
        mixed, weights = self.attention(hidden, hidden, hidden)
        first, _ = mixed.chunk(2, -1)
        best, places = first.max(0)
        return {"best": best, "more": [places, weights + 1, state]}


def exported(model: nn.Module, *inputs: Tensor, **options: Any) -> fx.GraphModule:
    return torch.export.export(model, inputs, **options).module()


def nests(*, strict: bool = False) -> tuple[fx.GraphModule, Tensor, Tensor]:
    x, scale = torch.randn(5, 2, 4), torch.tensor(1.5)
    return exported(Nests().eval(), x, kwargs={"scale": scale}, strict=strict), x, scale


def tensor_operations(graph_module: fx.GraphModule) -> list[Operation]:
    return [operation for operation in surgery.operations(graph_module) if operation.tensors != ()]


def facts(graph_module: fx.GraphModule) -> list[tuple[object, ...]]:
    return [(each.path, each.kind, each.scopes, each.tensors) for each in tensor_operations(graph_module)]


def values(graph_module: fx.GraphModule, *inputs: Tensor, **named: Tensor) -> dict[str, Tensor]:
    opened = surgery.insert(graph_module, surgery.operations(graph_module))
    clones = [each.clone() for each in inputs]
    return {activation.path: activation.values for activation in surgery.record(opened, *clones, **named)}


MODELS: list[tuple[Callable[[], nn.Module], int]] = [(Calls, 8), (resnet18, 32)]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("make", "size"), MODELS)
def test_an_exported_model_has_the_operations_and_values_of_a_traced_one(
    make: Callable[[], nn.Module], size: int, dynamic: bool, strict: bool
) -> None:
    model, x = make().eval(), torch.randn(2, 3, size, size)
    graph = exported(model, x, strict=strict, dynamic_shapes=({0: Dim.AUTO},) if dynamic else None)
    traced = surgery.trace(model, x)
    assert facts(graph) == [each for each in facts(traced) if each[1] != "identity"]
    expected, actual = values(traced, x), values(graph, x)
    assert list(actual) == [path for path, *_ in facts(graph)]
    assert all(torch.equal(actual[path], expected[path]) for path in actual)


def test_the_branches_of_a_model_are_the_operations_of_a_traced_one() -> None:
    model, x = googlenet(init_weights=False).eval(), torch.randn(1, 3, 32, 32)
    assert facts(exported(model, x)) == facts(surgery.trace(model, x))


def test_attention_is_one_operation_with_the_value_of_its_output() -> None:
    model, x = VisionTransformer(16, 8, 2, 2, 32, 64).eval(), torch.randn(2, 3, 16, 16)
    graph = exported(model, x)
    kinds = [operation.kind for operation in surgery.operations(graph)]
    traced_kinds = [operation.kind for operation in tensor_operations(surgery.trace(model, x))]
    assert [kind for kind in kinds if kind != "getitem"] == [kind for kind in traced_kinds if kind != "getitem"]
    path = "encoder.layers.encoder_layer_0.self_attention"
    assert torch.allclose(values(graph, x)[path], values(surgery.trace(model, x), x)[f"{path}[0]"])


@pytest.mark.parametrize("strict", [False, True])
def test_several_results_of_a_call_form_one_value(strict: bool) -> None:
    graph, x, scale = nests(strict=strict)
    assert [operation.path for operation in surgery.operations(graph)] == [
        *("mul", "lstm", "attention", "chunk", "max", "add")
    ]
    traced = values(surgery.trace(Nests().eval(), {"x": x, "scale": scale}), x, scale=scale)
    shapes = {path: tuple(each.shape) for path, each in values(graph, x, scale=scale).items()}
    assert [shape for path, shape in shapes.items()] == [
        tuple(each.shape) for path, each in traced.items() if "getitem" not in path
    ]
    assert [path for path in shapes if path.startswith(("lstm", "attention", "max"))] == [
        *("lstm[0]", "lstm[1]", "lstm[2]", "attention[0]", "attention[1]", "max[0]", "max[1]")
    ]


def test_lines_are_those_of_the_model() -> None:
    graph = exported(Calls().eval(), torch.randn(2, 3, 8, 8))
    lines = {operation.path: operation.source for operation in surgery.operations(graph)}
    first = Calls.forward.__code__.co_firstlineno
    assert lines["conv"] == f"tests/graph/test_exported.py:{first + 1}"
    assert lines["interpolate"] == f"tests/graph/test_exported.py:{first + 5}"


def test_decomposed_operators_are_still_one_operation() -> None:
    model, x = resnet18().eval(), torch.randn(1, 3, 32, 32)
    decomposed = torch.export.export(model, (x,)).run_decompositions().module()
    assert any("native_batch_norm" in node.name for node in decomposed.graph.nodes)
    assert facts(decomposed) == facts(surgery.trace(model, x))


def test_numbers_and_checks_are_no_operations() -> None:
    model, x = VisionTransformer(16, 8, 2, 2, 32, 64).eval(), torch.randn(2, 3, 16, 16)
    fixed, dynamic = exported(model, x), exported(model, x, dynamic_shapes=({0: Dim.AUTO},))
    assert any(node.name.startswith("sym_size") for node in dynamic.graph.nodes)
    assert facts(dynamic) == facts(fixed)
    assert all(operation.tensors for operation in surgery.operations(dynamic))


def test_an_input_that_the_graph_refuses_gives_one_clear_line() -> None:
    graph = exported(Calls().eval(), torch.randn(2, 3, 8, 8))
    opened = surgery.insert(graph, surgery.select(graph, "conv"))
    with pytest.raises(ModelError, match=r"exported for inputs with x.size\(\)\[0\] == 2; for others, pass"):
        opened(torch.randn(1, 3, 8, 8))


def test_an_exported_graph_has_the_mode_of_its_model() -> None:
    graph = exported(Calls().eval(), torch.randn(2, 3, 8, 8))
    opened = surgery.insert(graph, surgery.select(graph, "conv"))
    with pytest.raises(TraceError, match=r"torch\.export keeps the mode that the model was in"):
        opened.train()


@pytest.mark.parametrize("training", [False, True])
def test_an_exported_model_gets_a_certificate(training: bool) -> None:
    model, x = Calls().train(training), torch.randn(2, 3, 8, 8)
    graph = exported(model, x, dynamic_shapes=({0: Dim.AUTO},))
    certificate = surgery.certify(model, surgery.insert(graph, surgery.operations(graph)), x)
    assert certificate.same, certificate.difference
    compared = {(each.what, each.case): each.count for each in certificate.comparisons if each.same}
    assert compared["values", "example"] >= 25 <= compared["values", "batch 4"]


def test_outputs_keep_their_structure_and_can_be_exported_again() -> None:
    graph, x, scale = nests()
    opened = surgery.insert(graph, surgery.operations(graph))
    result, activations = surgery.as_outputs(opened)(x, scale=scale)
    assert torch.equal(result["more"][1], graph(x, scale=scale)["more"][1])
    assert list(activations) == [operation.path for operation in surgery.operations(graph)]
    again = torch.export.export(surgery.as_outputs(opened), (x,), {"scale": scale}).module()
    assert torch.equal(again(x, scale=scale)[1]["lstm"][0], activations["lstm"][0])
    assert stop_after_last_extractor(opened)(x, scale=scale) is None


def test_inserting_again_and_copying_keep_the_operations() -> None:
    graph, x, scale = nests()
    opened = surgery.insert(graph, surgery.operations(graph))
    again = copy.deepcopy(surgery.insert(opened, surgery.operations(opened)))
    assert [each.path for each in surgery.operations(again)] == [each.path for each in surgery.operations(graph)]
    assert torch.equal(again(x, scale=scale)["best"], graph(x, scale=scale)["best"])


def test_a_rewritten_graph_without_guards_can_be_saved() -> None:
    x = torch.randn(2, 3, 8, 8)
    graph = torch.export.export(Calls().eval(), (x,)).module(check_guards=False)
    file = io.BytesIO()
    torch.save(surgery.insert(graph, surgery.operations(graph)), file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert [(each.path, each.tensors, each.source) for each in surgery.operations(loaded)] == [
        (each.path, each.tensors, each.source) for each in surgery.operations(graph)
    ]
    assert torch.equal(loaded(x.clone()), graph(x.clone()))


def test_show_lists_the_operations_of_an_exported_graph(capsys: pytest.CaptureFixture[str]) -> None:
    graph, _, _ = nests()
    opened = surgery.insert(graph, surgery.select(graph, "lstm | max"))
    surgery.show(opened)
    shown = capsys.readouterr().out
    assert "attention" in shown
    assert "6 operations, 2 extracted" in shown
    assert "weight" not in shown.partition("6 operations")[0]


def test_a_graph_of_torch_fx_has_the_paths_of_a_traced_model() -> None:
    model, x = resnet18().eval(), torch.randn(1, 3, 32, 32)
    plain = fx.symbolic_trace(model)
    expected = [(each.path, each.kind) for each in surgery.operations(surgery.trace(model))]
    assert [(each.path, each.kind) for each in surgery.operations(plain)] == expected
    assert values(plain, x).keys() == {path for path, _ in expected}
