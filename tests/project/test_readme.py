"""The front door: what the README says runs, and its figures are those that were measured."""

from __future__ import annotations

import importlib
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import surgery
from surgery.cli import main
from surgery.data import inputs
from tests.project.documents import run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TOOLS = (ROOT / "benchmarks" / "TOOLS.md").read_text(encoding="utf-8")
BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")


def measured_models() -> list[dict[str, str]]:
    """The rows of all tables of models in TOOLS.md."""
    models: list[dict[str, str]] = []
    for block in re.findall(r"\| model \| input \|.*?(?=\n\n|\Z)", TOOLS, re.DOTALL):
        head, _, *rows = ([cell.strip() for cell in line.strip("| \n").split("|")] for line in block.splitlines())
        models += [dict(zip(head, row, strict=True)) for row in rows]
    return models


def surgery_command(*arguments: str) -> None:
    """`surgery` in this process. Raises AssertionError where it fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["surgery", *arguments])
        with pytest.raises(SystemExit, match=r"^0$"):
            main()


def test_it_is_short_and_everything_in_it_runs(in_prepared_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(README.splitlines()) <= 150
    run(README)
    assert len(list((in_prepared_folder / "activations").glob("*/*.png"))) == 4 * (7 + 3)
    assert len(list((in_prepared_folder / "out").glob("[12]/*.png"))) == 2 * (5 + 4 + 3)
    assert len(list((in_prepared_folder / "ember").glob("*/0[0-9][0-9]-*.png"))) == 1 + 55 + 1
    shown = (in_prepared_folder / "ember.py").read_text(encoding="utf-8")
    (in_prepared_folder / "ember.py").unlink()
    shutil.rmtree("ember")  # which would be a package called ember
    importlib.invalidate_caches()
    surgery_command("plugins", "new", "ember", "--kind", "colormap")
    assert (in_prepared_folder / "ember.py").read_text(encoding="utf-8") == shown
    assert (ROOT / "examples" / "ember.py").read_text(encoding="utf-8") == shown


def test_its_two_commands_set_everything_up() -> None:
    blocks = re.findall(r"^```sh\n(pip install .*)\n```$", README, re.MULTILINE)
    assert blocks == [
        "pip install . && surgery extract",
        "pip install -e '.[test]' -r plugins/requirements.txt && pytest",
    ]


def test_its_figures_are_those_that_were_measured(capsys: pytest.CaptureFixture[str]) -> None:
    models = measured_models()
    traced = [model for model in models if model["operations"] != "refused"]
    assert {model["wrong"] for model in traced} == {"0"}
    assert f"On {len(traced)} of the others, forward hooks" in README  # test_benchmarks has the figures of TRUTH.md
    hooked = [re.sub(r"\*", "", model["forward hooks"]).split("/") for model in traced]
    wrong, known = sum(int(wrong) for wrong, _ in hooked), sum(int(known) for _, known in hooked)
    assert f"forward hooks give {wrong / known:.0%}".replace("%", " %") in README
    ratio = re.search(r"takes\n  ([\d.]+) times the CPU time", README)
    assert ratio is not None
    assert re.search(rf"\| surgery, batch 1 \| [\d.]+ s \| {ratio[1]} \|", BENCHMARKS)
    surgery_command("check")
    compared = re.search(r"the original  (\d+) ✓", capsys.readouterr().out)
    assert compared is not None
    assert f"{compared[1]} comparisons" in README


def test_every_file_and_page_that_it_names_is_there() -> None:
    for name in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"!\[[^]]*\]\(([^)]*)\)", README):
        with Image.open(ROOT / name) as image:
            image.verify()


def assert_looks_like(shown: Path, made: Path) -> None:
    """Equal but for what fonts and rounding do from version to version."""
    with Image.open(shown) as one, Image.open(made) as other:
        assert one.size == other.size
        difference = np.asarray(one.convert("RGB"), float) - np.asarray(other.convert("RGB"), float)
        assert np.abs(difference).mean() < 2, f"{shown} is not what the code makes; make it again"


def test_its_pictures_are_what_the_code_makes(in_prepared_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    pictures = ROOT / "examples" / "pictures"
    made_by = re.search(r"Made by `surgery extract --at '(.*?)'`", README)
    assert made_by is not None
    surgery.extract(surgery.load_model("facades"), inputs()[0], at=made_by[1], source="facades")
    assert_looks_like(pictures / "sheet.png", Path("activations/facade-1/sheet.png"))
    ember = "--at down1.conv --tiler grid:columns=4"
    assert f"`{ember}`" in README
    plugin = ("--plugin", f"{ROOT}/examples/ember.py", "--colormap", "ember")
    surgery_command("extract", "--overwrite", *plugin, *ember.split())
    assert_looks_like(pictures / "ember.png", Path("activations/facade-1/001-down1.conv.png"))
    for name in ("checkerboard", "eval_against_train", "patchgan_scores"):
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
        assert_looks_like(pictures / f"{name}.png", Path(f"{name}.png"))


def test_a_new_package_is_installed_and_used_as_it_says(in_prepared_folder: Path) -> None:
    site = str(in_prepared_folder / "site")
    # Into a folder of its own, with what is here instead of what can be fetched.
    aside = {"PIP_TARGET": site, "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1"}
    path = os.pathsep.join(filter(None, [site, os.environ.get("PYTHONPATH", "")]))
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    surgery_command("plugins", "new", "spread", "--kind", "normalizer", "--package")
    command = "pip install ./surgery-spread && surgery extract --normalizer spread --overwrite"
    subprocess.run(
        ["/bin/bash", "-c", command], env={**os.environ, **aside, "PYTHONPATH": path, "PATH": binaries}, check=True
    )
    manifest = (in_prepared_folder / "activations" / "manifest.json").read_text(encoding="utf-8")
    assert '"normalizer":"Spread(deviations=2.0)"' in manifest.replace('": "', '":"')


def test_the_comparison_with_other_tools_has_the_figures_that_were_measured() -> None:
    page = (ROOT / "docs" / "pages" / "explanation" / "compared.md").read_text(encoding="utf-8")
    models = measured_models()
    traced = [model for model in models if model["operations"] != "refused"]
    assert f"gave {len(models)} models. `surgery` traces {len(traced)} of them" in page
    columns = {"captum": "captum", "TorchLens": "torchlens", "forward hooks": "forward hooks"}
    for name, column in {**columns, "torchvision's extractor, which takes 269 of them": "torchvision"}.items():
        known = [re.sub(r"\*", "", model[column]).split("/") for model in traced if "/" in model[column]]
        others = [model for model in models if model not in traced and "/" in model[column]]
        checked, wrong = sum(int(all_) for _, all_ in known), sum(int(wrong) for wrong, _ in known)
        assert f"| {name} | {checked:,} | {wrong:,} | {len(others)} |" in page
    ours = re.search(r"\| surgery \S+ \| 273 \| 51 \| [\d,]+ \| ([\d,]+) \| 0 \|", TOOLS)
    assert ours is not None
    assert f"| `surgery` | {ours[1]} | 0 | 0 |" in page
    rows = {
        "plain forward": "plain forward, batch 1",
        "`surgery`, a PNG for each operation": "surgery, batch 1",
        "forward hooks, `clamp(0, 1)`, `save_image`": "hooks, clamp, save_image",
        "torchvision's extractor, `make_grid`, `save_image`": "torchvision, make_grid, save_image",
        "forward hooks, matplotlib subplots": "hooks, matplotlib subplots",
    }
    for name, measured in rows.items():
        row = re.search(rf"\| {re.escape(measured)} \| ([\d.]+ s) \| ([\d.]+) \|", BENCHMARKS)
        assert row is not None
        assert f"| {name} | {row[1]} | {row[2]} |" in page
    batch = re.search(r"\| surgery / plain forward, batch 8 \| ([\d.]+) \|", BENCHMARKS)
    assert batch is not None
    assert f"takes {batch[1]} plain forwards" in page
