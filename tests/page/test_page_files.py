"""The files of a page, from the manifest and the pictures of a run."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.graph import find_edges, operations
from surgery.page import page_files
from surgery.page.run_entries import RunEntries
from surgery.page.scripts import picture_script, picture_script_size, script_json
from surgery.stages import Preprocessing
from tests.page import colormaps


class Two(nn.Module):
    """Two convolutions, the second of which can be skipped, and a value of two tensors."""

    preprocessing = Preprocessing((8, 8))

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU())
        self.second = nn.Conv2d(5, 5, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        low, high = torch.aminmax(x.flatten(2), dim=2)
        return torch.cat([x, self.second(x)], 1) + (high - low).mean()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(random.integers(0, 256, (8, 10, 3), np.uint8)).save(place / f"{name}.png")
    return sorted(place.glob("*.png"))


@pytest.fixture(scope="module")
def out(pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "out"
    measures = ["sparsity"]
    surgery.extract(Two(), pictures, out=folder, sinks=["png", "page"], measures=measures, source="two")
    return folder


def called(script: Path) -> list[Any]:
    """The values that a script calls the application with."""
    text = script.read_text(encoding="utf-8")
    assert text.startswith("surgeryPage.")
    return json.loads(f"[{text[text.index('(') + 1 : text.rindex(')')]}]")


def run_data(folder: Path) -> dict[str, Any]:
    (data,) = called(folder / "page" / "run.js")
    (run,) = data["runs"]
    return run


def test_every_picture_is_in_a_script_byte_by_byte(out: Path) -> None:
    run = run_data(out)
    assert [image["name"] for image in run["images"]] == ["a", "b"]
    shown = set()
    for image in run["images"]:
        shared = image["shared"]
        for operation in run["operations"]:
            for stem in operation["picture"]:
                folder = shared["folder"] if stem in shared["pictures"] else image["folder"]
                _, content = called(out / "page" / "pixels" / folder / f"{stem}.js")
                picture = out / folder / f"{stem}.png"
                assert base64.b64decode(content) == picture.read_bytes()
                shown.add(picture)
    assert shown == {*out.glob("[ab]/*.png"), *out.glob("batch/*/*.png")}
    assert [image["shared"]["folder"] for image in run["images"]] == ["batch/0000", "batch/0001"]


def test_the_images_of_a_batch_share_its_pictures(pictures: list[Path], tmp_path: Path) -> None:
    images = [*pictures, pictures[0], pictures[1], pictures[0]]
    surgery.extract(Two(), images, at="mean", out=tmp_path, sinks=["png", "page"], batch_size=2)
    shared = {image["name"]: image["shared"]["folder"] for image in run_data(tmp_path)["images"]}
    assert list(shared.values()) == ["batch/0000", "batch/0000", "batch/0002", "batch/0002", "batch/0004"]


def test_the_page_has_the_graph_of_the_model_with_all_operations(pictures: list[Path], tmp_path: Path) -> None:
    model = Two()
    surgery.extract(model, pictures[0], at="second", out=tmp_path, sinks=["png", "page"])
    run = run_data(tmp_path)
    traced = surgery.trace(model.eval(), surgery.load_image(pictures[0], size=8))
    paths = [operation["path"] for operation in run["operations"]]
    assert paths == ["input", *(operation.path for operation in operations(traced)), "output"]
    assert [path for path, each in zip(paths, run["operations"], strict=True) if each["picture"]] == [
        "input",
        "second",
        "output",
    ]
    edges = find_edges(traced)
    expected = {
        ("input" if source.kind == "input" else source.path, operation.path)
        for operation in operations(traced)
        for source in edges.operands[operation.name]
    }
    expected |= {(source.path, "output") for source in edges.output}
    assert {(paths[start], paths[end]) for start, end in run["edges"]} == expected
    assert ("first.1", "cat") in expected
    second = run["operations"][paths.index("second")]
    assert second["target"].startswith("Conv2d(5, 5, kernel_size=(3, 3)")
    assert (second["source"]["file"].rpartition("/")[2], second["source"]["text"]) == (
        "test_page_files.py",
        "return torch.cat([x, self.second(x)], 1) + (high - low).mean()",
    )
    assert (second["modules"], second["maps"]) == (["second"], [5, 8, 8])


def test_an_operation_with_several_tensors_has_an_entry_for_each(out: Path) -> None:
    run = run_data(out)
    by_path = {operation["path"]: place for place, operation in enumerate(run["operations"])}
    place = by_path["aminmax"]
    extra = [operation for operation in run["operations"] if operation.get("of") == place]
    assert [operation["path"] for operation in extra] == ["aminmax[0]", "aminmax[1]"]
    assert all(operation["picture"] for operation in extra)
    assert [place, by_path["aminmax[1]"]] in run["edges"]


def test_what_was_measured_is_in_a_script_for_each_image(out: Path) -> None:
    run = run_data(out)
    assert set(run["measures"]["sparsity"]) == {"unit", "reading"}
    folder, numbers = called(out / "page" / "measures" / "b.js")
    manifest = json.loads((out / "manifest.json").read_bytes())
    expected = {each["path"]: each["measures"] for each in manifest["images"][2]["activations"] if "measures" in each}
    assert (folder, numbers) == ("b", expected)
    assert len(expected["first.1"]["sparsity"]) == 5


def test_an_image_says_which_pictures_it_lacks(out: Path) -> None:
    manifest = json.loads((out / "manifest.json").read_bytes())
    found = RunEntries(manifest)
    for image in manifest["images"]:
        names = [file["file"] for each in image["activations"] for file in each["files"]]
        found.add(image, names if image.get("name") == "a" else [name for name in names if "second" not in name])
    images = found.data(0, "", "")["images"]
    (second,) = (path.stem for path in out.glob("a/*second.png"))
    assert ["missing" in image for image in images] == [False, True]
    assert images[1]["missing"] == [second]


def test_a_manifest_without_a_graph_gives_the_chain_of_its_operations(out: Path) -> None:
    manifest = json.loads((out / "manifest.json").read_bytes())
    del manifest["graph"]
    data = RunEntries(manifest).data(0, "old", "")
    assert data["chain"] is True
    assert [operation["path"] for operation in data["operations"]] == [each["path"] for each in manifest["operations"]]
    assert data["edges"] == [[place, place + 1] for place in range(len(data["operations"]) - 1)]
    second = next(operation for operation in data["operations"] if operation["path"] == "first.0")
    assert second["modules"] == ["first"]


DAMAGED: list[dict[str, Any]] = [{"path": "a", "index": []}, {"path": "a.b", "index": {}}, {"tensors": [{"shape": 3}]}]


@pytest.mark.parametrize(
    "damage",
    [
        *(None, 3, "x", [], [3], {}, DAMAGED),
        {"operations": [{}], "edges": [[0, 5], "a", [0]]},
        {"operations": DAMAGED, "edges": [[0, 1]]},
    ],
)
def test_a_damaged_graph_is_no_error(out: Path, damage: object) -> None:
    manifest = json.loads((out / "manifest.json").read_bytes())
    found = RunEntries({**manifest, "graph": damage, "operations": damage, "settings": damage})
    data = found.data(0, "", "")
    assert all(0 <= end < max(1, len(data["operations"])) for edge in data["edges"] for end in edge)
    assert [file.name for file in page_files([("", "", found)], "0")][-1] == "index.html"


def test_texts_in_a_script_can_not_end_it() -> None:
    text = "</script><!-- \u2028\u2029 <b>"
    script = script_json([text])
    assert b"<" not in script
    assert "\u2028" not in script.decode()
    assert json.loads(script) == [text]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 100])
def test_the_size_of_a_script_is_known_before_it_is_made(size: int) -> None:
    key = 'Ä/"<'
    assert picture_script_size(key, size) == len(picture_script(key, bytes(size)))


def test_the_page_says_what_it_shows_without_scripts(out: Path) -> None:
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "<title>two \N{EN DASH} surgery</title>" in page
    assert '<a href="a/' in page
    assert "first.0" in page


def test_the_colormaps_of_the_page_are_those_of_cmap() -> None:
    (stored,) = called_colormaps()
    assert {"viridis", "magma", "gray", "jet", "twilight", "matplotlib:coolwarm"} <= stored.keys()
    assert len(stored) > 200
    for name in list(stored)[::7]:
        category, colors = stored[name]
        stops = np.frombuffer(bytes.fromhex(colors), np.uint8).reshape(-1, 3).astype(np.float64)
        assert category in ("sequential", "diverging", "cyclic", "miscellaneous")
        assert abs(colormaps.interpolate(stops) - colormaps.sample(name, 251)).max() <= colormaps.TOLERANCE


def called_colormaps() -> list[dict[str, list[str]]]:
    text = colormaps.SCRIPT.read_text(encoding="utf-8")
    return json.loads(f"[{text[text.index('(') + 1 : text.rindex(')')]}]")
