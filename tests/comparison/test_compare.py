"""`surgery.compare`: runs side by side, on graphs and on observed models."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import surgery
from surgery.comparison import Run, RunComparison, compare
from surgery.errors import EditError, ImageError, ModelError, SelectionError
from surgery.rewriting import insert
from surgery.rewriting.extractor import listening
from tests.verification.test_laws import Random, made, programs, steady

makers = pytest.mark.parametrize("maker", ["symbolic", "observed"])


class Small(nn.Module):
    """A skip that a ReLU writes to, a norm and a dropout."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.down = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.up = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.down(x))
        return self.up(torch.cat([h, self.drop(self.act(h))], 1)).tanh()


class Two(nn.Module):
    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return image * mask


def images(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


@makers
@settings(steady, max_examples=12)
@given(programs, st.booleans())
def test_a_run_compared_with_itself_is_bit_equal(maker: Any, program: Any, training: bool) -> None:
    model, x = made(program, training)
    mode = "train" if training else "eval"
    found = compare([Run(model, mode=mode), Run(model, mode=mode)], x, front_end=maker)  # type: ignore[arg-type]
    assert all(row.is_equal for row in found.rows if row.mean is not None)
    assert found.first_different() is None
    assert found.finding().endswith(("operations", "operation"))


def layers(kinds: list[int]) -> nn.Sequential:
    torch.manual_seed(0)
    choices: list[Callable[[], nn.Module]] = [
        lambda: nn.Conv2d(3, 3, 3, padding=1),
        lambda: nn.LeakyReLU(0.2, inplace=True),
        lambda: nn.BatchNorm2d(3),
        lambda: nn.ConvTranspose2d(3, 3, 3, padding=1),
        nn.Tanh,
    ]
    return nn.Sequential(*(choices[kind]() for kind in kinds)).eval()


def check_change(found: RunComparison, run: str, place: str) -> None:
    first = found.first_different(run)
    assert first is not None
    assert first.operation.path == place
    assert [row.operation.path for row in found.rows if row.own and row.run == run] == [place]
    assert first.own == first.mean.relative > 0  # type: ignore[union-attr]
    assert first.inherited == 0


@settings(steady, max_examples=20)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.integers(0, 7))
def test_a_change_of_weights_is_found_at_its_layer_and_is_its_own(kinds: list[int], at: int) -> None:
    model = layers([*kinds, 0])
    changeable = [place for place, layer in enumerate(model) if any(True for _ in layer.parameters())]
    place = changeable[at % len(changeable)]
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other[place].parameters()).mul_(1.25)
    check_change(compare([model, Run(other, name="other")], images(1)), "other", str(place))


@settings(steady, max_examples=25)
@given(st.lists(st.integers(0, 4), min_size=3, max_size=5))
def test_a_change_of_a_value_is_found_at_its_operation_and_is_its_own(kinds: list[int]) -> None:
    runs = [Run(layers(kinds), edits=[f"{place} = scale:by=1.25"], name=str(place)) for place in range(len(kinds))]
    model = runs[0].model
    found = compare([Run(model, name="model"), *(replace(run, model=model) for run in runs)], images(1))
    for place in range(len(kinds)):  # four in a model: a hundred changes in all
        check_change(found, str(place), str(place))


@makers
def test_each_run_draws_its_random_numbers_as_if_it_ran_alone(maker: Any) -> None:
    model, x = Small(), images(1)
    seen: dict[str, dict[str, Tensor]] = {}

    def keep(_image: Any, step: Any) -> None:
        for name, value in zip(("one", "two"), step.values, strict=True):
            seen.setdefault(name, {})[step.operation.path] = value.clone()

    before = torch.get_rng_state()
    runs = [Run(model, name="one", mode="train", seed=3), Run(model, name="two", mode="train", seed=4)]
    found = compare(runs, x, front_end=maker, on_step=keep)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.first_different().operation.path == "drop"
    for name, seed in (("one", 3), ("two", 4)):
        traced = surgery.trace(copy.deepcopy(model).train(), x, front_end=maker)
        values: dict[str, Tensor] = {}
        opened = insert(traced, surgery.select(traced, "*"))

        def listen(operation: Any, value: Tensor, values: dict[str, Tensor] = values) -> None:
            values[operation.path] = value.clone()

        torch.manual_seed(seed)
        with torch.no_grad(), listening(opened, listen):
            opened(x)
        assert all(torch.equal(seen[name][path], value) for path, value in values.items())


def test_a_mode_adds_a_difference_where_batch_statistics_are_and_where_dropout_is() -> None:
    found = compare([Run(Small()), Run(Small(), mode="train")], images())
    assert found.runs == ("eval", "train")
    assert {row.operation.path for row in found.sources()} == {"norm", "drop"}
    assert found.rows[0].is_equal


def test_own_and_inherited_differences_are_what_a_hand_written_run_gives() -> None:
    one, other, x = Small(0).eval(), Small(1).eval(), images(1)
    found = {row.operation.path: row for row in compare([one, other], x).rows}
    with torch.no_grad():
        h, g = one.norm(one.down(x)).relu(), other.norm(other.down(x)).relu()
        a, b = torch.cat([h, h], 1), torch.cat([g, g], 1)
        first, second, crossed = one.up(a), other.up(b), other.up(a)
    norm = first.double().norm()
    assert found["up"].own == pytest.approx(float((crossed - first).double().norm() / norm), rel=1e-6)
    assert found["up"].inherited == pytest.approx(float((second - crossed).double().norm() / norm), rel=1e-6)
    assert found["cat"].own == found["tanh"].own == 0
    assert found["cat"].inherited == found["cat"].mean.relative


def test_edits_are_compared_at_the_edited_value() -> None:
    model = Small().eval()
    found = compare([Run(model), Run(model, edits=["cat = zero:channels=0-3"])], images())
    assert found.runs == ("no edits", "cat = zero:channels=0-3")
    assert found.first_different().operation.path == "cat"
    assert found.first_different().counterpart == "cat'"
    assert not found.unmatched


def test_half_precision_is_compared_with_the_full() -> None:
    model = Small().eval()
    found = compare([Run(model), Run(model, dtype="bfloat16"), Run(model, dtype="float64")], images())
    rounded = {run: [row.mean.snr for row in found.rows if row.run == run] for run in found.runs[1:]}
    assert all(30 < snr < 70 for snr in rounded["bfloat16"])
    assert all(snr > 110 for snr in rounded["float64"])
    with pytest.raises(ModelError, match="a dtype is float32, bfloat16, float16 or float64, not 'int8'"):
        compare([Run(model), Run(model, dtype="int8")], images())


def test_a_model_with_another_layer_is_aligned() -> None:
    torch.manual_seed(0)
    one = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1)).eval()
    other = nn.Sequential(one[0], nn.Tanh(), nn.ReLU(), one[2]).eval()
    found = compare([Run(one, name="one"), Run(other, name="other")], images())
    assert [row.counterpart for row in found.rows] == ["0", "2", "3"]
    assert found.unmatched == {"other": "1 only in the second"}
    assert found.first_different().operation.path == "1"


def test_values_of_other_shapes_have_a_similarity_alone() -> None:
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 1)).eval()
    slim = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 1)).eval()
    found = compare([wide, slim], torch.randn(16, 3, 8, 8))
    row = found.rows[0]
    assert row.mean is None
    assert row.reason == "1x8x6x6 against 1x4x6x6"
    assert row.cka is not None
    assert 0.1 < row.cka <= 1.05


def test_images_that_fail_are_left_out_and_named(tmp_path: Any) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"broken\.png"):
        compare([Small(), Small()], str(broken))


@pytest.mark.parametrize(
    ("runs", "options", "error", "message"),
    [
        ([Small()], {}, ModelError, r"^a comparison takes at least 2 runs, not 1$"),
        ([Small(), nn.Sequential(nn.Flatten())], {}, SelectionError, "the models have no operation in common: one has"),
        ([Small(), Two()], {}, ModelError, r"the runs can't have the same inputs: there are x, and Two takes 2 inputs"),
        ([Small(), Small()], {"at": "nothing"}, SelectionError, "'nothing' matches none"),
        ([Small(), Small()], {"align": {"a*": "b"}}, SelectionError, r"an alignment is PATTERN=PATTERN with one \*"),
        ([Small(), Small()], {"align": {"enc*": "down*"}}, SelectionError, "'enc.' matches no operation of the first"),
        ([Small(), Run(Small(), mode="test")], {}, ModelError, "mode is eval, train or as-is, not 'test'"),
        (
            [Small(), Run(Small(), edits=["down = mean:over=reference"])],
            {},
            EditError,
            r"^mean:over=reference needs a reference run, which a comparison does not make; in Python, give a run the ",
        ),
        ([Small(), Run(Small(), images=images(1))], {}, ImageError, "the runs have 2, 1 images; give each as many"),
        (
            [Small(), nn.Sequential(nn.Conv2d(6, 4, 3)).eval()],
            {},
            ImageError,
            "^Sequential: the model does not",
        ),
        (
            [nn.Sequential(nn.Conv2d(6, 4, 3)).eval(), Small()],
            {},
            ImageError,
            "not take it as .* to have 6 channels",
        ),
        ([Small(), Small()], {"align": {"down": "up", "up": "down"}}, SelectionError, "order in which they run"),
        ([Small(), Small()], {"align": {"down": "up", "d*n": "d*n"}}, SelectionError, "both 'up' and 'down'$"),
        ([Small(), Small()], {"align": {"down": "up", "norm": "up"}}, SelectionError, "can't both correspond to 'up'$"),
    ],
)
def test_what_can_not_be_compared_is_one_line(runs: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        compare(runs, images(), **options)
    assert "\n" not in str(caught.value)


def test_values_that_can_not_be_compared_are_not_called_equal() -> None:
    one, other = (nn.Sequential(nn.Conv2d(3, n, 1), nn.Tanh(), nn.Flatten(), nn.Linear(n * 64, 2)) for n in (4, 5))
    found = compare([Run(one, name="one"), Run(other, name="other")], images())
    assert found.finding().startswith("other: differs from one from 3 on, by ")
    found = compare([Run(one, name="one"), Run(other, name="other")], images(), at=["0", "1"])
    assert found.finding() == "other: no operation has a value that can be compared with one of one"
    longer = nn.Sequential(*copy.deepcopy(one), nn.Tanh())
    found = compare([Run(longer, name="longer"), Run(one, name="short")], images())
    assert found.finding() == "short: bit-equal to longer at 4 operations; 1 can't be compared"


def test_a_difference_that_comes_from_before_the_selection_is_said_to_come_in() -> None:
    model, other = Small().eval(), Small().eval()
    with torch.no_grad():
        other.norm.weight.mul_(2)
    runs = [Run(model, name="one"), Run(other, name="other")]
    assert re.fullmatch(r"other: differs from one from norm on, by \d+%", compare(runs, images()).finding())
    found = compare(runs, images(), at=["cat", "up"])
    assert re.fullmatch(r"other: differs from one from cat on, by \d+%, and so do its inputs", found.finding())


class Looped(nn.Module):
    """Repeats a convolution as often as the image says."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(x.abs().max()) + 1):
            x = self.conv(x)
        return x


def test_operations_that_only_a_later_image_has_are_said_to_be_left_out() -> None:
    model = Looped()
    found = compare([Run(model, name="one"), Run(model, name="two")], torch.stack([images(1)[0] / 2, images(1)[0] * 9]))
    assert [row.operation.path for row in found.rows if row.operation.kind == "conv2d"] == ["conv"]
    text = "operations that the first image does not have are not compared: conv@1, conv@2, conv@3, conv@4 and "
    assert [note.startswith(f"{run}: {text}") for run in ("one", "two") for note in found.notes].count(True) == 2
    found = compare([Run(model, name="one"), Run(model, name="two")], images(2) / 2)
    assert not any("not compared" in note for note in found.notes)


def test_a_comparison_is_a_table() -> None:
    found = compare([Small(0).eval(), Small(1).eval()], images())
    records = found.records()
    assert [record["operation"] for record in records] == ["down", "norm", "act", "drop", "cat", "up", "tanh"]
    assert {"relative", "worst_relative", "snr", "own", "inherited", "cka"} <= records[0].keys()
    assert repr(found).splitlines() == [
        "RunComparison of Small, Small (2) on 2 images:",
        f"  Small (2): differs from Small from down on, by {records[0]['relative']:.0%}",
    ]
    assert "<table" in found._repr_html_()
    assert math.isfinite(records[-1]["relative"])


def test_the_user_s_model_stays_as_it_is() -> None:
    model = Random(()).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    compare([Run(model, mode="train"), Run(model, mode="eval", dtype="float64")], torch.randn(1, 2, 4, 4))
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
