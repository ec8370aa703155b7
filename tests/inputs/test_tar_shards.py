"""Tar shards: their members are inputs, read one by one, wherever the shards are and whatever is in them."""

from __future__ import annotations

import gzip
import io
import pickle
import random
import re
import tarfile
import tracemalloc
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import surgery
from surgery.errors import ImageError, SurgeryError
from surgery.inputs import collect_notes, find_images, tar_shards
from surgery.inputs.input_files import InputFiles, Labels, local_copy
from surgery.inputs.name_ranges import expand_braces
from surgery.inputs.tar_shards import TarShard
from surgery.inputs.text_table import TextTable
from surgery.output import ManifestReader
from surgery.text import ImageNames, image_names, unique_image_names
from surgery.text.file_names import collision_key, sanitize_path_part
from surgery.verification import verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    fsspec.filesystem("memory").store.clear()


def png(value: int, size: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), (value, 0, 255 - value)).save(file, "png")
    return file.getvalue()


def make_tar(path: str, members: Mapping[str, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    """Write a tar archive, and return its content."""
    with tarfile.open(path, "w", format=kind) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return Path(path).read_bytes()


def shown(images: Any, **options: Any) -> list[str]:
    return [str(file) for file in find_images(images, **options)]


def labels(images: Any, **options: Any) -> list[str]:
    return [*Labels(find_images(images, **options))]


def extract(images: Any, out: str, **options: Any) -> surgery.Report:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).eval()
    return surgery.extract(model, images, out=out, sinks="npz", batch_size=2, **options)


def values(folder: str) -> list[bytes]:
    """The files of each image, in the order of the images."""
    entries = [entry for entry in ManifestReader(Path(folder)).images if "name" in entry]
    return [(Path(folder) / name).read_bytes() for entry in entries for name in entry["files"]]


@pytest.fixture
def shards() -> list[str]:
    """Three shards in which the keys begin anew, with the members of other kinds that WebDataset has, and 7 images."""
    for shard, numbers in enumerate((range(3), range(3, 5), range(5, 7))):
        members: dict[str, bytes] = {}
        for key, number in enumerate(numbers):
            members |= {f"{key:04}.png": png(number * 30), f"{key:04}.cls": b"3", f"{key:04}.json": b"{}"}
        make_tar(f"set-{shard:06}.tar", members)
    for number in range(7):
        Path(f"image-{number}.png").write_bytes(png(number * 30))
    return [f"set-{shard:06}.tar" for shard in range(3)]


def test_the_values_of_members_are_those_of_the_same_files(shards: list[str]) -> None:
    extract("image-*.png", "files")
    report = extract("set-{000000..000002}.tar", "shards")
    assert (report.images, report.failed) == (7, ())
    assert values("shards") == values("files") != []
    entries = [(entry["name"], entry["source"]) for entry in ManifestReader(Path("shards")).images if "name" in entry]
    assert entries[:4] == [
        ("set-000000-0000", "set-000000.tar/0000.png"),
        ("set-000000-0001", "set-000000.tar/0001.png"),
        ("set-000000-0002", "set-000000.tar/0002.png"),
        ("set-000001-0000", "set-000001.tar/0000.png"),
    ]
    assert report.notes == ("set-000000.tar and 2 more: members of other kinds are left out: .cls, .json",)
    assert verify("shards").faults == ()
    for name, options in {"jobs": {"jobs": 2}, "threads": {"reader_threads": 3}, "none": {"reader_threads": 0}}.items():
        extract(shards, name, **options)
        assert values(name) == values("files")
    for number in (1, 2, 3):
        extract(shards, "parts", shard=(number, 3))
    surgery.merge("parts")
    assert values("parts") == values("files")


def test_shards_at_addresses_are_read_by_parts(shards: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    memory = fsspec.filesystem("memory")
    for shard in shards:
        memory.pipe(f"/data/{shard}", Path(shard).read_bytes())
    extract(shards, "local")
    for images in (
        "memory://data/set-{000000..000002}.tar",
        "memory://data/*.tar",
        "memory://data",
        "memory://data/s*",
    ):
        assert shown(images) == [f"memory://data/{name}" for name in shown(shards)]
    monkeypatch.setattr(memory, "get_file", None)
    read: list[int] = []
    cat = memory.cat_file

    def cat_part(path: str, version: str | None = None, *, start: int, end: int) -> bytes:
        """As s3fs has it: start and end are not the second and third argument everywhere."""
        assert version is None
        read.append(end - start)
        return cat(path, start, end)

    monkeypatch.setattr(memory, "cat_file", cat_part)
    extract("memory://data/*.tar", "remote", reader_threads=0)
    assert values("remote") == values("local")
    assert max(each for each in read if each != 512) == max(
        Path(f"image-{number}.png").stat().st_size for number in range(7)
    )


def test_a_server_that_sends_no_parts_of_files_is_one_line(shards: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/data/x.tar", Path(shards[0]).read_bytes())
    monkeypatch.setattr(memory, "cat_file", lambda path, **_: memory.store[path].getvalue())
    with pytest.raises(ImageError, match=r"^the server of memory://data/x.tar sends no parts of files; copy it to"):
        find_images("memory://data/x.tar")


def test_a_run_on_shards_goes_on_and_another_order_is_another_run(shards: list[str]) -> None:
    class Stopped(Exception):  # noqa: N818
        pass

    def stop(progress: Any) -> None:
        if progress.done == 4:
            raise Stopped

    with pytest.raises(Stopped):
        extract(shards, "run", progress=stop)
    assert extract(shards, "run").finished_before == 4
    extract(shards, "whole")
    assert values("run") == values("whole")
    with pytest.raises(SurgeryError, match="it has other images"):
        extract(shards[::-1], "run")


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (["a.png", "b.png"], ["x-a", "x-b"]),
        (["a.png", "a.jpg", "a.txt", "b.png"], ["x-a.png", "x-a.jpg", "x-b"]),
        (["a.left.png", "a.right.png", "a.json"], ["x-a.left", "x-a.right"]),
        (["cats/1.png", "dogs/1.png"], ["x-cats/1", "x-dogs/1"]),
        (["./1.png", "/2.png", "../../3.png"], ["x-1", "x-/2", "x-../../3"]),
        (["a.PNG", "._a.png", ".b.png", "c/.d.png", "png"], ["x-a"]),
        (["\x1b[31m.png", "\n.png", "\u00e4.png", "con.png"], ["x-\x1b[31m", "x-\n", "x-\u00e4", "x-con"]),
        (["n" * 300 + ".png"], ["x-" + "n" * 300]),
    ],
)
def test_an_input_is_called_by_shard_and_key(members: list[str], expected: list[str]) -> None:
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        make_tar("x.tar", dict.fromkeys(members, png(1)), kind)
        assert labels("x.tar") == expected
        (root,) = {path.resolve() for path in (Path("out"),)}
        report = extract("x.tar", "out", overwrite=True)
        assert report.images == len(expected)
        inside = [*root.rglob("*.npz")]
        assert len({path.parent for path in inside}) == len(expected)
        assert all(path.parent.parent == root for path in inside)
        assert all(str(failure).isprintable() for failure in report.notes)


def test_links_devices_folders_and_sparse_files_are_left_out() -> None:
    with tarfile.open("x.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for number, kind in enumerate(
            (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
        ):
            info = tarfile.TarInfo(f"{number}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        info = tarfile.TarInfo("real.png")
        info.size = len(png(1))
        tar.addfile(info, io.BytesIO(png(1)))
    notes: Any = {}
    with collect_notes(notes):
        assert shown("x.tar") == ["x.tar/real.png"]
    assert [*notes] == ["links and devices in it are left out"]


def test_a_reader_chooses_its_members_and_a_reader_of_shards_gets_them_whole() -> None:
    array = io.BytesIO()
    np.save(array, np.ones((3, 8, 8), np.float32))
    make_tar("x.tar", {"a.npy": array.getvalue(), "a.png": png(1), "b.npy": array.getvalue()})
    assert shown("x.tar") == ["x.tar/a.png"]
    report = extract("x.tar", "out", reader="tensor")
    assert (report.images, report.failed) == (2, ())

    class WholeShards:
        suffixes = (".tar",)

        def __call__(self, path: Path, /) -> torch.Tensor:
            return torch.full((1, 3, 8, 8), float(tarfile.is_tarfile(path)))

    assert extract("x.tar", "whole", reader=WholeShards()).images == 1


def test_masks_in_a_shard_belong_to_the_images_of_their_keys() -> None:
    make_tar("images.tar", {f"{key}.png": png(number * 40) for number, key in enumerate("abc")})
    make_tar("masks.tar", {f"{key}.png": png(number * 40) for number, key in reversed([*enumerate("abc")])})

    class Difference(nn.Module):
        def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return image - mask

    report = surgery.extract(
        Difference(), "images.tar", inputs={"mask": "masks.tar"}, at="op:sub", out="out", sinks="npz"
    )
    assert (report.images, report.failed) == (3, ())
    (summary,) = [each for each in report.summaries if each.operation.kind == "sub"]
    assert (summary.facts.min, summary.facts.max) == (0, 0)


def with_size(tar: bytes, header: int, size: bytes) -> bytes:
    """The archive with another size of the member whose header is there, by a checksum that is right."""
    block = bytearray(tar[header : header + 512])
    block[124:136], block[148:156] = size, b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return tar[:header] + block + tar[header + 512 :]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda tar: b"", "x.tar is not a tar archive"),
        (lambda tar: b"no tar" * 200, "x.tar is not a tar archive"),
        (lambda tar: tar[:600], "x.tar is cut short or damaged after 1 member"),
        (lambda tar: tar[:1700], "x.tar is cut short or damaged after 2 members"),
        (lambda tar: tar[:1024] + b"x" * 512, "x.tar is cut short or damaged after 1 member"),
        (lambda tar: with_size(tar, 1024, b"\xff" * 10 + b"\xfc\x00"), "x.tar is cut short or damaged after 1 member"),
        (lambda tar: with_size(tar, 1024, b"\x80" + b"\xff" * 11), "x.tar is cut short or damaged after 2 members"),
        (gzip.compress, "x.tar is compressed with gzip, and its members can't be read one by one; unpack it to a"),
        (lambda tar: make_tar("x.tar", {"a.txt": b"", "b.cls": b""}), "the shard x.tar has no image in it; it holds"),
        (lambda tar: make_tar("x.tar", {}), "the shard x.tar has no image in it"),
    ],
)
def test_a_shard_that_is_none_is_one_line(content: Any, message: str) -> None:
    tar = make_tar("x.tar", {"a.png": png(1), "b.png": png(2, 64)})
    Path("x.tar").write_bytes(content(tar))
    with pytest.raises(ImageError) as caught:
        find_images("x.tar")
    assert str(caught.value).startswith(message)


def test_a_shard_without_its_end_is_read(shards: list[str]) -> None:
    tar = Path(shards[0]).read_bytes()
    with tarfile.open(shards[0]) as opened:
        end = opened.getmembers()[-1].offset_data + tarfile.BLOCKSIZE
    assert not any(tar[end:])
    Path(shards[0]).write_bytes(tar[:end])
    assert len(find_images(shards[0])) == 3


def test_what_is_missing_or_a_folder_is_one_line(shards: list[str]) -> None:
    Path("folder.tar").mkdir()
    for images, message in {
        "gone.tar": "can't read the shard gone.tar: no such file or directory",
        "set-{000001..000004}.tar": "can't read the shard set-000003.tar: no such file or directory",
        "folder.tar": "the folder folder.tar has no image in it",
        "memory://gone.tar": "can't read memory://gone.tar: there is no such file",
        "x.tgz": "can't read the shard x.tgz: no such file or directory",
    }.items():
        with pytest.raises(ImageError, match=f"^{re.escape(message)}$"):
            find_images(images)


def test_a_member_that_is_too_large_or_gone_is_reported(shards: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    files = find_images(shards[:1])
    Path(shards[0]).write_bytes(Path(shards[0]).read_bytes()[:700])
    report = extract(files, "out")
    assert [failure.reason for failure in report.failed] == [
        "set-000000.tar is shorter than it was when its members were listed"
    ] * 2
    monkeypatch.setattr(tar_shards, "MAX_MEMBER_BYTES", 50)
    report = extract(shards[1:2], "large")
    size = Path("image-3.png").stat().st_size
    assert report.failed[0].reason == f"set-000001.tar/0000.png has {size} B, and at most 50 B are read"


def test_damaged_archives_end_in_one_line_and_never_in_a_loop() -> None:
    members = {"a.png": png(1), "n" * 150 + ".png": png(2), "b.txt": b"", "\u00e4.png": png(3)}
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        whole = make_tar("x.tar", members, kind)
        for seed in range(150):
            chance = random.Random(seed)  # noqa: S311
            damaged = bytearray(whole)
            for _ in range(chance.randint(1, 6)):
                header = 512 * chance.randrange(len(whole) // 512)
                field = chance.choice((0, 100, 124, 124, 136, 148, 156, 257))
                damaged[header + field : header + field + 8] = chance.randbytes(8)
                if chance.random() < 0.7:  # a checksum that is right
                    block = bytearray(damaged[header : header + 512])
                    block[148:156] = b" " * 8
                    damaged[header + 148 : header + 156] = f"{sum(block):06o}\0 ".encode()
            Path("x.tar").write_bytes(damaged[: chance.choice((len(whole), chance.randrange(len(whole))))])
            try:
                files = find_images("x.tar")
            except ImageError as error:
                assert str(error).isprintable()  # noqa: PT017
            else:
                for file in files:
                    with suppress(ImageError), local_copy(file) as path:
                        assert path.stat().st_size <= len(whole)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("s-{000..002}.tar", ["s-000.tar", "s-001.tar", "s-002.tar"]),
        ("s-{8..11}.tar", ["s-8.tar", "s-9.tar", "s-10.tar", "s-11.tar"]),
        ("s-{08..11}.tar", ["s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b}/{0..1}.tar", ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]),
        ("{a}", ["{a}"]),
        ("{}-{x..y}", ["{}-{x..y}"]),
        ("{,un}seen.tar", ["seen.tar", "unseen.tar"]),
    ],
)
def test_braces_stand_for_what_a_shell_takes_them_for(name: str, names: list[str]) -> None:
    assert expand_braces(name) == names


def test_braces_that_stand_for_too_many_names_are_refused() -> None:
    for name in ("{0..99999999999999}.tar", "{0..9999}{0..9999}.tar"):
        with pytest.raises(ImageError, match=r"stands for more than 1,000,000 files"):
            find_images(name)


def test_a_file_whose_name_has_braces_is_that_file() -> None:
    Path("{a,b}.png").write_bytes(png(1))
    assert shown("{a,b}.png") == ["{a,b}.png"]
    assert shown("{c,d}.png") == ["c.png", "d.png"]


def make_list(count: int, shard_size: int = 1000) -> InputFiles:
    def shard(number: int, size: int) -> TarShard:
        names = TextTable.of(f"{key:08}.jpg" for key in range(size))
        blocks = np.arange(size, dtype=np.uint32) * 100
        return TarShard(
            f"photos-{number:06}.tar", f"photos-{number:06}", names, blocks, np.full(size, 50_000, np.uint16)
        )

    return InputFiles(shard(start, min(shard_size, count - start)) for start in range(0, count, shard_size))


def test_an_input_takes_few_bytes_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 10_000
    ImageNames(["a"])  # what is imported then
    for cached in (sanitize_path_part, collision_key):  # which keep some thousand names
        cached.cache_clear()
    limited = lru_cache(maxsize=0)
    monkeypatch.setattr(image_names, "sanitize_path_part", limited(sanitize_path_part.__wrapped__))
    monkeypatch.setattr(image_names, "collision_key", limited(collision_key.__wrapped__))
    tracemalloc.start()
    files = make_list(count)
    names = ImageNames(Labels(files))
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(names) == count
    assert size / count < 60
    again = pickle.loads(pickle.dumps((files, names)))  # noqa: S301
    assert [str(file) for file in again[0]] == [str(file) for file in files]
    assert again[1][2_345] == names[2_345] == "photos-002000-00000345"


def test_names_are_those_of_the_slow_way_whatever_the_stems() -> None:
    chance = random.Random(0)  # noqa: S311
    stems = [chance.choice("aAbB\u00e4") + chance.choice(["", "-2", "-3", "/", " ", "."]) for _ in range(300)]
    for count in range(0, 300, 7):
        for reserved in ((), ("a", "B-2", "stats")):
            part = stems[:count] if count % 2 else [f"{stem}{number}" for number, stem in enumerate(stems[:count])]
            names = ImageNames(part, reserved)
            slow = unique_image_names(part, reserved)
            assert [*names] == slow
            assert [names.find_equal(name.upper()) for name in slow] == slow
            assert names.find_equal("none") is None
