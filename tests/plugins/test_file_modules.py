"""Plugins of several files: a plugin imports the modules of its own folder, and no plugin those of another."""

from __future__ import annotations

import importlib
import pickle
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from surgery.plugins.file_modules import load_file
from surgery.plugins.registry import Plugins
from surgery.text.descriptions import describe_stage, displayed_module_name

BODY = """
import surgery
{}
@surgery.hookimpl
def surgery_colormaps():
    {}
    return {{"mine": COLORS}}
"""
HELPER = 'COLORS = ["black", "red"]\n'

WAYS = {
    "by its bare name": "from _colors import COLORS",
    "relatively": "from ._colors import COLORS",
    "from the folder": "from . import _colors; COLORS = _colors.COLORS",
    "as a module": "import _colors; COLORS = _colors.COLORS",
    "under another name": "import json, _colors as c; COLORS = c.COLORS; json.dumps(1)",
    "all of it": "from _colors import *",
    "from a package": "from lib.deep.colors import COLORS",
    "a package by its path": "import lib.deep.colors; COLORS = lib.deep.colors.COLORS",
    "a package under another name": "import lib.deep.colors as c; COLORS = c.COLORS",
    "a module of a package": "from lib.deep import colors; COLORS = colors.COLORS",
    "from a folder that is no package": "from loose.colors import COLORS",
    "by its name in the package": "import importlib; COLORS = importlib.import_module('._colors', __package__).COLORS",
    "through another neighbor": "from _through import COLORS",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "flat"
    for name in ("lib/deep", "loose"):
        (home / name).mkdir(parents=True)
    for name in ("lib/__init__.py", "lib/deep/__init__.py"):
        (home / name).write_text("")
    for name in ("_colors.py", "lib/deep/colors.py", "loose/colors.py"):
        (home / name).write_text(HELPER)
    (home / "_through.py").write_text("from __future__ import annotations\nfrom _colors import COLORS\n")
    return home


@pytest.mark.parametrize("way", WAYS)
def test_a_file_imports_what_lies_beside_it(folder: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    before = {name for name in sys.modules if not name.startswith("surgery_plugin_")}
    path = list(sys.path)
    file = folder / "one.py"
    for text in (
        BODY.format(WAYS[way], "pass"),
        *([BODY.format("", WAYS[way])] * ("*" not in way and way != "all of it")),
    ):
        file.write_text(text)
        found = Plugins([file], bare=True)
        assert found.resolve("colormap", "mine") == ["black", "red"]
        assert found.warnings == []
    assert path == sys.path
    assert {"_colors", "lib", "loose"} & (set(sys.modules) - before) == set()


@pytest.mark.parametrize(
    "way",
    [
        "from pkg.colors import COLORS",
        "from .colors import COLORS",
        "import pkg.colors; COLORS = pkg.colors.COLORS",
        "from beside import COLORS",
        "from .inner import COLORS",
    ],
)
def test_a_package_imports_itself_by_its_name_and_what_lies_beside_it(tmp_path: Path, way: str) -> None:
    package = tmp_path / "mine" / "pkg"
    (package / "inner").mkdir(parents=True)
    (package / "inner" / "__init__.py").write_text(
        "from ..colors import COLORS\nimport pkg\nassert pkg.__name__ == __package__.rpartition('.')[0]\n"
    )
    (package / "colors.py").write_text(HELPER)
    (package.parent / "beside.py").write_text(HELPER)
    (package / "__init__.py").write_text(BODY.format(way, "pass"))
    found = Plugins([package], bare=True)
    assert (found.resolve("colormap", "pkg:mine"), found.warnings) == (["black", "red"], [])


def test_neighbors_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "same").mkdir(parents=True)
        (tmp_path / name / "same" / f"{name}.py").write_text(
            BODY.format("", "from _colors import COLORS").replace("mine", name)
        )
        (tmp_path / name / "same" / "_colors.py").write_text(f"COLORS = ['{name}']\n")
    found = Plugins([tmp_path / name / "same" / f"{name}.py" for name in ("a", "b")], bare=True)
    assert [found.resolve("colormap", name) for name in ("b", "a")] == [["b"], ["a"]]
    for name in [name for name in sys.modules if name.endswith("._colors")]:
        del sys.modules[name]
    found = Plugins([tmp_path / name / "same" / f"{name}.py" for name in ("b", "a")], bare=True)
    assert [found.resolve("colormap", name) for name in ("b", "a")] == [["b"], ["a"]]


def test_a_neighbor_that_has_changed_or_was_forgotten_is_run_again(folder: Path) -> None:
    file = folder / "one.py"
    file.write_text(BODY.format("from _colors import COLORS", "pass"))
    one = load_file(file)
    neighbor = sys.modules[f"{one.__package__}._colors"]
    assert load_file(file) is not one
    assert sys.modules[neighbor.__name__] is neighbor
    (folder / "_colors.py").write_text("COLORS = ['blue']\n")
    assert load_file(file).COLORS == ["blue"]
    (folder / "_colors.py").write_text("COLORS = ['green']\n")
    assert importlib.reload(sys.modules[neighbor.__name__]).COLORS == ["green"]
    for name in [name for name in sys.modules if name.startswith(str(one.__package__))]:
        del sys.modules[name]
    assert load_file(file).COLORS == ["green"]


@pytest.mark.parametrize(
    ("name", "own"), [("json", False), ("surgery", False), ("random", False), ("torch", True), ("utils", True)]
)
def test_a_neighbor_stands_before_a_library_but_not_before_pythons_own(folder: Path, name: str, own: bool) -> None:
    (folder / f"{name}.py").write_text(HELPER)
    (folder / "one.py").write_text(f"import surgery, {name}\nFOUND = {name}.__file__\n")
    assert (Path(load_file(folder / "one.py").FOUND).parent == folder.resolve()) == own


def test_a_plugin_may_be_called_like_the_library_that_it_is_for_and_data_like_one(folder: Path) -> None:
    (folder / "numpy.py").write_text("import numpy, cmap\nFOUND = numpy.__file__, cmap.__file__\n")
    (folder / "cmap").mkdir()
    assert all("site-packages" in found or "numpy" in found for found in load_file(folder / "numpy.py").FOUND)


def test_the_classes_of_a_plugin_can_be_pickled_and_are_called_as_in_their_file(folder: Path) -> None:
    (folder / "_colors.py").write_text(
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Thing:\n    x: int = 1\ndef act(): pass\n"
    )
    (folder / "my-own.plugin.py").write_text("from _colors import Thing, act\n")
    module: Any = load_file(folder / "my-own.plugin.py")
    assert pickle.loads(pickle.dumps(module.Thing(3))) == module.Thing(3)  # noqa: S301
    assert describe_stage(module.act) == "_colors.act"
    assert displayed_module_name("json.decoder") == "json.decoder"


def test_what_is_not_there_and_what_fails_is_told_with_its_line(folder: Path) -> None:
    for text, line in (
        ("import _gone", "No module named '_gone'"),
        ("\nfrom . import _gone", "cannot import name '_gone'"),
        ("import lib._gone", "cannot import name '_gone' from 'surgery_plugin_flat"),
        ("import _bad", "ZeroDivisionError: division by zero (flat/_bad.py:3)"),
        ("import _wrong", "(flat/_wrong.py:1)"),
    ):
        (folder / "_bad.py").write_text("\n\n1 / 0\n")
        (folder / "_wrong.py").write_text("def :\n")
        (folder / "one.py").write_text(text)
        (warning,) = Plugins([folder / "one.py"], bare=True).warnings
        assert line in warning
    with pytest.raises(ZeroDivisionError) as caught:
        load_file(folder / "_bad.py")
    assert traceback.extract_tb(caught.tb)[-1].line == "1 / 0"
