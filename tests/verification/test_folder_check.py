"""`surgery verify` finds each difference between a folder and its manifest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor, nn

import surgery
from surgery.builtin.sinks.png import Png
from surgery.builtin.sinks.sheet import Sheet
from surgery.builtin.sinks.tensor_archives import Npz, Safetensors
from surgery.errors import OutputError
from surgery.output.locks import Lock
from surgery.stages import Preprocessing
from tests.output.test_folders import store

if TYPE_CHECKING:
    from collections.abc import Callable


class Net(nn.Module):
    preprocessing = Preprocessing((8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x * 2, x.sign()], 1) + x.mean()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("verify")
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(random.integers(0, 256, (8, 10, 3), np.uint8)).save(place / f"{name}.png")
    sinks = [Png(), Sheet(size=32), Npz(), Safetensors(), store]
    surgery.extract(Net(), [place / "a.png", place / "b.png"], out=place / "out", sinks=sinks, source="net")
    return place / "out"


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


def found(folder: Path) -> list[tuple[str, str]]:
    return [(fault.kind, fault.file) for fault in surgery.verify(folder).faults]


def rewritten(file: Path, change: Callable[[Any], None]) -> None:
    """A picture that says something else of itself."""
    with Image.open(file) as image:
        image.load()
        note = json.loads(image.text["surgery"])  # type: ignore[attr-defined]
        change(note)
        info = PngImagePlugin.PngInfo()
        info.add_itxt("surgery", json.dumps(note))
        image.save(file, pnginfo=info)


def test_a_finished_run_is_sound(out: Path) -> None:
    verification = surgery.verify(out)
    assert verification.sound
    assert (verification.faults, verification.images) == ((), 2)
    assert verification.files == sum(path.is_file() for path in out.rglob("*"))
    (out / ".DS_Store").touch()
    assert surgery.verify(str(out)).sound


MUL = "a/001-mul.png"


def set_bytes(name: str, start: int, content: bytes) -> Callable[[Path], None]:
    def change(out: Path) -> None:
        data = bytearray((out / name).read_bytes())
        data[start : start + len(content)] = content
        (out / name).write_bytes(data)

    return change


def cut(name: str) -> Callable[[Path], int]:
    return lambda out: (out / name).write_bytes((out / name).read_bytes()[:-40])


@pytest.mark.parametrize(
    ("damage", "kind", "file", "sentence"),
    [
        (lambda out: (out / MUL).unlink(), "missing", MUL, "is in the manifest and not in the folder"),
        (lambda out: (out / "a/sheet.png").unlink(), "missing", "a/sheet.png", "not in the folder"),
        (lambda out: (out / "b/activations.npz").unlink(), "missing", "b/activations.npz", "not in the folder"),
        (lambda out: (out / "store/chunks/a-mul").unlink(), "missing", "store/chunks/a-mul", "not in the folder"),
        (lambda out: (out / "notes.txt").touch(), "unlisted", "notes.txt", "is in the folder and not in the manifest"),
        (lambda out: (out / "a/x.png").touch(), "unlisted", "a/x.png", "not in the manifest"),
        (lambda out: (out / "store/chunks/x").touch(), "unlisted", "store/chunks/x", "not in the manifest"),
        (cut(MUL), "unreadable", MUL, "can't be read: "),
        (cut("a/sheet.png"), "unreadable", "a/sheet.png", "can't be read: "),
        (set_bytes(MUL, -30, b"\0\0\0\0"), "unreadable", MUL, "can't be read: "),
        (lambda out: (out / MUL).write_bytes(b""), "unreadable", MUL, "can't be read: "),
        (cut("a/activations.npz"), "unreadable", "a/activations.npz", "can't be read: "),
        (set_bytes("a/activations.npz", 300, b"\xff\0\xff"), "unreadable", "a/activations.npz", "can't be read: "),
        (cut("a/activations.safetensors"), "unreadable", "a/activations.safetensors", "can't be read: "),
        (
            lambda out: np.savez(out / "a/activations.npz", input=np.ones(1)),
            "different",
            "a/activations.npz",
            "has no value of ",
        ),
        (
            lambda out: rewritten(out / MUL, lambda note: note["low"].__setitem__(1, 7.5)),
            "different",
            MUL,
            "has the low 7.5 at 1, and the manifest ",
        ),
        (
            lambda out: rewritten(out / MUL, lambda note: note.update(normalizer="Mine()")),
            "different",
            MUL,
            "has the normalizer Mine(), and the manifest MinMax(",
        ),
        (lambda out: rewritten(out / MUL, lambda note: note.pop("weights_sha256")), "different", MUL, "(none)"),
        (
            lambda out: shutil.copy(out / "b/001-mul.png", out / MUL),
            "different",
            MUL,
            "has the image b, and the manifest a",
        ),
        (
            lambda out: (out / ".surgery").mkdir() or (out / ".surgery/x.part").touch(),
            "unfinished",
            ".surgery",
            "stopped",
        ),
        (lambda out: (out / "manifest.json").write_text("{}"), "manifest", "manifest.json", "is damaged"),
        (cut("manifest.json"), "manifest", "manifest.json", "is damaged"),
    ],
)
def test_each_difference_from_the_manifest_is_found(
    out: Path, run: Any, damage: Any, kind: str, file: str, sentence: str
) -> None:
    damage(out)
    faults = surgery.verify(out).faults
    assert (kind, file) in [(fault.kind, fault.file) for fault in faults]
    fault = next(fault for fault in faults if (fault.kind, fault.file) == (kind, file))
    assert sentence in fault.sentence
    assert "\n" not in fault.sentence
    assert {other.file for other in faults} == {file}
    result = run("verify", out)
    assert result.code == 1
    assert f"surgery: {fault.sentence}\n" in result.err
    assert f"{len(faults)} problem{'s' * (len(faults) != 1)}" in result.out
    record = json.loads(run("verify", out, "--json").out)
    assert (record["sound"], record["faults"][0]["kind"]) == (False, kind)


def test_a_manifest_of_another_run_is_found_by_every_picture(out: Path) -> None:
    text = (out / "manifest.json").read_text()
    (out / "manifest.json").write_text(text.replace('"colormap": "default"', '"colormap": "magma"'))
    faults = surgery.verify(out).faults
    assert {fault.kind for fault in faults} == {"different"}
    assert len(faults) >= len(list(out.glob("*/[0-9]*.png")))


def test_a_link_that_leads_out_of_the_folder_counts_as_missing(out: Path, tmp_path: Path) -> None:
    shutil.move(out / "a", tmp_path / "elsewhere")
    (out / "a").symlink_to(tmp_path / "elsewhere")
    faults = surgery.verify(out).faults
    assert {fault.kind for fault in faults} == {"missing"}
    assert all("leads out of the folder" in fault.sentence for fault in faults)


def test_a_folder_without_a_run_or_with_an_active_run_is_one_clear_line(out: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        surgery.verify(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OutputError, match=r"empty holds no run: there is no manifest.json in it"):
        surgery.verify(tmp_path / "empty")
    (out / ".surgery").mkdir()
    lock = Lock(out / ".surgery" / "lock")
    lock.acquire()
    with pytest.raises(OutputError, match=r"a run writes to .* \(process \d+\); verify it when that is done"):
        surgery.verify(out)
    lock.release()
    (out / ".surgery").rmdir()
    assert surgery.verify(out).sound


def test_the_command_reports_a_sound_folder_in_one_line(run: Any, out: Path) -> None:
    result = run("verify", out)
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith(f"2 images, {surgery.verify(out).files} files  matches the manifest\n")
    assert json.loads(run("verify", out, "--json").out)["sound"]


def test_a_run_that_was_stopped_is_one_problem(out: Path, run: Any) -> None:
    (out / ".surgery").mkdir()
    (out / ".surgery/images-0").write_text("")
    (out / "a/001-mul.png").unlink()
    result = run("verify", out)
    assert result.code == 1
    assert result.err == "surgery: .surgery is of a run that was stopped (1 file); the same command goes on with it\n"


def test_the_command_verifies_each_run_in_a_folder_of_runs(out: Path, tmp_path: Path, run: Any) -> None:
    runs = tmp_path / "runs"
    for name in ("epoch-10", "epoch-9"):
        shutil.copytree(out, runs / name)
    assert [line.split("  ")[0] for line in run("verify", runs).out.splitlines()] == [
        f"{runs}/epoch-9/",
        f"{runs}/epoch-10/",
    ]
    (runs / "epoch-9/a/001-mul.png").unlink()
    result = run("verify", runs, "--json")
    assert result.code == 1
    assert [record["sound"] for record in json.loads(result.out)] == [False, True]
    (tmp_path / "empty").mkdir()
    result = run("verify", tmp_path / "empty")
    assert "holds no run: there is no manifest.json in it, nor in a folder in it" in result.err
