"""The fields of a pixel: what is known of them in closed form, what they are by brute force, and what is written."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.diagnosis.pixel_fields import PixelField
from surgery.errors import ImageError, ModelError, OutputError, SelectionError, SurgeryError, TraceError
from surgery.models.pix2pix import PatchGAN, ResNet, UNet
from surgery.stages import Preprocessing
from surgery.types import Operation

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)


def small(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3, padding=1)
    )


def strays(field: PixelField) -> Tensor:
    """The gradient where nothing can reach the pixel."""
    assert field.gradient is not None
    assert field.reach is not None
    return field.gradient[~field.reach]


def make_field(gradient: Tensor | None, reach: Tensor | None, center: tuple[float, float] = (4.0, 4.0)) -> PixelField:
    return PixelField(Operation("conv", "conv", "conv2d", 1), "conv", reach, gradient, (4, 4), (8, 8), center)


def test_the_field_of_a_chain_is_what_the_kernels_span() -> None:
    trace = surgery.trace_back(small().eval(), IMAGE, (3, 0))
    assert [(field.path, field.size, field.rectangle) for field in trace] == [
        ("input", (16, 16), (3, 0, 8, 5)),
        ("0", (16, 16), (4, 0, 6, 4)),
        ("1", (16, 16), (4, 0, 6, 4)),
        ("2", (8, 8), (2, 0, 3, 2)),
        ("3", (8, 8), (3, 0, 1, 1)),
    ]
    assert [field.pixels for field in trace] == [(8, 5), (6, 4), (6, 4), (6, 4), (2, 2)]
    assert [field.area for field in trace] == [40, 24, 24, 6, 1]
    assert trace[0].center == (7.0, 1.0)
    assert trace[4].radius() == 0
    for field in trace:
        assert not strays(field).any()
        assert field.total > 0


@pytest.mark.parametrize(("depth", "side"), [(1, 16), (2, 34), (3, 70)])
def test_a_score_of_a_patch_discriminator_sees_the_patch_that_the_paper_says(depth: int, side: int) -> None:
    torch.manual_seed(0)
    model = PatchGAN(depth, width=2).eval()
    pair = torch.randn(1, 6, 96, 96)
    scores = model(pair).shape[-1]
    (field,) = surgery.trace_back(model, pair, (scores // 2, scores // 2), at="score")[:1]
    assert field.rectangle[2:] == (side, side)
    assert field.area == side**2
    assert field.effective_area(1) <= side**2


def test_a_unet_sees_the_whole_image_through_its_bottleneck_and_a_part_of_each_skip() -> None:
    torch.manual_seed(0)
    trace = surgery.trace_back(UNet(6, width=2).eval(), torch.randn(1, 3, 64, 64), (20, 30))
    fields = {field.path: field for field in trace}
    assert fields["input"].rectangle == (0, 0, 64, 64)
    assert fields["down6.conv"].rectangle == (0, 0, 1, 1)
    assert fields["up2.cat"].rectangle == (9, 14, 2, 2)
    assert fields["up1.tanh"].rectangle == (20, 30, 1, 1)
    assert fields["input"].radius() < fields["down4.conv"].radius()


def test_instance_norms_make_the_field_of_a_resnet_the_whole_image() -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 3, 64, 64)
    of_instances = surgery.trace_back(ResNet(1, width=2, norm="instance").eval(), image, (30, 30), at="*")
    of_batches = surgery.trace_back(ResNet(1, width=2, norm="batch").eval(), image, (30, 30), at="*")
    assert of_instances[0].area == 64 * 64
    assert of_batches[0].rectangle[2:] != (64, 64)
    assert not of_instances.notes


def layer(kind: str, channels: int, number: int) -> nn.Module:
    """A layer whose weights are positive."""
    torch.manual_seed(number)
    made: nn.Module
    if kind == "conv":
        made = nn.Conv2d(channels, channels, 1 + number % 3, 1 + number % 2, number % 2, dilation=1 + number % 2)
    elif kind == "reflect":
        made = nn.Conv2d(channels, channels, 3, padding=1, padding_mode=("reflect", "circular")[number % 2])
    elif kind == "transposed":
        made = nn.ConvTranspose2d(channels, channels, 2 + number % 3, 2, number % 2)
    elif kind == "max":
        made = nn.MaxPool2d(2, 1 + number % 2, padding=number % 2)
    elif kind == "mean":
        made = nn.AvgPool2d(2, 1 + number % 2)
    elif kind == "upsample":
        made = nn.Upsample(scale_factor=2, mode=("nearest", "bilinear")[number % 2])
    elif kind == "instance":
        made = nn.InstanceNorm2d(channels)
    else:
        made = nn.LeakyReLU(0.2, inplace=bool(number % 2))
    for parameter in made.parameters():
        parameter.data.abs_().add_(0.1)
    return made


class Chain(nn.Module):
    """Layers, of which the last value is joined with an earlier one of the same size."""

    def __init__(self, kinds: list[str], numbers: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layer(kind, 2, number) for kind, number in zip(kinds, numbers, strict=False))

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for each in self.layers:
            values.append(each(values[-1]))
        same = [value for value in values[:-1] if value.shape == values[-1].shape]
        return torch.cat([values[-1], same[0].flip(3)], 1) if same else values[-1]


KINDS = ["conv", "reflect", "transposed", "max", "mean", "upsample", "instance", "relu"]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5),
    numbers=st.lists(st.integers(0, 11), min_size=5, max_size=5),
    place=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
)
def test_a_position_is_in_the_field_if_and_only_if_changing_it_changes_the_pixel(
    kinds: list[str], numbers: list[int], place: tuple[float, float]
) -> None:
    model = Chain(kinds, numbers).double().eval()
    image = torch.randn(1, 2, 7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(numbers[0]))
    try:
        before = model(image.clone())
    except (RuntimeError, ValueError):  # the maps have become too small
        return
    row, column = (int(share * count) for share, count in zip(place, before.shape[2:], strict=True))
    trace = surgery.trace_back(model, image, (row, column))
    changed = torch.zeros(7, 6, dtype=torch.bool)
    with torch.no_grad():
        for position in range(2 * 7 * 6):
            for step in (1.0, -1.0, 1e3, -1e3):
                moved = image.clone()
                moved.view(-1)[position] += step
                pixel = model(moved)[..., row, column]
                changed.view(-1)[position % 42] |= bool((pixel != before[..., row, column]).any())
    assert not trace.notes
    assert torch.equal(trace[0].reach, changed)
    for field in trace:
        assert not strays(field).any()


def test_an_observed_model_has_the_fields_of_its_graph() -> None:
    model = small().eval()
    of_graph = surgery.trace_back(model, IMAGE, (3, 4)).records()
    observed = surgery.trace_back(surgery.trace(model, IMAGE, front_end="observed"), IMAGE, (3, 4)).records()
    assert observed == of_graph


def test_the_gradient_is_that_of_record_summed_over_channels() -> None:
    model = small().eval()
    traced = surgery.trace(model, IMAGE)
    (recorded,) = surgery.record(
        surgery.insert(traced, surgery.select(traced, "0")), IMAGE, gradients=surgery.Output(pixel=(3, 4), channel=1)
    )
    trace = surgery.trace_back(traced, IMAGE, (3, 4), at="0", channel=1)
    assert recorded.gradient is not None
    torch.testing.assert_close(trace[1].gradient, recorded.gradient.values[0].abs().double().sum(0))


def test_the_channel_of_the_pixel_decides_what_can_reach_it() -> None:
    model = nn.Conv2d(2, 2, (3, 1), groups=2)
    model.weight.data[1] *= 0
    image = torch.randn(1, 2, 5, 5)
    first, second = (surgery.trace_back(model, image, (1, 1), channel=channel)[0] for channel in (0, 1))
    assert first.rectangle == second.rectangle == (1, 1, 3, 1)
    assert second.radius() is None
    assert second.effective_area() is None
    assert second.share_within(3) is None
    assert "no gradient" in repr(second)


def test_a_pixel_that_nothing_reaches_has_no_rectangle() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x[..., :2], torch.ones_like(x[..., 2:])], 3)

    trace = surgery.trace_back(Constant(), IMAGE, (0, 5), at="cat")
    assert (trace[0].rectangle, trace[0].area, trace[0].pixels, trace[0].total) == (None, 0, None, 0)
    assert "none of 16x16 can reach it, no gradient" in repr(trace[0])
    assert trace[1].rectangle == (0, 5, 1, 1)
    assert trace.picture(0).pixels.shape == (256, 256, 3)


def test_an_edit_that_replaces_a_skip_takes_it_off_the_way() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 3)).eval()
    edited = surgery.edit(surgery.trace(model, IMAGE), "0", "zero:region=0,0,1,0.5")
    trace = surgery.trace_back(edited, IMAGE, (5, 5), at="0")
    assert trace[1].gradient[5:8, 5:7].sum() == 0
    assert trace[1].gradient[5:8, 7].sum() > 0


def test_radii_and_areas_of_known_gradients() -> None:
    """Each position is 2 x 2 pixels; the pixel is in the middle of four of them."""
    everywhere = torch.ones(4, 4, dtype=torch.float64)
    near, far = math.sqrt(2), math.sqrt(18)
    uniform = make_field(everywhere, everywhere > 0)
    assert uniform.radius(0.25) == near
    assert uniform.radius(0.26) == math.sqrt(10)
    assert uniform.radius(1) == far
    assert uniform.share_within(near) == 0.25
    assert uniform.share_within(0) == 0
    assert [uniform.effective_area(share) for share in (1 / 16, 0.5, 1)] == [1, 8, 16]
    peak = torch.zeros(4, 4, dtype=torch.float64)
    peak[0, 0], peak[2, 2] = 3, 1
    field = make_field(peak, peak > 0)
    assert (field.radius(0.25), field.radius(0.3)) == (near, far)
    assert (field.effective_area(0.75), field.effective_area(0.8)) == (1, 2)
    assert field.rectangle == (0, 0, 3, 3)
    assert (field.area, field.pixels) == (2, (6, 6))
    assert field.record()["radius_95"] == far
    with pytest.raises(ModelError, match=r"a share of the gradient is above 0 and at most 1, not 0"):
        field.radius(0)
    with pytest.raises(ModelError, match=r"not 1\.5"):
        field.effective_area(1.5)


def test_what_is_not_known_is_said() -> None:
    unknown = make_field(None, None)
    assert (unknown.rectangle, unknown.area, unknown.radius()) == (None, None, None)
    assert repr(unknown) == "PixelField('conv', not known which of 4x4 can reach it, no gradient)"

    class Spectrum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.irfft2(torch.fft.rfft2(x))

    trace = surgery.trace_back(Spectrum(), IMAGE, (0, 0))
    assert trace.notes == ("all that these kernels read is taken to reach all that they write: _fft_c2r, _fft_r2c",)
    assert trace[0].area == 256

    class Sparse(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sparse.mm(torch.eye(16).to_sparse(), x[0, 0])[None, None] + x

    trace = surgery.trace_back(Sparse(), IMAGE, (2, 3))
    assert trace[0].reach is None
    assert trace[0].gradient[2, 3] > 0
    assert any("not known which positions can reach the pixel: sparse" in note for note in trace.notes)
    assert trace.picture().pixels.shape == (256, 256, 3)


def test_values_that_are_no_maps_are_left_out_with_a_note() -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x.mean() + x.mean((0, 2, 3))[:, None, None]

    trace = surgery.trace_back(Mean(), IMAGE, (2, 3))
    assert [field.path for field in trace] == ["input", "mul", "add"]
    assert [note for note in trace.notes if "left out" in note] == [
        "left out, since their values are no maps of one image: mean, mean@1, getitem"
    ]
    assert trace[0].area == 256


class TwoInputs(nn.Module):
    def forward(self, time: Tensor, photo: Tensor) -> dict[str, Tensor]:
        return {"score": photo.mean((2, 3)), "maps": photo * time}


def test_a_model_of_several_inputs_and_outputs_is_followed() -> None:
    inputs = {"time": torch.tensor([2.0]), "photo": IMAGE}
    trace = surgery.trace_back(TwoInputs(), inputs, (4, 5), tensor="[maps]")
    assert trace[0].rectangle == (4, 5, 1, 1)
    assert "pixel 4,5 of 16x16 of [maps]" in trace.title()
    with pytest.raises(SelectionError, match=r"the output \(1, 3\) has no height and width, so it has no pixels"):
        surgery.trace_back(TwoInputs(), inputs, (4, 5), tensor="[score]")


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"pixel": (8, 0)}, SelectionError, "the output has 8 rows and 8 columns, and no pixel 8,0"),
        ({"pixel": (0, -1)}, SelectionError, "the output has 8 rows and 8 columns, and no pixel 0,-1"),
        ({"pixel": (1.5, 2)}, SelectionError, "a pixel is two whole numbers, its row and its column, not (1.5, 2)"),
        ({"pixel": 3}, SelectionError, "a pixel is two whole numbers, its row and its column, not 3"),
        ({"channel": 3}, SelectionError, "the output has 3 channels, 0 to 2, not 3"),
        ({"at": "down9"}, SelectionError, "down9"),
        ({"image": IMAGE.repeat(2, 1, 1, 1)}, ImageError, "one image, not to 2; give image[:1]"),
        ({"image": IMAGE[0]}, (ImageError, TraceError), "(1, C, H, W), not tensors (3, 16, 16)"),
        ({"seed": 1.5}, ModelError, "a seed is a whole number"),
        ({"tensor": "[x]"}, SelectionError, "the output has no tensor of floats '[x]'"),
    ],
)
def test_bad_input_is_one_line_that_says_what_there_is(arguments: dict[str, Any], kind: Any, message: str) -> None:
    given = {"image": IMAGE, "pixel": (3, 4), **arguments}
    with pytest.raises(kind) as raised:
        surgery.trace_back(small().eval(), **given)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_model_without_gradients_is_one_line() -> None:
    class Detached(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach() * 2

    with pytest.raises(TraceError, match="the number does not depend on anything that has gradients"):
        surgery.trace_back(Detached(), IMAGE, (3, 4))

    class Labels(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.argmax(1, keepdim=True)

    with pytest.raises(SurgeryError, match="the output has no tensor of floats, so nothing has a gradient"):
        surgery.trace_back(Labels(), IMAGE, (3, 4))


def test_the_model_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 1, 1)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    image, state = IMAGE.clone(), torch.get_rng_state()
    first = surgery.trace_back(model, image, (3, 4), seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(image, IMAGE)
    assert first[0].area == 256  # the batch norm reads the whole image
    assert torch.equal(surgery.trace_back(model, image, (3, 4), seed=5)[0].gradient, first[0].gradient)


def test_a_trace_is_a_sequence_with_a_table_and_a_page() -> None:
    trace = surgery.trace_back(small().eval(), IMAGE, (3, 4), at="0 | 3")
    assert len(trace) == 3
    assert repr(trace).splitlines() == [
        "Sequential, pixel 3,4 of 8x8: 3 fields",
        f"  input  8x8 of 16x16 can reach it, 95 % of the gradient within {trace[0].radius():.3g} pixels",
        f"  0      6x6 of 16x16 can reach it, 95 % of the gradient within {trace[1].radius():.3g} pixels",
        "  3      1x1 of 8x8 can reach it, 95 % of the gradient within 0 pixels",
    ]
    assert [record["path"] for record in trace.records()] == ["input", "0", "3"]
    html = trace._repr_html_()
    assert html.count("<tr>") == 4
    assert html.count("<img") == 1
    assert trace._repr_png_().startswith(b"\x89PNG")
    assert len(repr(surgery.trace_back(UNet(5, width=2).eval(), torch.zeros(1, 3, 32, 32), (0, 0))).splitlines()) == 14


def test_a_picture_has_the_outline_of_what_can_and_the_glow_of_what_does() -> None:
    trace = surgery.trace_back(small().eval(), IMAGE, (3, 4), limits=Preprocessing((16, 16)).limits)
    pixels = trace.picture(0).pixels.astype(int)
    assert pixels.shape == (256, 256, 3)
    outline = (pixels == (0, 220, 255)).all(2)
    rows, columns = np.nonzero(outline)
    top, left, height, width = (16 * number for number in trace[0].rectangle)
    assert (rows.min(), rows.max()) == (top, top + height - 1)
    assert (columns.min(), columns.max()) == (left, left + width - 1)
    brightest = divmod(int(trace[0].gradient.argmax()), 16)
    glow = (pixels[..., 0] - pixels[..., 2]) * ~outline
    assert glow[brightest[0] * 16 + 8, brightest[1] * 16 + 8] > 60
    outside = np.ones((256, 256), bool)
    outside[top : top + height, left : left + width] = False
    gray = pixels[outside]
    is_mark = (gray == (60, 255, 90)).all(1)
    assert (np.ptp(gray[~is_mark], 1) == 0).all()


def test_the_images_of_a_pair_are_side_by_side() -> None:
    torch.manual_seed(0)
    trace = surgery.trace_back(PatchGAN(1, width=2).eval(), torch.randn(1, 6, 32, 32), (3, 3), at="score")
    assert trace.picture().pixels.shape == (256, 512, 3)
    many = surgery.trace_back(nn.Conv2d(5, 1, 1), torch.randn(1, 5, 8, 4), (3, 3))
    assert many.picture().pixels.shape == (512, 256, 3)


def test_a_folder_has_a_picture_for_each_field_a_sheet_and_the_numbers(tmp_path: Path) -> None:
    trace = surgery.trace_back(small().eval(), IMAGE, (3, 4), at="0 | 3", channel=2)
    files = trace.save(tmp_path / "out", source="small")
    assert files == ("000-input.png", "001-0.png", "004-3.png", "fields.json", "sheet.png")
    content = json.loads((tmp_path / "out/fields.json").read_text())
    assert (content["pixel"], content["channel"]) == ([3, 4], 2)
    assert [each["path"] for each in content["fields"]] == ["input", "0", "3"]
    assert content["fields"][0]["area"] == 64
    with Image.open(tmp_path / "out/001-0.png") as picture:
        shown = json.loads(picture.text["surgery"])  # type: ignore[attr-defined]
    assert shown["shows"] == "what pixel 3,4 depends on in 0"
    assert shown["radius_95"] == trace[1].radius()
    assert surgery.verify(tmp_path / "out").sound
    with pytest.raises(OutputError):
        trace.save(tmp_path / "out")
    trace.save(tmp_path / "out", overwrite=True)
