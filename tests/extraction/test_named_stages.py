"""Every stage by its name in Python, with options, as on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import surgery
from surgery.builtin.normalizers import Percentile, Symmetric
from surgery.builtin.sinks.tensor_archives import Npz
from surgery.builtin.tilers import Grid, Strip
from surgery.builtin.transforms import Abs, TopK
from surgery.errors import PluginError, RenderError
from surgery.extraction.named_stages import StageResolver
from surgery.plugins.registry import Plugins
from tests.distributions import Site, plugin

VALUES = torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(0))

SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"normalizer": "percentile:low=2,high=90"}, {"normalizer": Percentile(2, 90)}),
    ({"normalizer": "surgery:symmetric"}, {"normalizer": Symmetric()}),
    ({"tiler": "grid:columns=2,gap=3"}, {"tiler": Grid(columns=2, gap=3)}),
    ({"tiler": "strip"}, {"tiler": Strip()}),
    ({"transforms": ["abs", "topk:k=2"]}, {"transforms": [Abs(), TopK(k=2)]}),
    ({"transforms": "abs"}, {"transforms": [Abs()]}),
    ({"transforms": [Abs(), "topk:k=2"], "colormap": "magma"}, {"transforms": (Abs(), TopK(k=2)), "colormap": "magma"}),
    ({"transforms": Abs()}, {"transforms": [Abs()]}),
]


@pytest.mark.parametrize(("names", "values"), SAME)
def test_a_name_draws_what_its_value_draws(names: dict[str, Any], values: dict[str, Any]) -> None:
    for one, other in zip(surgery.draw(VALUES, **names), surgery.draw(VALUES, **values), strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert np.array_equal(one.low, other.low)


@pytest.fixture
def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_run_takes_a_name_for_every_stage(net: nn.Module, tmp_path: Path) -> None:
    np.savez(tmp_path / "input.npz", x=np.zeros((3, 8, 8), np.float32), y=np.zeros((5, 8, 8), np.float32))
    report = surgery.extract(
        net,
        tmp_path / "input.npz",
        out=tmp_path / "out",
        normalizer="percentile:low=2",
        tiler="grid:columns=8",
        colormap="magma",
        transforms=["abs"],
        sinks=["png:level=2", Npz()],
        reader="tensor:key=x",
    )
    assert report.images == 1
    recipe = json.loads((tmp_path / "out" / "manifest.json").read_text())["recipe"]
    assert recipe["normalizer"] == "Percentile(low=2.0, high=99.0, per='channel')"
    assert recipe["tiler"].startswith("Grid(columns=8,")
    assert (recipe["colormap"], recipe["transforms"]) == ("magma", "Abs()")
    assert {file.suffix for file in (tmp_path / "out").rglob("*") if file.is_file()} >= {".png", ".npz", ".json"}


def test_one_sink_need_not_be_in_a_list(net: nn.Module, photo: Path, tmp_path: Path) -> None:
    for sinks in ("npz", Npz()):
        surgery.extract(net, photo, out=tmp_path / "out", sinks=sinks, overwrite=True)
        assert not list((tmp_path / "out").rglob("*.png"))


TEXT = """
import surgery
@surgery.hookimpl
def surgery_colormaps(): return {"soot": ["black", "red"]}
@surgery.hookimpl
def surgery_transforms(): return {"double": lambda maps: maps * 2}
"""


def test_a_plugin_offers_names_to_python_too(tmp_path: Path, site: Site, net: nn.Module, photo: Path) -> None:
    site.install("surgery-soot", TEXT)
    (one,) = surgery.draw(VALUES[:1], colormap="soot", transforms="double")
    (other,) = surgery.draw(VALUES[:1] * 2, colormap=["black", "red"])
    assert one.palette is not None
    assert np.array_equal(one.palette, other.palette)
    assert np.array_equal(one.low, other.low)
    own = Plugins([plugin(tmp_path, TEXT.replace("double", "own"))], bare=True)
    surgery.draw(VALUES, transforms="own", plugins=own)
    surgery.extract(net, photo, out=tmp_path / "out", transforms="own", plugins=own)
    with pytest.raises(PluginError, match="no transform is called 'double'"):
        surgery.draw(VALUES, transforms="double", plugins=own)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"normalizer": "minmx"}, PluginError, r"no normalizer is called 'minmx'; did you mean 'minmax'\?"),
        ({"tiler": "grid:colums=2"}, PluginError, "no option of grid is called 'colums'"),
        ({"transforms": ["abs", "topk:k=x"]}, PluginError, "k of topk takes a whole number, not 'x'"),
        ({"colormap": "virdis"}, RenderError, "no colormap is called 'virdis'"),
        ({"normalizer": 3}, RenderError, "a normalizer is a name, such as 'percentile:low=2', or a function, not 3"),
        ({"tiler": None}, RenderError, "a tiler is a name, such as 'grid:columns=8', or a function, not None"),
        ({"transforms": 3}, RenderError, "transforms are a list of names or functions, not 3"),
        ({"transforms": [3]}, RenderError, "a transform is a name, such as 'topk:k=4', or a function, not 3"),
        ({"sinks": "pgn"}, PluginError, "no sink is called 'pgn'; did you mean 'png'?"),
        ({"sinks": ["png", 3]}, RenderError, "a sink is a name, such as 'png', or a function, not 3"),
        ({"reader": "tensr"}, PluginError, "no reader is called 'tensr'; did you mean 'tensor'?"),
    ],
)
def test_a_wrong_name_or_value_is_one_line(
    given: dict[str, Any], error: type[Exception], message: str, net: nn.Module, photo: Path, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        surgery.extract(net, photo, out=tmp_path / "out", **given)
    assert message.replace("\\", "") in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_no_plugin_is_loaded_if_no_name_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surgery.extraction.named_stages.Plugins", None)
    assert StageResolver().resolve("tiler", Grid()) == Grid()
    assert StageResolver().resolve_all("transform", (Abs(),)) == (Abs(),)
    assert len(surgery.draw(VALUES)) == 2
