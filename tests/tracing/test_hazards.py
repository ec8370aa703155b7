"""Models that are hard to trace: each is traced exactly, bit for bit, or refused with the line that can't be traced."""

from __future__ import annotations

import copy
import io
import random
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.errors import TraceError
from surgery.graph.trace_info import hazards
from tests.traps.chance import Noise


def line_of(text: str) -> int:
    """Return the number of the line of this file that ends with a text."""
    with open(__file__, encoding="utf-8") as file:  # noqa: PTH123
        return next(number for number, line in enumerate(file, 1) if line.rstrip().endswith(text))


class Accumulating(nn.Module):
    """Writes to a tensor that each run makes anew."""

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros(3, 1, 1)
        for _ in range(3):
            total += x.mean((0, 2, 3)).view(3, 1, 1)
        steps = torch.arange(3).view(3, 1, 1)
        steps[0] = 7
        return x * total + steps


class NoGrad(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            h = self.one(x)
            with torch.enable_grad():
                h = h * self.two(x)
        return self.two(h) + self.frozen(x)

    @torch.no_grad()
    def frozen(self, x: Tensor) -> Tensor:
        return self.one(x)


class Detaching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        previous = torch.is_grad_enabled()
        torch.set_grad_enabled(False)
        h = self.conv(x)
        torch.set_grad_enabled(previous)
        return self.conv(x) + h


class Autocast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = self.conv(x)
            with torch.autocast("cpu", enabled=False):
                h = self.conv(h.float())
        return self.conv(x[..., :6, :6]) + h


class Types(nn.Module):
    """Asks whether a value is a tensor."""

    def forward(self, x: Any) -> Tensor:
        h = x if isinstance(x, Tensor) else torch.cat(x)
        h = h.relu()
        return h + 1 if isinstance(h, torch.Tensor) else h


class Views(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x * 2
        part = h[:, 1:]
        part += 1
        part.transpose(2, 3).mul_(3)
        h.view(-1)[::7].zero_()
        F.relu(h, inplace=True)
        torch.sigmoid_(h[:, 0])
        h.select(1, 2).copy_(h[:, 0])
        return h


class Out(nn.Module):
    """Writes to the tensor given as `out`, which autograd refuses."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.empty(0)
        torch.add(x, 1, out=h)
        return h.mul_(2)


class OnItsInput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        F.leaky_relu_(x, 0.1)
        return x + 1


class Data(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        h = x + 0
        h.data = h.data * 2
        self.average.data = self.average * 0.5 + x.mean((0, 2, 3)).detach()
        return h * self.average.view(3, 1, 1)


class Counter(nn.Module):
    """Counts in a buffer that is written in place."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1  # type: ignore[assignment, operator]
        return x * self.calls


class RootHooks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.spectral_norm(nn.Conv2d(3, 3, 1))
        self.last = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1))
        self.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 2,))
        self.register_forward_hook(lambda _, __, output: output + 1)
        self.conv.register_forward_hook(lambda _, __, output: output.relu_())

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.conv(x))


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 4, batch_first=True)

    def forward(self, x: Tensor) -> dict[str, Any]:
        rows, (hidden, _) = self.lstm(x[:, 0])
        top = rows.topk(2)
        return {"rows": rows, "pair": [hidden, {"top": top}], "size": x.shape[2:], "name": "n", "none": None}


class Dtypes(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        spectrum = torch.fft.fft2(x)
        return (
            spectrum * 1j,
            x.half() / 3,
            x.bfloat16().exp(),
            (x > 0) | (x < -1),
            (x * 9).long() // 2,
            x.sum(),
            x[:0],
            x.to(memory_format=torch.channels_last) + 1,
            x.double().to_sparse().to_dense(),
        )


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 3, 1)
        self.same = self.one
        self.tied = nn.Conv2d(3, 3, 1)
        self.tied.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.tied(self.same(self.one(x)))


AS_THEY_ARE: list[type[nn.Module]] = [
    *(
        Accumulating,
        NoGrad,
        Detaching,
        Autocast,
        Types,
        Views,
        Out,
        OnItsInput,
        Data,
        Counter,
        RootHooks,
        Nested,
    ),
    *(Dtypes, Shared),
]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize("net", AS_THEY_ARE)
def test_a_trap_is_traced_as_it_is(net: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = net().eval()
    x = torch.randn(2, 3, 8, 8)
    given = x.clone()
    traced = surgery.trace(model, x)
    assert torch.equal(x, given)
    opened = surgery.insert(traced, surgery.select(traced, "*"))
    certificate = surgery.certify(model, opened, x)
    assert certificate.same, certificate.difference
    assert not [hazard for hazard in hazards(traced) if hazard.changes_result]
    assert torch.is_grad_enabled()
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("net", AS_THEY_ARE)
def test_a_trap_survives_copies_and_files(net: type[nn.Module]) -> None:
    if net is RootHooks:
        pytest.skip("its hooks are lambdas, which no file can hold")
    torch.manual_seed(0)
    model = net().eval()
    opened = surgery.insert(traced := surgery.trace(model), surgery.select(traced, "*"))
    buffer = io.BytesIO()
    torch.save(opened, buffer)
    buffer.seek(0)
    x = torch.randn(2, 3, 8, 8)
    for restored in (torch.load(buffer, weights_only=False), copy.deepcopy(opened)):
        certificate = surgery.certify(model, restored, x, modes=["eval"])
        assert certificate.same, certificate.difference


def test_random_numbers_are_drawn_anew_in_each_run() -> None:
    traced = surgery.trace(Noise())
    x = torch.zeros(1, 1, 2, 2)
    assert not torch.equal(traced(x), traced(x))


class PythonsRandom(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * random.random()  # noqa: S311 - the mark of Python's random


class Swallowing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        try:
            if x.sum() > 0:  # the mark of swallowing
                return x
        except Exception:  # noqa: BLE001
            return x * 2
        return -x


class Replacing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.average: Tensor = self.average + 1
        return x * self.average


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.calls


class UnknownType(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        first = x.chunk(2)[0]
        return first if isinstance(first, Tensor) else x  # the mark of types


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else -x  # the mark of branches


@pytest.mark.parametrize(
    ("net", "kind", "what", "mark"),
    [
        (PythonsRandom, "random", "drawn from Python's or numpy's generator", "the mark of Python's random"),
        (Swallowing, "swallowed", "a `try` hides that this can't be traced", "the mark of swallowing"),
        (Replacing, "buffer", "writes or replaces the buffer average", None),
        (Counting, "attribute", "sets the attribute calls, and a later run may read it", None),
        (
            UnknownType,
            "isinstance",
            "checks the type of getitem; it is not known while tracing, and the graph holds one branch",
            "the mark of types",
        ),
    ],
)
def test_a_hazard_is_refused_unless_it_is_allowed(net: type[nn.Module], kind: Any, what: str, mark: str | None) -> None:
    state = random.getstate()
    with pytest.raises(TraceError, match=what) as caught:
        surgery.trace(net())
    assert random.getstate() == state
    assert f"allow=['{kind}']" in str(caught.value)
    assert "\n" not in str(caught.value)
    if mark:
        assert f"tests/tracing/test_hazards.py:{line_of(mark)}: " in str(caught.value)
    traced = surgery.trace(net(), allow=[kind])
    assert [hazard.kind for hazard in hazards(traced)] == [kind]
    assert hazards(surgery.insert(traced, surgery.operations(traced))) == hazards(traced)


def test_a_branch_on_a_value_is_refused_with_its_line() -> None:
    with pytest.raises(
        TraceError, match=rf"tests/tracing/test_hazards.py:{line_of('# the mark of branches')}: a branch or loop"
    ):
        surgery.trace(Branch())


class Packed:
    """Has an attribute whose `len` raises an error, as the packed weights of quantized modules do."""

    def __len__(self) -> int:
        raise NotImplementedError


def test_an_attribute_without_a_length_does_not_hinder_tracing() -> None:
    model = nn.ReLU()
    model.packed = Packed()  # type: ignore[assignment]
    assert hazards(surgery.trace(nn.Sequential(model))) == ()


def test_an_attribute_that_is_only_set_is_a_note() -> None:
    class Remembering(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            self.last = x.shape
            return x + 1

    (hazard,) = hazards(surgery.trace(Remembering()))
    assert (hazard.kind, hazard.changes_result) == ("attribute", False)


def test_hooks_of_modules_that_are_traced_into_are_noted() -> None:
    (hazard,) = hazards(surgery.trace(RootHooks()))
    assert (hazard.kind, hazard.changes_result) == ("hook", False)
    assert "the hooks of the model were traced" in str(hazard)


def test_an_unknown_kind_of_hazard_is_an_error() -> None:
    with pytest.raises(TraceError, match="no kind of hazard is called 'randm'; there are random, buffer"):
        surgery.trace(nn.ReLU(), allow=["randm"])


def test_a_block_that_an_error_leaves_open_is_closed() -> None:
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad(), torch.autocast("cpu"):
                return x.view(5)

    traced = surgery.trace(Failing())
    with pytest.raises(RuntimeError):
        traced(torch.zeros(3))
    assert torch.is_grad_enabled()
    assert not torch.is_autocast_enabled("cpu")


def test_tracing_leaves_nothing_of_torch_changed() -> None:
    before = torch.autocast.__enter__, torch.inference_mode.__exit__, torch.is_grad_enabled(), sys.getprofile()
    nets = [net() for net in (Autocast, Noise, PythonsRandom, Branch)]
    generator = torch.random.get_rng_state()
    for net in nets:
        try:
            surgery.trace(net)
        except TraceError:
            continue
    assert before == (
        torch.autocast.__enter__,
        torch.inference_mode.__exit__,
        torch.is_grad_enabled(),
        sys.getprofile(),
    )
    assert torch.equal(generator, torch.random.get_rng_state())
