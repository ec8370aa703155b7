"""The edits that come with the project."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from surgery.builtin import Blur, Clamp, Mean, Noise, Replace, Scale, Shuffle, Zero
from surgery.builtin.edits import EDITS
from surgery.errors import EditError
from surgery.plugins import Plugins


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_names_are_those_that_are_listed_and_their_options_are_read() -> None:
    found = Plugins(bare=True)
    assert found.names("edit") == ["zero", "mean", "scale", "clamp", "noise", "shuffle", "blur", "replace"]
    edit = found.resolve("edit", "zero:channels=0-15,20,region=0,0,0.5,0.5,amount=0.25")
    assert edit == Zero(channels=[*range(16), 20], region=(0, 0, 0.5, 0.5), amount=0.25)
    assert edit.channels == ("0-15", 20)
    assert found.resolve("edit", "clamp:low=none,high=0") == Clamp(low=None, high=0)
    assert found.resolve("edit", "zero:channels=none") == Zero()
    assert found.resolve("edit", "mean:over=Batch,channels=3") == Mean(over="batch", channels="3")


def test_zero_says_nothing() -> None:
    assert not Zero()(normal(2, 3, 4, 4)).any()
    assert not Zero()(torch.ones(1, 1, 2, 2, dtype=torch.bool)).any()


def test_a_mean_is_that_of_each_channel_over_space_or_over_the_batch() -> None:
    values = normal(2, 3, 4, 5)
    assert torch.allclose(Mean()(values), values.mean((2, 3), keepdim=True).expand_as(values))
    assert torch.allclose(Mean(over="batch")(values), values.mean((0, 2, 3))[:, None, None].expand_as(values))
    assert Mean()(torch.full((1, 1, 300, 300), 300.0, dtype=torch.float16)).unique().tolist() == [300.0]


def test_a_mean_over_a_reference_set_is_that_of_its_images_and_positions() -> None:
    edit = Mean(over="reference", channels="1")
    assert edit.needs_reference
    assert not Mean().needs_reference
    with pytest.raises(EditError, match="mean:over=reference needs the images of a reference set"):
        edit(normal(1, 3, 2, 2))
    reference = normal(5, 3, 6, 6)
    ready = edit.of_reference(reference)
    assert ready.channels == (1,)
    assert torch.allclose(ready(normal(2, 3, 4, 4))[1, :, 3, 3], reference.mean((0, 2, 3)))
    assert Mean().of_reference(reference) == Mean()


def test_scale_multiplies() -> None:
    assert Scale(by=-3.0)(torch.tensor([[[[1.0, -2.0]]]])).tolist() == [[[[-3.0, 6.0]]]]


def test_clamp_bounds_values_on_either_side_and_keeps_nan() -> None:
    values = torch.tensor([[[[-5.0, 0.5, 5.0, torch.nan]]]])
    assert Clamp()(values).flatten()[:3].tolist() == [-1.0, 0.5, 1.0]
    assert Clamp(low=0, high=None)(values).flatten()[:3].tolist() == [0.0, 0.5, 5.0]
    assert Clamp(low=None, high=0)(values).flatten()[:3].tolist() == [-5.0, 0.0, 0.0]
    assert Clamp()(values).flatten()[3].isnan()
    assert Clamp(low=-1e30)(values.half()).flatten()[0] == -5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_noise_is_the_same_for_each_image_seed_and_dtype(dtype: torch.dtype) -> None:
    values = torch.zeros(3, 4, 50, 50)
    noise = Noise(std=2.0, relative=False, seed=1)(values)
    assert torch.equal(noise[0], noise[2])
    assert noise.std() == pytest.approx(2, rel=0.05)
    assert noise.mean() == pytest.approx(0, abs=0.1)
    assert torch.equal(Noise(std=2.0, relative=False, seed=1)(values[:1]), noise[:1])
    assert torch.equal(Noise(std=2.0, relative=False, seed=1)(values.to(dtype)), noise.to(dtype))
    assert not torch.equal(Noise(std=2.0, relative=False, seed=2)(values), noise)


def test_relative_noise_is_in_units_of_the_deviation_of_an_image() -> None:
    values = normal(2, 8, 30, 30) * torch.tensor([1.0, 100.0]).reshape(2, 1, 1, 1)
    change = Noise(std=0.5)(values) - values
    assert change.std((1, 2, 3)).tolist() == pytest.approx([0.5, 50], rel=0.05)
    assert torch.equal(Noise()(torch.full((1, 1, 1, 1), 3.0)), torch.full((1, 1, 1, 1), 3.0))
    assert not torch.equal(Noise()(normal(1, 9, 1, 1)), normal(1, 9, 1, 1))


def test_random_edits_leave_the_global_random_numbers_alone() -> None:
    state = torch.random.get_rng_state()
    Noise()(normal(1, 2, 3, 3))
    Shuffle()(normal(1, 2, 3, 3))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_shuffle_moves_all_channels_and_images_in_the_same_way() -> None:
    positions = torch.arange(30.0).reshape(1, 1, 5, 6)
    shuffled = Shuffle(seed=3)(positions.repeat(2, 4, 1, 1))
    assert shuffled[0, 0].flatten().sort().values.tolist() == list(range(30))
    assert not torch.equal(shuffled[:1, :1], positions)
    assert torch.equal(shuffled, shuffled[:1, :1].expand(2, 4, 5, 6))
    assert not torch.equal(Shuffle(seed=4)(positions), shuffled[:1, :1])


def test_blur_is_that_of_torchvision_far_from_the_edges() -> None:
    from torchvision.transforms.functional import gaussian_blur

    values = normal(2, 3, 40, 50)
    theirs = gaussian_blur(values, [21, 21], [2.0, 2.0])
    assert torch.allclose(Blur(sigma=2.0)(values)[:, :, 12:-12, 12:-12], theirs[:, :, 12:-12, 12:-12], atol=1e-5)


@pytest.mark.parametrize("sigma", [1e-3, 0.5, 2.0, 1e6])
def test_blur_keeps_a_constant_and_works_on_maps_of_any_size(sigma: float) -> None:
    for shape in ((1, 1, 1, 1), (2, 3, 1, 7), (1, 2, 9, 1), (1, 1, 5, 5)):
        assert torch.allclose(Blur(sigma=sigma)(torch.full(shape, 3.0)), torch.full(shape, 3.0))
    values = normal(1, 1, 6, 6)
    if sigma == 1e-3:
        assert torch.equal(Blur(sigma=sigma)(values), values)
    if sigma == 1e6:
        assert torch.allclose(Blur(sigma=sigma)(values), values.mean().expand_as(values), atol=1e-6)


VALUES = normal(3, 4, 5)


def save(folder: Path, suffix: str) -> Path:
    file = folder / f"x{suffix}"
    if suffix == ".npy":
        np.save(file, VALUES.numpy())
    elif suffix == ".npz":
        np.savez(file, x=VALUES.numpy(), y=VALUES.numpy() + 1)
    elif suffix == ".safetensors":
        save_file({"x": VALUES, "y": VALUES + 1}, file)
    else:
        torch.save(VALUES, file)
    return file


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".pt"])
def test_values_are_replaced_by_those_of_a_file(tmp_path: Path, suffix: str) -> None:
    file = save(tmp_path, suffix)
    key = ",key=y" if suffix in (".npz", ".safetensors") else ""
    edit = Plugins(bare=True).resolve("edit", f"replace:file={file}{key}")
    assert not edit.needs_reference
    assert torch.equal(edit(torch.zeros(2, 3, 4, 5)), (VALUES + bool(key)).expand(2, 3, 4, 5))
    assert pickle.loads(pickle.dumps(edit)) == edit == copy.deepcopy(edit)  # noqa: S301


@pytest.mark.parametrize("shape", [(), (4, 5), (3, 1, 1), (3, 4, 5), (1, 3, 4, 5), (2, 3, 4, 5), (1, 4, 1)])
def test_values_broadcast_to_the_maps_and_take_their_dtype(shape: tuple[int, ...]) -> None:
    values = normal(*shape)
    replaced = Replace(values=values)(torch.zeros(2, 3, 4, 5, dtype=torch.float16))
    assert torch.equal(replaced, values.half().expand(2, 3, 4, 5))


@pytest.mark.parametrize("shape", [(5,), (3,), (2, 4, 5), (4, 3, 4, 5), (3, 4, 4), (1, 1, 3, 4, 5), (0, 4, 5)])
def test_values_of_another_shape_are_one_line_with_both(shape: tuple[int, ...]) -> None:
    with pytest.raises(EditError) as caught:
        Replace(values=torch.zeros(shape))(torch.zeros(2, 3, 4, 5))
    assert str(caught.value) == f"values of shape {shape} can't replace maps of shape (2, 3, 4, 5)"


def test_a_reference_run_gives_the_values_and_the_file_precedes_it(tmp_path: Path) -> None:
    edit = Replace(region=(0, 0, 1, 0.5))
    assert edit.needs_reference
    with pytest.raises(EditError, match=r"replace needs values: replace:file=x.npy, Replace\(values=tensor\), or"):
        edit(torch.zeros(1, 3, 4, 5))
    values = normal(1, 3, 4, 5)
    ready = edit.of_reference(values)
    assert (ready.region, ready.needs_reference) == ((0, 0, 1, 0.5), False)
    assert torch.equal(ready(torch.zeros(2, 3, 4, 5)), values.expand(2, 3, 4, 5))
    of_file = Replace(file=save(tmp_path, ".npy"))
    assert of_file.of_reference(values) is of_file


def test_replacements_are_equal_if_their_values_are() -> None:
    one, same, other = Replace(values=VALUES), Replace(values=VALUES.clone()), Replace(values=VALUES + 1)
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert Replace() == Replace()
    assert Replace() not in (one, Replace(channels="0"), Zero())
    assert repr(one) == "Replace(channels=None, region=None, amount=1.0, mask=None, file=None, key=None)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("file=gone.npy", "there is no file gone.npy"),
        ("file=bad.npy", "can't read bad.npy: ValueError: "),
        ("file=words.txt", "words.txt is not a file of tensors: .npy, .npz, .safetensors, .pt, .pth"),
        ("file=two.npz", "two.npz holds a, b; name one: replace:key=NAME"),
        ("file=two.npz,key=c", "two.npz has no 'c'; there is a, b"),
        ("file=code.pt", "can't read code.pt: UnpicklingError: "),
        ("file=odd.pt", "odd.pt holds int, not a tensor of real numbers"),
    ],
)
def test_a_file_that_can_not_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("bad.npy", "words.txt"):
        Path(name).write_text("words")
    np.savez("two.npz", a=np.zeros(2), b=np.zeros(2))
    torch.save(nn.ReLU(), "code.pt")
    torch.save(3, "odd.pt")
    with pytest.raises(EditError) as caught:
        Plugins(bare=True).resolve("edit", f"replace:{options}")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("edit", [Mean(), Scale(), Clamp(), Noise(), Blur()], ids=lambda edit: type(edit).__name__)
def test_what_computes_needs_floats(edit: Any) -> None:
    with pytest.raises(EditError, match=r"^\w+ needs values of floats, not of torch.int64$"):
        edit(torch.ones(1, 1, 2, 2, dtype=torch.int64))
    with pytest.raises(EditError, match=r"not of torch.bool"):
        edit(torch.ones(1, 1, 2, 2, dtype=torch.bool))


def test_integers_are_moved_and_replaced_by_integers() -> None:
    values = torch.arange(4).reshape(1, 1, 2, 2)
    assert Shuffle()(values).sum() == 6
    assert Replace(values=torch.tensor(7))(values).dtype is torch.int64
    with pytest.raises(EditError, match=r"values of torch.float32 can't replace maps of torch.int64"):
        Replace(values=torch.tensor(7.0))(values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mean(over="channels"), "a mean is over space, batch, reference, not 'channels'"),  # type: ignore[arg-type]
        (lambda: Scale(by=float("nan")), "by is a finite number, not nan"),
        (lambda: Clamp(low=None, high=None), "clamp needs a bound: low, high or both"),
        (lambda: Clamp(low=2, high=1), "the bounds of clamp are low <= high, not 2 and 1"),
        (lambda: Clamp(low=float("nan")), "the bounds of clamp are low <= high, not nan and 1"),
        (lambda: Noise(std=-1), "std is a finite number, at least 0, not -1"),
        (lambda: Noise(seed=-1), "a seed is a whole number from 0 to 9223372036854775807, not -1"),
        (lambda: Shuffle(seed=2**63), "a seed is a whole number from 0 to "),
        (lambda: Blur(sigma=0), "sigma is a finite number, at least 0.001, not 0"),
        (
            lambda: Replace(file=Path("x.npy"), values=VALUES),
            "an edit takes the values of a file or of a tensor, not both",
        ),
    ],
)
def test_options_that_make_no_sense_are_one_line(make: Any, message: str) -> None:
    with pytest.raises(EditError) as caught:
        make()
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_can_be_sent_to_another_process(name: str) -> None:
    edit = EDITS[name]
    assert pickle.loads(pickle.dumps(edit)) == edit  # noqa: S301


@pytest.mark.parametrize(("channels", "chosen"), [("0-50%", [0, 1, 2]), ("50-100%", [3, 4, 5]), ("0-17%,5", [0, 5])])
def test_a_part_of_the_channels_is_of_as_many_as_there_are(channels: str, chosen: list[int]) -> None:
    from surgery.editing import edit_values

    edit = Zero(channels=channels)
    zeroed = edit_values(edit, torch.ones(1, 6, 2, 2))
    assert [n for n in range(6) if not zeroed[0, n].any()] == chosen
    assert Plugins(bare=True).resolve("edit", f"zero:channels={channels}") == edit


@pytest.mark.parametrize("channels", ["50-50%", "60-40%", "0-120%", "10%", "-5-10%"])
def test_a_part_of_the_channels_that_is_none_is_one_line(channels: str) -> None:
    with pytest.raises(EditError, match=r"such as 0-50%|or 0-50%"):
        Zero(channels=channels)
