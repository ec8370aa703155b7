"""The project about itself: its layers, its public names, its front door."""

from __future__ import annotations

import ast
import importlib
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import surgery

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "surgery" / "plugins" / "templates"
"""What `surgery plugins new` writes, as a stranger would."""
MODULES = sorted(path for path in (ROOT / "surgery").rglob("*.py") if not path.is_relative_to(TEMPLATES))
PLUGIN_EXAMPLES = ("ember", "spread", "ranges")
"""The examples that are plugins."""
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.stem not in ("facades", "train_facades"))


def test_only_plugins_know_pluggy_and_only_the_terminal_knows_rich_and_typer() -> None:
    allowed = {
        "pluggy": "plugins",
        "rich": "cli",
        "typer": "cli",
    }
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        for library, room in allowed.items():
            if re.search(rf"^\s*(from|import) {library}\b", text, re.MULTILINE):
                assert path.relative_to(ROOT).parts[1] == room, f"{path} imports {library}"


def test_the_public_names_are_these() -> None:
    names = (
        "Ablation AblationStudy Activation ActivationExtractor Certificate ComparedOperation Diagnosis "
        "DiagnosisRow Estimate Finding Maximized Operation OperationEstimate Output OutputFolder Patch PatchStudy "
        "Picture PixelField "
        "PixelTrace Report Run RunComparison Selection SurgeryError Verification ablate as_outputs certify "
        "compare cut diagnose draw edit estimate extract file_name find_again grad_cam hookimpl insert inside "
        "load_image load_model maximize merge op operations patch path record remove_edits replace select show "
        "trace trace_back verify write_page"
    )
    assert " ".join(surgery.__all__) == names
    for name in surgery.__all__:
        assert getattr(surgery, name).__doc__
    assert set(surgery.__all__) <= set(dir(surgery))
    with pytest.raises(AttributeError, match="attribute nothing"):
        surgery.nothing  # type: ignore[attr-defined] # noqa: B018


def test_every_public_function_and_class_says_what_it_is() -> None:
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or path.stem in ("hooks", "app"):
                continue
            assert node.name.startswith("_") or ast.get_docstring(node), f"{path}: {node.name} has no docstring"


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_as_it_is_and_writes_pictures(
    path: Path, in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 30
    monkeypatch.syspath_prepend(str(path.parent))
    runpy.run_path(str(path), run_name="__main__")
    assert path.stem in PLUGIN_EXAMPLES or list(in_empty_folder.rglob("*.png"))


def test_the_training_of_the_shipped_model_runs(in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    training: Any = importlib.import_module("train_facades")
    monkeypatch.setattr(training, "PAIRS", 4)
    monkeypatch.setattr(training, "HELD_OUT", 2)
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    training.train(minutes=0.02)
    torch.set_num_threads(threads)
    torch.random.set_rng_state(state)
    trained = surgery.load_model(in_empty_folder / "facades.safetensors")
    shipped = surgery.load_model("facades")
    assert [(k, v.shape) for k, v in trained.state_dict().items()] == [
        (k, v.shape) for k, v in shipped.state_dict().items()
    ]
    assert (in_empty_folder / "facades-discriminator.safetensors").exists()


def test_versions_agree() -> None:
    from importlib.metadata import version

    assert version("torch-surgery") == surgery.__version__
    assert f"## {surgery.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_what_ships_is_small() -> None:
    data = ROOT / "surgery" / "data"
    sizes = {path.name: path.stat().st_size for path in data.rglob("*") if path.is_file()}
    assert sizes["facades.safetensors"] < 2e6
    assert sizes["facades-discriminator.safetensors"] < 1e6
    assert sum(sizes.values()) < 10e6


PUBLIC = ("surgery", "surgery.data", "surgery.errors", "surgery.stages", "surgery.testing", "surgery.types")
"""What a plugin may import of ours; of `surgery` itself, the names in `surgery.__all__`."""
PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))
APART = [ROOT / "plugins" / "surgery-ray"]
"""The distributions that are installed and tested by commands in their README alone."""
HEAVY = {"ray", "torch", "numpy", "PIL", "rich", "typer", "timm", "zarr", "tensorboard"}


def strange(path: Path) -> Iterator[str]:
    """What a module uses of ours that is not public."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "surgery":
            names = {alias.name for alias in node.names}
            if node.module not in PUBLIC or (node.module == "surgery" and not names <= set(surgery.__all__)):
                yield ast.unparse(node)
        elif isinstance(node, ast.Import):
            names = {alias.name for alias in node.names if alias.name.partition(".")[0] == "surgery"}
            yield from sorted(names - set(PUBLIC))
        elif (
            isinstance(node, ast.Attribute)
            and ast.unparse(node.value) == "surgery"
            and node.attr not in surgery.__all__
        ):
            yield ast.unparse(node)


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_imports_what_is_public_alone(folder: Path) -> None:
    modules = list(folder.rglob("*.py"))
    assert len(modules) >= 2
    assert {str(path): list(strange(path)) for path in modules if list(strange(path))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import surgery.plugins",
        "from surgery.rendering import draw",
        "from surgery import plugins",
        "surgery.__version__",
    ],
)
def test_what_is_not_public_is_found(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(line)
    assert list(strange(tmp_path / "a.py"))


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_is_a_distribution_with_all_that_belongs_to_it(folder: Path) -> None:
    about = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    package = folder.name.replace("-", "_")
    assert about["name"] == folder.name
    assert list(about["entry-points"]["surgery"].values()) == [package]
    assert any(needed.startswith("torch-surgery>=") for needed in about["dependencies"])
    assert (folder / package / "py.typed").exists()
    assert list((folder / "tests").glob("test_*.py"))
    requirements = (ROOT / "plugins" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert (f"-e ./plugins/{folder.name}[test]" in requirements) is (folder not in APART)
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 24
    for name in re.findall(r"!\[[^]]*\]\(([^)]*)\)", readme):
        assert (folder / name).stat().st_size < 250_000


def test_what_plugins_offer_is_listed_without_what_they_need(tmp_path: Path) -> None:
    packages = ", ".join(folder.name.replace("-", "_") for folder in PLUGINS)
    text = f"""
import sys
sys.path += {list(map(str, APART))}
import {packages}
for module in ({packages}):
    for name, hook in list(vars(module).items()):
        if name.startswith("surgery_"):
            assert hook()
print(sorted({HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
