from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, fx, nn

import surgery
from surgery import op, path
from surgery.errors import EditError, SelectionError, TraceError
from tests.nets import Reused
from tests.verification.test_laws import Line, made, makers, programs, run, same, steady


class Net(nn.Module):
    """A block with a norm, a function and an upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.norm(self.conv(x)).relu())


class Resize(nn.Module):
    """Nearest neighbours and a convolution."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(nn.functional.interpolate(x, scale_factor=2))


def eagerly_replaced(net: nn.Module, name: str, module: nn.Module) -> nn.Module:
    result = copy.deepcopy(net)
    result.set_submodule(name, module)
    return result


front_ends = pytest.mark.parametrize("front_end", ["symbolic", "observed"])


def traced_by(front_end: Any, model: nn.Module, example: Tensor) -> Any:
    return surgery.trace(model, example, front_end=front_end)


@front_ends
def test_a_module_takes_the_place_of_another(front_end: str) -> None:
    net, new, x = Net().eval(), Resize().eval(), torch.randn(2, 3, 8, 8)
    traced = traced_by(front_end, net, x)
    expected = traced(x)
    replaced = surgery.replace(traced, path("up"), new)
    assert torch.equal(replaced(x), eagerly_replaced(net, "up", new)(x))
    assert torch.equal(traced(x), expected)
    assert list(replaced.state_dict()) == list(eagerly_replaced(net, "up", new).state_dict())
    assert [(o.path, o.kind) for o in surgery.operations(replaced)] == [
        *((o.path, o.kind) for o in surgery.operations(traced)[:-1]),
        ("up", "resize"),
    ]


@front_ends
def test_a_new_module_is_one_operation_and_is_recorded(front_end: str) -> None:
    net, new, x = Net().eval(), Resize().eval(), torch.randn(2, 3, 8, 8)
    replaced = surgery.replace(traced_by(front_end, net, x), "up", new)
    activations = surgery.record(surgery.insert(replaced, surgery.operations(replaced)), x)
    assert [activation.path for activation in activations] == ["conv", "norm", "relu", "up"]
    assert torch.equal(activations[-1].values, replaced(x))


@front_ends
def test_parameters_are_shared_with_the_given_module_until_the_model_is_moved(front_end: str) -> None:
    net, new, x = Net().eval(), Resize(), torch.randn(2, 3, 8, 8)
    replaced = surgery.replace(traced_by(front_end, net, x), "up", new)
    assert replaced.up.conv.weight is new.conv.weight
    assert replaced.conv.weight is net.conv.weight
    replaced.half()
    assert new.conv.weight.dtype == torch.float32


@front_ends
def test_the_mode_of_a_new_module_follows_the_model(front_end: str) -> None:
    new, x = nn.BatchNorm2d(4), torch.randn(2, 3, 8, 8)
    replaced = surgery.replace(traced_by(front_end, Net().eval(), x), "norm", new.train())
    assert not replaced.norm.training
    assert new.training
    assert replaced.train().norm.training
    replaced(x)
    assert replaced.norm.num_batches_tracked == 1
    assert new.num_batches_tracked == 0


def test_a_new_module_is_kept_in_the_mode_that_the_model_keeps_the_former_one_in() -> None:
    class Frozen(Net):
        def train(self, mode: bool = True) -> Frozen:
            super().train(mode)
            self.norm.eval()
            return self

    new = nn.Sequential(nn.BatchNorm2d(4), nn.Dropout())
    replaced = surgery.replace(surgery.trace(Frozen()), "norm", new).train()
    assert replaced.training
    assert not any(module.training for module in replaced.norm.modules())


@front_ends
def test_all_calls_of_a_module_are_replaced(front_end: str) -> None:
    model, x = Reused(), torch.randn(2, 4)
    traced = traced_by(front_end, model, x)
    replaced = surgery.replace(traced, "shared@1", nn.Hardtanh())
    assert torch.equal(replaced(x), model.tied(x.clamp(-1, 1)))
    assert [o.kind for o in surgery.operations(replaced)] == ["hardtanh", "hardtanh", "linear"]
    assert torch.equal(surgery.replace(traced, "shared*", nn.Hardtanh())(x), replaced(x))


@front_ends
def test_a_module_with_two_names_is_replaced_under_both(front_end: str) -> None:
    net, x = Net(), torch.randn(2, 3, 8, 8)
    net.other = net.up
    replaced = surgery.replace(traced_by(front_end, net, x), "op:convtranspose2d", Resize())
    assert replaced.other is replaced.up
    assert isinstance(replaced.up, Resize)


def test_a_function_replaces_several_modules() -> None:
    x = torch.randn(1, 3, 256, 256)
    traced = surgery.trace(surgery.load_model("facades").eval(), x)

    def resized(former: nn.Module) -> nn.Module:
        assert isinstance(former, nn.ConvTranspose2d)
        return nn.Sequential(
            nn.Upsample(scale_factor=2), nn.Conv2d(former.in_channels, former.out_channels, 3, padding=1)
        )

    replaced = surgery.replace(traced, op("convtranspose2d"), resized)
    assert [o.kind for o in surgery.operations(replaced)].count("sequential") == 8
    assert replaced(x).shape == traced(x).shape
    assert [o.tensors for o in surgery.operations(replaced)] == [o.tensors for o in surgery.operations(traced)]


@front_ends
def test_extractors_stay_and_know_the_new_kind(front_end: str) -> None:
    net, new, x = Net().eval(), Resize().eval(), torch.randn(2, 3, 8, 8)
    traced = traced_by(front_end, net, x)
    opened = surgery.insert(traced, surgery.select(traced, "up"))
    (activation,) = surgery.record(surgery.replace(opened, "up", new), x)
    assert activation.operation.kind == "resize"
    assert torch.equal(activation.values, eagerly_replaced(net, "up", new)(x))
    assert surgery.record(opened, x)[0].operation.kind == "convtranspose2d"


def test_a_model_with_a_new_module_trains_saves_exports_and_compiles() -> None:
    x = torch.randn(2, 3, 8, 8)
    replaced = surgery.replace(surgery.trace(Net().eval(), x), "up", Resize())
    replaced(x).sum().backward()
    assert replaced.up.conv.weight.grad is not None
    buffer = io.BytesIO()
    torch.save(replaced, buffer)
    buffer.seek(0)
    restored = torch.load(buffer, weights_only=False)
    assert [o.kind for o in surgery.operations(restored)] == [o.kind for o in surgery.operations(replaced)]
    expected = replaced(x)
    assert torch.equal(restored(x), expected)
    assert torch.equal(torch.export.export(replaced, (x,)).module()(x), expected)
    assert torch.equal(torch.compile(replaced, backend="eager", fullgraph=True)(x), expected)


def test_any_graph_module_takes_a_new_module() -> None:
    net, new, x = Net().eval(), Resize().eval(), torch.randn(1, 3, 4, 4)
    assert torch.equal(surgery.replace(fx.symbolic_trace(net), "up", new)(x), eagerly_replaced(net, "up", new)(x))


@front_ends
def test_a_new_module_of_another_shape_is_an_error_at_once(front_end: str) -> None:
    x = torch.randn(2, 3, 8, 8)
    traced = traced_by(front_end, Net(), x)
    smaller, wider, dropout = nn.Conv2d(4, 3, 1), Resize(channels=5), nn.Dropout()
    state = torch.get_rng_state()
    line = r"up can't be replaced: it returns \(2, 3, 16, 16\) float32, and Conv2d \(2, 3, 8, 8\) float32"
    with pytest.raises(EditError, match=line):
        surgery.replace(traced, "up", smaller)
    line = r"up can't be replaced: Resize can't take \(2, 4, 8, 8\) float32: Given groups=1"
    with pytest.raises(EditError, match=line):
        surgery.replace(traced, "up", wider)
    surgery.replace(traced, "norm", dropout)
    assert torch.equal(torch.get_rng_state(), state)


def test_without_an_example_the_shape_is_not_known() -> None:
    replaced = surgery.replace(surgery.trace(Net()), "up", nn.Conv2d(4, 3, 1))
    assert replaced(torch.randn(1, 3, 4, 4)).shape == (1, 3, 4, 4)


def test_bad_input_is_one_line_each() -> None:
    x = torch.randn(2, 3, 8, 8)
    traced: Any = surgery.trace(Net(), x)
    with pytest.raises(SelectionError, match="relu is no module, but a call of relu"):
        surgery.replace(traced, "relu", nn.ReLU())
    with pytest.raises(SelectionError, match="one module can't take the places of conv, up; give a function"):
        surgery.replace(traced, "conv | up", Resize())
    with pytest.raises(SelectionError, match="matches none of 4 operations"):
        surgery.replace(traced, "down", Resize())
    with pytest.raises(EditError, match="takes a module, or a function that makes one, not str"):
        surgery.replace(traced, "up", "resize")  # type: ignore[arg-type]
    with pytest.raises(TraceError, match="Net is not a traced model"):
        surgery.replace(Net(), "up", Resize())
    exported = torch.export.export(Net(), (x,)).module()
    with pytest.raises(SelectionError, match=r"torch.export has dissolved the module up; replace it in the model"):
        surgery.replace(exported, "up", Resize())


@makers
@steady
@given(programs, st.booleans())
def test_a_module_replaced_by_its_copy_changes_no_bit(maker: str, program: tuple[Line, ...], training: bool) -> None:
    model, x = made(program, training)
    traced = traced_by(maker, model, x)
    called = [o for o in surgery.operations(traced) if o.path.partition("@")[0] in o.scopes]
    if called:
        replaced = surgery.replace(traced, called, copy.deepcopy)
        assert same(run(replaced, x), run(traced, x))
