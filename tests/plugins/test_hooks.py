"""Every hook is documented, its example runs, and plugins written for another version of it work."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import surgery
from surgery.builtin.sinks.tensor_archives import Npz
from surgery.drawing import apply_measure
from surgery.editing import edit_values
from surgery.output import RunStart
from surgery.plugins import hook_specifications as hookspecs
from surgery.plugins.object_kinds import KINDS
from surgery.plugins.registry import Plugins
from surgery.testing import check_plugin
from tests.distributions import Site, plugin

HOOKS = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("surgery_")}
WATCHING = ("surgery_run_started", "surgery_activation", "surgery_run_finished")
PARTS = ("**Called:** ", "**Takes:** ", "**Returns:** ", "**Several:** ", "**Example**, ")


def example_of(hook: str) -> str:
    """Return the example in a hook's docstring."""
    doc = inspect.getdoc(HOOKS[hook]) or ""
    (example,) = re.findall(r"^```python\n(.*?)^```$", doc, flags=re.MULTILINE | re.DOTALL)
    return str(example)


def test_the_hooks_are_one_for_each_kind_and_those_of_a_run() -> None:
    assert sorted(HOOKS) == sorted([*(f"surgery_{kind}s" for kind in KINDS), *WATCHING])


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_says_when_it_is_called_with_what_and_who_wins(hook: str) -> None:
    doc = inspect.getdoc(HOOKS[hook]) or ""
    assert re.match(r"[A-Z].*\.\n\n", doc)
    found = [part for part in PARTS if re.search(rf"^{re.escape(part)}", doc, re.MULTILINE)]
    assert found == list(PARTS)
    for argument in inspect.signature(HOOKS[hook]).parameters:
        assert f"`{argument}`" in doc.partition("**Takes:**")[2].partition("**Returns:**")[0]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_tested(hook: str) -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    assert len(re.findall(rf"\bdef test_the_example_of_{hook}_runs\b", here)) == 1


@pytest.mark.parametrize("hook", HOOKS)
def test_the_example_of_a_hook_keeps_its_contract(hook: str) -> None:
    module = ModuleType("mine")
    exec(example_of(hook), vars(module))  # noqa: S102
    check_plugin(module)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)).save(file)
    return file


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())


def offered(folder: Path, kind: Any, name: str) -> Any:
    """Return the object that the example of a kind's hook offers, loaded from a plugin file."""
    found = Plugins([plugin(folder, example_of(f"surgery_{kind}s"))])
    values = found.plugins[1].collect_offers(kind)[0]
    assert found.warnings == []
    assert list(values) == [name]
    assert found.resolve(kind, f"mine.py:{name}") is values[name]
    return values[name]


def test_the_example_of_surgery_transforms_runs(tmp_path: Path) -> None:
    root = offered(tmp_path, "transform", "root")
    (picture,) = surgery.draw(torch.tensor([[[[-4.0, 0.0, 1.0, 9.0]]]]), transforms=[root])
    assert (picture.low.tolist(), picture.high.tolist()) == ([0], [3])


def test_the_example_of_surgery_normalizers_runs(tmp_path: Path) -> None:
    (picture,) = surgery.draw(torch.rand(1, 2, 4, 4), normalizer=offered(tmp_path, "normalizer", "unit"))
    assert (picture.low.tolist(), picture.high.tolist()) == ([0, 0], [1, 1])


def test_the_example_of_surgery_tilers_runs(tmp_path: Path) -> None:
    (picture,) = surgery.draw(torch.rand(1, 2, 4, 5), tiler=offered(tmp_path, "tiler", "first"))
    assert picture.pixels.shape == (4, 5)


def test_the_example_of_surgery_colormaps_runs(tmp_path: Path) -> None:
    (picture,) = surgery.draw(torch.rand(1, 2, 4, 5), colormap=offered(tmp_path, "colormap", "ember"))
    assert picture.palette is not None
    assert picture.palette[[0, 250]].tolist() == [[0, 0, 0], [255, 255, 255]]


def test_the_example_of_surgery_edits_runs(tmp_path: Path) -> None:
    mirror = offered(tmp_path, "edit", "mirror")
    assert edit_values(mirror, torch.tensor([[[[1.0, 2.0, 3.0]]]])).tolist() == [[[[3.0, 2.0, 1.0]]]]


def test_the_example_of_surgery_measures_runs(tmp_path: Path) -> None:
    loudness = offered(tmp_path, "measure", "loudness")
    assert apply_measure(loudness, torch.tensor([[[[1.0, -2.0, 3.0]]]])).tolist() == [[2.0]]
    assert loudness.unit == "values"


def test_the_example_of_surgery_sinks_runs(tmp_path: Path, model: nn.Module, photo: Path) -> None:
    surgery.extract(model, photo, out=tmp_path / "out", sinks=[offered(tmp_path, "sink", "ranges")])
    rows = (tmp_path / "out" / "photo" / "ranges.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["input", "0", "1", "output"]


def test_the_example_of_surgery_models_runs(tmp_path: Path) -> None:
    offered(tmp_path, "model", "tiny")
    assert isinstance(surgery.load_model("tiny", plugins=Plugins([tmp_path / "mine.py"])), nn.Conv2d)


def test_the_example_of_surgery_checkpoints_runs(tmp_path: Path) -> None:
    offered(tmp_path, "checkpoint", "line")
    network = nn.Sequential()
    network.add_module("slope", nn.Conv2d(2, 5, 1))
    torch.save({"module." + name: value for name, value in network.state_dict().items()}, tmp_path / "line.pth")
    loaded = surgery.load_model(tmp_path / "line.pth", plugins=Plugins([tmp_path / "mine.py"]))
    assert torch.equal(loaded.slope.weight, network.slope.weight)


def test_the_example_of_surgery_readers_runs(tmp_path: Path) -> None:
    numbers = offered(tmp_path, "reader", "numbers")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("1 2 3\n4 5 6\n")
    (tmp_path / "in" / "b.png").write_text("no")
    report = surgery.extract(nn.Tanh(), tmp_path / "in", out=tmp_path / "out", sinks=[Npz()], reader=numbers)
    assert report.images == 1
    assert np.load(tmp_path / "out" / "a" / "activations.npz")["input"].tolist() == [[[1, 2, 3], [4, 5, 6]]]


def test_the_example_of_surgery_engines_runs(tmp_path: Path, photo: Path) -> None:
    turns = offered(tmp_path, "engine", "turns")
    report = surgery.extract(nn.ReLU(), [photo] * 3, out=tmp_path / "out", sinks=[Npz()], engine=turns)
    assert report.images == 3


def printed(folder: Path, hook: str, model: nn.Module, photo: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what the example of a hook of runs prints in a run."""
    found = Plugins([plugin(folder, example_of(hook))])
    report = surgery.extract(model, photo, out=folder / "out", sinks=[], watchers=found.watchers())
    assert (report.warnings, found.warnings) == ((), [])
    return capsys.readouterr().out


def test_the_example_of_surgery_run_started_runs(
    tmp_path: Path, model: nn.Module, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(tmp_path, "surgery_run_started", model, photo, capsys)
    assert out == f"operations: 2, inputs: 1, folder: {tmp_path / 'out'}\n"


def test_the_example_of_surgery_activation_runs(
    tmp_path: Path, model: nn.Sequential, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model[0].weight.data[0, 0, 0, 0] = torch.nan
    out = printed(tmp_path, "surgery_activation", model, photo, capsys)
    assert out.splitlines() == [f"NaN in {name} of photo" for name in ("0", "1", "output")]


def test_the_example_of_surgery_run_finished_runs(
    tmp_path: Path, model: nn.Module, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.fullmatch(
        r"inputs: 1, seconds: \d+\.\d\n", printed(tmp_path, "surgery_run_finished", model, photo, capsys)
    )


def test_a_hook_with_fewer_arguments_works(tmp_path: Path, model: nn.Module, photo: Path) -> None:
    text = """
    import surgery
    seen = []
    @surgery.hookimpl
    def surgery_run_started(): seen.append("started")
    @surgery.hookimpl
    def surgery_activation(): seen.append("activation")
    @surgery.hookimpl
    def surgery_run_finished(): seen.append("finished")
    @surgery.hookimpl
    def surgery_colormaps(): return {"seen": lambda levels: seen}
    """
    found = Plugins([plugin(tmp_path, text)])
    surgery.extract(model, photo, out=tmp_path / "out", sinks=[], watchers=found.watchers())
    assert found.resolve("colormap", "seen")(0) == ["started", *["activation"] * 4, "finished"]
    assert found.warnings == []


NEXT = """
from collections.abc import Mapping
import pluggy
from surgery.plugins.hook_specifications import *
from surgery.plugins.hook_markers import hookspec

@hookspec(warn_on_impl_args={"folder": DeprecationWarning("surgery_run_started has no folder now; see run.folder")})
def surgery_run_started(run, folder): ...

@hookspec(warn_on_impl_args={"style": DeprecationWarning("surgery_colormaps no longer has a style")})
def surgery_colormaps(style): ...
"""


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the hooks of a later version, in which two hooks have dropped an argument."""
    specs = ModuleType("specs")
    exec(NEXT, vars(specs))  # noqa: S102
    monkeypatch.setattr("surgery.plugins.plugin.hookspecs", specs)


@pytest.mark.usefixtures("next_version")
def test_an_argument_that_a_hook_no_longer_has_is_none_and_its_author_is_told(tmp_path: Path) -> None:
    text = """
    import surgery
    @surgery.hookimpl
    def surgery_run_started(folder, run): print(folder, run.about)
    @surgery.hookimpl
    def surgery_colormaps(style): return {"ember": [style or "red", "white"]}
    """
    file = plugin(tmp_path, text)
    found = Plugins([file])
    assert found.plugins[1].state == "ready"
    assert found.resolve("colormap", "ember") == ["red", "white"]
    said = "plugin mine.py is of another version:"
    assert found.warnings == [
        f"{said} surgery_colormaps no longer has a style ({tmp_path.name}/mine.py:5)",
        f"{said} surgery_run_started has no folder now; see run.folder ({tmp_path.name}/mine.py:3)",
    ]
    (watcher,) = found.watchers()
    assert watcher.started is not None
    watcher.started(RunStart(tmp_path, (), (), {}))


def test_an_argument_that_a_hook_never_had_is_an_error(tmp_path: Path) -> None:
    text = "import surgery\n@surgery.hookimpl\ndef surgery_activation(activation, pixels): ...\n"
    found = Plugins([plugin(tmp_path, text)])
    assert found.plugins[1].state == "broken"
    (line,) = found.warnings
    assert "mine.py is left out: surgery_activation takes activation, and not pixels" in line
    assert line.endswith("mine.py:2)")


def test_an_installed_plugin_watches_by_an_entry_point_of_its_own(site: Site) -> None:
    text = "import surgery\n@surgery.hookimpl\ndef surgery_run_started(run): ...\n"
    site.install("surgery-listener", text, watchers=True)
    site.install("surgery-silent", text)
    found = Plugins()
    assert [watcher.name for watcher in found.watchers()] == ["plugin surgery-listener"]
    assert [entry.state for entry in found.plugins[1:]] == ["ready", "waiting"]
    found.check()
    (line,) = found.warnings
    assert line.startswith("plugin surgery-silent follows runs, but is not called: it has no entry point in the group")
