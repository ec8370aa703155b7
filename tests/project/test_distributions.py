"""The distributions of this repository install this project, and no distribution of another author."""

from __future__ import annotations

import re
import tomllib
from email import message_from_bytes
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest

import surgery
from surgery.plugins.registry import Plugins
from surgery.plugins.scaffold import write_plugin

if TYPE_CHECKING:
    from email.message import Message

build = pytest.importorskip("hatchling.build")
requirements = pytest.importorskip("packaging.requirements")

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = [ROOT, *sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))]
OURS = {
    tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    for folder in DISTRIBUTIONS
}


def required(metadata: Message) -> dict[str, str]:
    """The names of the distributions that a wheel requires, with the versions that it accepts."""
    found = [requirements.Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    return {re.sub(r"[-_.]+", "-", each.name).lower(): each.specifier for each in found}


def built(folder: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Message:
    """The metadata of a distribution's wheel."""
    monkeypatch.chdir(folder)
    with ZipFile(wheels / build.build_wheel(str(wheels))) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(wheel.read(name))


def test_the_project_requires_no_distribution_that_is_called_surgery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    # A wheel of the project compiles C; its metadata are made without that.
    folder = build.prepare_metadata_for_build_wheel(str(tmp_path))
    metadata = message_from_bytes((tmp_path / folder / "METADATA").read_bytes())
    assert metadata["Name"] == "torch-surgery"
    assert "torch" in required(metadata)
    assert "surgery" not in required(metadata)


@pytest.mark.parametrize("folder", DISTRIBUTIONS[1:], ids=lambda path: path.name)
def test_a_plugin_requires_this_project_by_its_name_and_version(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = required(built(folder, tmp_path, monkeypatch))
    assert "surgery" not in needed
    assert surgery.__version__ in needed["torch-surgery"]


@pytest.mark.parametrize("kind", ["normalizer", "watcher"])
def test_a_new_package_requires_this_project_by_its_name_and_version(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_plugin("brandnew", kind, tmp_path, package=True, known=Plugins(bare=True))  # type: ignore[arg-type]
    metadata = built(folder, tmp_path, monkeypatch)
    assert metadata["Name"] == "surgery-brandnew"
    assert list(required(metadata)) == ["torch-surgery", "pytest"]
    assert surgery.__version__ in required(metadata)["torch-surgery"]
    assert "://" not in str(metadata)


def test_the_distribution_has_the_command_surgery() -> None:
    from importlib.metadata import distribution

    (command,) = distribution("torch-surgery").entry_points.select(group="console_scripts")
    assert (command.name, command.value) == ("surgery", "surgery.cli:main")


def test_no_text_installs_a_distribution_of_ours_from_an_index() -> None:
    folders = [folder for folder in ROOT.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    texts = [*ROOT.glob("*.md"), *(path for folder in folders for path in folder.rglob("*.md"))]
    texts += (ROOT / "surgery").rglob("*.py")
    names = "|".join(sorted(map(re.escape, {*OURS, "surgery"})))
    pattern = re.compile(rf"pip install (?:-\S+ )*['\"]?(?:{names})\b(?![\w/-])")
    found = [f"{path.relative_to(ROOT)}: {line[0]}" for path in texts for line in pattern.finditer(path.read_text())]
    assert found == []
