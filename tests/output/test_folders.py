"""The folder of a run matches its manifest after overwriting, kills, full disks and other runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.builtin.sinks.png import Png
from surgery.builtin.sinks.sheet import Sheet
from surgery.builtin.sinks.tensor_archives import Npz
from surgery.errors import OutputError, SurgeryError
from surgery.output import locks
from surgery.output import manifest as manifest_module
from surgery.output.manifest_reader import ManifestReader
from surgery.output.noted_names import read_names
from surgery.output.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator


class Net(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x * 2, x.sign()], 1)


class Other(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - 1


class Refusing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.inv(x.exp() * 0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(random.integers(0, 256, (8, 10, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def assert_whole(folder: Path, *, strangers: tuple[str, ...] = ()) -> None:
    """The folder holds what its manifest says, and of others what is named."""
    listed = set(ManifestReader(folder).all_files()) | {"manifest.json", *strangers}
    assert listed == set(tree(folder))
    assert not [path for path in folder.rglob("*") if path.is_dir() and not list(path.iterdir())], "empty folders"


@contextmanager
def store(folder: surgery.OutputFolder) -> Iterator[Any]:
    """A sink that keeps a directory with files of its own."""
    with folder.directory("store") as place:

        def write(activation: surgery.Activation) -> None:
            (place / "chunks").mkdir(parents=True, exist_ok=True)
            (place / "chunks" / f"{activation.image}-{activation.path}").write_text("x")

        yield write


# A run into a folder that holds another


def test_a_folder_that_holds_another_run_is_refused_in_one_line_and_stays_unchanged(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    surgery.extract(Net(), photos, out=out, source="first")
    before = tree(out)
    with pytest.raises(OutputError) as caught:
        surgery.extract(Other(), photos, out=out)
    assert str(caught.value) == (
        f"{out} holds another run: it is of the model first (Net), and this one of Other; add --overwrite "
        "(overwrite=True) to replace it, or write to another folder"
    )
    assert tree(out) == before


def test_the_second_run_of_a_command_names_the_option_that_overwrites(run: Any, tmp_path: Path) -> None:
    arguments = ("extract", "--at", "down8.conv", "--sink", "png")
    assert run(*arguments).code == 0
    again = run(*arguments)
    assert again.code == 0
    assert "1 image, all finished before (--overwrite begins anew), 4 files" in again.out
    result = run(*arguments, "--seed", "1")
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        "surgery: activations holds another run: it has the seed 0, and this one 1; add --overwrite to replace it, or "
        "write to another folder\n"
    )
    assert run(*arguments, "--overwrite").code == 0
    assert_whole(tmp_path / "activations")
    before = tree(tmp_path / "activations")
    failed = run("extract", "facades", "typo.png", "--overwrite")
    assert failed.code == 1
    assert failed.out.strip() == "no image was finished, and nothing was written"
    assert tree(tmp_path / "activations") == before


@pytest.mark.parametrize("jobs", [1, 2])
def test_overwriting_removes_the_files_in_the_manifest_and_no_others(photos: Path, tmp_path: Path, jobs: int) -> None:
    out = tmp_path / "out"
    store.alone = jobs > 1  # type: ignore[attr-defined]
    surgery.extract(Net(), photos, out=out, sinks=[Png(), Sheet(size=32), Npz(), store])
    mine = ("notes.txt", "0/mine.png", "store/chunks/mine", "elsewhere/a.txt", "batch/b.txt", "1/deep/er/x")
    for name in mine:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
    surgery.extract(Other(), photos / "2.png", out=out, sinks=[Png()], overwrite=True, jobs=jobs)
    assert_whole(out, strangers=mine)
    assert [image["name"] for image in manifest(out)["images"]] == ["2"]
    assert manifest(out)["model"]["class"] == "Other"
    assert all((out / name).read_text() == "mine" for name in mine)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("model", [Net(), Refusing()], ids=["nothing can be read", "the model takes nothing"])
def test_a_run_that_finishes_no_image_leaves_the_folder_as_it_was(
    photos: Path, tmp_path: Path, model: nn.Module, jobs: int
) -> None:
    out = tmp_path / "out"
    surgery.extract(Net(), photos, out=out, sinks=[Png(), Npz(), store])
    (out / "0" / "mine.txt").write_text("mine")
    before = tree(out)
    images = photos if isinstance(model, Refusing) else [tmp_path / "typo.png", tmp_path / "gone.png"]
    report = surgery.extract(model, images, out=out, sinks=[Png(), Npz()], overwrite=True, jobs=jobs)
    assert (report.images, report.files, len(report.failed)) == (0, 0, 4 if isinstance(model, Refusing) else 2)
    assert tree(out) == before
    fresh = tmp_path / "deep" / "fresh"
    surgery.extract(model, images, out=fresh, sinks=[Png(), Npz()], jobs=jobs)
    assert not fresh.parent.exists(), "not even the folder, which it made"


def test_an_error_before_the_first_image_leaves_the_folder_as_it_was(photos: Path, tmp_path: Path) -> None:
    @contextmanager
    def breaks(folder: surgery.OutputFolder) -> Iterator[Any]:
        with folder.file("early.txt") as path:
            path.write_text("x")

        def write(activation: surgery.Activation) -> None:
            raise OutputError("no")

        yield write

    out = tmp_path / "out"
    surgery.extract(Net(), photos, out=out)
    before = tree(out)
    with pytest.raises(OutputError, match="no"):
        surgery.extract(Net(), photos, out=out, sinks=[Png(), breaks], overwrite=True)
    assert tree(out) == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        "not json",
        '{"name": "my app"}',
        '{"surgery": 1}',
        "[" * 100_000,
        '{\n "surgery": "0.1.0",\n "images": [\n{',
    ],
)
def test_a_manifest_of_another_program_is_not_overwritten(photos: Path, tmp_path: Path, text: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_text(text)
    (out / "mine.txt").write_text("mine")
    before = tree(out)
    for overwrite in (False, True):
        with pytest.raises(
            OutputError,
            match=r"move it away, or write to another folder|is not the manifest of a run|already holds a run",
        ):
            surgery.extract(Net(), photos, out=out, overwrite=overwrite)
        assert tree(out) == before


def test_names_in_a_manifest_that_lead_out_of_the_folder_remove_nothing(photos: Path, tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    for place in (outside, tmp_path):
        (place / "mine.txt").write_text("mine")
    out.mkdir()
    (out / "folder").mkdir()
    (out / "folder" / "mine.txt").write_text("mine")
    (out / "link").symlink_to(outside)
    names: list[Any] = [
        "../mine.txt",
        str(outside / "mine.txt"),
        "link/mine.txt",
        "a/../../mine.txt",
        "folder",
        ".",
        "",
    ]
    names += ["..", "link/../mine.txt", ".surgery/lock", "nul\0", 7, None, ["x"], "/", "folder/", "x" * 5000]
    content = {"surgery": "0.1.0", "files": names, "stores": {"..": names, "link": ["mine.txt"], "folder": 3}}
    content["images"] = [{"files": names, "activations": [{"files": [{"file": name} for name in names]}, 5]}]
    (out / "manifest.json").write_text(json.dumps(content))
    surgery.extract(Net(), photos / "0.png", out=out, sinks=[Png()], overwrite=True)
    for place in (outside, tmp_path, out / "folder"):
        assert (place / "mine.txt").read_text() == "mine"
    assert (out / "link").is_symlink()


# What lies in the folder that is of no run


@pytest.mark.parametrize("sink", [Png(), Npz()])
def test_a_file_of_the_user_is_not_overwritten(photos: Path, tmp_path: Path, sink: Any) -> None:
    first = tmp_path / "first"
    surgery.extract(Net(), photos / "0.png", out=first, sinks=[sink])
    (name, *_) = sorted(set(tree(first)) - {"manifest.json"})
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    with pytest.raises(OutputError, match="a file of that name is there, which is of no run; move it away"):
        surgery.extract(Net(), photos / "0.png", out=out, sinks=[sink])
    assert tree(out) == {name: b"mine"}


@pytest.mark.parametrize("link", ["0", "batch", ".surgery", "store"])
def test_a_link_in_the_folder_that_leads_out_is_not_followed(photos: Path, tmp_path: Path, link: str) -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean()

    out, outside = tmp_path / "out", tmp_path / "outside"
    for place in (out, outside):
        place.mkdir()
    (outside / "head.json").write_text("mine")
    (out / link).symlink_to(outside)
    with pytest.raises(OutputError, match=r"leads out of the folder|is a link|directory"):
        surgery.extract(Mean(), photos, out=out, sinks=[Png(), store])
    assert tree(outside) == {"head.json": b"mine"}


def test_a_folder_that_is_itself_a_link_and_links_inside_it_are_written_to(photos: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    (real / "kept").mkdir(parents=True)
    (real / "0").symlink_to(real / "kept")
    (tmp_path / "out").symlink_to(real)
    surgery.extract(Net(), photos / "0.png", out=tmp_path / "out", sinks=[Png()])
    assert len(list((real / "kept").iterdir())) == 5


def test_inputs_that_would_be_overwritten_are_refused_and_other_files_in_the_folder_are_read(
    photos: Path, tmp_path: Path
) -> None:
    surgery.extract(Net(), photos / "0.png", out=photos, sinks=[Png()], at="op:sign")
    before = tree(photos)
    with pytest.raises(
        OutputError, match=r"000-input.png is a file of the run in .* that is to be overwritten; copy it"
    ):
        surgery.extract(Net(), photos / "0" / "000-input.png", out=photos, overwrite=True)
    assert tree(photos) == before
    assert surgery.extract(Other(), photos, out=photos, sinks=[Png()], overwrite=True).images == 4


def test_a_recursive_pattern_skips_the_pictures_of_runs(photos: Path, tmp_path: Path) -> None:
    from surgery.inputs.image_search import find_images

    (photos / "deep").mkdir()
    shutil.copy(photos / "0.png", photos / "deep" / "x.png")
    before = [*find_images(f"{photos}/**/*.png")]
    assert len(before) == 5
    for out in ("activations", "deep/other"):
        surgery.extract(Net(), photos / "0.png", out=photos / out, sinks=[Png()])
    assert [*find_images(f"{photos}/**/*.png")] == before
    assert len(find_images(f"{photos}/activations/*/000-input.png")) == 1, "unless it names them"


# Two runs at once


def test_the_second_of_two_runs_at_once_is_refused_in_one_line(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "LOCK_TIMEOUT", 0)
    begun, go_on = threading.Event(), threading.Event()

    @contextmanager
    def slow(folder: surgery.OutputFolder) -> Iterator[Any]:
        begun.set()
        go_on.wait(20)
        yield lambda activation: None

    out = tmp_path / "out"
    first = threading.Thread(target=lambda: surgery.extract(Net(), photos, out=out, sinks=[Png(), slow]))
    first.start()
    begun.wait(20)
    for overwrite in (False, True):
        with pytest.raises(
            OutputError, match=rf"another run writes to {out} \(process {os.getpid()}\); wait for its end"
        ):
            surgery.extract(Other(), photos, out=out, overwrite=overwrite)
    go_on.set()
    first.join()
    assert_whole(out)
    assert manifest(out)["model"]["class"] == "Net"
    surgery.extract(Other(), photos, out=out, overwrite=True)


@pytest.mark.parametrize("how", ["no locks of the file system", "locks"])
def test_a_lock_is_held_by_one_run_until_it_is_released(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how != "locks":
        import fcntl

        def flock(file: int, flags: int) -> None:
            raise OSError(95, "not supported")

        monkeypatch.setattr(fcntl, "flock", flock)
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        (tmp_path / "lock").write_text(str(other.pid))
    else:
        other = None
        first = locks.Lock(tmp_path / "lock")
        first.acquire()
    lock = locks.Lock(tmp_path / "lock")
    with pytest.raises(locks.LockHeldError):
        lock.acquire(0.05)
    if other is not None:
        other.kill()
        other.wait()
    else:
        first.release()
    lock.acquire(0)
    assert (tmp_path / "lock").read_text() == str(os.getpid())
    lock.release()
    assert not (tmp_path / "lock").exists()


# What ends a run half-way

PROGRAM = """
import sys, torch, surgery, time, os
from pathlib import Path
from surgery.builtin.sinks import Png, Npz, Sheet
sys.path.insert(0, sys.argv[4])
from tests.output.test_folders import Net, store, slowly
store.alone = slowly.alone = True
surgery.extract(Net(), sys.argv[1], out=sys.argv[2], jobs=int(sys.argv[3]), overwrite=True,
                sinks=[Png(), Sheet(size=32), Npz(), store, slowly])
"""


@contextmanager
def slowly(folder: surgery.OutputFolder) -> Iterator[Any]:
    def write(activation: surgery.Activation) -> None:
        time.sleep(float(os.environ["PAUSE"]))

    yield write


def begin(photos: Path, out: Path, jobs: int, pause: float = 0.02) -> subprocess.Popen[bytes]:
    """A run in a process of its own, that has written some pictures."""
    root = Path(__file__).parents[2]
    for number in range(4, 60):
        shutil.copy(photos / "0.png", photos / f"{number}.png")
    program = [sys.executable, "-c", PROGRAM, str(photos), str(out), str(jobs), str(root)]
    environment = {**os.environ, "PAUSE": str(pause)}
    return subprocess.Popen(program, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)


def wait_for(condition: Any, seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def is_gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize(("jobs", "images"), [(1, 3), (1, 0), (2, 3)])
def test_after_a_kill_the_next_run_recovers_a_manifest_of_the_finished_images(
    photos: Path, tmp_path: Path, jobs: int, images: int
) -> None:
    out = tmp_path / "out"
    surgery.extract(Other(), photos, out=out, sinks=[Png()])
    (out / "0" / "mine.txt").write_text("mine")
    before = tree(out)
    with begin(photos, out, jobs, 0.02 if images else 1) as process:
        if images:
            wait_for(
                lambda: len(list(out.glob("*/sheet.png"))) >= images + jobs
            )  # a sheet is there before its image is done
        else:
            wait_for(lambda: list(out.glob("store/*/*")))
        workers = children(process.pid) if jobs > 1 else []
        process.send_signal(signal.SIGKILL)
        process.wait()
        during = manifest(out)
        assert (during["model"]["class"], during["images"]) == ("Net", []), "a manifest of another run"
        assert (during["interrupted"], during["error"]) == (True, "the run is not finished")
    wait_for(lambda: all(map(is_gone, workers)), 2)
    assert jobs == 1 or len(workers) == jobs
    if images:
        with pytest.raises(
            OutputError, match="holds another run: it is of the model Net, and this one of Other; add --overwrite"
        ):
            surgery.extract(Other(), photos, out=out)
        content = manifest(out)
        assert len(content["images"]) >= images
        assert (content["interrupted"], content["error"]) == (True, "the run was killed")
        assert [operation["path"] for operation in content["operations"]]
        assert_whole(out, strangers=("0/mine.txt",))
    else:
        with pytest.raises(OutputError, match="it is of the model Other, and this one of Net; add --overwrite"):
            surgery.extract(Net(), photos, out=out)
        assert tree(out) == before, "the run that was to be replaced is not back"
    surgery.extract(Other(), photos / "1.png", out=out, sinks=[Png()], overwrite=True)
    assert_whole(out, strangers=("0/mine.txt",))
    assert len(manifest(out)["images"]) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_what_a_killed_worker_leaves_is_done_by_another(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with begin(photos, out, 2, 0.004) as process:
        wait_for(lambda: len(list(out.glob("*/sheet.png"))) >= 4)
        os.kill(children(process.pid)[1], signal.SIGKILL)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, b"")
    content = manifest(out)
    assert (content["interrupted"], content["failed"]) == (False, [])
    assert len(content["images"]) == 60
    assert_whole(out)


@contextmanager
def filling(folder: surgery.OutputFolder) -> Iterator[Any]:
    """The disk is full at the sheet of the third image, after other files of it are there."""

    def finished(image: str | None) -> None:
        with folder.file(f"{folder.place(image)}/late.txt") as path:
            path.write_text("x")
            if image == "2":
                raise OSError(28, "No space left on device")

    folder.when_finished(finished)
    yield lambda activation: None


@pytest.mark.parametrize("deferred", [False, True])
def test_after_a_full_disk_the_manifest_lists_all_files_that_are_there(
    photos: Path, tmp_path: Path, deferred: bool
) -> None:
    filling.deferred = deferred  # type: ignore[attr-defined]
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="the disk is full"):
        surgery.extract(Net(), photos, out=out, sinks=[Png(), Npz(), store, filling, Sheet(size=32)])
    content = manifest(out)
    assert [image["name"] for image in content["images"] if "name" in image] == ["0", "1"]
    assert (content["interrupted"], "the disk is full" in content["error"]) == (True, True)
    assert content["files"] == ["store"], "none of an image that was not finished"
    assert_whole(out)
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["0", "1", "batch", "store"]


def test_an_image_whose_first_file_fails_leaves_no_folder(photos: Path, tmp_path: Path) -> None:
    @contextmanager
    def full(folder: surgery.OutputFolder) -> Iterator[Any]:
        def write(activation: surgery.Activation) -> None:
            with folder.file(f"{folder.place(activation.image)}/deep/x"):
                raise OSError(28, "No space left on device")

        yield write

    with pytest.raises(OutputError, match="the disk is full"):
        surgery.extract(Net(), photos, out=tmp_path / "out", sinks=[full])
    assert not (tmp_path / "out").exists()


def test_a_manifest_that_could_not_be_written_is_written_by_the_next_run(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write: Any = getattr(manifest_module, "write_manifest")  # noqa: B009 - not of its interface

    def full(*arguments: Any) -> None:
        if (out / "manifest.json").exists():
            raise OutputError("can't write manifest.json: the disk is full")
        write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("surgery.output.manifest.write_manifest", full)
        with pytest.raises(OutputError, match="the disk is full"):
            surgery.extract(Net(), photos, out=out, sinks=[Png()])
    assert manifest(out)["images"] == []
    assert surgery.extract(Net(), photos, out=out, sinks=[Png()]).finished_before == 4
    assert len(manifest(out)["images"]) == 4
    assert_whole(out)


def test_a_note_of_a_file_that_was_cut_is_ignored(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.open_journal()
    workspace.note_file("0/a.png", 0)
    with (workspace.path / "unfinished-0").open("ab") as file:
        file.write(b'\n"0/b')
    workspace.note_file("0/c.png", 0)
    assert list(read_names(workspace.path / "unfinished-0")) == ["0/a.png", "0/c.png"]
    workspace.close()
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_needs_no_space_in_the_temporary_folder(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", lambda *a, **k: pytest.fail("a file in the temporary folder"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    surgery.extract(Net(), photos, out=tmp_path / "out", sinks=[Png(), Sheet(size=32), Npz()])
    assert_whole(tmp_path / "out")


def test_ctrl_c_leaves_the_finished_images_and_a_sound_folder(photos: Path, tmp_path: Path) -> None:
    def stop(progress: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    report = surgery.extract(Net(), photos, out=out, sinks=[Png(), Npz(), store], progress=stop)
    assert report.interrupted
    assert_whole(out)
    assert issubclass(OutputError, SurgeryError)


@pytest.mark.parametrize("name", ["x.part", ".tmpIRDBt8"])
def test_unfinished_files_of_a_run_that_was_killed_are_removed(photos: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    (out / ".surgery").mkdir(parents=True)
    (out / ".surgery" / name).write_bytes(b"half")
    surgery.extract(Net(), photos / "0.png", out=out, sinks=[Png()])
    assert_whole(out)
    assert not (out / ".surgery").exists()


def test_a_folder_is_noted_before_it_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old").mkdir()
    workspace = Workspace(tmp_path)
    workspace.open_journal()
    folder = surgery.OutputFolder(tmp_path, workspace=workspace)

    def killed(path: str) -> None:
        noted = list(read_names(workspace.path / "unfinished-0"))
        assert noted[-1] == f"{Path(path).relative_to(tmp_path).as_posix()}/."
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", killed)
        for name in ("new/x.txt", "old/deep/x.txt"):
            with pytest.raises(KeyboardInterrupt), folder.file(name):
                pass
    noted = list(read_names(workspace.path / "unfinished-0"))
    assert noted == ["new/.", "old/deep/."], "a folder of others is not the run's"
    workspace.close()
