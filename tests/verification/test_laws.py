"""The laws of surgery, on random small models full of views, writes in place, skips, reuse and state."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.eager.oracle import compare_with_eager
from surgery.graph.bitwise import bitwise_equal
from surgery.graph.tensors import named_tensors
from surgery.rewriting.extractor import listening
from surgery.rewriting.insertion import stop_after_last_extractor
from surgery.verification.model_state import compare_state, model_state
from tests.nets import Oracle

CHANNELS = 2


def flipped(x: Tensor) -> Tensor:
    return x.transpose(2, 3)


def added_(x: Tensor, y: Tensor) -> Tensor:
    x += y
    return x


def scaled_(x: Tensor, _y: Tensor) -> Tensor:
    x *= 0.5
    return x


def item_set(x: Tensor, y: Tensor) -> Tensor:
    x[:, 0] = y[:, 1]
    return x


def item_added(x: Tensor, y: Tensor) -> Tensor:
    x[:, 1] += y[:, 0]
    return x


def chunk_written(x: Tensor, _y: Tensor) -> Tensor:
    first, _ = x.chunk(2, dim=1)
    first.add_(1)
    return x


def lost_write(x: Tensor, y: Tensor) -> Tensor:
    """A write whose result nobody uses."""
    torch.clamp_(x, -2, 2)
    x.unsqueeze(0)[..., ::3].neg_()
    return y * 2


def no_gradients(x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        h = x * 2
    return h + y


FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # of two values, which may share their memory
    "add": torch.add,
    "cat": lambda x, y: torch.cat([x, y], 1)[:, 1:3],
    "relu": lambda x, _: F.relu(x),
    "relu_": lambda x, _: F.relu(x, inplace=True),
    "leaky_": lambda x, _: F.leaky_relu_(x, 0.2),
    "added_": added_,
    "scaled_": scaled_,
    "mul_": lambda x, y: x.mul_(y.tanh()),
    "same": lambda x, _: x,
    "view": lambda x, _: x.unflatten(1, (1, 2)).flatten(1, 2),
    "narrow": lambda x, _: x.narrow(1, 0, 1).expand(x.shape[0], 2, x.shape[2], x.shape[3]).clone(),
    "flip": lambda x, _: flipped(flipped(x)),
    "detach": lambda x, _: x.detach(),
    "item_set": item_set,
    "item_added": item_added,
    "chunk_written": chunk_written,
    "lost_write": lost_write,
    "no_gradients": no_gradients,
    "where": lambda x, y: torch.where(x > 0, x, y),
    "masked_": lambda x, _: x.masked_fill_(x > 1, 0.5),
    "copy_": lambda x, y: x.copy_(y),
    "random": lambda x, _: x + torch.rand(x.shape[2:]),
    "mean": lambda x, _: x - x.mean((2, 3), keepdim=True),
}
MODULES = ("conv", "norm", "act", "drop", "block")
STATES = ("count", "average", "item", "branch")


class Stop(Exception):  # noqa: N818 - a signal, no error
    pass


@dataclass(frozen=True)
class Line:
    """``values.append(kind(values[first], values[second]))``."""

    kind: str
    first: int
    second: int


class Random(nn.Module):
    """A model that does what its lines say."""

    def __init__(self, lines: tuple[Line, ...]) -> None:
        super().__init__()
        self.lines = lines
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.norm = nn.BatchNorm2d(CHANNELS)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5, inplace=True)
        self.block = nn.Sequential(self.conv, self.act)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("average", torch.zeros(CHANNELS, 1, 1))

    def forward(self, x: Tensor) -> Any:
        values = [x * 1, x + 1]
        for line in self.lines:
            one, other = values[line.first % len(values)], values[line.second % len(values)]
            values.append(self.step(line.kind, one, other))
        return {"last": values[-1], "others": values[-3:-1]}

    def step(self, kind: str, x: Tensor, y: Tensor) -> Tensor:
        if kind in FUNCTIONS:
            return FUNCTIONS[kind](x, y)
        if kind in MODULES:
            return getattr(self, kind)(x)
        if kind == "count":
            self.calls += 1  # type: ignore[assignment, operator]
            return x * self.calls
        if kind == "branch":
            return F.dropout(x, 0.5, self.training) if self.training else x.sigmoid_()
        if kind == "average":
            self.average.mul_(0.5).add_(x.detach().mean((0, 2, 3)).view(-1, 1, 1))
            return y
        self.average[0] = x.detach().mean()
        return x - self.average


makers = pytest.mark.parametrize("maker", ["symbolic", "observed"])

kinds = st.sampled_from((*FUNCTIONS, *MODULES, *STATES))
lines = st.builds(Line, kinds, st.integers(0, 9), st.integers(0, 9))
programs = st.lists(lines, min_size=1, max_size=9).map(tuple)

steady = settings(  # the same examples each time
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=30,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def made(program: tuple[Line, ...], training: bool) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Random(program).train(training), torch.randn(2, CHANNELS, 4, 4)


def run(model: nn.Module, x: Tensor) -> list[Tensor]:
    """What a model gives in two runs, the state of the random generator after them, and its buffers."""
    torch.manual_seed(1)
    with torch.no_grad():
        outputs = [tensor.clone() for _ in range(2) for _, tensor in named_tensors(model(x.clone()))]
    return [*outputs, torch.random.get_rng_state(), *(buffer.clone() for buffer in model.buffers())]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(bitwise_equal(a, b) for a, b in zip(one, other, strict=True))


def traced_by(maker: Any, model: nn.Module, x: Tensor) -> Any:
    return surgery.trace(model, x if maker == "observed" else None, front_end=maker)


def opened_everywhere(maker: Any, model: nn.Module, x: Tensor) -> Any:
    traced = traced_by(maker, model, x)
    return surgery.insert(traced, surgery.operations(traced))


@makers
@steady
@given(programs)
def test_a_random_model_is_certified(maker: str, program: tuple[Line, ...]) -> None:
    model, x = made(program, training=False)
    before = model_state(model)
    certificate = surgery.certify(model, opened_everywhere(maker, model, x), x, others=False)
    assert certificate.same, certificate.difference
    assert not [c for c in certificate.comparisons if c.same is None and c.difference and "not run" not in c.difference]
    assert compare_state(model, before).same


@makers
@steady
@given(programs, st.booleans())
def test_extractors_everywhere_change_no_bit(maker: str, program: tuple[Line, ...], training: bool) -> None:
    model, x = made(program, training)
    opened = opened_everywhere(maker, model, x)
    expected = run(copy.deepcopy(model), x)
    with listening(opened, lambda operation, value: None):
        assert same(run(opened, x), expected)


@makers
@steady
@given(programs, st.booleans())
def test_the_recorded_values_are_those_that_were_computed(
    maker: str, program: tuple[Line, ...], training: bool
) -> None:
    model, x = made(program, training)
    traced = traced_by(maker, model, x)
    _, difference = compare_with_eager(model, traced, [x], training=training, seed=3)
    assert difference is None
    if maker == "observed":
        return  # there is no graph to interpret
    with torch.no_grad():
        torch.manual_seed(3)
        oracle = Oracle(copy.deepcopy(traced))
        oracle.run(x.clone())
        torch.manual_seed(3)
        recorded = surgery.record(opened_everywhere(maker, model, x), x.clone())
    assert same([activation.values for activation in recorded], oracle.values)


@makers
@steady
@given(programs, st.booleans(), st.integers(0, 99))
def test_a_model_cut_short_keeps_every_write_that_what_remains_can_see(
    maker: str, program: tuple[Line, ...], training: bool, at: int
) -> None:
    model, x = made(program, training)
    traced = traced_by(maker, model, x)
    known = surgery.operations(traced)
    whole = surgery.insert(traced, [known[at % len(known)], known[at // 2 % len(known)]])
    short = stop_after_last_extractor(whole)
    seen: dict[bool, list[list[Tensor]]] = {True: [], False: []}
    after = {}
    for cut, one in ((True, short), (False, whole)):

        def keep(_operation: Any, value: Any, cut: bool = cut) -> None:
            seen[cut].append([tensor.clone() for _, tensor in named_tensors(value)])
            if not cut and len(seen[cut]) == len(seen[True]):
                raise Stop  # where the other has ended

        with torch.no_grad(), listening(one, keep), suppress(Stop):
            torch.manual_seed(2)
            one(x.clone())
        after[cut] = [torch.random.get_rng_state(), *one.buffers()]
    assert len(seen[True]) == len(seen[False]) > 0
    assert all(same(ours, theirs) for ours, theirs in zip(seen[True], seen[False], strict=True))
    assert same(after[True], after[False])


@makers
@steady
@given(programs, st.booleans())
def test_copies_and_files_of_a_rewritten_model_compute_the_same(
    maker: str, program: tuple[Line, ...], training: bool
) -> None:
    model, x = made(program, training)
    opened = opened_everywhere(maker, model, x)
    buffer = io.BytesIO()
    torch.save(opened, buffer)
    buffer.seek(0)
    expected = run(copy.deepcopy(model), x)
    for restored in (torch.load(buffer, weights_only=False), copy.deepcopy(opened)):
        assert surgery.operations(restored) == surgery.operations(opened)
        assert same(run(restored, x), expected)
