"""The page in the folder of a run: what it may write, what it removes, and what `verify` knows about it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import surgery
from surgery.data import inputs
from surgery.errors import OutputError
from surgery.output.locks import Lock
from surgery.output.page_folder import PageFolder
from surgery.page import PageFile


def extract(out: Path, *sinks: str, overwrite: bool = False, at: str = "*") -> surgery.Report:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())
    return surgery.extract(
        model, inputs()[0], out=out, size=16, sinks=sinks or ["png"], overwrite=overwrite, at=at, check=False
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pages") / "out"
    extract(out)
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_page_belongs_to_its_run(out: Path) -> None:
    before = files(out)
    assert surgery.write_page(out) == out / "index.html"
    assert {"index.html", "page/run.js", "page/files.jsonl", "page/pixels/facade-1/000-input.js"} <= files(out)
    verification = surgery.verify(out)
    assert verification.sound
    assert verification.files == len(files(out)) > len(before)
    (out / "page" / "run.js").unlink()
    (out / "page" / "mine.txt").touch()
    assert {(fault.kind, fault.file) for fault in surgery.verify(out).faults} == {
        ("missing", "page/run.js"),
        ("unlisted", "page/mine.txt"),
    }


def test_verify_finds_a_script_that_is_not_of_its_picture(out: Path) -> None:
    surgery.write_page(out)
    script = out / "page" / "pixels" / "facade-1" / "001-0.js"
    script.write_bytes(script.read_bytes().replace(b"A", b"B", 1))
    (fault,) = surgery.verify(out).faults
    assert (fault.kind, fault.file) == ("different", "page/pixels/facade-1/001-0.js")
    script.touch()
    (out / "facade-1" / "001-0.png").touch()
    surgery.write_page(out)
    assert surgery.verify(out).sound


def test_a_report_and_the_sink_make_the_same_page(finished: Path, tmp_path: Path) -> None:
    by_sink = extract(tmp_path / "a", "png", "page")
    assert by_sink.overview == tmp_path / "a" / "index.html"
    by_report = extract(tmp_path / "b", "png")
    assert by_report.page() == tmp_path / "b" / "index.html"
    assert files(tmp_path / "a") == files(tmp_path / "b")
    for name in files(tmp_path / "a" / "page"):
        assert (tmp_path / "a" / "page" / name).read_bytes() == (tmp_path / "b" / "page" / name).read_bytes()


def test_overwriting_a_run_removes_its_page(tmp_path: Path) -> None:
    extract(tmp_path, "png", "page")
    extract(tmp_path, "png", overwrite=True)
    assert not (tmp_path / "page").exists()
    assert not (tmp_path / "index.html").exists()
    assert surgery.verify(tmp_path).sound


def test_a_run_that_fails_keeps_the_page_of_the_run_that_it_was_to_overwrite(tmp_path: Path) -> None:
    extract(tmp_path, "png", "page")
    before = files(tmp_path)
    surgery.extract(nn.Conv2d(3, 2, 1), __file__, out=tmp_path, overwrite=True)
    assert files(tmp_path) == before
    assert surgery.verify(tmp_path).sound


def test_a_renewed_page_shows_what_is_there_now(out: Path) -> None:
    surgery.write_page(out)
    script = out / "page" / "pixels" / "facade-1" / "001-0.js"
    made = script.stat().st_mtime_ns
    surgery.write_page(out)
    assert script.stat().st_mtime_ns == made, "a script that is up to date is written again"
    extract(out, "png", overwrite=True, at="1")
    surgery.write_page(out)
    assert not script.exists()
    assert (out / "page" / "pixels" / "facade-1" / "002-1.js").exists()
    assert surgery.verify(out).sound


def test_a_script_is_written_again_if_its_picture_has_changed(out: Path) -> None:
    surgery.write_page(out)
    picture = out / "facade-1" / "001-0.png"
    script = out / "page" / "pixels" / "facade-1" / "001-0.js"
    before = script.read_bytes()
    content = bytearray(picture.read_bytes())
    content[-5] ^= 1
    picture.write_bytes(content)
    surgery.write_page(out)
    assert len(script.read_bytes()) == len(before)
    assert script.read_bytes() != before


def test_files_that_belong_to_no_page_stay(out: Path) -> None:
    (out / "index.html").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match=r"index\.html: a file of that name is there, which is of no page"):
        surgery.write_page(out)
    assert (out / "index.html").read_text(encoding="utf-8") == "mine"
    (out / "index.html").unlink()
    surgery.write_page(out)
    (out / "page" / "mine.txt").touch()
    extract(out, "png", overwrite=True)
    assert files(out / "page") == {"mine.txt"}


def test_a_page_that_was_begun_is_finished_and_is_removed_with_its_run(out: Path) -> None:
    class Stopped(Exception):  # noqa: N818
        pass

    def files_until_stopped() -> Iterator[PageFile]:
        yield PageFile("page/a", b"x")
        yield PageFile("page/b", b"x")
        raise Stopped

    with pytest.raises(Stopped), PageFolder(out) as page:
        page.write(files_until_stopped())
    assert {"page/a", "page/b", "page/files.jsonl"} <= files(out)
    assert surgery.verify(out).sound
    surgery.write_page(out)
    assert {"page/a", "page/b"}.isdisjoint(files(out))
    assert surgery.verify(out).sound


def test_nothing_is_written_through_a_link_that_leads_out_of_the_folder(out: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (out / "page").symlink_to(tmp_path / "outside")
    with pytest.raises(OutputError, match="leads out of the folder"):
        surgery.write_page(out)
    assert files(tmp_path / "outside") == set()


def test_a_manifest_can_not_make_the_page_read_or_remove_files_outside(out: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    (out / "facade-1" / "link.png").symlink_to(tmp_path / "secret.png")
    manifest = json.loads((out / "manifest.json").read_bytes())
    (image,) = manifest["images"]
    image["activations"] += [
        {"path": "x", "index": 9, "files": [{"file": name}]}
        for name in (
            "../secret.png",
            "facade-1/../../secret.png",
            str(tmp_path / "secret.png"),
            "facade-1/link.png",
            "a/x.png",
        )
    ]
    (out / "manifest.json").write_text("{\n" + json.dumps(manifest)[1:], encoding="utf-8")
    surgery.write_page(out)
    scripts = [out / name for name in files(out / "page" / "pixels")]
    assert len(scripts) == len(list((out / "facade-1").glob("0*.png")))
    with (out / "page" / "files.jsonl").open("a", encoding="utf-8") as listing:
        names = ("../secret.png", "page/../../secret.png", "manifest.json")
        listing.writelines(f"{json.dumps(name)}\n" for name in names)
    surgery.write_page(out)
    assert (tmp_path / "secret.png").read_bytes() == b"secret"
    assert (out / "manifest.json").exists()


def test_a_run_without_pictures_says_what_is_missing(tmp_path: Path) -> None:
    report = extract(tmp_path / "out", "npz")
    with pytest.raises(OutputError, match="has no PNG files of activations"):
        report.page()
    assert not (tmp_path / "out" / "index.html").exists()
    with pytest.raises(OutputError, match="the sink page shows the files of the sink png"):
        extract(tmp_path / "other", "npz", "page")
    assert not (tmp_path / "other").exists()


def test_a_folder_without_a_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        surgery.write_page(tmp_path / "nothing")
    with pytest.raises(OutputError, match="holds no run"):
        surgery.write_page(tmp_path)
    with pytest.raises(OutputError, match="needs the folder of a run"):
        surgery.write_page()
    assert files(tmp_path) == set()


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"surgery": 1}', '{"name": "a manifest of something else"}'])
def test_a_manifest_of_something_else_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(OutputError, match=r"manifest\.json is not the manifest of a run"):
        surgery.write_page(tmp_path)
    assert files(tmp_path) == {"manifest.json"}


def test_a_manifest_that_was_formatted_anew_has_a_page(out: Path) -> None:
    manifest = out / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text(encoding="utf-8"))), encoding="utf-8")
    assert surgery.write_page(out) == out / "index.html"


def test_half_of_a_surrogate_pair_in_a_manifest_is_shown_as_text(out: Path) -> None:
    manifest = out / "manifest.json"
    text = json.dumps(json.loads(manifest.read_text(encoding="utf-8")))
    manifest.write_text(text.replace('"Sequential"', '"Seq\\ud800"'), encoding="utf-8")
    surgery.write_page(out)
    assert r'"Seq\\ud800"' in (out / "page" / "run.js").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform != "linux", reason="on other systems all names are text")
def test_runs_in_folders_whose_names_are_not_utf_8_have_pages_but_do_not_share_one(out: Path, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/epochs/\xff"))
    shutil.copytree(out, folder)
    assert surgery.write_page(folder) == folder / "index.html"
    with pytest.raises(OutputError, match="whose name is not UTF-8; rename it"):
        surgery.write_page(tmp_path / "epochs")


def test_a_folder_that_a_run_writes_to_has_no_page(out: Path) -> None:
    (out / ".surgery").mkdir()
    lock = Lock(out / ".surgery" / "lock")
    lock.acquire()
    try:
        with pytest.raises(OutputError, match="another run writes to"):
            surgery.write_page(out)
    finally:
        lock.release()
    assert not (out / "index.html").exists()


def test_several_runs_share_a_page(out: Path, tmp_path: Path) -> None:
    for name in ("10", "9"):
        shutil.copytree(out, tmp_path / "epochs" / name)
    page = surgery.write_page(tmp_path / "epochs")
    assert page == tmp_path / "epochs" / "index.html"
    text = (tmp_path / "epochs" / "page" / "run.js").read_text(encoding="utf-8")
    (data,) = json.loads(f"[{text[text.index('(') + 1 : text.rindex(')')]}]")
    shown = [(run["id"], run["label"], run["folder"]) for run in data["runs"]]
    assert shown == [("r0", "9", "9/"), ("r1", "10", "10/")]
    assert (tmp_path / "epochs" / "9" / "page" / "pixels" / "facade-1" / "001-0.js").is_file()
    assert surgery.verify(tmp_path / "epochs" / "9").sound
    assert surgery.write_page(tmp_path / "epochs" / "9", out) == tmp_path / "index.html"
    assert not list(tmp_path.rglob(".surgery"))
