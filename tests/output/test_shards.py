"""The shards of a run, put together, are byte for byte the run that was never divided."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.builtin.sinks import Npz, Page, Png, Sheet
from surgery.errors import ModelError, OutputError
from surgery.output import merging, recovery
from surgery.output.manifest_reader import find_runs
from surgery.output.run_directories import RunDirectories
from tests.output.test_resumed_runs import ROOT, Noisy, Stop, killed_after, manifest, photos, run, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["photos"]  # the fixture


def divide(photos: Path, out: Path, count: int, **options: Any) -> list[surgery.Report]:
    return [run(photos, out, shard=(number, count), **options) for number in range(count, 0, -1)]


@pytest.mark.parametrize(
    ("count", "options"),
    [
        (1, {}),
        (2, {"batch_size": 2}),
        (3, {"stats": True, "jobs": 2}),
        (9, {"batch_size": 3, "sinks": [Sheet(size=32, channels=2)]}),
    ],
)
def test_shards_put_together_are_the_run_that_was_never_divided(
    photos: Path, tmp_path: Path, count: int, options: dict[str, Any]
) -> None:
    (photos / "2.png").write_bytes(b"broken")
    (photos / "notes.txt").write_text("no image")
    whole, out, merged = tmp_path / "whole", tmp_path / "out", tmp_path / "merged"
    expected = run(photos, whole, **options)
    reports = divide(photos, out, count, **options)
    assert sum(report.images for report in reports) == expected.images == 6
    assert all(surgery.verify(report.folder).sound for report in reports)
    report = surgery.merge(out, out=merged)
    assert tree(merged) == tree(whole)
    for name in ("images", "files", "failed", "not_reached"):
        assert getattr(report, name) == getattr(expected, name)
    assert [repr(each) for each in report.summaries] == [repr(each) for each in expected.summaries]
    assert surgery.verify(merged).sound
    again = run(photos, merged, **options)
    assert again.finished_before == 6, "the whole run goes on with it"


def test_the_images_of_a_shard_are_whole_batches_that_follow_each_other() -> None:
    from surgery.output import Shard

    for images in range(9):
        for size in (1, 2, 3):
            for count in range(1, 12):
                parts = [Shard(number, count).images(images, size) for number in range(1, count + 1)]
                assert [number for part in parts for number in part] == [*range(images)]
                assert all(part.start % size == 0 for part in parts if part)
                batches = [-(-len(part) // size) for part in parts]
                assert max(batches) - min(batches) <= 1


def test_the_first_images_decide_for_every_shard_even_if_they_cant_be_run(photos: Path, tmp_path: Path) -> None:
    """The sheets of all images show the channels of the first one that can be run, which is in the second shard."""
    for number in (0, 1, 2):
        (photos / f"{number}.png").write_bytes(b"broken")
    whole, out = tmp_path / "whole", tmp_path / "out"
    options = {"sinks": [Sheet(size=32, channels=1)]}
    run(photos, whole, **options)
    divide(photos, out, 3, **options)
    assert manifest(out / "shard-1-of-3")["progress"] == {"finished": []}
    surgery.merge(*(out / f"shard-{number}-of-3" for number in (2, 1, 3)))
    for folder in out.glob("shard-*"):
        shutil.rmtree(folder)
    assert tree(out) == tree(whole)


def test_a_shard_that_was_stopped_goes_on_and_its_images_are_not_run_again(photos: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(photos, whole)
    run(photos, out, shard=(1, 2))
    assert run(photos, out, shard=(2, 2), progress=Stop(2)).interrupted
    with pytest.raises(OutputError, match=r"shard 2 of 2 in .*shard-2-of-2 is not finished; the command that began it"):
        surgery.merge(out)
    seen: list[tuple[int, int]] = []
    report = run(photos, out, shard=(2, 2), progress=lambda each: seen.append((each.done, each.total)))
    assert 0 < report.finished_before < report.images == 4
    assert seen[-1] == (4, 4)
    surgery.merge(out, out=tmp_path / "merged")
    assert tree(tmp_path / "merged") == tree(whole)


def test_that_the_machine_stopped_during_a_shard_does_not_show_in_the_whole_run(photos: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(photos, whole, sinks=[Npz()])
    divide(photos, out, 2, sinks=[Npz()])
    file = out / "shard-1-of-2" / "manifest.json"
    text = file.read_text()
    file.write_text(text.replace('"progress": {', '"progress": {"machine_stopped":true,'))
    assert file.read_text() != text
    surgery.merge(out, out=tmp_path / "merged")
    assert tree(tmp_path / "merged") == tree(whole)


def test_what_cant_be_merged_is_one_clear_line(photos: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    divide(photos, out, 3, sinks=[Npz()])
    first, second, third = (out / f"shard-{number}-of-3" for number in (1, 2, 3))
    with pytest.raises(OutputError, match=r"^shards 1, 3 of 3 are missing; run what is missing, or name its folder"):
        surgery.merge(second, out=tmp_path / "merged")
    shutil.copytree(second, other / "copy")
    with pytest.raises(OutputError, match=r"^shard 2 of 3 is there twice: .*shard-2-of-3 and .*copy; name one"):
        surgery.merge(out, other, out=tmp_path / "merged")
    assert surgery.merge(out, second, out=tmp_path / "twice").images == 7, "one folder that is named twice is one shard"
    run(photos, other, shard=(2, 3), sinks=[Npz()], seed=1)
    with pytest.raises(
        OutputError, match=rf"shard-2-of-3 is of another run than {first}: it has the seed 1, and {first} 0$"
    ):
        surgery.merge(first, other / "shard-2-of-3", third, out=tmp_path / "merged")
    run(photos, tmp_path / "png", shard=(2, 3), sinks=[Npz(), Png()])
    with pytest.raises(OutputError, match=r"is of another run than .*: its sinks differ \(only in it: Png\(.*\)\)$"):
        surgery.merge(first, tmp_path / "png", third, out=tmp_path / "merged")
    with pytest.raises(OutputError, match=rf": its sinks differ \(only in {tmp_path}/png/shard-2-of-3: Png\(.*\)\)$"):
        surgery.merge(tmp_path / "png", third, out=tmp_path / "merged")
    run(photos, tmp_path / "four", shard=(4, 4), sinks=[Npz()])
    with pytest.raises(OutputError, match=r"is shard 1 of 3, and .*shard-4-of-4 is shard 4 of 4; name the shards"):
        surgery.merge(out, tmp_path / "four", out=tmp_path / "merged")
    with pytest.raises(OutputError, match=r"the shards are in 2 folders, such as .* -o FOLDER \(out=\)$"):
        surgery.merge(first, other / "copy", third)
    with pytest.raises(OutputError, match="is a shard itself; merge into another folder"):
        surgery.merge(out, out=first, overwrite=True)
    with pytest.raises(OutputError, match=r"twice holds no shard of a run, which `surgery extract --shard k/n`"):
        surgery.merge(tmp_path / "twice")
    with pytest.raises(OutputError, match="there is no folder"):
        surgery.merge(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="no folder was named"):
        surgery.merge()
    with pytest.raises(OutputError, match=r"twice already holds a run of Noisy; add --overwrite"):
        surgery.merge(out, out=tmp_path / "twice")
    (third / "6" / "activations.npz").unlink()
    before = tree(tmp_path / "twice")
    with pytest.raises(OutputError, match=r"6/activations.npz is missing, .*; run shard 3 of 3 again with --overwrite"):
        surgery.merge(out, out=tmp_path / "twice", overwrite=True)
    assert tree(tmp_path / "twice") == before, "the run that was to be replaced is there again"
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("failed", [3]), ("failed", 3), ("failed", [{"number": 1}]), ("shard", {"number": 1, "of": 2, "notes": [1]})],
)
def test_a_damaged_manifest_of_a_shard_is_one_clear_line(photos: Path, tmp_path: Path, name: str, value: Any) -> None:
    out = tmp_path / "out"
    divide(photos, out, 2, sinks=[Npz()])
    manifest = out / "shard-1-of-2" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), name: value}, indent=1))
    with pytest.raises(OutputError, match=r"shard-1-of-2/manifest.json is damaged; run its shard again with"):
        surgery.merge(out)
    assert {path.name for path in out.iterdir()} == {"shard-1-of-2", "shard-2-of-2"}


def test_a_folder_that_cant_be_read_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    for merge_or_find in (surgery.merge, find_runs):
        with pytest.raises(OutputError, match=f"^can't read the folder {tmp_path}: permission denied$"):
            merge_or_find(tmp_path)


def test_a_shard_that_cant_be_run_is_one_clear_line(photos: Path, tmp_path: Path) -> None:
    @contextmanager
    def together(folder: surgery.OutputFolder) -> Iterator[Any]:
        yield lambda activation: None

    out = tmp_path / "out"
    with pytest.raises(ModelError, match=r"files of several images, which shards can't share; leave out --shard"):
        run(photos, out, shard=(1, 2), sinks=[together])
    for wrong in ((0, 2), (3, 2), (1, 0)):
        with pytest.raises(OutputError, match="a shard is k of n, with k from 1 to n"):
            run(photos, out, shard=wrong)
    run(photos, out, shard=(1, 2), sinks=[Npz()])
    with pytest.raises(OutputError, match=r"holds shard-1-of-2, and this is shard 1 of 1; name the shard"):
        run(photos, out, shard=(1, 1), sinks=[Npz()])
    with pytest.raises(OutputError, match=r"shard-1-of-2 holds another run: it has the shard 1 of 2, and this one \("):
        run(photos, out / "shard-1-of-2", sinks=[Npz()])
    with pytest.raises(OutputError, match=r"holds another run: it has the seed 0, and this one 1; add --overwrite"):
        run(photos, out, shard=(1, 2), sinks=[Npz()], seed=1)
    assert run(photos, out, shard=(1, 2), sinks=[Npz()], seed=1, overwrite=True).finished_before == 0


def test_files_that_a_sink_writes_for_its_whole_shard_are_refused(photos: Path, tmp_path: Path) -> None:
    @contextmanager
    def counting(folder: surgery.OutputFolder) -> Iterator[Any]:
        yield lambda activation: None
        with folder.file("count.txt") as path:
            path.write_text("many")

    counting.alone = True  # type: ignore[attr-defined]
    divide(photos, tmp_path / "out", 2, sinks=[counting])
    with pytest.raises(OutputError, match=r"count.txt belongs to all images of its shard, and can't be merged"):
        surgery.merge(tmp_path / "out")


class Ways(nn.Module):
    """Takes dark, gray and bright images through different layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 3, 3, padding=1)
        self.gray = nn.Conv2d(3, 16, 3)
        self.bright = nn.Conv2d(3, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        if x.mean() < -0.5:
            return h
        return self.gray(h) if x.mean() < 0.5 else self.bright(h)


def make_levels(folder: Path, *levels: int) -> Path:
    folder.mkdir()
    random = np.random.default_rng(1)
    for number, level in enumerate(levels):
        pixels = random.integers(level - 5, level + 5, (12, 12, 3))
        pixels += np.indices((12, 12))[number % 2, :, :, None] % 2 * 10
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("levels", "refusal"),
    [
        ((20, 20, 128, 240), None),
        ((20, 128, 20, 20), None),
        ((20, 128, 128, 20), r"a sink has chosen differently for gray in shard 2 of 2 than in a shard before it"),
        ((20, 128, 240, 20), r"a sink has chosen differently for output in shard 2 of 2"),
    ],
)
def test_operations_that_the_first_image_does_not_have_are_those_of_one_run_or_refused(
    tmp_path: Path, levels: tuple[int, ...], refusal: str | None
) -> None:
    images, out, whole = make_levels(tmp_path / "levels", *levels), tmp_path / "out", tmp_path / "whole"
    sinks = [Npz(), Sheet(size=32, channels=1)]
    run(images, whole, model=Ways(), sinks=sinks)
    divide(images, out, 2, model=Ways(), sinks=sinks)
    if refusal is None:
        surgery.merge(out, out=tmp_path / "merged")
        assert tree(tmp_path / "merged") == tree(whole)
    else:
        with pytest.raises(OutputError, match=refusal):
            surgery.merge(out, out=tmp_path / "merged")
        run(images, whole, model=Ways(), sinks=[Npz()], overwrite=True)
        divide(images, out, 2, model=Ways(), sinks=[Npz()], overwrite=True)
        surgery.merge(out, out=tmp_path / "merged")  # a sink that chooses nothing
        assert tree(tmp_path / "merged") == tree(whole)


def test_a_merge_that_is_killed_leaves_nothing_or_the_whole_run(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, merged = tmp_path / "out", tmp_path / "merged"
    divide(photos, out, 2, sinks=[Npz()])

    def kill(workspace: Any) -> None:
        workspace.close(keep=True)

    for is_written in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(recovery, "_close", kill)
            if not is_written:
                patch.setattr(merging, "write_manifest", lambda *_, **__: 1 / 0)
            try:
                surgery.merge(out, out=merged)
            except ZeroDivisionError:
                assert not is_written
        assert (merged / ".surgery").is_dir()
        assert len([*merged.glob("*/activations.npz")]) == 7
    report = run(photos, merged, sinks=[Npz()])
    assert (report.finished_before, report.images) == (7, 7)
    run(photos, tmp_path / "whole", sinks=[Npz()])
    assert tree(merged) == tree(tmp_path / "whole")


def test_files_are_copied_where_there_are_no_hard_links(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    divide(photos, out, 2, sinks=[Npz()])
    surgery.merge(out, out=tmp_path / "linked")
    assert (tmp_path / "linked" / "0" / "activations.npz").samefile(out / "shard-1-of-2" / "0" / "activations.npz")

    def no_link(*_: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("surgery.output.linking.os.link", no_link)
    surgery.merge(out, out=tmp_path / "copied")
    assert tree(tmp_path / "copied") == tree(tmp_path / "linked")
    assert not (tmp_path / "copied" / "0" / "activations.npz").samefile(tmp_path / "linked" / "0" / "activations.npz")


def test_the_page_of_shards_becomes_that_of_the_whole_run(photos: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(photos, whole, sinks=[Png(), Page()], at="op:relu")
    divide(photos, out, 2, sinks=[Png(), Page()], at="op:relu")
    report = surgery.merge(out, out=tmp_path / "merged")
    assert report.overview == tmp_path / "merged" / "index.html"
    pages = [tree(folder) for folder in (tmp_path / "merged", whole)]
    assert pages[0].keys() == pages[1].keys()
    assert [name for name in pages[0] if pages[0][name] != pages[1][name]] == []


def test_the_manifest_of_a_shard_says_which_it_is(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out, shard=(5, 10), sinks=[Npz()])
    entry = manifest(out / "shard-05-of-10")
    assert entry["shard"] == {"number": 5, "of": 10, "notes": {}}
    assert entry["plan"]["images"] == 7
    assert len(json.dumps(entry["images"])) > 2
    assert Noisy.__name__ == entry["model"]["class"]


@pytest.mark.parametrize("batches", [1, 3])
def test_a_shard_that_was_killed_goes_on_even_if_it_was_running_the_first_images(
    photos: Path, tmp_path: Path, batches: int
) -> None:
    """The first batch that a later shard finishes is that of the first image, for the decisions of the sheet."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    sinks = [Sheet(size=32, channels=2)]
    program = (
        "import os, sys, pathlib\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from surgery.builtin.sinks import Sheet\n"
        "from surgery.output import image_records\n"
        "from tests.output.test_resumed_runs import run\n"
        f"commit, left = image_records.ImageRecords.commit, [{batches}]\n"
        "def commit_and_die(self, *batches, **states):\n"
        "    commit(self, *batches, **states)\n"
        "    left[0] -= 1\n"
        "    if not left[0]:\n"
        "        os.kill(os.getpid(), 9)\n"
        "image_records.ImageRecords.commit = commit_and_die\n"
        f"run(pathlib.Path({str(photos)!r}), pathlib.Path({str(out)!r}), shard=(2, 2),\n"
        "    sinks=[Sheet(size=32, channels=2)])\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    shard = out / "shard-2-of-2"
    assert (shard / ".surgery" / "first.part").exists() == (batches == 1)
    run(photos, out, shard=(1, 2), sinks=sinks)
    with pytest.raises(OutputError, match=r"shard 2 of 2 in .* is not finished"):
        surgery.merge(out)
    assert run(photos, out, shard=(2, 2), sinks=sinks).finished_before == batches - 1
    surgery.merge(out, out=tmp_path / "merged")
    run(photos, whole, sinks=sinks)
    assert tree(tmp_path / "merged") == tree(whole)


@pytest.mark.parametrize("sample", [0, 1])
def test_an_estimate_of_a_shard_is_of_its_images(photos: Path, tmp_path: Path, sample: int) -> None:
    out = tmp_path / "out"
    options: dict[str, Any] = {"sinks": [Png(), Sheet(size=32)], "out": out, "shard": (2, 2), "sample": sample}
    estimate = surgery.estimate(Noisy(), photos, size=8, **options)
    del options["sample"]
    report = surgery.extract(Noisy(), photos, size=8, **options)
    assert (estimate.images, estimate.files) == (report.images, report.files) == (4, 4 * 7 + 1)


@contextmanager
def table(folder: surgery.OutputFolder) -> Iterator[Any]:
    """Write a file of the whole run, which says how to read it, and for each batch the paths of its values."""
    paths: list[str] = []

    def finish(image: str | None) -> None:
        if image is None:
            assert folder.images is not None
            folder.common_file("table/about.txt", "\n".join(folder.images.names).encode())
            with folder.file(f"table/{folder.batch}", exact=True) as path:
                path.write_text("\n".join(sorted(paths)))
            paths.clear()

    folder.when_finished(finish)
    folder.when_dropped(lambda _: paths.clear())
    yield lambda activation: paths.append(f"{activation.image} {activation.path}")


table.alone = True  # type: ignore[attr-defined]
table.places = ("table",)  # type: ignore[attr-defined]


@pytest.mark.parametrize("options", [{"jobs": 2}, {"batch_size": 3}, {"batch_size": 2, "jobs": 2}])
def test_a_file_of_the_whole_run_that_all_shards_write_alike_is_one_file(
    photos: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    whole, out, stopped = tmp_path / "whole", tmp_path / "out", tmp_path / "stopped"
    run(photos, whole, sinks=[table], **options)
    assert "table/about.txt" in manifest(whole)["files"]
    assert "table/0" in str(manifest(whole)["images"])
    assert len((whole / "table" / "about.txt").read_text().splitlines()) == 7
    divide(photos, out, 2, sinks=[table], **options)
    assert surgery.merge(out, out=tmp_path / "merged").files == surgery.merge(out, out=tmp_path / "again").files
    assert tree(tmp_path / "merged") == tree(whole)
    assert surgery.verify(tmp_path / "merged").sound
    run(photos, stopped, sinks=[table], progress=Stop(2), **options)
    run(photos, stopped, sinks=[table], **options)
    assert tree(stopped) == tree(whole)


def test_a_file_of_the_whole_run_that_two_processes_write_at_the_same_moment_is_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = RunDirectories.claim_file

    def write_first(self: RunDirectories, name: str, path: str, **options: Any) -> None:
        Path(path).write_bytes(written)  # as another process that has not found the file either
        claim(self, name, path, **options)

    monkeypatch.setattr(RunDirectories, "claim_file", write_first)
    with recovery.acquire_workspace(tmp_path / "out") as workspace:
        folder = surgery.OutputFolder(tmp_path / "out", workspace=workspace)
        for name, written in (("same.txt", b"content"), ("other.txt", b"another")):
            with nullcontext() if written == b"content" else pytest.raises(OutputError, match="a file of that name is"):
                folder.common_file(name, b"content")
        assert [file.name for file in folder.take_written()] == ["same.txt"]


def test_a_file_of_the_whole_run_is_there_after_a_kill_and_after_a_power_cut(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, options = tmp_path / "whole", {"sinks": [table]}
    run(photos, whole, **options)
    killed = "sinks=[__import__('tests.output.test_shards').output.test_shards.table]"
    for is_cut in (False, True):
        out = tmp_path / f"killed-{is_cut}"
        killed_after(photos, out, 2, killed)
        assert (out / "table" / "about.txt").exists()
        if is_cut:
            (out / "table" / "about.txt").write_bytes(b"")  # what the disk did not get
            monkeypatch.setattr("surgery.output.workspace.machine_start", lambda: "another")
        assert run(photos, out, **options).finished_before == (1 if is_cut else 2)
        assert tree(out) == tree(whole)


def test_files_of_the_whole_run_that_differ_between_shards_are_refused(photos: Path, tmp_path: Path) -> None:
    @contextmanager
    def differing(folder: surgery.OutputFolder) -> Iterator[Any]:
        folder.when_finished(lambda _: folder.common_file("by.txt", str(folder.path).encode()))
        yield lambda activation: None

    differing.alone = True  # type: ignore[attr-defined]
    divide(photos, tmp_path / "out", 2, sinks=[differing])
    with pytest.raises(OutputError, match=r"by.txt belongs to all images of its shard, and can't be merged"):
        surgery.merge(tmp_path / "out")


def test_a_common_file_never_takes_the_place_of_another(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "table").mkdir(parents=True)
    (tmp_path / "out" / "table" / "about.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"about.txt: a file of that name is there, which is of no run"):
        run(photos, tmp_path / "out", sinks=[table])
    assert tree(tmp_path / "out") == {"table/about.txt": b"mine"}
    folder = surgery.OutputFolder(tmp_path / "other")
    for name in ("../x", "a/../../x", "/x", "a:b", "con", ""):
        with pytest.raises(ValueError, match="can't be called"):
            folder.common_file(name, b"")
        with pytest.raises(ValueError, match="can't be called"), folder.file(name, exact=True):
            pass
    assert not (tmp_path / "other").exists()
