"""Lists of files: ``@list.txt``, and standard input on the command line."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from surgery.errors import ImageError
from surgery.inputs import find_images


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("content", "paths"),
    [
        ("b.png\na.png\n", ["b.png", "a.png"]),
        ("\ufeffa.png\r\n\r\n  \r\nb c.png", ["a.png", "b c.png"]),
        ("# no comment.png\n[1].png\n*.png\n", ["# no comment.png", "[1].png", "*.png"]),
        ("a.png\0b\nc.png\0", ["a.png", "b\nc.png"]),
        ("/data/ä.png\na.png\na.png", ["/data/ä.png", "a.png", "a.png"]),
    ],
)
def test_each_line_of_a_list_is_a_path_and_never_a_pattern(content: str, paths: list[str]) -> None:
    Path("list.txt").write_bytes(content.encode())
    Path("a.png").touch()
    assert [*find_images("@list.txt")] == [Path(path) for path in paths]
    assert [*find_images(find_images("@list.txt"))] == [Path(path) for path in paths], "the command line asks twice"
    assert [*find_images(["x.png", "@list.txt"])] == [Path("x.png"), *(Path(path) for path in paths)]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files that are no UTF-8")
def test_a_name_that_is_no_utf_8_is_found() -> None:
    name = os.fsdecode(b"\xe9.png")
    Path(name).touch()
    Path("list.txt").write_bytes(b"\xe9.png\n")
    (path,) = find_images("@list.txt")
    assert path.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't read the list list.txt: no such file or directory"),
        (b"", "the list list.txt names no files"),
        (b" \n\r\n", "the list list.txt names no files"),
        (b"\x89PNG\r\n\x1a\n\x01", "list.txt is not a list of files: it must be a text with a path on each line"),
    ],
)
def test_what_is_no_list_is_one_line(content: bytes | None, message: str) -> None:
    if content is not None:
        Path("list.txt").write_bytes(content)
    with pytest.raises(ImageError) as caught:
        find_images("@list.txt")
    assert str(caught.value).lower() == message.lower()


def test_a_file_whose_name_begins_with_the_sign_is_an_image() -> None:
    Path("@user.png").touch()
    assert [*find_images(["@user.png", "@"])] == [Path("@user.png"), Path("@")]


def test_a_run_reads_a_list_and_standard_input(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(f"{name}.png")
    Path("list.txt").write_text("b.png\nc.png\n")
    options = ("--at", "down1.conv", "--no-output", "--sink", "npz", "--size", "256")
    assert run("extract", "facades", "@list.txt", *options, "-o", "listed").code == 0
    assert sorted(path.name for path in Path("listed").iterdir() if path.is_dir()) == ["b", "c"]

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.png\0c.png\0")))
    assert run("extract", "facades", "-", *options, "-o", "piped").code == 0
    assert sorted(path.name for path in Path("piped").iterdir() if path.is_dir()) == ["a", "c"]

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    result = run("extract", "facades", "-", *options)
    assert (result.code, result.err) == (1, "surgery: the list standard input names no files\n")


def test_standard_input_is_read_once_and_never_from_a_terminal(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.png")))
    result = run("extract", "facades", "-", "-")
    assert result.code == 2
    assert "- is given twice, and standard input can be read once" in " ".join(result.err.split())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    result = run("extract", "facades", "-")
    assert result.code == 2
    assert "which is a terminal" in " ".join(result.err.split())
