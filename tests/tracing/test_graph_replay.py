"""A graph that makes the calls of its model is known to be right without running it; any other graph is compared."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import surgery
from surgery.eager import ExternalState, bind_example
from surgery.graph.bitwise import bitwise_equal
from surgery.graph.trace_info import trace_info
from surgery.models.pix2pix.unet import UNet
from surgery.tracing import call_recording, example_check
from surgery.tracing.example_runs import Comparison
from surgery.tracing.graph_replay import is_same, makes_the_same_calls
from tests.nets import Containers, InPlace, Reused


class Usual(nn.Module):
    """Has what usual models have: leaves, functions, operators, methods, sizes, a buffer that it writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.scale = nn.Parameter(torch.randn(4, 1, 1))
        self.register_buffer("runs", torch.zeros(()))

    def forward(self, x: Tensor, flip: bool = False) -> dict[str, Any]:
        self.runs += 1  # type: ignore[assignment]
        height, width = x.shape[2:]
        h = F.dropout(F.relu(self.norm(self.conv(x))), 0.5, self.training)
        first, second = torch.chunk(h * self.scale + 2 * h, 2, dim=1)
        h = torch.cat([first - second, 1 / (1 + second.abs())], 1).view(x.size(0), 4, -1)
        h = (h + torch.randn_like(h)).reshape(x.size(0), 4, height, width)
        h[:, 0] = 0
        h.mul_(0.5)
        return {"values": h.flip(-1) if flip else h, "pair": (first, [second])}


USUAL: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (Usual, (2, 3, 6, 4)),
    (lambda: UNet(depth=5, width=2), (2, 3, 32, 32)),
    (InPlace, (2, 3, 8, 8)),
    (Containers, (2, 6, 4)),
    (Reused, (2, 4)),
]


def compared(model: nn.Module, example: Any, mode: bool = False) -> Comparison:
    traced = surgery.trace(model, example, front_end="symbolic")
    assert isinstance(traced, fx.GraphModule)
    return Comparison(model, traced, bind_example(model, example), mode, ExternalState(model))


@pytest.mark.parametrize(("make", "shape"), USUAL)
def test_usual_models_run_once_in_each_mode_and_their_graphs_never(
    make: Callable[[], nn.Module], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, example = make().eval(), torch.randn(shape)
    expected = surgery.operations(surgery.trace(model, example))  # as run and compared, if it has to be
    runs: list[Any] = []
    monkeypatch.setattr(example_check, "find_graph_difference", runs.append)
    traced = surgery.trace(model, example)
    assert not runs
    assert trace_info(traced).is_verified
    assert surgery.operations(traced) == expected
    assert all(operation.tensors for operation in expected if operation.kind in ("conv2d", "cat", "relu", "add"))


def test_shapes_are_those_that_a_run_of_the_graph_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    model, example = Usual().eval(), torch.randn(2, 3, 6, 4)
    replayed = surgery.trace(model, example)
    monkeypatch.setattr(example_check, "makes_the_same_calls", lambda _: False)
    run = surgery.trace(model, example)
    assert surgery.operations(replayed) == surgery.operations(run)
    assert all(
        one.meta.get("surgery_tensors") == other.meta.get("surgery_tensors")
        for one, other in zip(replayed.graph.nodes, run.graph.nodes, strict=True)  # type: ignore[union-attr, arg-type]
    )


def swap_arguments(node: fx.Node) -> bool:
    node.args = (node.args[1], node.args[0], *node.args[2:]) if len(node.args) > 1 else node.args
    return bool(len(node.args) > 1 and node.args[0] != node.args[1])


def change_numbers(node: fx.Node) -> bool:
    before = node.args
    node.args = tuple(arg + 1 if type(arg) is int else arg for arg in before)
    return bool(node.args != before)


def change_operator(node: fx.Node) -> bool:
    target, node.target = node.target, operator.pow
    return target in (operator.add, operator.sub, operator.mul, operator.truediv)


def read_an_earlier_value(node: fx.Node) -> bool:
    source = next(iter(node.all_input_nodes), node)
    if source.all_input_nodes:
        node.replace_input_with(source, source.all_input_nodes[0])
    return bool(source.all_input_nodes)


def leave_out(node: fx.Node) -> bool:
    if not node.op.startswith("call_") or not node.all_input_nodes:
        return False
    node.replace_all_uses_with(node.all_input_nodes[0])
    node.graph.erase_node(node)
    return True


def repeat(node: fx.Node) -> bool:
    if not node.op.startswith("call_"):
        return False
    with node.graph.inserting_after(node):
        node.graph.node_copy(node)
    return True


CHANGES = (swap_arguments, change_numbers, change_operator, read_an_earlier_value, leave_out, repeat)
"""Changes of a graph at a node, each of which returns whether it was possible there."""


def outcome(traced: nn.Module, x: Tensor) -> list[Any] | None:
    """Return the values that a graph computes, the state of the generator after it, and the buffer."""
    torch.manual_seed(0)
    traced = copy.deepcopy(traced)
    with torch.no_grad():
        try:
            output = traced(x.clone())
        except Exception:  # noqa: BLE001 - a changed graph may fail
            return None
    values = [output["values"], output["pair"][0], output["pair"][1][0], torch.random.get_rng_state()]
    return [value.tolist() for value in (*values, *traced.buffers())]


@pytest.mark.parametrize("change", CHANGES)
def test_no_graph_that_computes_something_else_passes_for_the_model(change: Callable[[fx.Node], bool]) -> None:
    model, example, other = Usual().eval(), torch.randn(2, 3, 6, 4), torch.randn(3, 3, 6, 4)
    comparison = compared(model, example)
    assert makes_the_same_calls(comparison)
    expected = outcome(comparison.traced, other)
    tried = passed = 0
    for number in range(len(comparison.graph.nodes)):
        traced = copy.deepcopy(comparison.traced)
        changed = replace(comparison, traced=traced)
        if not change(list(changed.graph.nodes)[number]):
            continue
        tried += 1
        if makes_the_same_calls(changed):  # as with another read of a size, which changes nothing
            passed += 1
            traced.recompile()
            assert outcome(traced, other) == expected
    assert tried > 3
    assert passed < tried / 2


class ReadsAValue(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return x * dict(self.named_parameters())["weight"].detach().numpy().sum().item()


class WritesToItsWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        y = x.contiguous()
        if y is x:  # a proxy never is
            self.weight.data.mul_(2)
        return x * self.weight


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(1)
        return x * 2


class Iterates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.numbers = (iter(range(1000)),)

    def forward(self, x: Tensor) -> Tensor:
        next(self.numbers[0])
        return x * 2


class Kept(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * TABLE.mean()


TABLE = torch.arange(3.0)


class Resized(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x + 1
        y.unsqueeze_(0)
        return y * y.shape[0]


@pytest.mark.parametrize("kind", [ReadsAValue, WritesToItsWeights, Listed, Iterates, Kept, Resized])
def test_a_run_that_does_what_no_record_shows_is_not_judged_by_its_record(kind: type[nn.Module]) -> None:
    model, example = kind(), torch.randn(2, 3)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    traced = surgery.trace(model, example)  # compared in the other way, or observed
    if not isinstance(traced, fx.GraphModule):
        traced = surgery.trace(model, front_end="symbolic", allow=["attribute", "state"])
    comparison = Comparison(model, traced, bind_example(model, example), False, ExternalState(model))  # type: ignore[arg-type]
    assert not makes_the_same_calls(comparison)
    assert all(bitwise_equal(model.state_dict()[name], value) for name, value in weights.items())


def test_a_run_that_computes_too_much_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = compared(nn.Sequential(nn.ReLU(), nn.ReLU()), torch.randn(2, 8))
    assert makes_the_same_calls(comparison)
    monkeypatch.setattr(call_recording, "MAX_RECORDED_BYTES", 100)
    assert not makes_the_same_calls(comparison)


def test_the_mode_of_a_graph_is_that_of_the_run() -> None:
    class Trained(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if self.training else x + 1

    model, example = Trained().eval(), torch.randn(2, 3)
    assert all(makes_the_same_calls(compared(model, example, mode)) for mode in (True, False))
    mixed = compared(model, example)
    graphs: Any = mixed.traced.graphs
    graphs[False], graphs[True] = graphs[True], graphs[False]
    assert not makes_the_same_calls(mixed)


def test_values_are_the_same_only_if_no_computation_could_tell_them_apart() -> None:
    tensor = torch.ones(2)
    assert is_same(
        [tensor, (1, 2.5, "a", None, torch.float32, slice(0, 2))],
        [tensor, (1, 2.5, "a", None, torch.float32, slice(0, 2))],
    )
    different = [(1, 1.0), (1, True), (0.0, -0.0), ((1,), [1]), (tensor, tensor.clone()), ({"a": 1}, {"b": 1}), (1, 2)]
    assert not any(is_same(one, other) for one, other in different)
    assert not is_same(slice(0, 2), slice(0, 3))
