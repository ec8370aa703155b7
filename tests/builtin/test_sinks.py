from __future__ import annotations

import io
import json
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import surgery
from surgery.builtin.default_recipe import DEFAULT_RECIPE
from surgery.builtin.sinks.channel_picks import most_informative_channels
from surgery.builtin.sinks.png import Png
from surgery.builtin.sinks.sheet import Sheet
from surgery.builtin.sinks.tensor_archives import Npz, Safetensors
from surgery.drawing import png_files as png
from surgery.drawing.activations import make_activations, make_image_activations
from surgery.errors import OutputError, RenderError
from surgery.stages import Recipe
from surgery.types import Operation, Picture

if TYPE_CHECKING:
    from surgery.stages import Sink


def run(sink: Sink, folder: Path, values: dict[str, Tensor], recipe: Recipe = DEFAULT_RECIPE) -> surgery.OutputFolder:
    """Offer a batch of two images to a sink."""
    place = surgery.OutputFolder(folder, {"model": "net", "mode": "eval"})
    with sink(place) as write:
        for index, (path, value) in enumerate(values.items(), 1):
            for activation in make_activations(Operation(path, path, "kind", index), value, ["one", "two"], recipe):
                write(activation)
        for image in ("one", "two", None):
            place.finish(image)
    return place


VALUES = {
    "down.conv": torch.randn(2, 6, 9, 9, generator=torch.Generator().manual_seed(0)),
    "weird/name: é": torch.arange(4.0).reshape(2, 2),
    "bias": torch.ones(3, 4),
}


def test_a_png_is_the_picture_pixel_for_pixel_and_carries_its_limits(tmp_path: Path) -> None:
    run(Png(), tmp_path, VALUES)
    (expected,) = surgery.draw(VALUES["down.conv"][:1])
    with Image.open(tmp_path / "one" / "001-down.conv.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), expected.pixels)
        note = json.loads(image.text["surgery"])  # type: ignore[attr-defined]
    channel = VALUES["down.conv"][0, 2]
    limits = np.array([note["low"][2], note["high"][2]], np.float32)
    assert limits.tolist() == [channel.min().item(), channel.max().item()]
    assert (note["operation"], note["image"], note["model"], note["shape"]) == ("down.conv", "one", "net", [6, 9, 9])
    back = note["low"][0] + expected.pixels[0, 0] / 250 * (note["high"][0] - note["low"][0])
    assert back == pytest.approx(VALUES["down.conv"][0, 0, 0, 0].item(), abs=(note["high"][0] - note["low"][0]) / 490)


def test_file_names_sort_in_order_and_are_safe(tmp_path: Path) -> None:
    place = run(Png(), tmp_path, VALUES)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    assert names == [
        "batch/0000/003-bias.png",
        "one/001-down.conv.png",
        "one/002-weird_name_.png",
        "two/001-down.conv.png",
        "two/002-weird_name_.png",
    ]
    assert sorted(file.name for file in place.take_written()) == names


def test_a_tiler_of_several_pictures_writes_several_files(tmp_path: Path) -> None:
    from surgery.builtin.normalizers import MinMax
    from surgery.builtin.tilers import Channels

    run(Png(), tmp_path, {"a": VALUES["down.conv"]}, Recipe(MinMax(), Channels()))
    assert [path.name for path in sorted((tmp_path / "one").iterdir())] == [f"001-a-c00{n}.png" for n in range(6)]


@pytest.mark.parametrize("level", [0, 1, 2, 3, 6, 9])
@pytest.mark.parametrize("shape", [(1, 1), (3, 70), (40, 7, 3)])
def test_the_writer_is_read_by_pillow_at_every_level(level: int, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    colors = np.arange(768, dtype=np.uint64).reshape(256, 3).astype(np.uint8) if len(shape) == 2 else None
    picture = Picture(pixels, colors, np.zeros(1), np.ones(1))
    with Image.open(io.BytesIO(png.encode_png(picture, {"surgery": "é".encode()}, level))) as image:
        image.load()
        assert np.array_equal(np.asarray(image), pixels)
        assert image.text["surgery"] == "é"  # type: ignore[attr-defined]
        if colors is not None:
            assert image.getpalette() == colors.ravel().tolist()


def test_texts_are_stored_uncompressed_unless_the_file_is_to_be_small() -> None:
    text = b'{"low":[-1.25,0.5]}' * 50
    picture = Picture(np.zeros((3, 4), np.uint8), np.zeros((256, 3), np.uint8), np.zeros(1), np.ones(1))
    assert text in png.encode_png(picture, {"surgery": text})
    assert len(png.encode_png(picture, {"surgery": text}, 2)) < len(png.encode_png(picture)) + len(text) / 4


def test_noise_is_stored_and_all_else_is_compressed() -> None:
    noise = np.random.default_rng(0).integers(0, 251, (700, 600), np.uint8)
    smooth = np.tile(np.arange(600, dtype=np.uint16) // 3, (700, 1)).astype(np.uint8)
    gray = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)
    for pixels, least, most in ((noise, 1.0, 1.01), (smooth, 0, 0.1)):
        data = png.encode_png(Picture(pixels, gray, np.zeros(1), np.ones(1)))
        assert least <= len(data) / pixels.size <= most
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("side", [700, 8300])  # in one call, and in more parts than the system takes at once
def test_a_picture_is_saved_as_encoded_and_a_full_disk_is_an_error(tmp_path: Path, side: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 251, (side, side), np.uint8)
    picture = Picture(pixels, np.zeros((256, 3), np.uint8), np.zeros(1), np.ones(1))
    png.save_png(tmp_path / "whole.png", picture)
    assert (tmp_path / "whole.png").read_bytes() == png.encode_png(picture)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # what is above it is not written
    try:
        with pytest.raises(OSError, match="File too large"):
            png.save_png(tmp_path / "part.png", picture)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_exact_values_come_back_bit_for_bit(tmp_path: Path) -> None:
    values = VALUES | {"half": torch.ones(2, 3).bfloat16() / 3, "number": torch.randn(2, 2, dtype=torch.complex64)}
    run(Npz(), tmp_path, values)
    run(Safetensors(), tmp_path, values)
    with np.load(tmp_path / "two" / "activations.npz") as arrays:
        assert set(arrays) == set(values) - {"bias"}
        assert np.array_equal(arrays["down.conv"], VALUES["down.conv"][1].numpy())
        assert np.array_equal(arrays["half"], values["half"][1].float().numpy())
    tensors = load_file(tmp_path / "two" / "activations.safetensors")
    assert torch.equal(tensors["down.conv"], VALUES["down.conv"][1])
    assert torch.equal(tensors["half"], values["half"][1])
    assert torch.equal(torch.view_as_complex(tensors["number"]), values["number"][1])
    assert torch.equal(load_file(tmp_path / "batch" / "0000" / "activations.safetensors")["bias"], VALUES["bias"])


@pytest.mark.parametrize("sink", [Npz(), Safetensors()])
def test_a_later_in_place_operation_does_not_change_stored_values(sink: Sink, tmp_path: Path) -> None:
    values = torch.ones(1, 2)
    place = surgery.OutputFolder(tmp_path)
    with sink(place) as write:
        for activation in make_activations(Operation("a", "a", "k", 1), values, ["one"], DEFAULT_RECIPE):
            write(activation)
        values.zero_()
        place.finish("one")
    (path,) = (tmp_path / "one").iterdir()
    kept = np.load(path)["a"] if path.suffix == ".npz" else load_file(path)["a"].numpy()
    assert kept.tolist() == [1, 1]


def test_a_sheet_has_a_row_for_each_operation(tmp_path: Path) -> None:
    run(Sheet(size=64), tmp_path, {"a.b": torch.randn(2, 6, 9, 9), "a.c": torch.randn(2, 3)})
    with Image.open(tmp_path / "one" / "sheet.png") as two_rows:
        height, pixels = two_rows.height, np.asarray(two_rows.convert("RGB"))
    run(Sheet(size=64), tmp_path, {"a.b": torch.randn(2, 6, 9, 9)})
    with Image.open(tmp_path / "one" / "sheet.png") as one_row:
        assert height - one_row.height == 64 + 34
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_an_image_is_shown_on_the_sheet_in_its_own_colors(tmp_path: Path) -> None:
    place = surgery.OutputFolder(tmp_path)
    red = torch.stack([torch.ones(8, 8), -torch.ones(8, 8), -torch.ones(8, 8)])[None]
    with Sheet()(place) as write:
        for activation in make_image_activations(
            Operation("o", "output", "output", 1), red, ["one"], (-1, 1), DEFAULT_RECIPE
        ):
            write(activation)
        place.finish("one")
    with Image.open(tmp_path / "one" / "sheet.png") as image:
        assert (np.asarray(image.convert("RGB")) == (255, 0, 0)).all(-1).sum() == 256 * 256


def test_a_sheet_of_many_rows_has_several_pages(tmp_path: Path) -> None:
    place = run(Sheet(size=32, rows=2), tmp_path, {f"op{n}": torch.randn(2, 3, 4, 4) for n in range(5)})
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["sheet-2.png", "sheet-3.png", "sheet.png"]
    assert len(place.take_written()) == 6


def test_the_most_informative_channels_have_contrast_and_differ() -> None:
    ramp = np.tile(np.linspace(0, 250, 32).astype(np.uint8), (32, 1))
    flat = np.full_like(ramp, 125)
    codes = np.stack([flat, ramp, ramp, ramp.T, flat])
    chosen = most_informative_channels(codes, 2)
    assert chosen == [1, 3]
    assert most_informative_channels(codes, 99) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("make", [lambda: Png(level=10), lambda: Sheet(channels=0), lambda: Sheet(size=3)])
def test_impossible_options_are_refused(make: Any) -> None:
    with pytest.raises(RenderError):
        make()


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    place = surgery.OutputFolder(tmp_path)

    def fail_half_way() -> None:
        with place.file("a/b.txt") as path:
            path.write_text("half")
            raise ValueError("stop here")

    with pytest.raises(ValueError, match="stop here"):
        fail_half_way()
    assert list((tmp_path / "a").iterdir()) == []
    assert place.take_written() == []
    with place.file("a/b.txt") as path:
        path.write_text("whole")
        assert not (tmp_path / "a/b.txt").exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_a_folder_that_can_not_be_written_and_a_full_disk_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"can't write to .*file/out: not a directory"):
        surgery.OutputFolder(tmp_path / "file" / "out").prepare()

    def fill() -> None:
        with surgery.OutputFolder(tmp_path).file("x.png"):
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="the disk is full"):
        fill()


def test_a_directory_of_a_store_is_listed_once_and_only_if_it_exists(tmp_path: Path) -> None:
    place = surgery.OutputFolder(tmp_path)

    def fail_half_way() -> None:
        with place.directory("values/store") as path:
            path.mkdir(parents=True)
            (path / "chunk").write_text("whole")
            raise ValueError("stop here")

    with place.directory("nothing") as path:
        assert not path.exists()
    assert place.take_written() == []
    with pytest.raises(ValueError, match="stop here"):
        fail_half_way()
    assert [file.name for file in place.take_written() if file.activation is None] == ["values/store"]
    with place.directory("values/store") as path:
        assert (path / "chunk").read_text() == "whole"
