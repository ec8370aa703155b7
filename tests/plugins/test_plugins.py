from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import surgery
from surgery.builtin.normalizers import Fixed, Percentile
from surgery.builtin.tilers import Grid
from surgery.errors import ModelError, PluginError
from surgery.plugins.object_kinds import KINDS
from surgery.plugins.options import Option, list_options
from surgery.plugins.registry import Plugins
from tests.distributions import Site, plugin

EMBER = """
import surgery

@surgery.hookimpl
def surgery_colormaps():
    return {"ember": ["black", "darkred", "orange", "white"]}
"""


TILERS = "import surgery\n@surgery.hookimpl\ndef surgery_tilers(): return {'grid': min, 'other': max}\n"


def test_a_file_offers_a_colormap(tmp_path: Path) -> None:
    found = Plugins([plugin(tmp_path, EMBER)])
    assert found.resolve("colormap", "ember") == ["black", "darkred", "orange", "white"]
    assert "ember" in found.names("colormap")
    assert [entry.name for entry in found.plugins] == ["surgery", "mine.py"]


def test_every_kind_of_thing_can_be_offered(tmp_path: Path) -> None:
    text = """
    import surgery
    kinds = ["transform", "normalizer", "tiler", "colormap", "edit", "measure", "sink", "model", "checkpoint", "reader"]
    for kind in [*kinds, "engine"]:
        exec(f"@surgery.hookimpl\\ndef surgery_{kind}s(): return {{'thing': {kind!r}.__add__}}")
    """
    found = Plugins([plugin(tmp_path, text)])
    assert [found.resolve(kind, "thing")("!") for kind in KINDS] == [f"{kind}!" for kind in KINDS]


def test_options_are_set_from_text() -> None:
    found = Plugins()
    assert found.resolve("tiler", "grid:columns=8,gap=2") == Grid(columns=8, gap=2)
    assert found.resolve("tiler", "surgery:grid:columns=none") == Grid()
    assert found.resolve("normalizer", "fixed:low=-1e-3, high=1") == Fixed(-1e-3, 1)
    assert found.resolve("normalizer", "percentile:per=layer") == Percentile(per="layer")
    assert found.resolve("colormap", "colorbrewer:RdBu_r") == "colorbrewer:RdBu_r"


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("normalizer", "minmx", r"no normalizer is called 'minmx'; did you mean 'minmax'\?"),
        ("normalizer", "zzz", "there is minmax, percentile, symmetric, fixed"),
        ("colormap", "zzz", "`surgery plugins` lists them"),
        ("tiler", "grid:column=8", r"no option of grid is called 'column'; it takes columns, .* mean 'columns'\?"),
        ("tiler", "grid:columns=many", "columns of grid takes a whole number or none, not 'many'"),
        ("tiler", "grid:columns=0", "columns is at least 1, not 0"),
        ("tiler", "grid:columns=3,gap", "options of grid are written name=value, not 'gap'"),
        ("normalizer", "fixed:low=x", "low of fixed takes a number, not 'x'"),
        ("normalizer", "minmax:per=pixel", "per of minmax takes channel, layer, batch, not 'pixel'"),
        ("normalizer", "fixed:low=2,high=1", "fixed limits are low < high"),
        ("colormap", "viridis:gap=1", "viridis takes no options"),
        ("sink", "png:level=11", "level is 0 to 9"),
    ],
)
def test_a_wrong_name_or_option_is_one_clear_line(kind: Any, text: str, message: str) -> None:
    with pytest.raises(surgery.SurgeryError, match=message) as caught:
        Plugins().resolve(kind, text)
    assert "\n" not in str(caught.value)


def test_a_name_offered_twice_is_written_with_its_owner(tmp_path: Path) -> None:
    found = Plugins([plugin(tmp_path, TILERS)])
    with pytest.raises(PluginError, match=r"'grid' is offered by both surgery and mine.py; write mine.py:grid"):
        found.resolve("tiler", "grid")
    assert found.resolve("tiler", "mine.py:grid") is min
    assert found.resolve("tiler", "surgery:grid:gap=3") == Grid(gap=3)
    assert found.resolve("tiler", "other") is max


def test_a_colormap_of_a_plugin_stands_before_one_of_cmaps(tmp_path: Path) -> None:
    found = Plugins([plugin(tmp_path, EMBER)])
    assert found.resolve("colormap", "surgery:ember") == "ember"
    other = plugin(tmp_path, EMBER, "other.py")
    with pytest.raises(PluginError, match=r"'ember' is offered by both mine.py and other.py; write other.py:ember"):
        Plugins([tmp_path / "mine.py", other]).resolve("colormap", "ember")


def test_a_plugin_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="there is no plugin file"):
        Plugins([tmp_path / "gone.py"])
    with pytest.raises(PluginError, match="is not a Python file"):
        Plugins([plugin(tmp_path, EMBER, "mine.txt")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(PluginError, match=r"no plugin in the folder .*empty: no \*.py with @surgery.hookimpl"):
        Plugins([tmp_path / "empty"])


def test_a_folder_is_each_of_its_files_that_mark_a_hook(tmp_path: Path) -> None:
    plugin(tmp_path, EMBER, "b.py")
    plugin(tmp_path, EMBER.replace("ember", "ash"), "a.py")
    plugin(tmp_path, "raise RuntimeError('not to be run')", "setup.py")
    found = Plugins([tmp_path])
    assert [entry.name for entry in found.plugins[1:]] == ["a.py", "b.py"]
    assert found.resolve("colormap", "ash") == found.resolve("colormap", "ember")
    assert found.warnings == []


def test_a_folder_may_be_a_package(tmp_path: Path) -> None:
    (tmp_path / "glow").mkdir()
    plugin(tmp_path / "glow", "from .colors import surgery_colormaps", "__init__.py")
    plugin(tmp_path / "glow", EMBER, "colors.py")
    found = Plugins([tmp_path / "glow"])
    assert found.warnings == []
    assert found.resolve("colormap", "glow:ember")[0] == "black"


def test_two_files_of_one_name_are_told_apart_and_one_file_twice_is_one(tmp_path: Path) -> None:
    one = plugin(tmp_path, EMBER)
    (tmp_path / "other").mkdir()
    other = plugin(tmp_path / "other", EMBER.replace("ember", "ash"))
    found = Plugins([one, one])
    assert (len(found.plugins), found.warnings) == (2, [])
    found = Plugins([one, other])
    assert found.warnings == [f"plugin {other} is left out: {one} has its name; rename one of them"]
    assert "ash" not in found.names("colormap")


def test_the_environment_and_the_pyproject_name_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        plugin(tmp_path / name, EMBER.replace("ember", name), f"{name}.py")
    monkeypatch.setenv("SURGERY_PLUGINS", os.pathsep.join([str(tmp_path / "one" / "one.py"), str(tmp_path / "two")]))
    (tmp_path / "pyproject.toml").write_text('[tool.surgery]\nplugins = ["three/three.py"]\n')
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "deep" / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    monkeypatch.chdir(tmp_path / "deep" / "deeper")
    found = Plugins(confirm_trust=lambda _: True)
    assert [entry.name for entry in found.plugins] == ["surgery", "one.py", "two.py", "three.py"]
    assert [entry.state for entry in found.plugins] == ["ready"] * 4
    assert [entry.name for entry in Plugins(bare=True).plugins] == ["surgery"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool", "can't read .*pyproject.toml for plugins"),
        ("tool = 3", "can't read .*pyproject.toml for plugins"),
        ("[tool.surgery]\nplugins = 'x.py'", r"plugins of \[tool.surgery\] in .* are a list .* not 'x.py'"),
        ("[tool.surgery]\nplugins = ['x.py']", "there is no plugin file .*x.py"),
    ],
)
def test_a_pyproject_that_says_something_else_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    found = Plugins()
    (line,) = found.warnings
    assert re.search(message, line)
    assert "\n" not in line
    assert found.resolve("tiler", "grid") == Grid()
    with pytest.raises(PluginError, match=message):
        Plugins(strict=True)


def test_an_installed_plugin_is_imported_when_a_name_may_be_its(site: Site) -> None:
    site.install("surgery-ember", EMBER)
    site.install("surgery-ash", EMBER.replace("ember", "ash"))
    found = Plugins()
    assert found.resolve("tiler", "grid:gap=2") == Grid(gap=2)
    assert [(p.name, p.version, p.origin, p.state) for p in found.plugins[1:]] == [
        ("surgery-ash", "1.2", "installed", "waiting"),
        ("surgery-ember", "1.2", "installed", "waiting"),
    ]
    assert found.resolve("colormap", "surgery_ember:ember")[0] == "black"
    assert [p.state for p in found.plugins[1:]] == ["waiting", "ready"]
    assert "surgery_ash" not in sys.modules
    assert found.resolve("colormap", "ash")[0] == "black"
    assert [p.state for p in found.plugins[1:]] == ["ready", "ready"]


def test_a_name_that_two_installed_plugins_offer_is_written_with_its_owner(site: Site) -> None:
    site.install("surgery-one", EMBER)
    site.install("surgery-two", EMBER)
    with pytest.raises(PluginError, match=r"'ember' is offered by both surgery-one and surgery-two; write surgery-two"):
        Plugins().resolve("colormap", "ember")
    assert Plugins().resolve("colormap", "surgery-one:ember")[0] == "black"
    found = Plugins()
    found.check()
    line = "colormap 'ember' is offered by surgery-one and surgery-two; write surgery-one:ember"
    assert found.warnings == [line]


def test_a_name_of_the_projects_own_stays_its_own_when_an_installed_plugin_offers_it(site: Site) -> None:
    site.install("surgery-taker", TILERS)
    found = Plugins()
    for _ in range(2):  # before it is imported and after
        assert found.resolve("tiler", "grid") == Grid()
        assert found.resolve("tiler", "surgery-taker:grid") is min
    found.check()
    assert found.warnings == [
        "plugin surgery-taker offers tiler 'grid', which is surgery's own; write surgery-taker:grid"
    ]


def test_a_file_with_the_name_of_a_name_offered_by_an_installed_plugin_clashes(site: Site, tmp_path: Path) -> None:
    site.install("surgery-ember", EMBER)
    found = Plugins([plugin(tmp_path, EMBER)])
    with pytest.raises(PluginError, match=r"'ember' is offered by both mine\.py and surgery-ember"):
        found.resolve("colormap", "ember")


def test_a_distribution_may_have_several_entry_points(site: Site) -> None:
    site.install("surgery-both", EMBER)
    (site.folder / "surgery_both_tilers.py").write_text(TILERS.replace("grid", "pile"))
    points = site.folder / "surgery_both-1.2.dist-info" / "entry_points.txt"
    points.write_text("[surgery]\none = surgery_both\ntwo = surgery_both_tilers\n")
    found = Plugins()
    assert found.resolve("tiler", "pile") is min
    assert found.resolve("colormap", "surgery-both:ember")[0] == "black"
    assert [entry.name for entry in found.plugins] == ["surgery", "surgery-both"]


def test_of_two_versions_on_the_path_the_first_is_the_one(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("surgery-ember", EMBER)
    Site(tmp_path / "before", monkeypatch).install("Surgery_Ember", EMBER, version="2.0")
    assert [(entry.name, entry.version) for entry in Plugins().plugins[1:]] == [("Surgery_Ember", "2.0")]


def test_blocked_plugins_are_left_out(site: Site, tmp_path: Path) -> None:
    site.install("surgery-ember", EMBER)
    site.install("surgery-taker", TILERS)
    found = Plugins(blocked=["Surgery_Ember"])
    assert found.resolve("colormap", "ember") == "ember"  # cmap's
    assert [entry.state for entry in found.plugins] == ["ready", "blocked", "ready"]
    assert "surgery_ember" not in sys.modules
    assert Plugins([plugin(tmp_path, EMBER)], blocked=["mine.py"]).plugins[1].state == "blocked"
    with pytest.raises(PluginError, match=r"no plugin is called 'surgery-embers'; did you mean 'surgery-ember'\?"):
        Plugins(blocked=["surgery-embers"])
    assert [entry.name for entry in Plugins([plugin(tmp_path, EMBER)], bare=True).plugins] == ["surgery", "mine.py"]


def test_troubles_are_told_once_and_at_once(tmp_path: Path) -> None:
    told: list[str] = []
    broken = plugin(tmp_path, "import surgery\n@surgery.hookimpl\ndef surgery_colormaps(): return 3\n")
    found = Plugins([broken], on_warning=told.append)
    assert told == []
    for _ in range(2):
        found.names("colormap")
    assert told == found.warnings
    assert len(told) == 1


def test_the_options_of_a_stage_are_known() -> None:
    assert list_options(Grid())[0] == Option("columns", "a whole number or none", None)
    assert [option.name for option in list_options(Fixed())] == ["low", "high", "per"]
    assert list_options(min) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("unet_265", r"no model is called 'unet_265'; did you mean 'unet_256'\?"),
        ("torchvision/resnet81", "torchvision has no model 'resnet81'; did you mean 'resnet18'"),
        ("torchvision", "torchvision is a family of models; name one of them"),
        ("unet_256/x", "unet_256 is a model, not a family"),
        ("gone.pth", "there is no file gone.pth"),
        ("nowhere:make", "can't import nowhere"),
        ("math:coss", "math has no 'coss'; did you mean 'cos'"),
        ("math:pi", "math:pi returned float, and a model is a torch.nn.Module"),
        ("operator:add", "operator:add can't be built: TypeError"),
    ],
)
def test_a_source_that_gives_no_model_is_one_clear_line(source: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        surgery.load_model(source)
    assert "\n" not in str(caught.value)


def test_a_model_is_had_from_a_callable_or_a_module_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin(tmp_path, "from torch import nn\ndef make(): return nn.Tanh()\nready = nn.ReLU()\n", "nets_of_mine.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    assert isinstance(surgery.load_model("nets_of_mine:make"), torch.nn.Tanh)
    assert isinstance(surgery.load_model("nets_of_mine:ready"), torch.nn.ReLU)


def test_a_plugin_offers_a_model_by_name(tmp_path: Path) -> None:
    text = "import surgery, torch\n@surgery.hookimpl\ndef surgery_models():\n    return {'id': torch.nn.Tanh}\n"
    found = Plugins([plugin(tmp_path, text)])
    assert isinstance(surgery.load_model("id", plugins=found), torch.nn.Tanh)


@pytest.mark.parametrize("place", ["glow/__init__.py", "glow.py", "src/glow/__init__.py", "src/glow.py"])
def test_a_folder_may_be_a_distribution_that_is_not_installed(tmp_path: Path, place: str) -> None:
    (tmp_path / "pyproject.toml").write_text('[project.entry-points.surgery]\nglow = "glow"\ngone = "gone:module"\n')
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text(EMBER)
    assert Plugins([tmp_path]).resolve("colormap", "ember")[0] == "black"
