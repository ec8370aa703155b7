"""An edit takes effect in its channels, its region and its amount, and leaves the bits of everything else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from surgery.builtin import Mean, Noise, Replace, Scale, Zero
from surgery.editing import Blend, edit_values
from surgery.editing.blending import blend, blend_weights, parse_channels
from surgery.errors import EditError
from surgery.graph import bitwise_equal
from surgery.plugins import Plugins

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.device("cpu")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weights_of(edit: Any, *shape: int) -> Tensor:
    return blend_weights(edit, shape, CPU, torch.float32)


@pytest.mark.parametrize(
    ("channels", "numbers"),
    [
        (None, [0, 1, 2, 3, 4, 5]),
        ([], None),
        ((3,), [3]),
        ("2", [2]),
        (range(1, 4), [1, 2, 3]),
        (range(5, 0, -2), [1, 3, 5]),
        ((4, "0-1", 1), [0, 1, 4]),
        ("0-2, 4", [0, 1, 2, 4]),
        ("0-2,1-3,5", [0, 1, 2, 3, 5]),
        (np.array([5, 0]), [0, 5]),
        (torch.tensor([1]), [1]),
        ("5-5", [5]),
    ],
)
def test_channels_are_numbers_and_ranges_in_any_order(channels: Any, numbers: list[int] | None) -> None:
    if numbers is None:
        with pytest.raises(EditError, match="an edit of no channels changes nothing"):
            parse_channels(channels, 6, "up3.cat")
        return
    assert parse_channels(channels, 6, "up3.cat") == numbers
    assert (
        weights_of(Zero(channels=channels), 1, 6, 2, 2).expand(6, 2, 2)[:, 0, 0].nonzero().flatten().tolist() == numbers
    )


@pytest.mark.parametrize("channels", ["", "a", "-1", "3-1", "1--2", "1-2-3", "0,,1", (-1,), (1.5,), (True,), 3, "１"])
def test_channels_that_can_not_be_read_are_one_line(channels: Any) -> None:
    with pytest.raises(
        EditError, match=r"channels are whole numbers and ranges from 0, such as 0-15,20, or 0-50%, not"
    ):
        parse_channels(channels, 6, "up3.cat")
    with pytest.raises(EditError):
        Zero(channels=channels)


@pytest.mark.parametrize(
    ("channels", "count", "message"),
    [
        ("200", 128, "up3.cat has 128 channels, 0 to 127, not 200"),
        ("0-3,120-128,300", 128, "up3.cat has 128 channels, 0 to 127, not 120-128, 300"),
        ("0-99999999999999999999", 128, "up3.cat has 128 channels, 0 to 127, not 0-99999999999999999999"),
        ("1", 1, "up3.cat has one channel, 0, not 1"),
    ],
)
def test_a_channel_that_does_not_exist_is_told_with_those_that_do(channels: str, count: int, message: str) -> None:
    with pytest.raises(EditError) as caught:
        edit_values(Zero(channels=channels), torch.zeros(1, count, 2, 2), "up3.cat")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("region", "rows", "columns"),
    [
        ((0, 0, 0.5, 0.5), [0, 1], [0, 1, 2]),
        ((0.5, 0.5, 0.5, 0.5), [2, 3], [3, 4, 5]),
        ((0, 0, 1, 1), [0, 1, 2, 3], [0, 1, 2, 3, 4, 5]),
        ((0.3, 0.3, 0.01, 0.01), [1], [1]),
        ((0.99, 0.99, 0.01, 0.01), [3], [5]),
        ((0, 0, 0.001, 1), [0], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_a_region_covers_the_pixels_whose_centers_it_has(region: Any, rows: list[int], columns: list[int]) -> None:
    covered = weights_of(Zero(region=region), 1, 2, 4, 6)
    assert covered.dtype is torch.bool
    assert covered[0].any(1).nonzero().flatten().tolist() == rows
    assert covered[0].any(0).nonzero().flatten().tolist() == columns


shares = st.integers(0, 24).map(lambda number: number / 24)


@given(st.integers(1, 40), shares, shares)
def test_a_region_is_never_empty_and_regions_that_touch_share_no_pixel(size: int, start: float, end: float) -> None:
    start, end = sorted((start, end))
    if start == end:
        return
    covered = weights_of(Zero(region=(start, 0, end - start, 1)), 1, 1, size, 1).flatten()
    assert covered.any()
    if start > 0 and min(start, end - start) * size >= 1:
        before = weights_of(Zero(region=(0, 0, start, 1)), 1, 1, size, 1).flatten()
        assert not (covered & before).any()
        whole = weights_of(Zero(region=(0, 0, end, 1)), 1, 1, size, 1).flatten()
        assert torch.equal(covered | before, whole)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Zero(region=(0, 0, 1)),  # type: ignore[arg-type]
        lambda: Zero(region=(0, 0, 0, 1)),
        lambda: Zero(region=(0.5, 0, 0.6, 1)),
        lambda: Zero(region=(-0.1, 0, 0.5, 1)),
        lambda: Zero(region=(0, 0, float("nan"), 1)),
        lambda: Zero(region="left"),  # type: ignore[arg-type]
    ],
)
def test_a_region_outside_the_map_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(EditError, match=r"a region is top, left, height and width"):
        make()


@pytest.mark.parametrize("amount", [-0.1, 1.1, float("nan"), "half", None])
def test_an_amount_is_from_0_to_1(amount: Any) -> None:
    with pytest.raises(EditError, match=r"the amount of an edit is a number from 0 to 1"):
        Zero(amount=amount)


def test_a_mask_paints_where_it_is_white(tmp_path: Path) -> None:
    gray = np.zeros((40, 60), np.uint8)
    gray[:20, :30], gray[20:, 30:] = 255, 51
    Image.fromarray(gray).save(tmp_path / "mask.png")
    np.save(tmp_path / "mask.npy", gray / 255)
    values = torch.ones(1, 2, 4, 6)
    for name in ("mask.png", "mask.npy"):
        edited = edit_values(Zero(mask=tmp_path / name, channels="1"), values)
        assert torch.equal(edited[0, 0], values[0, 0])
        assert edited[0, 1, :2].tolist() == [[0, 0, 0, 1, 1, 1]] * 2
        assert edited[0, 1, 2:].flatten().tolist() == pytest.approx([1, 1, 1, 0.8, 0.8, 0.8] * 2)
    small = edit_values(Zero(mask=tmp_path / "mask.png", amount=0.5, region=(0, 0, 0.5, 1)), torch.ones(1, 1, 2, 2))
    assert small.flatten().tolist() == pytest.approx([0.5, 1, 1, 1])
    whole = edit_values(Zero(mask=tmp_path / "mask.png"), torch.ones(1, 1, 1, 1))
    assert whole.item() == pytest.approx(1 - (gray / 255).mean())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.png", "there is no image gone.png"),
        ("words.png", "words.png is not an image that can be read"),
        ("gone.npy", "there is no file gone.npy"),
        ("flat.npy", r"flat.npy holds (6,), and a mask is (H, W)"),
        ("large.npy", "large.npy holds 0 to 255, and a mask has values from 0 to 1"),
    ],
)
def test_a_mask_that_can_not_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words.png").write_text("words")
    np.save("flat.npy", np.zeros(6))
    np.save("large.npy", np.array([[0.0, 255.0]]))
    with pytest.raises(EditError) as caught:
        Plugins(bare=True).resolve("edit", f"zero:mask={name}")
    assert str(caught.value) == message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_bits_outside_an_edit_stay_and_those_inside_are_the_replacement_s(dtype: torch.dtype) -> None:
    odd = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0, 0.0, 1.0])
    values, replacement = (tensor.reshape(1, 1, 6, 6).to(dtype) for tensor in (odd.repeat(6), odd.repeat_interleave(6)))
    for weights in (torch.zeros(1, 1, 1), torch.zeros(1, 1, 1, dtype=torch.bool)):
        assert bitwise_equal(blend(values, replacement, weights), values)
    for weights in (torch.ones(1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool)):
        assert bitwise_equal(blend(values, replacement, weights), replacement)


def test_a_share_of_an_edit_is_mixed_in() -> None:
    values = torch.tensor([[[[1.0, torch.inf, 3.0, -0.0]]]])
    mixed = edit_values(Zero(amount=0.25), values)
    assert mixed.tolist() == [[[[0.75, torch.inf, 2.25, -0.0]]]]
    assert bitwise_equal(edit_values(lambda values: values, values), values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("amount", [0.0, 0.3, 0.5, 1.0])
def test_an_edit_that_changes_nothing_changes_no_bit_in_any_amount(amount: float, dtype: torch.dtype) -> None:
    @dataclass(frozen=True)
    class Same:
        amount: float
        region: Any = (0.1, 0.2, 0.5, 0.5)

        def __call__(self, values: Tensor, /) -> Tensor:
            return values.clone()

    values = normal(2, 3, 7, 5).to(dtype)
    values[0, 0, 0, :3] = torch.tensor([torch.inf, -torch.inf, -0.0])
    assert bitwise_equal(edit_values(Same(amount), values), values)


@pytest.mark.parametrize("edit", [Zero(), Zero(amount=0.5), Replace(values=torch.zeros(3, 6, 4)), Mean(channels="1")])
@pytest.mark.parametrize(
    "arrange",
    [
        lambda values: values,
        lambda values: values.contiguous(memory_format=torch.channels_last),
        lambda values: values.transpose(2, 3).contiguous().transpose(2, 3),
        lambda values: values.permute(1, 0, 2, 3).contiguous().permute(1, 0, 2, 3),
    ],
)
def test_an_edited_value_is_new_memory_with_the_strides_of_the_old_one(edit: Any, arrange: Any) -> None:
    values = arrange(normal(2, 3, 6, 4))
    before = values.clone()
    edited = edit_values(edit, values)
    assert edited.stride() == values.stride()
    edited.add_(1)
    assert torch.equal(values, before)
    assert torch.equal(edit_values(edit, values) + 1, edited)


def test_integers_can_be_replaced_and_not_be_blended() -> None:
    values = torch.arange(12).reshape(1, 3, 2, 2)
    assert edit_values(Zero(channels="1-2"), values).flatten().tolist() == [0, 1, 2, 3, *[0] * 8]
    with pytest.raises(
        EditError, match=r"^the value has values of torch.int64, which can be replaced, and not be blended"
    ):
        edit_values(Zero(amount=0.5), values)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda values: values[:1], r"gives \(1, 3, 4, 4\) float32 for up3.cat, which is \(2, 3, 4, 4\)"),
        (
            lambda values: values.half(),
            r"gives \(2, 3, 4, 4\) float16 for up3.cat, which is .* float32",
        ),
        (lambda values: values.to("meta"), r"gives .* on meta for up3.cat, which is .* on cpu"),
        (lambda values: 0, r"gives int for up3.cat, not a tensor"),
    ],
)
def test_a_replacement_that_does_not_fit_is_one_line(edit: Any, message: str) -> None:
    with pytest.raises(EditError, match=message):
        edit_values(edit, normal(2, 3, 4, 4), "up3.cat")


def test_gradients_flow_to_what_each_position_is_made_of() -> None:
    values = normal(1, 2, 2, 2).requires_grad_()
    edit_values(Scale(by=3.0, channels="0"), values).sum().backward()
    assert values.grad is not None
    assert values.grad[0, :, 0, 0].tolist() == [3.0, 1.0]
    given_values = torch.full((2, 2, 2), torch.inf, requires_grad=True)
    edit_values(Replace(values=given_values, amount=0.25, channels="1"), values.detach()).sum().backward()
    assert given_values.grad is not None
    assert given_values.grad[:, 0, 0].tolist() == [0.0, 0.25]


def test_a_blend_paints_where_its_shares_are() -> None:
    mask = torch.tensor([[0, 1], [0, 0]])
    painted = edit_values(Blend(mask, Zero(channels="1")), torch.ones(1, 2, 2, 2))
    assert painted.tolist() == [[[[1, 1], [1, 1]], [[1, 0], [1, 1]]]]
    inserted = edit_values(Blend(mask / 4, torch.full((2, 1, 1), 5.0)), torch.ones(1, 2, 2, 2))
    assert inserted[0, 0].tolist() == [[1.0, 2.0], [1.0, 1.0]]
    assert edit_values(Blend(mask.numpy(), Zero()), torch.ones(1, 1, 2, 2, dtype=torch.int64)).sum() == 3


def test_a_blend_hands_its_replacement_the_reference() -> None:
    blended = Blend(torch.tensor([[1.0, 0.0]]), Mean(over="reference"))
    assert blended.needs_reference
    reference = torch.tensor([2.0, 4.0]).reshape(2, 1, 1, 1).expand(2, 1, 3, 3)
    ready = blended.of_reference(reference)
    assert not ready.needs_reference
    assert edit_values(ready, torch.zeros(1, 1, 1, 2)).tolist() == [[[[3.0, 0.0]]]]
    assert not Blend(torch.ones(()), Zero()).needs_reference
    assert torch.equal(Blend(torch.ones(()), Zero()).of_reference(reference)(reference), torch.zeros(2, 1, 3, 3))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (torch.full((3, 3), 1.5), "the shares of a blend are .* from 0 to 1, not from 1.5 to 1.5"),
        (torch.tensor([torch.nan]), "from 0 to 1, not from nan to nan"),
        (torch.zeros(1, 1, 1, 1), r"from 0 to 1, not of shape \(1, 1, 1, 1\)"),
    ],
)
def test_shares_are_from_0_to_1(shares: Tensor, message: str) -> None:
    with pytest.raises(EditError, match=message):
        Blend(shares, Zero())


def test_shares_of_another_size_are_one_line() -> None:
    with pytest.raises(EditError, match=r"shares of \(3, 3\) don't fit maps of \(2, 4, 4\); give them that size"):
        edit_values(Blend(torch.zeros(3, 3), Zero()), torch.zeros(1, 2, 4, 4))


class Edited(nn.Module):
    def __init__(self, edit: Any) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 3, padding=1)
        self.edit = edit

    def forward(self, image: Tensor) -> Tensor:
        return edit_values(self.edit, self.convolution(image)).sum(1)


IN_GRAPHS = [
    Zero(channels="0-2,5", region=(0, 0, 0.5, 0.5), amount=0.5),
    Noise(channels=(1,), seed=3),
    Replace(values=normal(6, 8, 6)),
    Blend(torch.rand(8, 6, generator=torch.Generator().manual_seed(0)), Zero()),
]


@pytest.mark.parametrize("edit", IN_GRAPHS, ids=lambda edit: type(edit).__name__)
def test_an_edit_stays_in_a_compiled_and_in_an_exported_graph(edit: Any) -> None:
    model, image = Edited(edit).eval(), normal(2, 3, 8, 6)
    expected = model(image)
    compiled: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(image), expected)
    batches = ({0: torch.export.Dim("batch", min=2)},)
    program = torch.export.export(model, (image,), dynamic_shapes=batches)
    assert torch.equal(program.module()(torch.cat([image, image]))[2:], expected)
