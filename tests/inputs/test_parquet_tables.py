"""Parquet tables: the rows of a column of images are inputs."""

from __future__ import annotations

import io
import json
import random
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import surgery
from surgery.errors import ImageError
from surgery.inputs import find_images, parquet_tables
from surgery.inputs.input_files import Labels, local_copy
from surgery.output import ManifestReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

BYTES_AND_PATH = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    fsspec.filesystem("memory").store.clear()
    parquet_tables._rows.cache_clear()


def png(value: int, size: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), (value, 0, 255 - value)).save(file, "png")
    return file.getvalue()


IMAGES = [png(number) for number in range(50)]


def write(name: str, /, group: int = 7, metadata: dict[str, str] | None = None, **columns: Any) -> None:
    table = pa.table(columns)
    parquet.write_table(table.replace_schema_metadata(metadata), name, row_group_size=group)


def structs(images: Sequence[bytes | None], paths: Sequence[str | None]) -> Any:
    pairs = zip(images, paths, strict=True)
    return pa.array([{"bytes": content, "path": path} for content, path in pairs], BYTES_AND_PATH)


def shown(images: Any) -> list[str]:
    return [str(file) for file in find_images(images)]


def contents(images: Any) -> list[bytes]:
    found = []
    for file in find_images(images):
        with local_copy(file) as path:
            found.append(path.read_bytes())
    return found


def extract(images: Any, out: str, **options: Any) -> surgery.Report:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).eval()
    return surgery.extract(model, images, out=out, sinks="npz", batch_size=2, **options)


def values(folder: str) -> list[bytes]:
    entries = [entry for entry in ManifestReader(Path(folder)).images if "name" in entry]
    return [(Path(folder) / name).read_bytes() for entry in entries for name in entry["files"]]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_the_rows_of_a_column_of_bytes_are_called_by_their_numbers(kind: Any) -> None:
    write("photos.parquet", image=pa.array(IMAGES, kind), label=list(range(50)))
    assert contents("photos.parquet") == IMAGES
    assert shown("photos.parquet")[:2] == ["photos.parquet/0", "photos.parquet/1"]
    assert [*Labels(find_images("photos.parquet"))][8:11] == ["photos-08", "photos-09", "photos-10"]


def test_the_images_of_hugging_face_are_called_by_their_paths_if_each_has_one() -> None:
    paths = [f"cats/{number}.png" for number in range(50)]
    write("named.parquet", image=structs(IMAGES, paths), label=list(range(50)))
    assert contents("named.parquet") == IMAGES
    assert shown("named.parquet")[3] == "named.parquet/cats/3.png"
    assert Labels(find_images("named.parquet"))[3] == "named-cats/3"
    for number, odd in enumerate((None, "", "cats/1.png")):
        write(f"{number}.parquet", image=structs(IMAGES, [odd, *paths[1:]]))
        assert Labels(find_images(f"{number}.parquet"))[3] == f"{number}-03"
        assert contents(f"{number}.parquet") == IMAGES


def test_the_values_of_rows_are_those_of_the_same_files() -> None:
    for number in range(9):
        Path(f"image-{number}.png").write_bytes(IMAGES[number * 5])
    write("a.parquet", group=2, image=IMAGES[:25:5])
    write("b.parquet", group=3, image=IMAGES[25:45:5])
    extract("image-*.png", "files")
    report = extract("{a,b}.parquet", "rows")
    assert (report.images, report.failed) == (9, ())
    assert values("rows") == values("files") != []
    assert [entry["source"] for entry in ManifestReader(Path("rows")).images if "name" in entry][4:6] == [
        "a.parquet/4",
        "b.parquet/0",
    ]
    for name, options in {"jobs": {"jobs": 2}, "threads": {"reader_threads": 3}, "none": {"reader_threads": 0}}.items():
        extract(["a.parquet", "b.parquet::image"], name, **options)
        assert values(name) == values("files")
    memory = fsspec.filesystem("memory")
    for name in ("a", "b"):
        memory.pipe(f"/data/{name}.parquet", Path(f"{name}.parquet").read_bytes())
    for number, images in enumerate(
        ("memory://data/", "memory://data/*.parquet::image", "memory://data/{a,b}.parquet")
    ):
        extract(images, f"remote{number}", reader_threads=2)
        assert values(f"remote{number}") == values("files")


def test_rows_in_any_order_and_from_many_threads_are_themselves() -> None:
    write("photos.parquet", group=11, image=IMAGES)
    files = find_images("photos.parquet")
    order = [*range(50)] * 2
    random.Random(0).shuffle(order)  # noqa: S311
    for number in order:
        with local_copy(files[number]) as path:
            assert path.read_bytes() == IMAGES[number]
    report = extract("photos.parquet", "threads", reader_threads=8)
    assert report.images == 50
    extract("photos.parquet", "none", reader_threads=0)
    assert values("threads") == values("none")


def test_row_groups_are_read_in_turn_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    write("photos.parquet", group=10, image=IMAGES, label=list(range(50)))
    asked: list[tuple[Any, ...]] = []
    batches = parquet.ParquetFile.iter_batches

    def iter_batches(self: Any, size: int, groups: list[int], columns: list[str], **options: Any) -> Any:
        asked.append((size, groups, columns))
        return batches(self, size, groups, columns, **options)

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", iter_batches)
    assert contents("photos.parquet") == IMAGES
    assert asked == [(8, [0, 1, 2, 3, 4], ["image"])]
    asked.clear()
    with local_copy(find_images("photos.parquet")[33]) as path:
        assert path.read_bytes() == IMAGES[33]
    assert asked == [(8, [3, 4], ["image"])], "the groups before are not unpacked"


def test_the_column_of_images_is_found_or_named() -> None:
    features = {"left": {"_type": "Image"}, "sound": {"_type": "Audio"}, "bad": 3}
    declared = {"huggingface": json.dumps({"info": {"features": {**features}}})}
    del features["bad"]
    good = {"huggingface": json.dumps({"info": {"features": features}})}
    both = structs(IMAGES, [None] * 50)
    write("declared.parquet", metadata=good, left=both, sound=both, raw=IMAGES)
    assert contents("declared.parquet") == IMAGES
    write("struct.parquet", metadata=declared, image=both, raw=IMAGES)
    assert contents("struct.parquet") == IMAGES
    write("two.parquet", left=IMAGES, right=IMAGES[::-1])
    assert contents("two.parquet::right") == IMAGES[::-1]
    with pytest.raises(
        ImageError,
        match=r"^two.parquet has 2 columns of bytes: left, right; name one: two.parquet::left$",
    ):
        find_images("two.parquet")
    Path("list.txt").write_text("two.parquet::right\ntwo.parquet::left\n")
    assert contents("@list.txt") == [*IMAGES[::-1], *IMAGES]
    assert contents("t*.parquet::left") == IMAGES


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.parquet", "can't read the table gone.parquet: no such file or directory"),
        ("text.parquet", "text.parquet is no Parquet file that can be read: Parquet magic bytes not found in footer"),
        ("cut.parquet", "cut.parquet is no Parquet file that can be read: Parquet magic bytes not found in footer"),
        ("labels.parquet", "labels.parquet has no column of images; it has label (int64), name (string)"),
        ("labels.parquet::labels", "labels.parquet has no column 'labels'; did you mean 'label'?"),
        ("labels.parquet::x", "labels.parquet has no column 'x'; it has label (int64), name (string)"),
        ("labels.parquet::name", "the column 'name' of labels.parquet holds string, and images are bytes"),
        ("empty.parquet", "empty.parquet has no rows"),
        ("memory://gone.parquet", "can't read memory://gone.parquet: there is no such file"),
        ("*.parquet::nothing", "cut.parquet is no Parquet file"),
    ],
)
def test_a_table_without_images_is_one_line(name: str, message: str) -> None:
    write("labels.parquet", label=[1, 2], name=["a", "b"])
    write("empty.parquet", image=pa.array([], pa.binary()))
    Path("text.parquet").write_bytes(b"no table" * 20)
    Path("cut.parquet").write_bytes(Path("labels.parquet").read_bytes()[:-9])
    with pytest.raises(ImageError) as caught:
        find_images(name)
    assert str(caught.value).startswith(message)


def test_empty_values_and_files_that_are_only_named_are_reported_and_never_opened() -> None:
    Path("secret.png").write_bytes(png(1))
    images = structs([IMAGES[0], None, b"text"], ["a.png", str(Path("secret.png").resolve()), "b.png"])
    write("odd.parquet", image=images)
    report = extract("odd.parquet", "out")
    secret = f"odd.parquet/{Path('secret.png').resolve()}"
    assert report.images == 1
    assert [failure.reason for failure in report.failed] == [
        f"{secret} has no image: its value is empty",
        "odd.parquet/b.png is not an image that can be read",
    ]
    write("null.parquet", image=pa.array([None, IMAGES[3]], pa.binary()))
    assert extract("null.parquet", "null").images == 1


def test_damaged_tables_end_in_one_line() -> None:
    write("whole.parquet", group=5, image=IMAGES[:20])
    whole = Path("whole.parquet").read_bytes()
    for seed in range(60):
        chance = random.Random(seed)  # noqa: S311
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 5)):
            damaged[chance.randrange(4, len(whole) - 4)] = chance.randrange(256)
        Path("x.parquet").write_bytes(damaged)
        try:
            for file in find_images("x.parquet"):
                try:
                    with local_copy(file):
                        pass
                except ImageError as error:
                    assert str(error).isprintable()  # noqa: PT017
        except ImageError as error:
            assert str(error).isprintable()  # noqa: PT017


def test_without_pyarrow_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    write("photos.parquet", image=IMAGES)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    message = "photos.parquet is read by pyarrow, which can't be imported: pip install pyarrow"
    with pytest.raises(ImageError, match=f"^{re.escape(message)}$"):
        find_images("photos.parquet")


def test_arrays_in_a_table_are_read_by_their_reader() -> None:
    arrays = []
    for number in range(3):
        file = io.BytesIO()
        np.save(file, np.full((3, 8, 8), number, np.float32))
        arrays.append(file.getvalue())
    write("arrays.parquet", content=arrays)
    write("named.parquet", content=structs(arrays, ["a.npy", "b.npy", "c.npy"]))
    for name in ("arrays.parquet", "named.parquet"):
        report = extract(name, name.removesuffix(".parquet"), reader="tensor")
        assert (report.images, report.failed) == (3, ())
