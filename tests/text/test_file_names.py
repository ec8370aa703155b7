"""No name of an image, an operation, a key or a batch leads out of the output folder or to another file."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

import surgery
from surgery.builtin.default_recipe import DEFAULT_RECIPE
from surgery.builtin.sinks.png import Png, file_name
from surgery.builtin.sinks.sheet import Sheet
from surgery.builtin.sinks.tensor_archives import Npz, Safetensors
from surgery.drawing.activations import make_activations
from surgery.text import ImageNames
from surgery.text.file_names import (
    UniquePaths,
    collision_key,
    escape_surrogates,
    sanitize_path_part,
    sortable_number,
    unique_image_names,
)
from surgery.types import Operation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.stages import Sink

HOSTILE = [
    *(
        "..",
        ".",
        "",
        " ",
        "...",
        "../../x",
        "/etc/passwd",
        "a/../../b",
        "~",
        "-rf",
        "con",
        "NUL.txt",
        "com1",
        "a.",
        "b ",
    ),
    *("manifest.json", "Manifest.JSON", ".surgery", "batch", "BATCH", "activations.zarr", "a\\..\\b", "C:\\x", "a:b"),
    *(
        "caf\udce9",
        "\ud800",
        "new\nline",
        "\x1b[31mred",
        "nul\0",
        "x\u202egnp",
        "é" * 300,
        "long" * 200,
        "日本語",
        "😀" * 99,
    ),
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("make", [surgery.file_name, sanitize_path_part])
def test_a_name_is_one_part_of_a_path_that_every_file_system_takes(text: str, make: Any, tmp_path: Path) -> None:
    name = make(text)
    assert name == make(name), "a safe name stays as it is"
    assert not {"/", "\\", ":", "\0"} & set(name)
    assert name.isprintable()
    assert not name.startswith(".")
    assert name.rstrip(". ") == name != ""
    assert name.lower().partition(".")[0] not in ("con", "nul", "com1")
    assert len(os.fsencode(name)) <= 240
    (tmp_path / name).mkdir()
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_a_safe_name_is_not_changed() -> None:
    for text in ("photo", "two words, é", "IMG_0001 (2)", "日本語", "a.b.c", "x~2", "-1", "naïve"):
        assert sanitize_path_part(text) == text
    assert surgery.file_name("layer1.0.conv@1[0]") == "layer1.0.conv@1[0]"
    assert surgery.file_name("down2.conv", 4) == "004-down2.conv"


def test_long_texts_that_differ_have_short_names_that_differ_and_keep_their_suffix() -> None:
    texts = [f"{'deep.' * 100}{number}.png" for number in range(50)]
    for make in (surgery.file_name, sanitize_path_part):
        names = {make(text) for text in texts}
        assert len(names) == 50
        assert {name[-4:] for name in names} == {".png"}
    assert max(len(surgery.file_name(text)) for text in texts) <= 120


def test_names_sort_in_order_of_their_numbers_however_many_there_are() -> None:
    names = [surgery.file_name("x", number) for number in (*range(1100), 9999, 10000, 123456)]
    assert sorted(names) == names
    assert [sortable_number(number) for number in (7, 1000)] == ["007", "a1000"]
    assert [sortable_number(number, 4) for number in (7, 10000)] == ["0007", "a10000"]


def test_images_get_unique_names_on_every_file_system() -> None:
    stems = [
        "a",
        "A",
        "é",
        "e\u0301",
        "É",
        "a-2",
        "batch",
        "Manifest.json",
        "..",
        ".",
        "caf\udce9",
        "caf\udce8",
        "ß",
        "SS",
    ]
    names = unique_image_names(stems, reserved=["video"])
    assert len({collision_key(name) for name in names}) == len(stems)
    assert names[:3] == ["a", "A-2", "é"]
    assert not {"batch", "manifest.json", "video", "..", "."} & {name.lower() for name in names}
    assert unique_image_names(["video"], reserved=["video"]) == ["video-2"]
    assert len(set(unique_image_names(["0001"] * 20_000))) == 20_000  # at once, not by trying all


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../../x", "..", "a/..", "./..", "a//..//..//x", "caf\udce9", "x" * 300]
)
def test_a_sink_writes_inside_the_output_folder_whatever_name_it_requests(name: str, tmp_path: Path) -> None:
    place = surgery.OutputFolder(tmp_path / "out")
    for kept in (name, f"{place.place(name)}/a.txt", f"{place.place(None)}/{name}"):
        with place.file(kept) as path:
            path.write_text(kept, "utf-8", "surrogatepass")
    with place.directory(name) as path:
        path.mkdir()
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    written = [file.name for file in place.take_written()]
    assert found == set(written[:3])
    assert len(written) == 4
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_requests_that_would_collide_get_different_paths() -> None:
    names = UniquePaths()
    asked = [
        "x/A.png",
        "x/a.png",
        "x/é.png",
        "x/e\u0301.png",
        "X/a.png",
        "x/a:b",
        "x/a?b",
        "x/a_b",
        "x",
        "manifest.json",
        "batch",
    ]
    found = [names.path_for(name) for name in asked]
    assert len({collision_key(name) for name in found}) == len(asked)
    assert found[:2] == ["x/A.png", "x/a~2.png"]
    assert [names.path_for(name) for name in asked] == found, "what is asked for again is the same"
    assert collision_key(found[-2]) != "manifest.json"
    assert collision_key(found[-1]) != "batch"
    names.reserve_folders(ImageNames(["Store"]))
    assert names.path_for("store", "store") == "store~2"
    names.forget_folder("x")
    assert names.path_for("x/a.png") == "x/a.png"


class Odd(nn.Module):
    """Returns values under odd keys."""

    keys = ("../../../../x", "a/b", "\ud800", "caf\udce9", "file", "long" * 100, "A", "a", "nul\0", "%s", "x.npy")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {key: x * number for number, key in enumerate(self.keys, 2)}


@contextmanager
def naive(folder: surgery.OutputFolder) -> Iterator[Any]:
    """A sink that uses names of images and operations as they are."""

    def write(activation: surgery.Activation) -> None:
        with folder.file(f"{activation.image}/{activation.path}.txt", activation) as path:
            path.write_text("x")

    yield write


ODD_IMAGES = (
    *("...png", "..png", "manifest.json.png", "batch.png", ".surgery.png", "caf\udce9.png", "A.png", "a.png", "é.png"),
    *("e\u0301.png", "con.png", "x\\y.png", "new\nline.png", "activations.zarr.png", "l" * 251 + ".png", "-o.png"),
)


@pytest.mark.parametrize("jobs", [1, 2])
def test_images_and_keys_of_any_name_are_written_inside_the_folder_and_listed(tmp_path: Path, jobs: int) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (4, 4), "red").save(tmp_path / "photo.png")
    for name in ODD_IMAGES:
        shutil.copy(tmp_path / "photo.png", photos / name)
    naive.alone = True  # type: ignore[attr-defined]
    out = tmp_path / "out"
    sinks = [Png(), Sheet(size=32), Npz(), Safetensors(), naive]
    images = sorted(photos.iterdir())
    report = surgery.extract(Odd(), images, out=out, sinks=sinks, jobs=jobs, source="mod\udce9l.pth")
    assert (report.images, report.failed) == (len(ODD_IMAGES), ())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photo.png", "photos"]
    content = json.loads((out / "manifest.json").read_text())
    listed = [file["file"] for image in content["images"] for one in image["activations"] for file in one["files"]]
    listed += [file for image in content["images"] for file in image["files"]]
    assert len({collision_key(name) for name in listed}) == len(listed)
    assert {*listed, "manifest.json"} == {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert len(listed) + 1 == report.files
    assert content["model"]["source"] == "mod\\xe9l.pth"
    assert "caf\\xe9.png" in {Path(image["source"]).name for image in content["images"]}


@pytest.mark.parametrize("sink", [Npz(), Safetensors()])
def test_exact_values_are_stored_under_any_operation_path(sink: Sink, tmp_path: Path) -> None:
    paths = ["file", "allow_pickle", "self", "__metadata__", "caf\udce9", "\ud800", "../x", "nul\0x", "x.npy"]
    place = surgery.OutputFolder(tmp_path)
    with sink(place) as write:
        for index, path in enumerate(paths):
            values = torch.full((1, 2), float(index))
            for activation in make_activations(Operation(path, path, "kind", index), values, ["one"], DEFAULT_RECIPE):
                write(activation)
        place.finish("one")
    (file,) = (tmp_path / "one").iterdir()
    if file.suffix == ".npz":
        with np.load(file) as arrays:
            kept = {name: float(arrays[name][0]) for name in arrays.files}
    else:
        kept = {name: float(value[0]) for name, value in load_file(file).items()}
    assert sorted(kept.values()) == list(range(len(paths)))
    assert kept["file"] == 0
    assert kept["caf\\xe9"] == 4
    assert kept["../x"] == 6


def test_surrogates_are_escaped() -> None:
    assert escape_surrogates("caf\udce9") == "caf\\xe9"
    assert escape_surrogates("\ud800x") == "\\ud800x"
    assert escape_surrogates("é") == "é"


def test_pictures_of_more_than_999_operations_channels_and_batches_sort_in_order() -> None:
    def name(index: int) -> str:
        return file_name(surgery.Activation(Operation("x", "x", "x", index), "x", None, torch.ones(1), None))  # type: ignore[arg-type]

    names = [name(index) for index in range(1200)]
    assert sorted(names) == names
    place = surgery.OutputFolder(".")
    batches = []
    for place.batch in (0, 1, 9_999, 10_000, 123_456):
        batches.append(place.place(None))
    assert sorted(batches) == batches
