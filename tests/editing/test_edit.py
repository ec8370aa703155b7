"""`surgery.edit`, on graphs and on observed models."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.builtin import Mean, Replace, Scale, Zero
from surgery.errors import EditError, ImageError, PluginError, SelectionError
from surgery.layouts import ChannelsFirst, Tokens
from tests.editing.nets import Skipping, Transformer

makers = pytest.mark.parametrize("maker", ["symbolic", "observed"])


def traced(maker: Any, model: nn.Module | None = None, *inputs: Tensor) -> tuple[Any, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    inputs = inputs or (torch.randn(2, 3, 8, 8),)
    return surgery.trace((model or Skipping()).eval(), inputs, front_end=maker), inputs


def values(opened: nn.Module, *inputs: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        everywhere = surgery.insert(opened, surgery.select(opened, "*"))
        return {activation.path: activation.values for activation in surgery.record(everywhere, *inputs)}


@makers
def test_the_values_before_and_after_an_edit_are_operations(maker: str) -> None:
    model, inputs = traced(maker)
    edited = surgery.edit(model, "cat", Zero(channels=[1, 3]))
    operations = surgery.operations(edited)
    paths = [operation.path for operation in operations]
    after = operations[paths.index("cat'")]
    assert paths[paths.index("cat") + 1] == "cat'"
    assert (after.kind, after.index) == ("edit", operations[paths.index("cat")].index)
    assert [each.index for each in operations if each.kind != "edit"] == list(range(1, len(operations)))
    found, original = values(edited, *inputs), values(model, *inputs)
    assert torch.equal(found["cat"], original["cat"])
    assert not found["cat'"][:, [1, 3]].any()
    kept = [channel for channel in range(found["cat"].shape[1]) if channel not in (1, 3)]
    assert torch.equal(found["cat'"][:, kept], original["cat"][:, kept])
    assert not torch.equal(found["out"], original["out"])


@makers
def test_what_reads_the_memory_of_an_operation_in_place_reads_the_edited_value(maker: str) -> None:
    model, inputs = traced(maker)
    edited = surgery.edit(model, "act", "zero")
    found = values(edited, *inputs)
    assert not found["cat"][:, :4].any()  # forward calls it by the name of what the ReLU has written to
    assert found["cat"][:, 4:].any()


@makers
def test_edits_and_extractors_combine_in_any_order(maker: str) -> None:
    model, inputs = traced(maker)
    chosen = surgery.select(model, "cat")
    one = surgery.edit(surgery.insert(model, chosen), "cat", Scale(by=3))
    one = surgery.insert(one, surgery.select(one, "cat'"))
    other = surgery.edit(model, "cat", Scale(by=3))
    other = surgery.insert(other, surgery.select(other, "cat*"))
    with torch.no_grad():
        records = [surgery.record(each, *inputs) for each in (one, other)]
        assert torch.equal(one(*inputs), other(*inputs))
    assert [[a.path for a in record] for record in records] == [["cat", "cat'"]] * 2
    assert all(torch.equal(record[0].values * 3, record[1].values) for record in records)


@makers
def test_a_second_edit_comes_after_the_first(maker: str) -> None:
    model, inputs = traced(maker)
    edited = surgery.edit(surgery.edit(model, "conv", Scale(by=2)), "conv", Zero(channels=[0]))
    again = surgery.edit(edited, "conv'", Scale(by=5, channels=[1]))
    found = values(again, *inputs)
    assert torch.equal(found["conv'"], found["conv"] * 2)
    assert not found["conv''"][:, 0].any()
    assert torch.equal(found["conv''"][:, 1:], found["conv'"][:, 1:])
    assert torch.equal(found["conv'''"][:, 1], found["conv''"][:, 1] * 5)


@makers
def test_an_edited_model_without_its_edits_is_the_model(maker: str) -> None:
    model, inputs = traced(maker)
    edited = surgery.edit(surgery.edit(model, "conv", Scale(by=2)), "act", "zero")
    restored = surgery.remove_edits(surgery.insert(edited, surgery.select(edited, "conv'|cat")))
    with torch.no_grad():
        assert torch.equal(restored(*inputs), model(*inputs))
    assert surgery.operations(restored) == surgery.operations(model)
    assert {*restored.state_dict()} == {*model.state_dict()}
    assert [a.path for a in surgery.record(restored, *inputs)] == ["cat"]


@makers
def test_a_region_and_an_amount_say_how_much_is_replaced_where(maker: str) -> None:
    model, inputs = traced(maker)
    found = values(surgery.edit(model, "conv", Zero(region=(0, 0.5, 1, 0.5), amount=0.25)), *inputs)
    assert torch.equal(found["conv'"][..., :4], found["conv"][..., :4])
    torch.testing.assert_close(found["conv'"][..., 4:], found["conv"][..., 4:] * 0.75)


@makers
def test_the_channels_of_tokens_are_their_features(maker: str) -> None:
    tokens = torch.randn(2, 3, 8, 8)
    model, inputs = traced(maker, Transformer(), tokens)
    found = values(surgery.edit(model, "norm", Zero(channels=[2])), *inputs)
    assert found["norm"].shape == (2, 17, 6)
    before, after = found["norm"], found["norm'"]
    assert not after[:, :, 2].any()  # of the class token too
    assert torch.equal(after[:, :, [0, 1, 3, 4, 5]], before[:, :, [0, 1, 3, 4, 5]])


@makers
def test_a_region_of_tokens_is_one_of_their_grid(maker: str) -> None:
    model, inputs = traced(maker, Transformer(), torch.randn(2, 3, 8, 8))
    edited = surgery.edit(model, "norm", Zero(region=(0, 0, 0.5, 0.5)), layout=Tokens(4, 4))
    found = values(edited, *inputs)
    is_zero = (found["norm'"] == 0).all(-1)[0]
    assert is_zero[1:].reshape(4, 4).tolist() == [[True, True, False, False]] * 2 + [[False] * 4] * 2
    assert not is_zero[0]  # the class token is on no grid


@makers
def test_an_edit_may_be_made_from_a_reference_run(maker: str) -> None:
    model, inputs = traced(maker)
    references = [torch.randn(2, 3, 8, 8), torch.randn(1, 3, 8, 8)]
    edited = surgery.edit(model, "conv", Mean(over="reference"), reference=references)
    means = torch.cat([values(model, batch)["conv"] for batch in references]).mean((0, 2, 3))
    found = values(edited, *inputs)["conv'"]
    torch.testing.assert_close(found, means[None, :, None, None].expand(found.shape))


@makers
def test_any_function_of_maps_is_an_edit(maker: str) -> None:
    model, inputs = traced(maker)
    found = values(surgery.edit(model, "conv", lambda maps: maps.flip(3)), *inputs)
    assert torch.equal(found["conv'"], found["conv"].flip(3))


def test_a_module_as_an_edit_is_trained_with_a_graph() -> None:
    model, inputs = traced("symbolic")
    edited = surgery.edit(model, "conv", nn.Conv2d(4, 4, 1))
    assert "edits.conv.change.edit.weight" in edited.state_dict()
    edited(*inputs).sum().backward()
    assert edited.get_parameter("edits.conv.change.edit.weight").grad is not None
    observed, _ = traced("observed")
    with pytest.raises(EditError, match=r"^the edit of conv has parameters of its own, for which an observed model"):
        surgery.edit(observed, "conv", nn.Conv2d(4, 4, 1))


def test_an_edited_graph_compiles_and_exports() -> None:
    model, inputs = traced("symbolic")
    edited = surgery.edit(surgery.edit(model, "act", Zero(channels=[0])), "cat", "noise:std=0.5,channels=1-3")
    with torch.no_grad():
        expected = edited(*inputs)
        assert torch.equal(torch.compile(edited, backend="aot_eager", fullgraph=True)(*inputs), expected)  # type: ignore[no-untyped-call]
        assert torch.equal(torch.export.export(edited, inputs).module()(*inputs), expected)


@makers
def test_an_edited_model_is_certified_without_its_edits(maker: str) -> None:
    torch.manual_seed(0)
    model, x = Skipping().eval(), torch.randn(2, 3, 8, 8)
    edited = surgery.edit(surgery.trace(model, x, front_end=maker), "act", Zero(channels=[1]))  # type: ignore[arg-type]
    certificate = surgery.certify(model, edited, x, others=False)
    assert certificate.same, certificate.difference
    assert certificate.edits == ("act = zero:channels=1",)
    counts = {c.what: c.count for c in certificate.comparisons if c.same and c.mode != "train"}
    assert counts["upstream"] == 2
    assert counts["edits"] == 1
    assert {"saved"} <= counts.keys()
    assert ({"compiled", "exported"} <= counts.keys()) == (maker == "symbolic")


def test_an_edit_that_changes_elements_that_it_does_not_choose_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, x = Skipping().eval(), torch.randn(2, 3, 8, 8)
    edited = surgery.edit(surgery.trace(model, x), "conv", Zero(channels=[1]))
    monkeypatch.setattr("surgery.editing.map_change.edit_values", lambda edit, maps, *_: edit(maps))
    certificate = surgery.certify(model, edited, x, others=False, modes=["eval"])
    assert certificate.difference.startswith("edits (eval, example): conv': ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda maps: maps[:, :1], r"lambda> gives \(2, 1, 8, 8\) float32 for conv, which is \(2, 4, 8, 8\) float32$"),
        (lambda maps: maps.double(), r"gives \(2, 4, 8, 8\) float64 for conv, which is \(2, 4, 8, 8\) float32$"),
        (lambda maps: maps.to("meta"), r"gives .* float32 on meta for conv, which is .* float32 on cpu$"),
        (
            lambda maps: maps.reshape(3, 5),
            r"lambda> can't take \(2, 4, 8, 8\) of conv: RuntimeError: shape .* \(tests/editing/test_edit.py:\d+\)$",
        ),
        (lambda maps: maps.zero_(), r"^the edit of conv \(.*\) writes to the value that it is given; return a new ten"),
        (lambda maps: None, r"gives NoneType for conv, not a tensor$"),
        (Zero(channels=[9]), r"^conv has 4 channels, 0 to 3, not 9$"),
        (
            Replace(values=torch.zeros(4, 3, 3)),
            r"^conv can't be edited: values of shape \(4, 3, 3\) can't replace maps of ",
        ),
    ],
)
@makers
def test_an_edit_that_does_not_fit_is_one_line(maker: str, change: Any, message: str) -> None:
    model, inputs = traced(maker)
    edited = surgery.edit(model, "conv", change)
    with pytest.raises(EditError, match=message) as caught:
        edited(*inputs)
    assert "\n" not in str(caught.value)


def flip(maps: Tensor) -> Tensor:
    return maps.flip(3)


@makers
def test_a_function_that_a_file_can_not_name_is_not_saved(maker: str) -> None:
    model, inputs = traced(maker)
    named = surgery.edit(model, "conv", flip)
    assert torch.equal(pickle.loads(pickle.dumps(named))(*inputs), named(*inputs))  # noqa: S301
    nameless = copy.deepcopy(surgery.edit(model, "conv", lambda maps: maps.flip(3)))
    assert torch.equal(nameless(*inputs), named(*inputs))
    with pytest.raises(
        EditError, match=r"^the edit of conv, .*<lambda>, can't be saved: .*; define it there by `def`$"
    ):
        torch.save(nameless, io.BytesIO())


@makers
def test_a_reference_that_does_not_fit_is_one_line(maker: str) -> None:
    model, _ = traced(maker)
    sizes = [torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 6, 8)]
    with pytest.raises(EditError, match=r"^conv has maps of several sizes .*: \(4, 8, 8\), \(4, 6, 8\); give one$"):
        surgery.edit(model, "conv", Mean(over="reference"), reference=sizes)

    with pytest.raises(ImageError, match=r"^the model does not take the reference \(1, 2, 8, 8\): Given groups=1, "):
        surgery.edit(model, "conv", Mean(over="reference"), reference=torch.zeros(1, 2, 8, 8))

    class Fails:
        def of_reference(self, values: Tensor) -> Any:
            return values.reshape(3, 5)

        def __call__(self, values: Tensor) -> Tensor:
            return values

    with pytest.raises(EditError, match=r"Fails .* can't be made from the reference run of conv: RuntimeError: shape "):
        surgery.edit(model, "conv", Fails(), reference=sizes[0])


@makers
def test_what_can_not_be_edited_is_one_line(maker: str) -> None:
    model, _ = traced(maker)
    with pytest.raises(SelectionError, match="matches none of"):
        surgery.edit(model, "cats", Zero())
    with pytest.raises(PluginError, match=r"^no edit is called .x{59}; there is zero, mean"):
        surgery.edit(model, "cat", "x" * 10_000)
    with pytest.raises(PluginError, match="no edit is called 'zeros'; did you mean 'zero'"):
        surgery.edit(model, "cat", "zeros")
    with pytest.raises(EditError, match=r"^an edit is a name, such as 'zero:channels=0-15', or a function"):
        surgery.edit(model, "cat", 3)  # type: ignore[arg-type]
    with pytest.raises(EditError, match=r"^an edit is a name, .* not <class"):
        surgery.edit(model, "cat", Zero)  # type: ignore[arg-type]
    with pytest.raises(
        EditError, match=r"^mean:over=reference needs a reference run; give its inputs, --reference FILES"
    ):
        surgery.edit(model, "cat", Mean(over="reference"))
    with pytest.raises(EditError, match=r"takes nothing from a reference run"):
        surgery.edit(model, "cat", Zero(), reference=torch.zeros(1, 3, 8, 8))


class Written(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x * 2
        part = h[:, 1:]
        part += 1  # here
        return h + F.pad(part, (0, 0, 0, 0, 1, 0))


class Unread(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x.relu()
        return x + 1


class Counted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1  # type: ignore[assignment, operator]
        return x * self.calls


@makers
def test_a_value_whose_memory_others_read_is_refused_with_the_line_that_writes(maker: str) -> None:
    model, inputs = traced(maker, Written())
    with pytest.raises(EditError, match=r"^getitem can't be edited: .*test_edit.py:\d+ writes to its memory, which"):
        surgery.edit(model, "getitem", Zero())(*inputs)


@makers
def test_a_value_that_is_kept_for_later_runs_is_refused(maker: str) -> None:
    model, inputs = traced(maker, Counted())
    with pytest.raises(EditError, match=r"test_edit.py:\d+: add can't be edited: it writes to calls, which would keep"):
        surgery.edit(model, "add", Zero())(*inputs)


def test_a_value_that_nothing_reads_is_refused() -> None:
    model, _ = traced("symbolic", Unread())
    with pytest.raises(EditError, match=r"test_edit.py:\d+: nothing reads the value of relu, so that an edit of it"):
        surgery.edit(model, "relu", Zero())


class Looping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(1 + int(x[0, 0, 0, 0] > 0)):
            x = self.conv(x)
        return x


def test_operations_that_only_other_runs_have_are_edited_too() -> None:
    x = -torch.ones(1, 3, 4, 4)
    model = surgery.trace(Looping().eval(), x)
    edited = surgery.edit(model, "conv*", Zero())
    opened = surgery.insert(edited, surgery.select(edited, "*"))
    with torch.no_grad():
        recorded = {a.path: a for a in surgery.record(opened, x.neg())}
    assert not recorded["conv@1'"].values.any()
    assert recorded["conv@1'"].operation.is_new
    assert recorded["conv@1"].values.any()


def test_a_layout_may_be_requested() -> None:
    model, inputs = traced("symbolic", nn.Sequential(nn.LayerNorm(8)), torch.randn(2, 3, 8, 8))
    last = values(surgery.edit(model, "0", Zero(channels=[1])), *inputs)["0'"]
    first = values(surgery.edit(model, "0", Zero(channels=[1]), layout=ChannelsFirst()), *inputs)["0'"]
    assert not last[..., 1].any()
    assert last[:, 1].any()
    assert not first[:, 1].any()
    assert first[..., 1].any()


class Windows(nn.Module):
    """``(B, 4, 8, 8)`` images as windows, whose axes are permuted and can't be merged."""

    def forward(self, x: Tensor) -> Tensor:
        windows = x.view(-1, 4, 2, 4, 2, 4).permute(0, 2, 4, 3, 5, 1)
        return windows * 2


@makers
@pytest.mark.parametrize("path", ["permute", "mul"])
def test_values_with_permuted_axes_are_edited(maker: str, path: str) -> None:
    model, inputs = traced(maker, Windows(), torch.randn(2, 4, 8, 8))
    edited = surgery.edit(model, path, Scale(by=3))
    found, original = values(edited, *inputs), values(model, *inputs)
    assert torch.equal(found[f"{path}'"], original[path] * 3)
    assert found[f"{path}'"].stride() == original[path].stride()


class Signals(nn.Module):
    """``(B, 3, 6)`` signals, convolved, and then read as frames of 4 features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3, padding=1)
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        frames = F.relu(self.conv(x) + 1).transpose(1, 2)
        out: Tensor = self.linear(frames)
        return out


@makers
@pytest.mark.parametrize(("path", "axis"), [("conv", 1), ("add", 1), ("relu", 1), ("transpose", 2), ("linear", 2)])
def test_the_channels_of_a_signal_are_those_of_its_convolution(maker: str, path: str, axis: int) -> None:
    model, inputs = traced(maker, Signals(), torch.randn(2, 3, 6))
    found = values(surgery.edit(model, path, Scale(by=3, channels=[1])), *inputs)
    expected = found[path].clone()
    expected.select(axis, 1).mul_(3)
    assert torch.equal(found[f"{path}'"], expected)


@makers
def test_an_edited_model_moves_to_another_dtype_alone(maker: str) -> None:
    model, inputs = traced(maker)
    edited = surgery.edit(model, "conv", Replace(values=torch.ones(4, 8, 8), channels=[0]))
    edited = surgery.edit(edited, "act", Mean(over="reference"), reference=inputs)
    moved = surgery.edit(edited, "cat", Zero(channels=[5])).double()
    found = moved(inputs[0].double())
    assert found.dtype == torch.float64
    with torch.no_grad():
        assert edited(*inputs).dtype == model(*inputs).dtype == torch.float32
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@makers
def test_an_edited_model_trains_as_the_model_does_upstream_and_downstream(maker: str) -> None:
    torch.manual_seed(0)
    net = Skipping()
    net.act.inplace = maker == "symbolic"
    model, inputs = traced(maker, net)
    edited = surgery.edit(model.train(), "act", Scale(by=0.5))
    edited(*inputs).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in edited.named_parameters()}
    assert all(gradient is not None and gradient.any() for gradient in gradients.values())
    clean = Skipping()
    clean.load_state_dict(net.state_dict())
    h = clean.conv(*inputs)
    a = h.relu() * 0.5
    skip = a if net.act.inplace else h
    clean.out(torch.cat([skip, clean.inner(a)], 1)).square().sum().backward()
    for name, parameter in clean.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad)


class Doubling:
    """Writes to what it is given, although it is for one channel."""

    channels = (0,)

    def __call__(self, maps: Tensor) -> Tensor:
        return maps.mul_(2)


@makers
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_an_edit_that_writes_to_its_value_is_one_line_in_every_mode(maker: str, context: Any) -> None:
    model, inputs = traced(maker)
    edited = surgery.edit(model, "cat", Doubling())
    with context(), pytest.raises(EditError, match=r"writes to the value that it is given; return a new tensor$"):
        edited(*inputs)


@makers
def test_a_spatial_edit_leaves_the_token_that_is_on_no_grid(maker: str) -> None:
    model, inputs = traced(maker, Transformer(), torch.randn(2, 3, 8, 8))
    found = values(surgery.edit(model, "norm", "blur:sigma=1", layout=None), *inputs)
    assert torch.equal(found["norm'"][:, 0], found["norm"][:, 0])
    assert not torch.equal(found["norm'"][:, 1:], found["norm"][:, 1:])


@makers
def test_a_module_that_edits_follows_the_mode_of_the_model(maker: str) -> None:
    model, inputs = traced(maker)
    edited = surgery.edit(model, "cat", nn.Dropout(0.5)).eval()
    with torch.no_grad():
        assert torch.equal(edited(*inputs), model(*inputs))
        assert not torch.equal(edited.train()(*inputs), model.train()(*inputs))


class OneImage(nn.Module):
    """Works on the first image, without an axis for the batch, as detectors prepare each of their images."""

    def __init__(self, *, channels_last: bool) -> None:
        super().__init__()
        self.channels_last = channels_last
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x[0]).relu()
        if self.channels_last:
            x = self.linear(x.permute(1, 2, 0)).permute(2, 0, 1)
        return x[None]


@makers
@pytest.mark.parametrize("path", ["conv", "relu"])
def test_channels_are_counted_where_there_is_no_axis_for_the_batch(maker: str, path: str) -> None:
    model, inputs = traced(maker, OneImage(channels_last=False), torch.randn(1, 3, 8, 10))
    edited = surgery.edit(model, path, Zero(channels=[1], region=(0, 0, 0.5, 1)))
    found, original = values(edited, *inputs)[f"{path}'"], values(model, *inputs)[path]
    expected = original.clone()
    expected[1, :4] = 0
    assert torch.equal(found, expected)
    assert not torch.equal(found, original)


@makers
def test_channels_that_come_last_are_counted_where_there_is_no_axis_for_the_batch(maker: str) -> None:
    model, inputs = traced(maker, OneImage(channels_last=True), torch.randn(1, 3, 8, 10))
    edited = surgery.edit(model, "linear", Zero(channels=[1]))
    expected = values(model, *inputs)["linear"].clone()
    assert expected.shape == (8, 10, 4)
    expected[..., 1] = 0
    assert torch.equal(values(edited, *inputs)["linear'"], expected)
