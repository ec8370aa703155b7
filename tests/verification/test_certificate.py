from __future__ import annotations

import copy
import io
import itertools
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, fx, nn

import surgery
from surgery.eager import user_code
from surgery.eager.oracle import compare_with_eager
from surgery.eager.random_states import seed_torch
from surgery.eager.runs import run_once
from surgery.rewriting.extractor import ActivationExtractor
from surgery.verification.model_state import model_state
from tests.nets import InPlace

if TYPE_CHECKING:
    from collections.abc import Callable


class Film(nn.Module):
    """Takes films and images of any size in batches of any."""

    def __init__(self, dimensions: int = 3) -> None:
        super().__init__()
        self.conv = (nn.Conv2d if dimensions == 2 else nn.Conv3d)(3, 2, 3, padding=1)
        self.norm = (nn.BatchNorm2d if dimensions == 2 else nn.BatchNorm3d)(2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)  # type: ignore[operator]
        return self.norm(self.conv(x)).relu_() * 2


def cases(certificate: surgery.Certificate) -> list[tuple[str, str]]:
    return list(dict.fromkeys((c.mode, c.case) for c in certificate.comparisons if c.mode))


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (1, 3, 2, 4, 4)])
def test_a_model_is_compared_in_both_modes_on_another_batch_and_another_size(shape: tuple[int, ...]) -> None:
    model = Film(len(shape) - 2)
    x = torch.randn(shape)
    traced = surgery.trace(model, x)
    certificate = surgery.certify(model, traced, x)
    assert certificate.same, certificate.difference
    each = ["example", "again", "batch 2", "4x8"]
    assert cases(certificate) == [(mode, case) for mode in ("eval", "train") for case in each]
    assert {c.case for c in certificate.comparisons if c.what == "gradients" and c.same} == {"example"}
    alone = surgery.certify(model, traced, x, modes=["train"], others=False)
    assert cases(alone) == [("train", "example")]


def test_the_imported_modules_are_looked_through_once_in_all_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = Film(2), torch.randn(1, 3, 4, 4)
    traced = surgery.trace(model, x)
    surgery.certify(model, traced, x)  # which may import modules
    find, searches = user_code._find_namespaces, []

    def count(kinds: frozenset[type]) -> Any:
        searches.append(kinds)
        return find(kinds)

    monkeypatch.setattr(user_code, "_find_namespaces", count)
    assert surgery.certify(model, traced, x).same
    assert len(searches) == len(set(searches)) > 0


class Numbered(nn.Module):
    """Has an attribute that is called as the dicts of hooks are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.n_hooks = 3

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.n_hooks


def test_an_attribute_of_any_type_may_be_called_as_hooks_are() -> None:
    model, x = Numbered(), torch.randn(1, 3, 4, 4)
    for front_end in ("symbolic", "observed"):
        traced = surgery.trace(model, x, front_end=front_end)  # type: ignore[arg-type]
        assert surgery.certify(model, traced, x).same


def test_the_larger_batch_does_not_repeat_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []  # of arrays: tensors that a run leaves outside the model are taken away again
    before = Film.forward

    def forward(self: Film, x: Tensor) -> Tensor:
        if type(x) is Tensor:
            seen.append(x.numpy().copy())
        return before(self, x)

    monkeypatch.setattr(Film, "forward", forward)
    model = Film(2).eval()
    x = torch.randn(1, 3, 4, 4)
    surgery.certify(model, fx.symbolic_trace(Film(2).eval()), x, modes=["eval"])
    batch = next(x for x in seen if len(x) == 2)
    assert (batch[0] != batch[1]).any()


def node(graph: fx.Graph, kind: Any) -> fx.Node:
    return next(node for node in graph.nodes if node.target == kind)


def drop_write(opened: fx.GraphModule) -> None:
    opened.graph.erase_node(node(opened.graph, "add_"))


def other_value(opened: fx.GraphModule) -> None:
    """A value that nothing of the output depends on."""
    last = node(opened.graph, "relu_")
    with opened.graph.inserting_after(last):
        opened.graph.call_method("relu_", (last,))


def other_output(opened: fx.GraphModule) -> None:
    last = next(node for node in opened.graph.nodes if node.op == "output").args[0]
    last.args = (last.args[0], 3)


def other_structure(opened: fx.GraphModule) -> None:
    output = next(node for node in opened.graph.nodes if node.op == "output")
    output.args = ((output.args[0],),)


def draw(opened: fx.GraphModule) -> None:
    with opened.graph.inserting_before(node(opened.graph, "relu_")):
        opened.graph.call_function(torch.rand, (1,))


def part_with_gradient(opened: fx.GraphModule) -> None:
    last = node(opened.graph, "relu_")
    with opened.graph.inserting_before(last):
        last.args = (opened.graph.call_method("detach", last.args),)


def other_mode(opened: fx.GraphModule) -> None:
    with opened.graph.inserting_before(node(opened.graph, "relu_")):
        opened.graph.call_function(lose_mode, (opened.graph.get_attr("norm"),))


def lose_mode(norm: nn.Module) -> None:
    norm.training = not norm.training


def other_parameter(opened: fx.GraphModule) -> None:
    conv: Any = opened.get_submodule("conv")
    conv.bias = nn.Parameter(conv.bias.detach() + 1)


def frozen_parameter(opened: fx.GraphModule) -> None:
    conv: Any = opened.get_submodule("conv")
    conv.bias = nn.Parameter(conv.bias.detach(), requires_grad=False)


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (drop_write, "buffers"),
        (other_value, "values"),
        (other_output, "output"),
        (draw, "random numbers"),
        (part_with_gradient, "gradients"),
        (other_structure, "output"),
        (other_mode, "modes"),
        (other_parameter, "parameters"),
        (frozen_parameter, "parameters"),
    ],
)
def test_a_graph_that_does_something_else_is_found(spoil: Callable[[fx.GraphModule], None], what: str) -> None:
    model = Film(2).eval()
    x = torch.randn(1, 3, 4, 4)
    opened = surgery.trace(model, x)
    spoil(opened)
    opened.recompile()
    certificate = surgery.certify(model, opened, x, modes=["eval"])
    assert not certificate.same
    assert what in {c.what for c in certificate.comparisons if c.same is False}


@fx.wrap
def passed(x: Tensor) -> tuple[Tensor, int]:
    """What it got, as a function does that only makes sure of a shape."""
    return x, x.ndim


@fx.wrap
def filled(x: Tensor, value: float) -> Tensor:
    """Writes to what it got through a view, and gives it, so that no function of torch gives the same."""
    x[:, 1:].fill_(value)
    return x


class Filling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        first = filled(self.inner(x), 1.0) + 1
        return filled(first, 2.0) * 2


def test_a_leaf_function_is_one_operation_of_the_eager_run_too() -> None:
    model = Filling()
    x = torch.randn(1, 3)
    traced = surgery.trace(model, x)
    count, first = compare_with_eager(model, traced, [x], training=False, seed=0)
    assert (count, first) == (5, None)
    for node in traced.graph.nodes:
        if node.target is filled and node.args[1] == 2.0:
            node.args = (node.args[0], 3.0)
    traced.recompile()
    _, first = compare_with_eager(model, traced, [x], training=False, seed=0)
    assert first is not None
    assert first.startswith("filled@1 (")


def test_uninitialized_memory_is_not_compared() -> None:
    class Mask(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x.new_empty((4096,)).bernoulli_(0.5)

    model = Mask()
    x = torch.randn(4096)
    traced = surgery.trace(model, x)
    held = torch.full((4096,), 7.0)  # so that the memory is not zero by chance
    del held
    count, first = compare_with_eager(model, traced, [x], training=True, seed=0)
    assert (count, first) == (2, None)


def test_a_leaf_function_may_return_its_argument() -> None:
    class Passing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return passed(x)[0] + 1

    model = Passing()
    x = torch.randn(1, 2)
    certificate = surgery.certify(model, surgery.trace(model, x), x)
    assert certificate.same, certificate.difference


def test_a_value_that_is_recorded_too_late_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As forward hooks take them: when the next operation has run, which may have worked in place."""
    waiting: list[Callable[[], None]] = []

    def late(self: ActivationExtractor, value: Any) -> Any:
        for take in waiting:
            take()
        listener = self.listener
        waiting[:] = [lambda: listener(self.operation, value)] if listener else []
        return value

    model = InPlace().eval()
    x = torch.randn(2, 3, 6, 6)
    traced = surgery.trace(model, x)
    assert compare_with_eager(model, traced, [x], training=False, seed=0)[1] is None
    monkeypatch.setattr(ActivationExtractor, "forward", late)
    count, first = compare_with_eager(model, traced, [x], training=False, seed=0)
    assert count > 3
    assert first is not None
    assert first.startswith("norm (")


def test_a_difference_in_the_second_run_only_is_found() -> None:
    model = Film(2).eval()
    x = torch.randn(1, 3, 4, 4)
    opened = surgery.trace(model, x)
    opened.get_submodule("conv").register_buffer("runs", torch.zeros(()))

    def drift(module: Any, _inputs: Any, output: Tensor) -> Tensor:
        module.runs += 1
        return output + (module.runs > 1)

    opened.get_submodule("conv").register_forward_hook(drift)
    found = surgery.certify(model, opened, x, modes=["eval"])
    assert {c.case for c in found.comparisons if c.what == "output" and c.same is False} == {"again"}


def test_hooks_that_do_not_fire_are_found() -> None:
    model = Film(2).eval()
    model.conv.register_forward_hook(lambda _module, _inputs, _output: None)
    x = torch.randn(1, 3, 4, 4)
    opened = surgery.trace(model, x)
    assert surgery.certify(model, opened, x).same
    opened.get_submodule("conv")._forward_hooks.clear()
    certificate = surgery.certify(model, opened, x, modes=["eval"])
    assert "the forward_hooks of conv fire 0 times, not 1" in certificate.difference


def test_the_first_operation_that_differs_is_named_with_its_line() -> None:
    model = Film(2).eval()
    x = torch.randn(1, 3, 4, 4)
    opened = surgery.trace(model, x)
    relu = node(opened.graph, "relu_")
    relu.target, relu.kwargs = "clamp_", {"min": 0.1}
    opened.recompile()
    found = surgery.certify(model, opened, x)
    assert found.difference.startswith("values (eval, example): clamp (tests/verification/test_certificate.py:")
    assert found.record()["difference"] == found.difference


class Own(nn.Module):
    """Has hooks, modes and buffers that a run of another could change."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.norm(self.conv(x)), 0.5, self.training)


def test_certifying_leaves_both_models_as_they_were() -> None:
    model = Own()
    model.norm.eval()
    model.conv.register_forward_hook(lambda _module, _inputs, _output: None)
    x = torch.randn(2, 3, 5, 5)
    opened = surgery.trace(model, x)
    before = [str(model_state(one)) for one in (model, opened)]
    generator = torch.random.get_rng_state()
    assert surgery.certify(model, opened, x).same
    assert [str(model_state(one)) for one in (model, opened)] == before
    assert torch.equal(torch.random.get_rng_state(), generator)


def test_a_change_to_the_original_is_found() -> None:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight

    def forget(_module: Any, _inputs: Any) -> None:
        with torch.no_grad():
            model.weight.add_(1)

    model = Forgetful()
    opened = surgery.trace(model)
    model.register_forward_pre_hook(forget)
    found = surgery.certify(model, opened, torch.ones(2), modes=["eval"], others=False)
    assert "the original: weight: the values differ" in str([c.describe() for c in found.comparisons])


class Frozen(nn.Module):
    """Keeps its norm in eval mode, whatever it is told, and forgets to return itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.5)

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        self.norm.eval()

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.drop(self.norm(self.conv(x))), 0.5, self.training)


def test_a_module_that_stays_in_eval_mode_is_kept_in_it() -> None:
    model = Frozen()
    model.train()
    x = torch.randn(2, 3, 4, 4)
    opened = surgery.insert(traced := surgery.trace(model, x), surgery.operations(traced))
    copied = copy.deepcopy(opened)
    buffer = io.BytesIO()
    torch.save(opened, buffer)
    buffer.seek(0)
    for one in (traced, opened, copied, torch.load(buffer, weights_only=False)):
        for mode in (True, False, True):
            one.train(mode)
            assert (one.training, one.norm.training, one.drop.training) == (mode, False, mode)
        assert surgery.certify(model, one, x).same


class Part(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5, self.training) + 1 if self.training else x * 2


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.norm = Part(), Part(), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.two(self.one(x)))


@pytest.mark.parametrize("training", [True, False])
def test_modules_in_different_modes_stay_so_until_a_mode_is_set(training: bool) -> None:
    model = Mixed().train(training)
    model.two.train(not training)
    model.norm.train(not training)
    x = torch.randn(2, 3, 4, 4)
    opened = surgery.insert(traced := surgery.trace(model, x), surgery.operations(traced))
    certificate = surgery.certify(model, opened, x)
    assert certificate.same, certificate.difference
    assert {c.mode for c in certificate.comparisons} == {"eval", "train", "as-is", ""}
    for one in (opened, copy.deepcopy(opened)):
        assert (one.one.training, one.two.training, one.norm.training) == (training, not training, not training)
        torch.manual_seed(0)
        expected = copy.deepcopy(model)(x)
        torch.manual_seed(0)
        assert torch.equal(copy.deepcopy(one)(x), expected)
    opened.train()
    certificate = surgery.certify(model, opened, x)
    assert certificate.same, certificate.difference
    assert {c.mode for c in certificate.comparisons} == {"eval", "train", ""}


def test_a_module_in_another_mode_is_found() -> None:
    model = Mixed().eval()
    x = torch.randn(2, 3, 4, 4)
    opened: Any = surgery.trace(model, x)
    opened.modes[True]["norm"] = False
    certificate = surgery.certify(model, opened, x, modes=["train"])
    assert [c.difference for c in certificate.comparisons if c.what == "modes" and c.case == "example"] == [
        "norm: False is not True"
    ]


def test_a_refused_mode_is_reported_and_is_no_difference() -> None:
    class Stubborn(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if self.training and x.sum() > 0:
                return -x
            return x + 1

    model = Stubborn().eval()
    x = torch.randn(2, 3)
    certificate = surgery.certify(model, surgery.trace(model, x), x)
    assert certificate.same
    (refused,) = [c for c in certificate.comparisons if c.mode == "train"]
    assert refused.same is None
    assert "there is no train mode: " in refused.difference


def test_a_value_that_varies_between_runs_of_the_original_is_no_difference() -> None:
    class Clock(nn.Module):
        ticks = itertools.count()

        def forward(self, x: Tensor) -> Tensor:
            return x + next(self.ticks)

    model = Clock()
    x = torch.randn(2, 3)
    certificate = surgery.certify(model, surgery.trace(model, x, allow=["state"]), x, modes=["eval"], others=False)
    unsure = [c for c in certificate.comparisons if c.what == "output"]
    assert [(c.same, c.difference) for c in unsure] == [(None, "the original itself gives another each time it runs")]


class SameTwice(nn.Module):
    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        return query * 2 if query is key else query + key + 1


def test_a_tensor_that_is_given_twice_is_given_twice_to_both() -> None:
    x = torch.ones(1, 3)
    traced = surgery.trace(SameTwice(), (x, x), allow=["branch"])
    opened = surgery.insert(traced, surgery.operations(traced))
    assert not surgery.certify(SameTwice(), opened, x, x).same
    assert surgery.certify(SameTwice(), opened, x, x + 1).same
    for gradients in (True, False):
        inputs = {"query": x, "key": x}
        _, output = run_once(SameTwice(), inputs, lambda each: ((), each), gradients=gradients).output[-1]
        assert torch.equal(output, x * 2)


@pytest.mark.parametrize("accelerator", [False, True])
def test_a_run_begins_with_the_random_numbers_of_a_seed(accelerator: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: accelerator)
    with torch.random.fork_rng():
        torch.rand(3)
        seed_torch(7)
        drawn = torch.rand(3)
        torch.manual_seed(7)
        assert torch.equal(drawn, torch.rand(3))
