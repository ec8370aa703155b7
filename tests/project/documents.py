"""The code blocks of a Markdown page, run in their order as a reader would run them.

| block | is |
| --- | --- |
| ``python`` | run, in the namespace of the blocks before it on the page |
| ``python title="ember.py"``, ``toml title="..."`` | written to that file |
| ``sh`` | commands, a line each; all succeed |
| ``console`` | commands behind ``$``, and what they print: ``...`` stands for any text |
| ``text`` behind a ``python`` block | what that block prints, ``...`` as above |
| ``json``, ``toml``, ``text`` elsewhere | parsed, or only shown |
"""

from __future__ import annotations

import doctest
import io
import json
import re
import shlex
import sys
import tomllib
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from PIL import Image

from surgery.cli import main
from surgery.data import inputs

if TYPE_CHECKING:
    from collections.abc import Iterator

_FENCE = re.compile(r"^(?P<indent> *)```(?P<head>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of code."""

    language: str
    title: str | None
    text: str
    line: int


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, in their order. Raises ValueError for one without a language."""
    for found in _FENCE.finditer(page):
        line = page.count("\n", 0, found.start()) + 1
        language, _, attributes = found["head"].partition(" ")
        if not language:
            raise ValueError(f"the block at line {line} has no language")
        title = _TITLE.search(attributes)
        text = re.sub(rf"^{found['indent']}", "", found["body"], flags=re.MULTILINE)
        yield Block(language, title[1] if title else None, text, line)


def prepare(folder: Path) -> None:
    """Files that the pages speak of: a checkpoint of pix2pix, its images, a model of one's own."""
    from surgery.models.pix2pix import UNet
    from surgery.models.pix2pix.state_dicts import to_public

    for epoch in ("latest", "100"):
        torch.manual_seed(len(epoch))
        torch.save(to_public(UNet(5, width=8)), folder / f"{epoch}_net_G.pth")
    (folder / "facades").mkdir()
    for number, path in enumerate(inputs()[:2], 1):
        with Image.open(path) as image:
            pair = Image.new("RGB", (512, 256))
            pair.paste(image.convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT), (0, 0))
            pair.paste(image.convert("RGB"), (256, 0))
            pair.save(folder / "facades" / f"{number}.png")
            image.convert("RGB").save(folder / f"facade-{number}.png")
    (folder / "model.py").write_text(
        "from torch import nn\n\n\ndef make_model():\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(8, 3, 1))\n",
        encoding="utf-8",
    )


def run(page: str) -> None:
    """Run the blocks of a page in the working directory. Raises AssertionError for the first that does not hold."""
    names: dict[str, Any] = {"__name__": "__main__"}
    printed: str | None = None
    for block in blocks(page):
        if block.title is not None:
            Path(block.title).write_text(block.text, encoding="utf-8")
            printed = None
        elif block.language == "python":
            out = io.StringIO()
            with redirect_stdout(out):
                exec(compile(block.text, f"line {block.line}", "exec"), names)  # noqa: S102
            printed = out.getvalue()
        elif block.language in ("sh", "console"):
            _run_commands(block)
            printed = None
        elif block.language == "text":
            if printed is not None:
                _compare(block.text, printed, f"line {block.line}")
            printed = None
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)
        else:
            raise AssertionError(f"the block at line {block.line} is of no known language: {block.language}")


def _run_commands(block: Block) -> None:
    if block.language == "sh":
        for line in filter(None, block.text.replace("\\\n", " ").splitlines()):
            _run_command(line.partition("  #")[0], block)
        return
    parts = re.split(r"^\$ (.*)\n", block.text, flags=re.MULTILINE)
    assert not parts[0].strip(), f"the block at line {block.line} does not begin with a command"
    for command, expected in zip(parts[1::2], parts[2::2], strict=True):
        printed = _run_command(command, block)
        if expected.strip():
            _compare(expected, printed, f"line {block.line}: {command}")


def _run_command(line: str, block: Block) -> str:
    """Run a line of `surgery`, in this process. Lines of `pip`, which would fetch something, are passed over."""
    words = shlex.split(line)
    if words[0] in ("pip", "python", ".", "source", "cd", "git"):
        return ""
    assert words[0] == "surgery", f"line {block.line}: nothing runs {words[0]}"
    expanded = [name for word in words for name in sorted(map(str, Path().glob(word) if "*" in word else ())) or [word]]
    out = io.StringIO()
    with mock.patch.object(sys, "argv", expanded), redirect_stdout(out):
        try:
            main()
        except SystemExit as stop:
            if stop.code:
                raise AssertionError(f"line {block.line}: {line} ends with {stop.code}") from stop
    return out.getvalue()


def _compare(expected: str, printed: str, where: str) -> None:
    def stripped(text: str) -> str:
        return "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n"

    checker, flags = doctest.OutputChecker(), doctest.ELLIPSIS
    if not checker.check_output(stripped(expected), stripped(printed), flags):
        raise AssertionError(f"{where} prints\n{printed}\nand the page says\n{expected}")
