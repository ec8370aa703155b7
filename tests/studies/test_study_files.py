from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.errors import EditError, ImageError, OutputError
from surgery.output import Progress
from surgery.studies.sheet_page import SIDE, StudyCell, StudyPage
from surgery.studies.study_pictures import draw_map, draw_outline, draw_output
from tests.studies.test_ablation import Net


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(random.integers(0, 256, (12, 14, 3), np.uint8)).save(folder / f"{name}.png")
    return folder


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_study_writes_sheets_outputs_tables_and_a_manifest(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    study = surgery.ablate(model, photos, at="cat", each="channel", top=2, out=out, source="net")
    best = {name: sorted(study, key=lambda row: -row.by_image[name].mean_abs)[:2] for name in "ab"}
    outputs = {name: [f"{name}/005-cat-{row.unit.channel_text}.png" for row in best[name]] for name in "ab"}
    pictures = [f"{name}/{file}.png" for name in "ab" for file in ("output", "sheet")]
    tables = ["ablations.csv", "ablations.json", "manifest.json"]
    assert files_in(out) == sorted([*tables, *pictures, *outputs["a"], *outputs["b"]])
    assert study.folder == out
    assert study.sheet == out / "a/sheet.png"
    assert study.title().startswith("net, zero: 10 channels, 2 images")
    verification = surgery.verify(out)
    assert verification.sound
    assert verification.images == 2
    assert "<img" in study._repr_html_()


def test_the_written_outputs_are_those_of_the_edited_models(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    surgery.ablate(model, photos / "a.png", at="cat", each="channel", top=10, out=out)
    image = surgery.load_image(photos / "a.png")
    traced = surgery.trace(model, image)
    with torch.no_grad():
        expected = {"output": model(image)}
        for channel in range(10):
            expected[f"005-cat-{channel}"] = surgery.edit(traced, "cat", f"zero:channels={channel}")(image)
    for name, output in expected.items():
        drawn = ((output[0] + 1) * 127.5).permute(1, 2, 0).numpy()
        assert np.abs(pixels(out / f"a/{name}.png") - drawn).max() < 0.51


def test_the_tables_have_every_row_in_the_order_of_the_study(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    study = surgery.ablate(model, photos, at="cat | conv", each="group:3", out=out, mode="as-is", seed=4)
    content = json.loads((out / "ablations.json").read_text())
    assert content["settings"]["each"] == "group:3"
    assert content["images"] == ["a", "b"]
    assert [row["channels"] for row in content["rows"]] == [row.unit.channel_text for row in study]
    assert content["rows"][0]["by_image"]["b"]["rms"] == study[0].by_image["b"].rms
    with (out / "ablations.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mean_abs"]) for row in rows] == [row.effect.mean_abs for row in study]
    assert list(rows[0]) == ["path", "kind", "index", "channels", "mean_abs", "rms", "largest", "ssim"]
    settings = json.loads((out / "manifest.json").read_text())["settings"]
    assert (settings["study"], settings["edit"], settings["seed"]) == ("ablation", "zero", 4)


def test_a_folder_that_holds_a_run_is_replaced_only_if_asked(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    surgery.ablate(model, photos, at="cat", out=out)
    (out / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="holds a run"):
        surgery.ablate(model, photos, at="cat", out=out)
    surgery.ablate(model, photos / "a.png", at="conv", out=out, overwrite=True)
    assert files_in(out) == [
        "a/001-conv.png",
        "a/output.png",
        "a/sheet.png",
        "ablations.csv",
        "ablations.json",
        "manifest.json",
        "mine.txt",
    ]
    surgery.extract(model, photos / "a.png", at="conv", out=out, overwrite=True)
    assert "ablations.csv" not in files_in(out)


def test_a_study_without_an_image_leaves_the_folder_as_it_was(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in "ab":
        (photos / f"{name}.png").write_bytes(b"no image")
    with pytest.raises(ImageError):
        surgery.ablate(model, photos, at="cat", out=out)
    assert not out.exists()


def test_what_was_finished_before_an_error_or_ctrl_c_stays(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    def stop_at(number: int, error: type[BaseException]) -> Any:
        def stop(progress: Progress) -> None:
            if progress.done == number:
                raise error("stopped")

        return stop

    surgery.ablate(model, photos, at="cat", out=tmp_path / "whole")
    study = surgery.ablate(model, photos, at="cat", out=tmp_path / "c", progress=stop_at(2, KeyboardInterrupt))
    assert study.interrupted
    assert study.images == ("a",)
    assert "interrupted" in study.title()
    with pytest.raises(EditError, match="stopped"):
        surgery.ablate(model, photos, at="cat", out=tmp_path / "error", progress=stop_at(2, EditError))
    for name in ("c", "error"):
        assert files_in(tmp_path / name) == [file for file in files_in(tmp_path / "whole") if not file.startswith("b/")]
        assert json.loads((tmp_path / name / "manifest.json").read_text())["interrupted"]
        assert surgery.verify(tmp_path / name).sound
    with pytest.raises(KeyboardInterrupt):
        surgery.ablate(model, photos, at="cat", out=tmp_path / "none", progress=stop_at(1, KeyboardInterrupt))
    assert not (tmp_path / "none").exists()


def test_a_model_without_images_in_its_output_writes_tables_alone(photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7)).eval()
    out = tmp_path / "out"
    study = surgery.ablate(model, photos, at="0", each="channel", out=out)
    assert files_in(out) == ["ablations.csv", "ablations.json", "manifest.json"]
    assert study.sheet is None
    assert surgery.verify(out).images == 2


def test_maps_that_are_no_image_are_drawn_by_the_mean_of_their_channels(photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 1)).eval()
    study = surgery.ablate(model, photos, at="0", each="channel", out=tmp_path / "out")
    assert study.sheet is not None
    assert all(row.effect.ssim is None for row in study)
    with torch.no_grad():
        mean = model(surgery.load_image(photos / "a.png"))[0].mean(0)
    expected = draw_map(mean, "viridis")
    assert np.array_equal(pixels(tmp_path / "out/a/output.png"), np.asarray(expected))


def test_an_image_is_drawn_in_its_own_colors() -> None:
    image = torch.tensor([[[-1.0, 1.0]], [[0.0, 2.0]], [[math.nan, -3.0]]])
    drawn = np.asarray(draw_output(image, (-1.0, 1.0)))
    assert drawn.tolist() == [[[0, 128, 0], [255, 255, 0]]]
    gray = np.asarray(draw_output(torch.tensor([[[0.0, 1.0]]]), (0.0, 1.0)))
    assert gray.tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_a_map_is_drawn_between_its_limits_and_what_is_not_finite_stands_out() -> None:
    values = torch.tensor([[0.0, 0.5, 1.0, 9.0, math.nan, math.inf]])
    drawn = np.asarray(draw_map(values, "gray", (0.0, 1.0)))[0]
    assert drawn[:4].tolist() == [[0, 0, 0], [128, 128, 128], [255, 255, 255], [255, 255, 255]]
    assert len({tuple(color) for color in drawn.tolist()}) == 5
    assert len(np.unique(np.asarray(draw_map(torch.ones(3, 3), "gray")))) == 1


def test_the_outline_of_a_region_is_its_border() -> None:
    mask = torch.zeros(6, 6, dtype=torch.bool)
    mask[1:5, 1:5] = True
    drawn = np.asarray(draw_outline(Image.new("RGB", (6, 6)), mask)).any(2)
    border = mask.numpy().copy()
    border[2:4, 2:4] = False
    assert np.array_equal(drawn, border)


def page(cells: list[StudyCell]) -> Any:
    heading = [("input", Image.new("RGB", (8, 8)))]
    return np.asarray(StudyPage(["title", "image"], ["detail"], heading, ["legend"], None, cells).draw())


def cell(share: float | None, color: tuple[int, int, int] = (9, 9, 9), title: str = "up3.cat") -> StudyCell:
    return StudyCell(title, "0.123", share, "SSIM 0.5", [Image.new("RGB", (16, 16), color)] * 2)


def test_the_bar_of_a_cell_is_as_long_as_its_share() -> None:
    width = 2 * SIDE + 6
    drawn = page([cell(1.0), cell(0.5), cell(0.0), cell(None)])
    blue = (drawn == (58, 104, 168)).all(2)
    lengths = [int(blue[:, left : left + width].any(0).sum()) for left in (40, 40 + width + 30, 40 + 2 * (width + 30))]
    assert lengths == [width, round(width / 2), 0]


def test_a_page_has_a_place_for_each_cell_and_grows_with_them() -> None:
    colors = [(10, 20, 30 + number) for number in range(7)]
    drawn = page([cell(0.5, color) for color in colors])
    for color in colors:
        assert int((drawn == color).all(2).sum()) == 2 * SIDE * SIDE
    assert page([cell(0.5)]).shape[0] < drawn.shape[0]
    assert page([]).shape[1] == drawn.shape[1]


def test_a_long_name_is_shortened_and_a_strange_one_drawn() -> None:
    one, other = page([cell(0.5, title="x" * 500)]), page([cell(0.5, title="图")])
    assert one.shape == other.shape
    assert np.array_equal(one[:, -40:], page([cell(0.5)])[:, -40:])


def test_a_region_is_outlined_on_the_sheet(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    mask = np.zeros((12, 14))
    mask[2:9, 2:9] = 1
    shown: list[bool] = []
    for within in (None, mask):
        out = tmp_path / str(len(shown))
        study = surgery.ablate(model, photos / "a.png", at="cat", within=within, out=out)
        assert study.sheet is not None
        shown.append(bool((pixels(study.sheet) == (0, 220, 255)).all(2).any()))
    assert shown == [False, True]


def test_a_mask_file_is_read_and_recorded(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    mask = np.zeros((24, 28), np.uint8)
    mask[:10, :10] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    study = surgery.ablate(model, photos / "a.png", at="cat", within=tmp_path / "mask.png", out=tmp_path / "out")
    array = np.zeros((12, 14))
    array[:5, :5] = 1
    assert study[0].effect == surgery.ablate(model, photos / "a.png", at="cat", within=array)[0].effect
    settings = json.loads((tmp_path / "out/manifest.json").read_text())["settings"]
    assert settings["within"] == str(tmp_path / "mask.png")


def test_rows_of_a_tensor_have_folders_of_their_numbers(model: nn.Module, tmp_path: Path) -> None:
    images: Tensor = torch.rand(2, 3, 12, 14) * 2 - 1
    surgery.ablate(model, images, at="cat", out=tmp_path / "out")
    assert {"0/sheet.png", "1/sheet.png"} <= set(files_in(tmp_path / "out"))
    assert surgery.verify(tmp_path / "out").sound
