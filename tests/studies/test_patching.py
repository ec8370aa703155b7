from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.data import inputs
from surgery.errors import EditError, ImageError, SelectionError
from surgery.studies.patch_study import carried_share, format_share
from tests.studies.test_ablation import Net
from tests.verification.test_laws import Line, made, programs, steady


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    a, b = torch.rand(2, 1, 3, 12, 14, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return a, b


def test_the_share_is_how_much_of_the_way_from_a_to_b_is_gone(model: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    a, b = pair
    study = surgery.patch(model, a, b, at="conv | act | block.* | cat | tanh")
    traced = surgery.trace(model, a)
    with torch.no_grad():
        output_a, output_b = model(a.clone()), model(b.clone())
    distance = float((output_a - output_b).abs().mean())
    assert study.distance == pytest.approx(distance)
    for row in study.rows:
        patched = surgery.edit(traced, row.unit.path, "replace", reference=b)
        with torch.no_grad():
            output = patched(a.clone())
        assert row.from_a.mean_abs == pytest.approx(float((output - output_a).abs().mean()), abs=1e-7)
        assert row.from_b.mean_abs == pytest.approx(float((output - output_b).abs().mean()), abs=1e-7)
        assert row.share == pytest.approx(1 - row.from_b.mean_abs / distance)
    shares = {row.unit.path: row.share for row in study.rows}
    assert shares["tanh"] == shares["cat"] == 1.0
    assert 0 < shares["block.1"] < 1  # type: ignore[operator]


@steady
@given(programs)
def test_patching_all_that_the_output_depends_on_gives_the_output_of_b(program: tuple[Line, ...]) -> None:
    model, x = made(program, training=False)

    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model
            self.top = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.top(self.inner(x)["last"] * 1)

    traced = surgery.trace(Single().eval(), x[:1], front_end="symbolic")
    study = surgery.patch(traced, x[:1], x[1:], at="top")
    assert study.rows[0].from_b.largest == 0
    nothing = surgery.patch(traced, x[:1], x[:1], at="top")
    assert nothing.rows[0].from_a.largest == 0
    assert nothing.rows[0].share is None


@pytest.mark.parametrize("selection", ["*", "up1.tanh", "up2.cat", "down1.conv"])
def test_patching_everything_in_the_shipped_model_gives_the_output_of_b_bit_for_bit(selection: str) -> None:
    a, b = (str(path) for path in inputs()[:2])
    study = surgery.patch(surgery.load_model("facades"), a, b, at=selection, each="all")
    assert study.rows[0].from_b.largest == 0
    assert study.rows[0].share == 1.0
    assert torch.equal(study.pictures.units[0].output, study.other[1])


def test_patching_channel_by_channel_is_edit_by_edit(model: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    a, b = pair
    study = surgery.patch(model, a, b, at="cat", each="channel", batch=4)
    traced = surgery.trace(model, a)
    assert len(study.rows) == 10
    with torch.no_grad():
        expected = model(b.clone())
        for row in study.rows:
            edit = surgery.edit(traced, "cat", f"replace:channels={row.unit.channel_text}", reference=b)
            difference = float((edit(a.clone()) - expected).abs().mean())
            assert row.from_b.mean_abs == pytest.approx(difference, rel=1e-4)
    shares = [row.share for row in study]
    assert shares == sorted(shares, reverse=True)  # type: ignore[type-var]


def test_the_pictures_are_those_that_carry_most(model: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    study = surgery.patch(model, *pair, at="cat", each="channel", top=3)
    assert [picture.unit for picture in study.pictures.units] == [row.unit for row in study[:3]]
    traced = surgery.trace(model, pair[0])
    [activation] = surgery.record(surgery.insert(traced, surgery.select(traced, "cat")), pair[1])
    for picture in study.pictures.units:
        assert picture.maps is not None
        assert torch.equal(picture.maps[0], activation.values[0, int(picture.unit.channel_text)])
    assert torch.equal(study.other[0], pair[1][0])


def test_values_that_are_no_single_tensor_are_left_out(pair: tuple[Tensor, Tensor]) -> None:
    class Chunks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            first, second = (x * 2).chunk(2, 3)
            return first + second

    study = surgery.patch(Chunks(), *pair)
    assert "left out: the value of chunk is not a single tensor" in study.notes
    assert "chunk" not in [row.unit.path for row in study.rows]
    with pytest.raises(EditError, match="the value of chunk is not a single tensor"):
        surgery.patch(Chunks(), *pair, at="chunk")


def test_the_files_are_a_sheet_outputs_tables_and_a_manifest(model: nn.Module, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(random.integers(0, 256, (12, 14, 3), np.uint8)).save(tmp_path / f"{name}.png")
    out = tmp_path / "out"
    study = surgery.patch(model, tmp_path / "a.png", tmp_path / "b.png", at="cat | block.1", out=out, source="net")
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    pictures = ["a/004-block.1.png", "a/005-cat.png", "a/a.png", "a/b.png", "a/sheet.png"]
    assert files == [*pictures, "manifest.json", "patches.csv", "patches.json"]
    assert surgery.verify(out).sound
    with Image.open(out / "a/005-cat.png") as patched, Image.open(out / "a/b.png") as other:
        assert np.array_equal(np.asarray(patched), np.asarray(other))
    content = json.loads((out / "patches.json").read_text())
    assert [row["share"] for row in content["rows"]] == [row.share for row in study]
    assert content["settings"]["b"] == str(tmp_path / "b.png")
    assert repr(study).splitlines()[0].startswith("net, b into a: 2 operations, 1 image, ")
    assert repr(study[0]).startswith("Patch('cat', carried 100.0%, from a ")
    assert study.records()[0]["mean_abs_from_b"] == 0
    assert "carried" in study._repr_html_()


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0.0%"), (-0.0001, "0.0%"), (0.595, "59.5%"), (-0.25, "-25.0%"), (None, "none")]
)
def test_a_share_is_shown_in_percent(share: float | None, text: str) -> None:
    assert format_share(share) == text


def test_there_is_no_share_of_the_way_between_equal_outputs() -> None:
    assert carried_share(0.0, 0.0) is None
    assert carried_share(1.0, 2.0) == 0.5
    assert carried_share(3.0, 2.0) == -0.5


def test_patching_an_image_into_itself_says_why_nothing_is_carried(
    model: nn.Module, pair: tuple[Tensor, Tensor]
) -> None:
    study = surgery.patch(model, pair[0], pair[0])
    assert {row.share for row in study} == {None}
    assert study.notes == ("the outputs of a and b are the same, so there is nothing to carry over",)


def test_what_can_not_be_patched_is_one_line(model: nn.Module, pair: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    a, b = pair
    with pytest.raises(ImageError, match=r"a is 12x14 and b is 8x8; give both one size: --size N"):
        surgery.patch(model, a, torch.zeros(1, 3, 8, 8))
    with pytest.raises(ImageError, match="there is one image as b, not 2"):
        surgery.patch(model, a, torch.cat((a, b)))
    with pytest.raises(ImageError, match="there is one image as a, not 2"):
        surgery.patch(model, torch.cat((a, b)), b)
    with pytest.raises(ImageError, match="nowhere"):
        surgery.patch(model, a, tmp_path / "nowhere.png")
    with pytest.raises(SelectionError, match="nothing"):
        surgery.patch(model, a, b, at="nothing")
