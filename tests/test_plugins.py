from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

import surgery
from surgery import hookspecs, plugins, testing
from surgery.builtin.normalizers import Fixed, Percentile
from surgery.builtin.tilers import Grid
from surgery.errors import ModelError, PluginError
from surgery.plugins import KINDS, Plugins

EMBER = """
import surgery

@surgery.hookimpl
def surgery_colormaps():
    return {"ember": ["black", "darkred", "orange", "white"]}
"""


def plugin(folder: Path, text: str, name: str = "mine.py") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_a_file_offers_a_colormap(tmp_path: Path) -> None:
    found = Plugins([plugin(tmp_path, EMBER)])
    assert found.resolve("colormap", "ember") == ["black", "darkred", "orange", "white"]
    assert "ember" in found.names("colormap")
    assert [entry.name for entry in found.plugins] == ["surgery", "mine.py"]


def test_every_kind_of_thing_can_be_offered(tmp_path: Path) -> None:
    text = """
    import surgery
    for kind in ("normalizers", "tilers", "colormaps", "sinks", "models"):
        exec(f"@surgery.hookimpl\\ndef surgery_{kind}(): return {{'thing': '{kind}'}}")
    """
    found = Plugins([plugin(tmp_path, textwrap.dedent(text))])
    assert [found.resolve(kind, "thing") for kind in KINDS] == [f"{kind}s" for kind in KINDS]


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
    tiler = "import surgery\n@surgery.hookimpl\ndef surgery_tilers(): return {'grid': min, 'other': max}\n"
    found = Plugins([plugin(tmp_path, tiler)])
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere", "mine.py can't be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("1 +", "can't be imported: SyntaxError"),
        ("x = 1", "offers nothing: mark a function such as surgery_colormaps with @surgery.hookimpl"),
        (EMBER.replace("colormaps", "colourmaps"), "no hook surgery_colourmaps; did you mean 'surgery_colormaps'"),
        (EMBER.replace("()", "(options)"), "plugin mine.py: .*options"),
    ],
)
def test_a_broken_file_is_named_with_its_fault(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        Plugins([plugin(tmp_path, text)])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise OSError('gone')", "plugin mine.py: surgery_colormaps raised OSError: gone"),
        ("return ['ember']", "has to return a mapping of names"),
        ("return {1: 'ember'}", "has to return a mapping of names"),
    ],
)
def test_a_hook_that_fails_is_named_with_its_fault(tmp_path: Path, body: str, message: str) -> None:
    text = f"import surgery\n@surgery.hookimpl\ndef surgery_colormaps():\n    {body}\n"
    found = Plugins([plugin(tmp_path, text)])
    assert found.resolve("tiler", "grid") == Grid()
    with pytest.raises(PluginError, match=message):
        found.resolve("colormap", "viridis")


def test_a_file_that_is_not_there_or_no_python_is_said(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="there is no plugin file"):
        Plugins([tmp_path / "gone.py"])
    with pytest.raises(PluginError, match="is no Python file"):
        Plugins([plugin(tmp_path, EMBER, "mine.txt")])
    with pytest.raises(PluginError, match=r"two plugins are called mine.py"):
        Plugins([plugin(tmp_path, EMBER), plugin(tmp_path, EMBER)])


class Installed:
    """A distribution with entry points, as `importlib.metadata` would find it."""

    version = "1.2"

    def __init__(self, name: str, load: Any) -> None:
        self.metadata = {"Name": name}
        self.load = load

    @property
    def entry_points(self) -> Any:
        return SimpleNamespace(select=lambda group: [SimpleNamespace(load=self.load)] if group == "surgery" else [])


def test_installed_plugins_are_found_and_a_broken_one_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good, bad = ModuleType("good"), ModuleType("bad")
    exec(EMBER, vars(good))  # noqa: S102
    exec(EMBER.replace("return", "raise ValueError('x' * 3) #"), vars(bad))  # noqa: S102

    def missing() -> None:
        raise ModuleNotFoundError("No module named 'gone'")

    found = [
        Installed("surgery-good", lambda: good),
        Installed("surgery-missing", missing),
        Installed("surgery-bad", lambda: bad),
    ]
    monkeypatch.setattr(plugins, "distributions", lambda: found)
    known = Plugins()
    assert known.resolve("colormap", "ember")[0] == "black"
    assert [(p.name, p.version, p.origin) for p in known.plugins][1] == ("surgery-good", "1.2", "installed")
    assert known.troubles[0].startswith("plugin surgery-missing can't be imported: ModuleNotFoundError")
    assert known.troubles[1].startswith("plugin surgery-bad: surgery_colormaps raised")
    assert len(known.troubles) == 2


HOOKS = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("surgery_")}


def test_there_is_a_hook_for_each_kind() -> None:
    assert list(HOOKS) == [f"surgery_{kind}s" for kind in KINDS]


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_of_each_hook_runs_and_keeps_the_contract(kind: Any, tmp_path: Path) -> None:
    doc = inspect.getdoc(HOOKS[f"surgery_{kind}s"]) or ""
    example = textwrap.dedent(re.search(r"^    @surgery.hookimpl\n(?: {4}.*\n|\n)*(?: {4}.*)?", doc, re.MULTILINE)[0])  # type: ignore[index]
    imports = "import surgery, torch\nfrom contextlib import contextmanager\n"
    found = Plugins([plugin(tmp_path, imports + example)])
    ((name, thing),) = found.offered(kind)[-1][1].items()
    assert found.resolve(kind, name) is thing
    getattr(testing, f"check_{kind}")(thing)


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
        ("math:pi", "math:pi gave float, and a model is a torch.nn.Module"),
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
