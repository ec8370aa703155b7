from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, fx, nn

import surgery
from surgery.extractor import ActivationExtractor
from surgery.oracle import against_eager
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
def test_a_model_is_held_against_itself_in_both_modes_on_another_batch_and_size(shape: tuple[int, ...]) -> None:
    model = Film(len(shape) - 2)
    x = torch.randn(shape)
    traced = surgery.trace(model, x)
    certificate = surgery.certify(model, traced, x)
    assert certificate.same, certificate.difference
    each = ["example", "batch 2", "4x8"]
    assert cases(certificate) == [(mode, case) for mode in ("eval", "train") for case in each]
    assert {c.case for c in certificate.comparisons if c.what == "gradients" and c.same} == {"example"}
    alone = surgery.certify(model, traced, x, modes=["train"], others=False)
    assert cases(alone) == [("train", "example")]


def test_the_other_batch_is_no_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    before = Film.forward

    def forward(self: Film, x: Tensor) -> Tensor:
        seen.append(x)
        return before(self, x)

    monkeypatch.setattr(Film, "forward", forward)
    model = Film(2).eval()
    x = torch.randn(1, 3, 4, 4)
    surgery.certify(model, fx.symbolic_trace(Film(2).eval()), x, modes=["eval"])
    batch = next(x for x in seen if type(x) is Tensor and len(x) == 2)
    assert not torch.equal(batch[0], batch[1])


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


def draw(opened: fx.GraphModule) -> None:
    with opened.graph.inserting_before(node(opened.graph, "relu_")):
        opened.graph.call_function(torch.rand, (1,))


def part_with_gradient(opened: fx.GraphModule) -> None:
    last = node(opened.graph, "relu_")
    with opened.graph.inserting_before(last):
        last.args = (opened.graph.call_method("detach", last.args),)


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (drop_write, "buffers"),
        (other_value, "values"),
        (other_output, "output"),
        (draw, "random numbers"),
        (part_with_gradient, "gradients"),
    ],
)
def test_what_a_graph_does_otherwise_is_found(spoil: Callable[[fx.GraphModule], None], what: str) -> None:
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


def test_a_function_that_is_kept_whole_is_one_operation_of_the_eager_run_too() -> None:
    model = Filling()
    x = torch.randn(1, 3)
    traced = surgery.trace(model, x)
    count, first = against_eager(model, traced, [x], training=False, seed=0)
    assert (count, first) == (5, None)
    for node in traced.graph.nodes:
        if node.target is filled and node.args[1] == 2.0:
            node.args = (node.args[0], 3.0)
    traced.recompile()
    _, first = against_eager(model, traced, [x], training=False, seed=0)
    assert first is not None
    assert first.startswith("filled@1 (")


def test_memory_that_nobody_has_written_is_not_compared() -> None:
    class Mask(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x.new_empty((4096,)).bernoulli_(0.5)

    model = Mask()
    x = torch.randn(4096)
    traced = surgery.trace(model, x)
    held = torch.full((4096,), 7.0)  # so that the memory is not zero by chance
    del held
    count, first = against_eager(model, traced, [x], training=True, seed=0)
    assert (count, first) == (2, None)


def test_a_function_that_is_kept_whole_may_give_what_it_got() -> None:
    class Passing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return passed(x)[0] + 1

    model = Passing()
    x = torch.randn(1, 2)
    certificate = surgery.certify(model, surgery.trace(model, x), x)
    assert certificate.same, certificate.difference


def test_a_value_that_is_taken_too_late_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert against_eager(model, traced, [x], training=False, seed=0)[1] is None
    monkeypatch.setattr(ActivationExtractor, "forward", late)
    count, first = against_eager(model, traced, [x], training=False, seed=0)
    assert count > 3
    assert first is not None
    assert first.startswith("norm (")
