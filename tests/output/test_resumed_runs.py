"""A run that was stopped goes on with the same call, and its files are those of a run that nothing has stopped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.builtin.sinks import Npz, Png, Safetensors, Sheet
from surgery.errors import OutputError
from surgery.inputs import batching
from surgery.output import machine
from surgery.output.manifest_reader import ManifestReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.output import Progress

ROOT = Path(__file__).parents[2]


class Noisy(nn.Module):
    """Its values are random, and depend on the other images of the batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).relu()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(7):
        height = 8 if number in (2, 5) else 9
        Image.fromarray(random.integers(0, 256, (height, 10, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def run(photos: Path, out: Path, **options: Any) -> surgery.Report:
    sinks = options.pop("sinks", [Png(), Sheet(size=32), Npz(), Safetensors()])
    return surgery.extract(options.pop("model", Noisy()), photos, out=out, sinks=sinks, mode="train", **options)


class Stop:
    """Ends a run after some batches, as Ctrl-C does."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def __call__(self, progress: Progress) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_run_that_was_interrupted_goes_on_to_the_files_of_one_that_was_not(
    photos: Path, tmp_path: Path, batch_size: int
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    expected = run(photos, whole, batch_size=batch_size)
    seen: list[int] = []
    stopped = run(photos, out, batch_size=batch_size, progress=Stop(2))
    assert stopped.interrupted
    assert 0 < stopped.images < 7
    assert manifest(out)["interrupted"]
    assert surgery.verify(out).sound
    report = run(photos, out, batch_size=batch_size, progress=lambda progress: seen.append(progress.done))
    assert (report.images, report.finished_before, report.interrupted) == (7, stopped.images, False)
    assert seen[-1] == 7
    assert seen[0] > stopped.images, "progress counts the images of before"
    assert report.overview is not None
    assert expected.overview is not None
    assert (report.files, report.overview.name) == (expected.files, expected.overview.name)
    assert [repr(summary) for summary in report.summaries] == [repr(summary) for summary in expected.summaries]
    assert [summary.operation for summary in report.summaries] == [each.operation for each in expected.summaries]
    assert tree(out) == tree(whole)


def test_images_that_are_finished_are_not_run_again(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran: list[int] = []

    class Counting(Noisy):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    @contextmanager
    def counting(folder: surgery.OutputFolder) -> Iterator[Any]:
        yield lambda activation: ran.append(int(activation.image))

    counting.alone = True  # type: ignore[attr-defined]
    run(photos, out, sinks=[counting], model=Counting(), progress=Stop(3))
    first = set(ran)
    ran.clear()
    assert run(photos, out, sinks=[counting], model=Counting()).images == 7
    finished = {image["name"] for image in manifest(out)["images"]}
    assert finished == set("0123456")
    assert max(first) - 1 <= min(ran), "only the image that was running when it was stopped"
    ran.clear()
    again = run(photos, out, sinks=[counting], model=Counting())
    assert (ran, again.images, again.finished_before) == ([], 7, 7)
    assert [summary.operation.path for summary in again.summaries] == [
        "input",
        "body.0",
        "body.1",
        "body.2",
        "relu",
        "output",
    ]


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"seed": 1}, "it has the seed 0, and this one 1"),
        ({"batch_size": 2}, "it has the batch size 1, and this one 2"),
        ({"normalizer": "percentile"}, "it has the normalizer MinMax"),
        ({"at": "op:relu"}, "its operations differ (only in it: body.0, body.1, body.2)"),
        ({"sinks": [Png()]}, "its sinks differ (only in it: Sheet("),
        ({"stats": True}, "it has the stats False, and this one True"),
        ({"size": 16}, "it has the size (none), and this one 16"),
        ({"source": "other.pth"}, "it is of the model Noisy, and this one of other.pth (Noisy)"),
    ],
)
def test_another_run_into_the_folder_is_an_error_that_names_the_difference(
    photos: Path, tmp_path: Path, change: dict[str, Any], difference: str
) -> None:
    out = tmp_path / "out"
    run(photos, out, progress=Stop(1))
    before = tree(out)
    with pytest.raises(OutputError) as caught:
        run(photos, out, **change)
    assert f"{out} holds another run: {difference}" in str(caught.value)
    assert str(caught.value).endswith("add --overwrite (overwrite=True) to replace it, or write to another folder")
    assert tree(out) == before


def test_other_weights_and_other_images_are_another_run(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out, progress=Stop(1))
    model = Noisy()
    with torch.no_grad():
        next(model.parameters()).add_(1)
    with pytest.raises(OutputError, match=r"it has other weights \(SHA-256 \w{12}, and this one \w{12}\)"):
        run(photos, out, model=model)
    (photos / "6.png").rename(photos / "7.png")
    with pytest.raises(OutputError, match="it has other images"):
        run(photos, out)
    (photos / "7.png").unlink()
    with pytest.raises(OutputError, match="it has 7 images, and this one 6"):
        run(photos, out)


def test_a_file_that_could_not_be_read_is_tried_again_and_the_others_are_not(photos: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(photos, whole)
    good = (photos / "3.png").read_bytes()
    (photos / "3.png").write_bytes(b"broken")
    report = run(photos, out)
    assert ([failure.number for failure in report.failed], report.images) == ([3], 6)
    report = run(photos, out)
    assert ([failure.number for failure in report.failed], report.finished_before) == ([3], 6)
    assert [failure["number"] for failure in manifest(out)["failed"]] == [3]
    (photos / "3.png").write_bytes(good)
    report = run(photos, out)
    assert (report.failed, report.images, report.finished_before) == ((), 7, 6)
    assert tree(out) == tree(whole)


def test_a_sink_whose_files_are_of_several_images_cant_go_on_and_says_so(photos: Path, tmp_path: Path) -> None:
    @contextmanager
    def together(folder: surgery.OutputFolder) -> Iterator[Any]:
        names: list[str] = []
        yield lambda activation: names.append(f"{activation.image} {activation.path}\n")
        with folder.file("all.txt") as path:
            path.write_text("".join(names))

    out = tmp_path / "out"
    stopped = run(photos, out, sinks=[together], progress=Stop(3)).images
    with pytest.raises(OutputError, match=r"images that are left can't be added by the sink .*together.*--overwrite"):
        run(photos, out, sinks=[together])
    together.resumes = True  # type: ignore[attr-defined]
    report = run(photos, out, sinks=[together])
    assert (report.images, report.finished_before) == (7, stopped), "it says that it can"
    del together.resumes  # type: ignore[attr-defined]
    run(photos, out, sinks=[together], overwrite=True)
    assert run(photos, out, sinks=[together]).finished_before == 7, "nothing is left to add"


def test_the_channels_of_sheets_stay_those_of_the_first_image(photos: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    sinks = [Sheet(size=32, channels=2)]
    run(photos, whole, sinks=sinks)
    run(photos, out, sinks=sinks, progress=Stop(1))
    for number in (0, 1):  # what goes on may not read it from the images
        (photos / f"{number}.png").write_bytes(b"gone")
    run(photos, out, sinks=sinks)
    assert (out / "6" / "sheet.png").read_bytes() == (whole / "6" / "sheet.png").read_bytes()


def test_batches_are_cut_where_they_were_cut_before() -> None:
    from surgery.inputs.input_stream import Input

    def items(*numbers: int) -> Any:
        return [(Input(str(number), Path(f"{number}.png"), number), {"x": torch.zeros(1, 1)}) for number in numbers]

    def batches(numbers: Any, finished: set[int]) -> list[list[int]]:
        cut = batching.group_into_batches(items(*numbers), 4, finished=finished)
        return [[item.number for item in batch.inputs] for batch in cut]

    assert batches([0, 1, 3, 4, 5], set()) == [[0, 1, 3], [4, 5]], "2 can't be read"
    assert batches([0, 1, 3, 4, 5], {2}) == [[0, 1], [3], [4, 5]], "2 had another shape, and is finished"


def test_after_a_power_cut_images_whose_files_are_not_what_was_recorded_run_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(photos, whole)
    killed_after(photos, out, 4)
    (out / "1" / "activations.npz").write_bytes(bytes(100))  # what the disk did not get
    (out / "5").mkdir(exist_ok=True)
    (out / "5" / "activations.npz").write_bytes(b"")  # whose record the disk did not get
    for note in (out / ".surgery").glob("unfinished-*"):
        note.unlink()
    monkeypatch.setattr("surgery.output.workspace.machine_start", lambda: "another")
    stopped = run(photos, out, progress=Stop(1))
    assert stopped.finished_before == 3
    assert run(photos, out).images == 7
    assert tree(out) == tree(whole)


def killed_after(photos: Path, out: Path, images: int, options: str = "") -> None:
    """Leave the folder of a run that was killed when so many images were finished."""
    program = (
        "import os, sys, pathlib\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.output import test_resumed_runs as t\n"
        "from surgery.output import image_records\n"
        "commit, left = image_records.ImageRecords.commit, [int(sys.argv[3])]\n"
        "def commit_and_die(self, *batches, **states):\n"
        "    commit(self, *batches, **states)\n"
        "    left[0] -= 1\n"
        "    if not left[0]:\n"
        "        os.kill(os.getpid(), 9)\n"
        "image_records.ImageRecords.commit = commit_and_die\n"
        f"t.run(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), {options})\n"
    )
    subprocess.run([sys.executable, "-c", program, str(photos), str(out), str(images)], check=False)
    assert manifest(out)["error"] == "the run is not finished"


def test_a_manifest_is_whole_while_the_run_goes_on(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    seen = []

    def look(progress: Progress) -> None:
        seen.append(manifest(out))

    run(photos, out, progress=look)
    assert {(each["interrupted"], each["error"], len(each["images"])) for each in seen} == {
        (True, "the run is not finished", 0)
    }
    assert [operation["path"] for operation in seen[0]["operations"]] == ["body.0", "body.1", "body.2", "relu"]


def test_the_checksum_of_each_file_is_in_the_manifest(photos: Path, tmp_path: Path) -> None:
    import zlib

    from surgery.output import listed_checksums

    out = tmp_path / "out"
    run(photos, out)
    known: dict[str, str | None] = {}
    for image in ManifestReader(out).images:
        known |= listed_checksums(image)
    files = tree(out)
    del files["manifest.json"]
    assert known == {name: f"{zlib.crc32(content):08x}" for name, content in files.items()}


def test_pictures_and_sheets_are_not_read_again_for_their_checksums(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr("surgery.output.folder.digest_file", read.append)
    run(photos, tmp_path / "out", sinks=[Png(), Sheet()])
    assert read == []
    assert not surgery.verify(tmp_path / "out").faults


def test_verify_finds_a_picture_that_was_repainted_with_its_text_kept(photos: Path, tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    out = tmp_path / "out"
    run(photos, out, sinks=[Png()])
    path = out / "0" / "001-body.0.png"
    with Image.open(path) as picture:
        picture.load()
        text = PngInfo()
        for key, value in picture.text.items():  # type: ignore[attr-defined]
            text.add_itxt(key, value)
        picture.putpixel((1, 1), (picture.getpixel((1, 1)) + 1) % 250)  # type: ignore[operator]
        picture.save(path, pnginfo=text)
    (fault,) = surgery.verify(out).faults
    assert (fault.kind, fault.file) == ("different", "0/001-body.0.png")
    assert "is not the file that the run wrote (CRC-32" in fault.sentence


def test_a_disk_that_fills_up_loses_nothing_that_was_finished(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(photos, whole)
    write, written = os.write, []

    def full(file: int, content: Any) -> int:
        written.append(content)
        if bytes(content[:2]) == b"3\t":
            write(file, content[:50])  # a part of it is written
            raise OSError(28, "No space left on device")
        return write(file, content)

    with monkeypatch.context() as patch:
        patch.setattr("surgery.output.image_records.os.write", full)
        with pytest.raises(OutputError, match="the disk is full"):
            run(photos, out)
    assert manifest(out)["error"].endswith("the disk is full")
    assert len(manifest(out)["images"]) == 3
    assert surgery.verify(out).sound
    assert run(photos, out).finished_before == 3
    assert tree(out) == tree(whole)


def test_the_start_of_the_machine_is_the_same_twice() -> None:
    machine.machine_start.cache_clear()
    first = machine.machine_start()
    machine.machine_start.cache_clear()
    assert machine.machine_start() == first


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks at /proc")
@pytest.mark.parametrize("campaign", ["kills", "merge_kills"])
def test_runs_and_merges_that_are_killed_at_any_moment_go_on_to_the_same_bytes(campaign: str) -> None:
    command = [sys.executable, "-m", f"tests.fuzz.{campaign}", "--kills", "10", "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(("10 kills", "11 kills", "12 kills"))


def test_overwriting_a_run_that_was_killed_removes_its_files(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    killed_after(photos, out, 2)
    (out / "mine.txt").write_text("mine")
    report = run(photos / "6.png", out, sinks=[Png()], overwrite=True)
    assert (report.images, report.finished_before) == (1, 0)
    assert {name.partition("/")[0] for name in tree(out)} == {"6", "manifest.json", "mine.txt"}
    shutil.rmtree(out)


@pytest.mark.parametrize("line", [b"x\t1\t{}", b"2\tx\t{}", b"no tabs", b"\tno JSON"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_damaged_journal_is_one_clear_line(photos: Path, tmp_path: Path, line: bytes, place: int) -> None:
    out = tmp_path / "out"
    run(photos, out, progress=Stop(2))
    (out / ".surgery").mkdir()
    journal = [b'2\t0\t{"number":2}', b'3\t0\t{"number":3}', b'\t{"finished":[[2,3]]}', b""]
    journal[place] = line
    (out / ".surgery" / "images-a_1").write_bytes(b"\n".join(journal))
    before = tree(out)
    with pytest.raises(OutputError) as caught:
        run(photos, out)
    assert str(caught.value) == (
        f"what a run has recorded in {out} is damaged, so that it can't go on; write to another folder"
    )
    assert tree(out) == before
    with pytest.raises(OutputError, match="is damaged"):  # and not that another run writes
        run(photos, out)
