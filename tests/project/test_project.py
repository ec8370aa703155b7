"""The project about itself: its layers, its public names, its front door."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

import surgery
from surgery.data import inputs
from surgery.models.pix2pix.layout import to_public
from surgery.models.pix2pix.unet import UNet

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEMPLATES = ROOT / "surgery" / "plugins" / "templates"
"""What `surgery plugins new` writes, as a stranger would."""
MODULES = sorted(path for path in (ROOT / "surgery").rglob("*.py") if not path.is_relative_to(TEMPLATES))
PLUGIN_EXAMPLES = ("ember", "spread", "ranges")
"""Of the examples, those that are plugins, in the order in which the README tells of them."""
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
        "Activation ActivationExtractor Certificate Operation OutputFolder Picture Report Selection SurgeryError "
        "Verification as_outputs certify draw extract file_name hookimpl insert inside load_image load_model op "
        "operations path record select show trace verify"
    )
    assert " ".join(surgery.__all__) == names
    for name in surgery.__all__:
        assert getattr(surgery, name).__doc__
    assert set(surgery.__all__) <= set(dir(surgery))
    with pytest.raises(AttributeError, match="attribute nothing"):
        surgery.nothing  # noqa: B018


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


def python_of_readme() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_python_in_the_readme_runs(in_empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(python_of_readme()[0], {})  # noqa: S102
    assert "down1.conv (1, 8, 128, 128)" in capsys.readouterr().out
    assert len(list((in_empty_folder / "activations").glob("*/*.png"))) == 4 * (7 + 3)


def commands_of_readme() -> list[str]:
    return [line.strip() for line in re.findall(r"^ {4}(surgery .*|pip .*)$", README, re.MULTILINE)]


def shell(command: str, **environment: str) -> None:
    """Run a command line as it is printed, with the `surgery` and the `pip` of this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/bash", "-c", command],
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def test_the_commands_in_the_readme_run_and_write_the_plugins_that_it_shows(in_empty_folder: Path) -> None:
    torch.save(to_public(UNet(5, width=2)), "latest_net_G.pth")
    (in_empty_folder / "facades").mkdir()
    with Image.open(inputs()[0]) as image:
        image.resize((64, 64)).save("facades/1.png")
    commands = [command for command in commands_of_readme() if command.startswith("surgery")]
    assert len(commands) == 11
    for command in commands:
        shell(command)
    for name, shown in zip(PLUGIN_EXAMPLES, python_of_readme()[1:], strict=True):
        assert (in_empty_folder / f"{name}.py").read_text() == shown
        assert (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8") == shown
    assert (in_empty_folder / "ranges" / "facade-1" / "ranges.csv").is_file()
    with Image.open("spread.png") as image:
        assert image.size == (515, 257)


def test_the_package_of_the_readme_is_installed_and_used_as_it_says(in_empty_folder: Path) -> None:
    pytest.importorskip("hatchling")
    site = str(in_empty_folder / "site")
    # Into a folder of its own, with what there is here instead of what can be fetched.
    aside = {"PIP_TARGET": site, "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1"}
    path = os.pathsep.join(filter(None, [site, os.environ.get("PYTHONPATH", "")]))
    begin, install = (line for line in commands_of_readme() if "surgery-spread" in line or "--package" in line)
    for command in (begin, install):
        shell(command, PYTHONPATH=path, **aside)
    manifest = json.loads((in_empty_folder / "activations" / "manifest.json").read_text())
    assert manifest["recipe"]["normalizer"] == "Spread(deviations=2.0)"


def test_the_readme_shows_what_inspect_prints() -> None:
    from tests.cli.test_graph_view import shown

    traced = surgery.trace(surgery.load_model("facades").eval(), surgery.load_image(example_input()))
    text = shown(surgery.insert(traced, surgery.select(traced, "op:cat")), 80)
    block = re.search(r"prints:\n\n((?: {4}.*\n)+)", README)
    assert block is not None
    end = [line.removeprefix("    ").rstrip() for line in block[1].splitlines()]
    assert text.splitlines()[-len(end) :] == end


def test_the_readme_shows_the_certificate_of_the_shipped_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from surgery.cli import app as cli

    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "argv", ["surgery", "check"])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    printed = [line.rstrip() for line in capsys.readouterr().out.rstrip().splitlines()]
    block = re.search(r"it prints\n\n((?: {4}.*\n|\n)+)", README)
    assert block is not None
    assert [line.removeprefix("    ") for line in block[1].rstrip().splitlines()] == printed


def example_input() -> Path:
    return Path(inputs()[0])


def test_the_readme_compares_tools_on_the_same_models_with_the_figures_that_were_measured() -> None:
    text = (ROOT / "benchmarks" / "TRUTH.md").read_text(encoding="utf-8")
    models: list[dict[str, str]] = []
    for block in re.findall(r"\| model \| input \|.*?(?=\n\n|\Z)", text, re.DOTALL):
        head, _, *rows = ([cell.strip() for cell in line.strip("| \n").split("|")] for line in block.splitlines())
        models += [dict(zip(head, row, strict=True)) for row in rows]
    traced = [model for model in models if model["operations"] != "refused"]
    assert f"{len(traced)}\n  models, 0 are wrong" in README
    assert f"gave {len(models)} models; the other {len(models) - len(traced)} are" in README
    assert f"the {sum(int(model['values'].replace(',', '')) for model in traced):,} values" in README
    assert {model["wrong"] for model in traced} == {"0"}
    columns = {"captum": "captum", "TorchLens": "torchlens", "forward hooks": "forward hooks"}
    for name, column in {**columns, "torchvision's extractor, which takes 269 of them": "torchvision"}.items():
        known = [re.sub(r"\*", "", model[column]).split("/") for model in traced if "/" in model[column]]
        others = [model for model in models if model not in traced and "/" in model[column]]
        checked, wrong = sum(int(all_) for _, all_ in known), sum(int(wrong) for wrong, _ in known)
        assert f"| {name} | {checked:,} | {wrong:,} | {len(others)} |" in README
    ours = re.search(r"\| surgery \S+ \| 273 \| 51 \| [\d,]+ \| ([\d,]+) \| 0 \|", text)
    assert ours is not None
    assert f"| `surgery` | {ours[1]} | 0 | 0 |" in README


def test_the_readme_names_the_options_of_extract_that_are_there() -> None:
    from typer.main import get_command

    from surgery.cli import app as cli

    command: Any = get_command(cli.app)
    known = {option for parameter in command.commands["extract"].params for option in parameter.opts}
    table = README.partition("## What `extract` is told")[2].partition("## ")[0]
    named = set(re.findall(r"`(--[a-z-]+)", table))
    assert len(named) >= 10
    assert named <= known


def test_every_picture_of_the_readme_is_there_and_every_file_it_names() -> None:
    for name in re.findall(r"!\[[^]]*\]\(([^)]*)\)", README):
        with Image.open(ROOT / name) as image:
            image.verify()
    for name in re.findall(r"`([a-z_]+\.py)`", README):
        assert (ROOT / "examples" / name).exists(), name


def assert_looks_like(shown: Path, made: Path) -> None:
    """Equal but for what fonts and rounding do from version to version."""
    with Image.open(shown) as one, Image.open(made) as other:
        assert one.size == other.size
        difference = np.asarray(one.convert("RGB"), float) - np.asarray(other.convert("RGB"), float)
        assert np.abs(difference).mean() < 2, f"{shown} is not what the code makes; make it anew"


def test_the_pictures_of_the_readme_are_what_the_code_makes(
    in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    pictures = ROOT / "examples" / "pictures"
    made_by = re.search(r"Made by `surgery extract --at '(.*?)'`", README)
    assert made_by is not None
    surgery.extract(surgery.load_model("facades"), inputs()[0], at=made_by[1], source="facades")
    assert_looks_like(pictures / "sheet.png", Path("activations/facade-1/sheet.png"))
    ember = "--at down1.conv --tiler grid:columns=4"
    assert f"`{ember}`" in README
    shell(f"surgery extract --overwrite --plugin {ROOT}/examples/ember.py --colormap ember {ember}")
    assert_looks_like(pictures / "ember.png", Path("activations/facade-1/001-down1.conv.png"))
    for name in ("eval_against_train", "patchgan_scores"):
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
        assert_looks_like(pictures / f"{name}.png", Path(f"{name}.png"))


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
HEAVY = {"torch", "numpy", "PIL", "rich", "typer", "timm", "zarr", "tensorboard"}


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
    assert f"-e ./plugins/{folder.name}[test]" in (ROOT / "plugins" / "requirements.txt").read_text().splitlines()
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 24
    for name in re.findall(r"!\[[^]]*\]\(([^)]*)\)", readme):
        assert (folder / name).stat().st_size < 250_000


def test_what_plugins_offer_is_listed_without_what_they_need(tmp_path: Path) -> None:
    packages = ", ".join(folder.name.replace("-", "_") for folder in PLUGINS)
    text = f"""
import sys
import {packages}
for module in ({packages}):
    for name, hook in list(vars(module).items()):
        if name.startswith("surgery_"):
            assert hook()
print(sorted({HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
