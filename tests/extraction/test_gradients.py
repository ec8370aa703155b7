"""Gradients beside activations: each is that of the value as it was computed, by a functional version of the model."""

from __future__ import annotations

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import surgery
from surgery.data import inputs
from surgery.errors import EditError, ModelError, PluginError, RenderError, SelectionError, SurgeryError, TraceError
from surgery.extraction.output_parts import parse_scalar
from surgery.models import UNet
from tests.extraction.write_programs import STEPS, Functional, Program
from tests.nets import Containers, Counting, InPlace, Reused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def everywhere(model: nn.Module, *example: Any, front_end: Any = "symbolic") -> Any:
    traced = surgery.trace(model, example, front_end=front_end)
    return surgery.insert(traced, surgery.operations(traced))


def total(output: Any) -> Tensor:
    """A function of the output: the sum of all of its floats, weighted so that gradients differ."""
    tensors = output.values() if isinstance(output, dict) else [output]
    return sum((t.double().cos().sum() for t in tensors if isinstance(t, Tensor)), torch.zeros((), dtype=torch.double))


def assert_gradients(found: tuple[surgery.Activation, ...], values: list[Tensor], of: Tensor) -> None:
    found = tuple(activation for activation in found if activation.operation.kind != "getitem")  # parts of a tuple
    assert [tuple(a.values.shape) for a in found] == [tuple(value.shape) for value in values]
    expected = torch.autograd.grad(of, [v for v in values if v.requires_grad], allow_unused=True)
    gradients = iter(expected)
    for activation, value in zip(found, values, strict=True):
        torch.testing.assert_close(activation.values, value.detach(), rtol=1e-4, atol=1e-6)
        if not value.requires_grad:
            assert activation.gradient is None
            continue
        gradient = next(gradients)
        assert activation.gradient is not None
        expectation = torch.zeros_like(value) if gradient is None else gradient
        torch.testing.assert_close(activation.gradient.values, expectation, rtol=1e-4, atol=1e-7, msg=activation.path)


@pytest.mark.parametrize("front_end", ["symbolic", "observed"])
@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_gradients_are_those_of_the_model_without_writes(front_end: str, steps: list[str], seed: int) -> None:
    torch.manual_seed(seed)
    program = Program(steps).double()
    x = torch.randn(2, 4, 5, 5, dtype=torch.double)
    functional = Functional(program)
    output = functional.run(x.clone().requires_grad_())
    found = surgery.record(everywhere(program, x, front_end=front_end), x, gradients=total)
    assert_gradients(found, functional.values, total(output))


@pytest.mark.parametrize("step", STEPS)
def test_each_step_alone_and_twice_has_the_gradients_of_the_model_without_writes(step: str) -> None:
    torch.manual_seed(3)
    for steps in ([step], [step, "square", step], ["keep", step, "skip"]):
        program, x = Program(steps).double(), torch.randn(2, 4, 5, 5, dtype=torch.double)
        functional = Functional(program)
        output = functional.run(x.clone().requires_grad_())
        assert_gradients(surgery.record(everywhere(program, x), x, gradients=total), functional.values, total(output))


def unet_without_writes(model: UNet, x: Tensor, seen: dict[str, Tensor]) -> Tensor:
    """Run a U-Net of 5 levels with activations that return new tensors, and keep the value of each operation."""

    def run(path: str, value: Tensor, names: tuple[str, ...]) -> Tensor:
        for name, module in model.get_submodule(path).named_children():
            if name in names:
                slope = getattr(module, "negative_slope", 0.0)
                value = F.leaky_relu(value, slope) if name == "act" else module(value)
                seen[f"{path}.{name}"] = value
        return value

    value, skips = x, []
    for level in range(1, 6):
        value = run(f"down{level}", value, ("act",))
        skips.append(value)  # the activation works in place, on what the level above has computed
        value = run(f"down{level}", value, ("conv", "norm"))
    for level in range(5, 0, -1):
        value = run(f"up{level}", value, ("act", "deconv", "norm", "dropout", "tanh"))
        if level > 1:
            value = seen[f"up{level}.cat"] = torch.cat([skips[level - 1], value], 1)
    return value


def test_the_gradients_of_a_u_net_are_those_of_its_version_without_writes() -> None:
    torch.manual_seed(0)
    model = UNet(5, width=4).eval()
    x = torch.randn(1, 3, 32, 32)
    seen: dict[str, Tensor] = {}
    output = unet_without_writes(model, x, seen)
    expected = torch.autograd.grad(total(output), list(seen.values()))
    found = {a.path: a for a in surgery.record(everywhere(model, x), x, gradients=total)}
    assert found.keys() == seen.keys()
    for path, gradient in zip(seen, expected, strict=True):
        ours = found[path].gradient
        assert ours is not None
        torch.testing.assert_close(ours.values, gradient, rtol=1e-3, atol=1e-6, msg=path)


@pytest.mark.parametrize("front_end", ["symbolic", "observed"])
def test_the_gradients_before_and_after_an_edit_are_those_of_the_edit(front_end: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3))
    x = torch.randn(1, 3, 8, 8)
    edited = surgery.edit(surgery.trace(model, x, front_end=front_end), "0", "scale:by=3,channels=0-1")
    edited = surgery.edit(edited, "1", "zero:channels=2")
    opened = surgery.insert(edited, surgery.operations(edited))
    found = {a.path: a.gradient for a in surgery.record(opened, x, gradients=total)}
    before, scaled, act, zeroed = (gradient.values for path in ("0", "0'", "1", "1'") if (gradient := found[path]))
    factors = torch.tensor([3.0, 3.0, 1.0, 1.0])[:, None, None]
    torch.testing.assert_close(before, scaled * factors)
    assert zeroed[:, 2].abs().max() > 0 == act[:, 2].abs().max()
    assert torch.equal(act[:, [0, 1, 3]], zeroed[:, [0, 1, 3]])


def test_a_nest_of_tensors_has_a_gradient_for_each() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 4)
    found = surgery.record(everywhere(Containers(), x), x, gradients=lambda out: out["first"].sum())
    by_path = {activation.path: activation.gradient for activation in found}
    first, second = by_path["split[0]"], by_path["split[1]"]
    assert first is not None
    assert second is not None
    assert first.values.eq(1).all()
    assert second.values.eq(0).all()
    assert first.path == "split[0].gradient"


class Checkpointed(nn.Module):
    """Computes a part of its values again while gradients are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.act = nn.ReLU(inplace=True)
        self.reentrant: bool | None = None

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        if self.reentrant is None:
            return self.act(self.second(h))  # type: ignore[no-any-return]
        return checkpoint(lambda value: self.act(self.second(value)), h, use_reentrant=self.reentrant)  # type: ignore[no-any-return]


def test_a_model_with_checkpoints_has_the_gradients_of_the_model_without() -> None:
    torch.manual_seed(0)
    model, x = Checkpointed(), torch.randn(1, 3, 8, 8)
    found: list[list[Any]] = []
    for model.reentrant in (None, False):
        recorded = surgery.record(everywhere(model, x, front_end="observed"), x, gradients=total)
        assert [activation.path for activation in recorded] == ["first", "second", "act"]
        found.append([each.gradient.values.tolist() for each in recorded if each.gradient is not None])
    assert found[0] == found[1]
    model.reentrant = True
    with pytest.raises(TraceError, match="the gradients can't be computed: When use_reentrant=True"):
        surgery.record(everywhere(model, x, front_end="observed"), x, gradients=total)


def test_threads_that_record_one_model_each_get_the_gradients() -> None:
    torch.manual_seed(0)
    model, x = UNet(5, width=4).eval(), torch.randn(1, 3, 32, 32)
    opened = everywhere(model, x)

    def gradients(_: int = 0) -> list[Any]:
        return [
            a.gradient.values.tolist() for a in surgery.record(opened, x, gradients=total) if a.gradient is not None
        ]

    expected = gradients()
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(gradients, range(6))) == [expected] * 6


def test_a_module_that_is_called_twice_has_a_gradient_for_each_call() -> None:
    torch.manual_seed(0)
    model, x = Reused(), torch.randn(2, 4)
    first, second, third = surgery.record(everywhere(model, x), x, gradients=lambda out: out.sum())
    weight = model.shared.weight.detach()
    ones = torch.ones(2, 4)
    for activation, expected in ((third, ones), (second, ones @ weight), (first, ones @ weight @ weight)):
        assert activation.gradient is not None
        torch.testing.assert_close(activation.gradient.values, expected)


@pytest.mark.parametrize("front_end", ["symbolic", "observed"])
@pytest.mark.parametrize("net", [InPlace, Counting])
def test_a_run_with_gradients_computes_what_a_run_without_computes_and_leaves_the_same(
    net: type[nn.Module], front_end: str
) -> None:
    torch.manual_seed(0)
    model = net().train()
    x = torch.randn(2, 3, 6, 6) if net is InPlace else torch.randn(2, 3)
    opened = everywhere(model, x, front_end=front_end)
    plain, followed = copy.deepcopy(opened), copy.deepcopy(opened)
    given = x.clone()
    runs = []
    for each, gradients in ((plain, None), (followed, total)):
        torch.manual_seed(7)
        with torch.no_grad():
            values = [a.values for a in surgery.record(each, x, gradients=gradients)]
        runs.append(([v.tolist() for v in values], torch.get_rng_state().tolist()))
    assert runs[0] == runs[1]
    for (name, buffer), other in zip(plain.named_buffers(), followed.buffers(), strict=True):
        assert torch.equal(buffer, other), name
        assert not other.requires_grad
    assert torch.equal(given, x)
    assert all(p.grad is None for m in (model, opened, followed) for p in m.parameters())


def test_gradients_stay_with_what_the_user_has_put_into_grad() -> None:
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)), torch.randn(1, 3, 6, 6)
    model(x).sum().backward()
    before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    surgery.record(everywhere(model, x), x, gradients="output")
    assert all(
        torch.equal(p.grad, old) for p, old in zip(model.parameters(), before, strict=True) if p.grad is not None
    )


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_gradients_are_computed_where_the_caller_has_turned_them_off(guard: Callable[[], Any]) -> None:
    model, x = nn.Conv2d(3, 4, 3), torch.randn(1, 3, 6, 6)
    opened = everywhere(model, x)
    with guard():
        (activation,) = surgery.record(opened, x + 0, gradients="output")
    assert activation.gradient is not None
    torch.testing.assert_close(activation.gradient.values, torch.full((1, 4, 4, 4), 1 / 64))


def test_a_frozen_model_has_the_gradients_that_its_input_brings() -> None:
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh()).requires_grad_(requires_grad=False), torch.randn(1, 3, 6, 6)
    for activation in surgery.record(everywhere(model, x), x, gradients="output"):
        assert activation.gradient is not None


class Embedded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.table(ids).relu()


@pytest.mark.parametrize(
    ("gradients", "error", "said"),
    [
        (lambda out: out, TraceError, r"one number, a tensor of one value, not of a tensor \(1, 4, 4, 4\)"),
        (lambda out: out.sum().item(), TraceError, "not of float"),
        (lambda out: out.detach().sum(), TraceError, "does not depend on anything that has gradients"),
        (lambda out: out.nothing, TraceError, "the function of the output failed: AttributeError"),
        (3, SelectionError, "a text, a surgery.Output or a function of the output, not int"),
        ("channel=9", SelectionError, "the output has 4 channels, 0 to 3, not 9"),
        ("pixel=0,7", SelectionError, "4 rows and 4 columns, and no pixel 0,7"),
        ("tensor=[logits]", SelectionError, r"has no tensor of floats '\[logits\]'; it has one tensor"),
        ("region=0,0,2,1", EditError, "within 0 to 1, not 0, 0, 2, 1"),
        ("region=0,0,1,1,pixel=0,0", SelectionError, "a region or a pixel, not both"),
        ("chanel=3", PluginError, "no option of output is called 'chanel'; it takes .* did you mean 'channel'"),
        ("loss.py:loss", ModelError, "there is no file loss.py"),
        ("math:nothing", ModelError, "math has no 'nothing'"),
        ("math:pi", ModelError, "math:pi is no function, but float"),
        ("math:", ModelError, "names no function"),
        (":loss", ModelError, "names no module; write package.module:function or file.py:function"),
        ("../../../etc/passwd:loss", ModelError, "'../../../etc/passwd' is not the name of a module; write package"),
        ("/etc/passwd:loss", ModelError, "'/etc/passwd' is not the name of a module"),
    ],
)
def test_what_is_no_number_of_the_output_is_one_line(gradients: Any, error: type[SurgeryError], said: str) -> None:
    model, x = nn.Conv2d(3, 4, 3), torch.randn(1, 3, 6, 6)
    with pytest.raises(error, match=said) as caught:
        surgery.record(everywhere(model, x), x, gradients=gradients)
    assert "\n" not in str(caught.value)


def test_a_frozen_model_of_integers_has_no_gradients_and_says_so() -> None:
    ids = torch.tensor([[1, 2]])
    opened = everywhere(Embedded().requires_grad_(requires_grad=False), ids)
    with pytest.raises(TraceError, match=r"its parameters are frozen.*requires_grad_\(\) unfreezes it"):
        surgery.record(opened, ids, gradients="output")
    for parameter in opened.parameters():
        parameter.requires_grad_()
    assert all(a.gradient is not None for a in surgery.record(opened, ids, gradients="output"))


def test_a_compiled_model_says_that_it_has_no_gradients() -> None:
    opened = everywhere(nn.Conv2d(3, 4, 3), torch.randn(1, 3, 6, 6))
    with pytest.raises(TraceError, match="record the model that was compiled"):
        surgery.record(torch.compile(opened, backend="eager"), torch.randn(1, 3, 6, 6), gradients="output")


IMAGE = torch.arange(2 * 3 * 4 * 8, dtype=torch.float32).reshape(2, 3, 4, 8).cos()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("output", IMAGE.mean((1, 2, 3)).sum()),
        ("channel=2", IMAGE[:, 2].mean((1, 2)).sum()),
        ("output:channel=1,region=0.5,0.25,0.5,0.5", IMAGE[:, 1, 2:, 2:6].mean((1, 2)).sum()),
        ("pixel=3,7", IMAGE[:, :, 3, 7].mean(1).sum()),
        ("region=0.9,0.9,0.01,0.01,channel=0", IMAGE[:, 0, 3, 7].sum()),
        ("channel=top", IMAGE.mean((2, 3)).amax(1).sum()),
        ("math:fsum", None),
    ],
)
def test_a_part_of_the_output_is_the_mean_of_each_image(text: str, expected: Tensor | None) -> None:
    scalar = parse_scalar(text)
    assert callable(scalar)
    if expected is not None:
        torch.testing.assert_close(scalar(IMAGE), expected)
        assert scalar(IMAGE[:1]) != expected


def test_a_part_of_an_output_of_classes_and_of_named_tensors() -> None:
    logits = torch.tensor([[1.0, 5.0, 2.0], [4.0, 0.0, 3.0]])
    assert surgery.Output(channel="top")(logits) == 9
    assert surgery.Output(channel=2)({"ids": torch.arange(3), "logits": logits}) == 5
    assert surgery.Output(tensor="[b]")({"a": logits, "b": 2 * logits}) == 2 * logits.mean(1).sum()
    with pytest.raises(SelectionError, match=r"it has \[a\], \[b\]; did you mean '\[a\]'"):
        surgery.Output(tensor="[A]")({"a": logits, "b": logits})
    with pytest.raises(SelectionError, match="has no height and width"):
        surgery.Output(pixel=(0, 0))(logits)
    with pytest.raises(SelectionError, match="has no channels"):
        surgery.Output(channel=0)(torch.ones(3))
    with pytest.raises(SelectionError, match="no tensor of floats, so nothing has a gradient"):
        surgery.Output()(torch.arange(3))


def test_a_gradient_is_drawn_with_zero_in_the_middle() -> None:
    model, x = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 6, 6)
    (activation,) = surgery.record(everywhere(model, x), x, gradients=total)
    assert activation.gradient is not None
    first, _ = activation.gradient.pictures
    assert np.array_equal(first.low, -first.high)
    assert first.palette is not None
    assert first.palette[125].min() > 240  # near white
    assert activation.gradient.facts.channels == 4


def test_grad_cam_is_the_positive_part_of_the_channels_weighted_by_their_mean_gradients() -> None:
    torch.manual_seed(0)
    first, last, x = nn.Conv2d(3, 4, 3), nn.Linear(64, 5), torch.randn(2, 3, 6, 6)
    model = nn.Sequential(first, nn.ReLU(inplace=True), nn.Flatten(), last)
    conv, act, _, linear = surgery.record(everywhere(model, x), x, gradients="channel=top")
    values = first(x).relu()
    chosen = last.weight[last(values.flatten(1)).argmax(1)].reshape(2, 4, 4, 4)
    expected = (chosen.mean((2, 3), keepdim=True) * values).sum(1, keepdim=True).relu()
    cam = surgery.grad_cam(act)
    torch.testing.assert_close(cam.values, expected.detach())
    assert cam.path == "1.grad_cam"
    assert len(cam.pictures) == 2
    assert not torch.allclose(surgery.grad_cam(conv).values, cam.values)
    with pytest.raises(RenderError, match=r"3 \(2, 5\) float32 has no maps"):
        surgery.grad_cam(linear)
    with pytest.raises(RenderError, match=r"grad_cam takes an activation .*, not Tensor"):
        surgery.grad_cam(act.values)  # type: ignore[arg-type]
    with pytest.raises(RenderError, match=r"3 has no gradient; surgery.record"):
        surgery.grad_cam(surgery.record(everywhere(model, x), x)[3])


def test_extract_draws_gradients_and_grad_cams(run: Any, tmp_path: Path) -> None:
    (tmp_path / "loss.py").write_text("def loss(output):\n    return output.abs().mean()\n")
    image = inputs()[0]
    arguments = ["extract", "facades", image, "--at", "down1.conv", "--gradients", "loss.py:loss"]
    done = run(*arguments, "--grad-cam", "--no-plugins", "-o", "out")
    assert done.code == 0, done.err
    names = sorted(path.name for path in (tmp_path / "out" / image.stem).iterdir())
    assert names == [
        "000-input.gradient.png",
        "000-input.png",
        "001-down1.conv.grad_cam.png",
        "001-down1.conv.gradient.png",
        "001-down1.conv.png",
        "056-output.png",
        "sheet.png",
    ]
    assert run("verify", "out").code == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["settings"]["gradients"] == "loss.py:loss"
    with Image.open(tmp_path / "out" / image.stem / "001-down1.conv.gradient.png") as picture:
        note = json.loads(picture.text["surgery"])  # type: ignore[attr-defined]
        codes = np.asarray(picture)[:128, :128]
    model = surgery.load_model("facades").eval()
    x = surgery.load_image(image)
    traced = surgery.trace(model, x)
    opened = surgery.insert(traced, surgery.select(traced, "down1.conv"))
    (activation,) = surgery.record(opened, x, gradients=lambda output: output.abs().mean())
    assert activation.gradient is not None
    low, high = note["low"][0], note["high"][0]
    assert low == -high
    decoded = low + codes / 250 * (high - low)
    assert np.abs(decoded - activation.gradient.values[0, 0].numpy()).max() <= (high - low) / 500 * 1.001


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--gradients", "output", "--no-output"], "gradients are those of the output; leave out --no-output"),
        (["--grad-cam", "--jobs", "2"], "a run with gradients has one process"),
        (["--gradients", "channel=7"], "the output has 3 channels, 0 to 2, not 7"),
    ],
)
def test_gradients_that_a_run_can_not_have_are_one_line(run: Any, options: list[str], said: str) -> None:
    done = run("extract", "facades", inputs()[0], "--at", "down1.conv", "--no-plugins", *options)
    assert done.code == 1
    assert said in done.err
    assert done.err.count("\n") == 1


def test_the_batches_of_a_run_have_the_gradients_of_their_images(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    found: dict[int, dict[str, Tensor]] = {}
    for size in (1, 2):
        seen = found[size] = {}

        def keep(activation: surgery.Activation, seen: dict[str, Tensor] = seen) -> None:
            if activation.path.endswith(".gradient"):
                seen[f"{activation.image} {activation.path}"] = activation.values.clone()

        watcher = surgery.output.Watcher("test", activation=keep)  # type: ignore[attr-defined]
        out = tmp_path / str(size)
        surgery.extract(
            model, inputs()[:2], out=out, batch_size=size, gradients="channel=1", watchers=[watcher], size=16
        )
    assert found[1].keys() == found[2].keys()
    assert len(found[1]) == 8
    for key, gradient in found[1].items():
        torch.testing.assert_close(gradient, found[2][key], rtol=1e-4, atol=1e-6)
