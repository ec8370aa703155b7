"""Inputs at addresses: files, folders, patterns and lists there, and what goes wrong."""

from __future__ import annotations

import io
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem
from PIL import Image
from torch import nn

import surgery
from surgery.errors import ImageError, OutputError
from surgery.inputs import collect_notes, find_images
from surgery.output import ManifestReader
from surgery.verification import verify

if TYPE_CHECKING:
    from collections.abc import Iterator


class Flaky(MemoryFileSystem):  # type: ignore[misc]
    """Fails with the next of `errors` when a file is fetched."""

    protocol = "flaky"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    errors: list[Exception] = []  # noqa: RUF012
    fetched = 0

    def get_file(self, rpath: str, lpath: str, **options: Any) -> None:
        Flaky.fetched += 1
        if Flaky.errors:
            Path(lpath).write_bytes(b"a part of it")
            raise Flaky.errors.pop(0)
        super().get_file(rpath, lpath, **options)


class Web(AbstractFileSystem):  # type: ignore[misc]
    """Files by their addresses, as on the web."""

    files: dict[str, bytes] = {}  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def get_file(self, rpath: str, lpath: str, **_: Any) -> None:
        if rpath not in self.files:
            raise FileNotFoundError(rpath)
        Path(lpath).write_bytes(self.files[rpath])


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    Flaky.errors, Flaky.fetched = [], 0
    yield
    for kind in (MemoryFileSystem, Flaky):
        kind.store.clear()
        kind.pseudo_dirs[:] = [""]


def png(value: int, size: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), (value, 0, 255 - value)).save(file, "png")
    return file.getvalue()


def put(address: str, content: bytes) -> None:
    with fsspec.open(address, "wb") as file:
        file.write(content)


@pytest.fixture
def photos() -> str:
    for number in range(6):
        put(f"memory://photos/{number}.png", png(number * 40))
    put("memory://photos/readme.txt", b"no image")
    put("memory://photos/.hidden.png", png(0))
    put("memory://photos/more/x.png", png(9))
    return "memory://photos"


def shown(images: Any, **options: Any) -> list[str]:
    return [str(file) for file in find_images(images, **options)]


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).eval()


def test_a_folder_a_pattern_and_a_list_at_an_address_are_the_same_files(photos: str, tmp_path: Path) -> None:
    files = [f"{photos}/{number}.png" for number in range(6)]
    put("memory://list.txt", "\n".join(files).encode())
    (tmp_path / "list.txt").write_text("\r\n".join(files))
    for images in (photos, f"{photos}/", f"{photos}/*.png", f"{photos}/[0-9].*", files, "@memory://list.txt"):
        notes: Any = {}
        with collect_notes(notes):
            assert [text for text in shown(images) if ".hidden" not in text] == files
        assert [*notes] == (
            ["2 other files are left out: .hidden.png, readme.txt"] if images in (photos, f"{photos}/") else []
        )
    assert shown(f"@{tmp_path / 'list.txt'}") == files
    assert shown([f"{photos}/1.png", f"@{tmp_path / 'list.txt'}", "a.png"]) == [files[1], *files, "a.png"]
    assert shown(f"{photos}/**/x.png") == [f"{photos}/more/x.png"]
    assert shown(f"{photos}/*", suffixes=[".txt"]) == [f"{photos}/readme.txt"]


def test_a_file_at_an_address_of_this_machine_is_read_in_place(tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(png(1))
    (tmp_path / "list.txt").write_text(f"file://{tmp_path}/a b.png\n")
    for images in (
        f"file://{tmp_path}/*.png",
        f"file://{tmp_path}",
        f"@{tmp_path}/list.txt",
        f"@file://{tmp_path}/list.txt",
    ):
        assert [*find_images(images)] == [tmp_path / "a b.png"]
    assert surgery.load_image(f"file://{tmp_path}/a b.png").shape == (1, 3, 8, 8)


def test_names_with_signs_of_patterns_are_names_where_they_exist_and_in_lists(tmp_path: Path) -> None:
    put("memory://odd/[1]*.png", png(1))
    put("memory://odd/1.png", png(1))
    assert shown("memory://odd/[1]*.png") == ["memory://odd/[1]*.png"]
    (tmp_path / "list.txt").write_text("memory://gone/*.png\nhttps://host/a?.png\n")
    assert shown(f"@{tmp_path}/list.txt") == ["memory://gone/*.png", "https://host/a?***"]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("memory://photos/*.jpg", "no file matches memory://photos/*.jpg"),
        ("memory://photos/more/*.txt", "no file matches memory://photos/more/*.txt"),
        ("memory://photos/r*", "no file matches memory://photos/r*; it matches readme.txt, and no image"),
        ("memory://photos/none/", "can't read memory://photos/none/: there is no such file"),
        ("nosuch://me:pw@photos/*.png", "can't read nosuch://photos/*.png: fsspec knows no nosuch://, but s3://"),
        (
            "gdrive://photos/",
            "can't read gdrive://photos/: gdrive:// needs gdrive_fsspec, which can't be imported: pip",
        ),
        ("@memory://none.txt", "can't read memory://none.txt: there is no such file"),
        ("@memory://photos/0.png", "memory://photos/0.png is not a list of files"),
    ],
)
def test_addresses_without_files_are_one_line(photos: str, images: str, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        find_images(images)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def extract(images: Any, out: Path, **options: Any) -> surgery.Report:
    return surgery.extract(make_model(), images, out=out, sinks="npz", batch_size=2, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.npz")}


def entries(folder: Path) -> list[tuple[str, str]]:
    return [(entry["name"], entry["source"]) for entry in ManifestReader(folder).images if "name" in entry]


def test_a_run_on_addresses_gives_the_values_of_the_same_files_here(photos: str, tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(png(number * 40))
    extract(f"{tmp_path}/*.png", tmp_path / "local")
    report = extract(f"{photos}/*[0-9].png", tmp_path / "remote")
    assert (report.images, report.failed) == (6, ())
    assert contents(tmp_path / "remote") == contents(tmp_path / "local") != {}
    assert entries(tmp_path / "remote") == [(f"{number}", f"{photos}/{number}.png") for number in range(6)]
    assert verify(tmp_path / "remote").faults == ()
    for name, options in {"jobs": {"jobs": 2}, "threads": {"reader_threads": 3}, "none": {"reader_threads": 0}}.items():
        extract(f"{photos}/*[0-9].png", tmp_path / name, **options)
        assert contents(tmp_path / name) == contents(tmp_path / "local")
    for number in (1, 2):
        extract(f"{photos}/*[0-9].png", tmp_path / "shards", shard=(number, 2))
    assert surgery.merge(tmp_path / "shards").images == 6
    assert contents(tmp_path / "shards").items() >= contents(tmp_path / "local").items()


def test_a_run_on_addresses_goes_on_where_it_was_stopped(photos: str, tmp_path: Path) -> None:
    class Stopped(Exception):  # noqa: N818
        pass

    def stop(progress: Any) -> None:
        if progress.done == 4:
            raise Stopped

    with pytest.raises(Stopped):
        extract(f"{photos}/[0-9].png", tmp_path / "run", progress=stop)
    report = extract(f"{photos}/[0-9].png", tmp_path / "run")
    assert (report.images, report.finished_before) == (6, 4)
    with pytest.raises(OutputError, match="it has 6 images, and this one 5"):
        extract(f"{photos}/[0-4].png", tmp_path / "run")
    (tmp_path / "list.txt").write_text("\n".join(f"memory://photos/{number}.png" for number in (1, 0, 2, 3, 4, 5)))
    with pytest.raises(OutputError, match="it has other images"):
        extract(f"@{tmp_path / 'list.txt'}", tmp_path / "run")


def test_what_is_lost_for_a_moment_is_fetched_again_and_what_is_gone_is_reported(tmp_path: Path) -> None:
    for number in range(3):
        put(f"flaky://photos/{number}.png", png(number))
        put(f"memory://photos/{number}.png", png(number))
    Flaky.errors = [TimeoutError(), ConnectionResetError(), TimeoutError()]
    report = extract("flaky://photos/*.png", tmp_path / "run", reader_threads=0)
    assert (report.images, report.failed) == (3, ())
    extract("memory://photos/*.png", tmp_path / "same")
    assert contents(tmp_path / "run") == contents(tmp_path / "same")

    gone = "flaky://photos/gone.png"
    Flaky.fetched, Flaky.errors = 0, [TimeoutError()] * 4
    report = extract([gone, "flaky://photos/0.png", gone], tmp_path / "gone", reader_threads=0)
    assert report.images == 1
    assert {(failure.path, failure.reason) for failure in report.failed} == {
        (gone, f"can't read {gone}: there is no such file")
    }
    Flaky.fetched, Flaky.errors = 0, [TimeoutError()] * 99
    with pytest.raises(ImageError, match=r"can't read flaky://photos/0.png: the server does not answer in time"):
        surgery.load_image("flaky://photos/0.png")
    assert Flaky.fetched == 4


def test_no_temporary_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    put("memory://photos/0.png", png(1))
    put("memory://photos/text.png", b"text")
    extract(["memory://photos/0.png", "memory://photos/text.png", "memory://photos/gone.png"], tmp_path / "run")
    assert [*(tmp_path / "tmp").iterdir()] == []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(ImageError, match=r"can't copy memory://photos/0.png to .*none: no such file or directory"):
        surgery.load_image("memory://photos/0.png")


SECRET = "https://me:hunter2@host/photos/0.png?token=abc123&id=5"


def test_no_password_and_no_token_gets_into_what_a_run_writes_or_prints(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "https", Web)
    Web.files = {SECRET: png(1)}
    (tmp_path / "list.txt").write_text(f"{SECRET}\n{SECRET.replace('0.png', '1.png')}\n")
    result = run("extract", "facades", "@list.txt", "--at", "down1.conv", "--size", "256", "-o", "out", "--no-output")
    assert result.code == 1
    assert "https://host/photos/1.png?token=***&id=5" in result.out + result.err
    assert entries(tmp_path / "out") == [("0", "https://host/photos/0.png?token=***&id=5")]
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    for text in (result.out.encode(), result.err.encode(), written):
        assert b"hunter2" not in text
        assert b"abc123" not in text


def test_an_image_that_can_not_be_decoded_and_notes_name_the_address(tmp_path: Path) -> None:
    put("memory://photos/broken.png", png(3, 64)[:80])
    put("memory://photos/text.png", b"text")
    animated = io.BytesIO()
    Image.new("L", (8, 8)).save(animated, "gif", save_all=True, append_images=[Image.new("L", (8, 8), 9)])
    put("memory://photos/a.gif", animated.getvalue())
    report = extract("memory://photos", tmp_path / "run")
    assert [failure.reason for failure in report.failed] == [
        "can't read memory://photos/broken.png: image file is truncated",
        "memory://photos/text.png is not an image that can be read",
    ]
    assert "memory://photos/a.gif: the file holds several images; the first is read" in report.notes
    with pytest.raises(ImageError, match=r"^memory://photos/text.png is not an image that can be read$"):
        surgery.load_image("memory://photos/text.png")


def test_other_inputs_references_studies_and_comparisons_read_addresses_too(photos: str, tmp_path: Path) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = make_model()

        def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.first(image) * mask[:, :1, 1:-1, 1:-1]

    for number in (3, 1):
        put(f"memory://masks/{number}.png", png(number))
    report = surgery.extract(
        Masked(),
        [f"{photos}/1.png", f"{photos}/3.png"],
        inputs={"mask": "memory://masks/"},
        edits=["first.0 = mean"],
        reference=[f"{photos}/3.png", f"{photos}/1.png"],
        out=tmp_path / "masked",
        sinks="npz",
    )
    assert (report.images, report.failed) == (2, ())
    settings = ManifestReader(tmp_path / "masked").head["settings"]
    assert settings["reference"] == [f"{photos}/3.png", f"{photos}/1.png"]
    study = surgery.ablate(make_model(), f"{photos}/[12].png", at="0", out=tmp_path / "ablated")
    assert (tuple(study.images), study.failed) == (("1", "2"), ())
    model = make_model()
    compared = surgery.compare(
        [surgery.Run(model, images=f"{photos}/1.png"), surgery.Run(model, images=[f"{photos}/1.png"])]
    )
    assert compared.images == 1
    assert surgery.estimate(model, f"{photos}/[0-9].png", sinks="npz", out=tmp_path / "no").images == 6
