"""What reaches a terminal: no character that steers it, nothing that its encoding lacks, no traceback."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import surgery
from surgery.cli import progress
from surgery.cli.console import Text
from surgery.cli.documents import render_document
from surgery.cli.graph_view import graph_view
from surgery.cli.plugin_views import check_result_view
from surgery.cli.progress import ProgressBar
from surgery.cli.run_views import report_view
from surgery.cli.standard_streams import SafeStream, print_message, safe_standard_streams
from surgery.errors import OutputError, PluginError
from surgery.output import OperationSummary, Progress, Report
from surgery.testing import CheckResult
from surgery.text.characters import escape_unprintable, replace_unencodable
from surgery.types import Facts, Operation

HOSTILE = {
    "an escape sequence": ("\x1b[31mred", r"\x1b[31mred"),
    "a link": ("\x1b]8;;http://x\x1b\\y\x07", r"\x1b]8;;http://x\x1b\y\x07"),
    "a C1 control": ("\x9b2J", r"\x9b2J"),
    "line breaks": ("one\ntwo\rthree\x85four\u2028five", r"one\ntwo\rthree\x85four\u2028five"),
    "a turn of direction": ("abc\u202egnp.\u2066", r"abc\u202egnp.\u2066"),
    "no width": ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
    "bytes that are no text": ("a\udcff", r"a\xff"),
    "half of a pair": ("a\ud83d", r"a\ud83d"),
    "markup": ("[red]x[/y] :smile:", "[red]x[/y] :smile:"),
    "letters": ("façade 家 é", "façade 家 é"),
}


@pytest.mark.parametrize("title", HOSTILE)
def test_a_text_is_one_line_that_steers_nothing(title: str) -> None:
    given, shown = HOSTILE[title]
    assert escape_unprintable(given) == shown
    assert escape_unprintable(shown) == shown


@pytest.mark.parametrize("title", HOSTILE)
def test_errors_complaints_and_warnings_are_one_line(title: str, capsys: pytest.CaptureFixture[str]) -> None:
    given, shown = HOSTILE[title]
    error = PluginError(f"no {given}")
    assert str(error) == f"no {shown}"
    error.args = (f"at {given}",)
    assert str(error) == f"at {shown}"
    print_message(given)
    with safe_standard_streams():
        said = warnings.formatwarning(UserWarning(given), UserWarning, "net.py", 3)
    assert capsys.readouterr().err == f"surgery: {shown}\n"
    assert said == f"net.py:3: UserWarning: {shown}\n"


def printed(view: Any, width: int = 120) -> str:
    file = io.StringIO()
    Console(file=file, width=width, markup=False, emoji=False).print(view)
    return file.getvalue()


@pytest.mark.parametrize("title", HOSTILE)
def test_tables_and_lines_show_a_name_as_it_is(title: str) -> None:
    given, shown = HOSTILE[title]
    operation = Operation("x", given, given, 3)
    finding = OperationSummary(operation, Facts(0.0, 1.0, 1, 0, nan=False, inf=False))
    report = Report(Path("out"), 1, 1, (), (finding,), 1.0)
    view = report_view(report, 120)
    text = printed(view)
    assert text.count(shown) == 2
    assert len(text.splitlines()) == 4
    assert printed(check_result_view(CheckResult(given, given, (given,)))).count(shown) == 3
    assert printed(Text.assemble((given, "bold"), given)).rstrip("\n") == shown * 2
    for kind in ("svg", "html"):
        document = render_document(view, 120, kind, given)
        assert not [character for character in document if not character.isprintable() and character not in "\n\xa0"]


class Named(nn.Module):
    """A network with a child whose name is whatever it is given."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.add_module(name, nn.Conv2d(1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        for child in self.children():
            x = child(x)
        return x


@pytest.mark.parametrize("name", ["[red]", "[/x]", ":smile:", "a\u202eb"])
def test_a_tree_shows_the_names_of_modules(name: str) -> None:
    traced = surgery.trace(Named(name).eval(), torch.zeros(1, 1, 4, 4))
    assert escape_unprintable(name) in printed(graph_view(traced, 120))


def test_the_progress_bar_shows_the_name_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(progress, "open_console", lambda **_: Console(file=file, force_terminal=True, width=100))
    with ProgressBar(2) as bar:
        for name in ("[/x]\x1b[2J\n", "long" * 100):
            bar.advance(Progress(1, 0, 2, name))
            bar.bar.refresh()
    assert r"[/x]\x1b[2J\n" in file.getvalue()
    assert "\x1b[2J" not in file.getvalue()
    assert "longlon…" in file.getvalue()


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "├─ conv  1×3  0 … 1  ✓ é"),
        ("cp1252", "|- conv  1×3  0 … 1  + é"),
        ("latin-1", "|- conv  1×3  0 ~ 1  + é"),
        ("cp437", "├─ conv  1x3  0 ~ 1  + é"),
        ("ascii", r"|- conv  1x3  0 ~ 1  + \xe9"),
        ("no-such-encoding", r"|- conv  1x3  0 ~ 1  + \xe9"),
    ],
)
def test_what_an_encoding_lacks_has_a_stand_in(encoding: str, shown: str) -> None:
    assert replace_unencodable("├─ conv  1×3  0 … 1  ✓ é", encoding) == shown


def command(*arguments: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "surgery", *arguments]
    line = ["/bin/sh", "-c", f'"$@" {shell}', "sh", *words]
    return subprocess.run(
        line, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp437"])
@pytest.mark.parametrize("width", ["60", "120"])
def test_every_view_is_readable_in_an_encoding_that_lacks_its_characters(
    run: Any, monkeypatch: pytest.MonkeyPatch, encoding: str, width: str
) -> None:
    for arguments in (
        ["inspect", "--at", "op:cat"],
        ["plugins", "show", "minmax"],
        ["plugins"],
        ["extract", "--at", "down1.conv", "--sink", "npz"],
    ):
        raw = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding=encoding))
        assert run(*arguments).code == 0
        sys.stdout.flush()
        text = raw.getvalue().decode(encoding)
        assert "\\" not in text
        assert "�" not in text
        assert text.strip()
        if arguments[0] == "inspect":
            assert "1x32x" in text or width == "60"
            assert ("|- " in text) == (encoding == "ascii")


@pytest.mark.parametrize(
    ("shell", "code"),
    [(">&-", 0), (">&- 2>&- <&-", 0), ("| true", 0), ("| head -c 1 >/dev/null", 0), (">/dev/full", 1)],
)
def test_a_stream_that_is_closed_cut_or_full_gives_no_traceback(shell: str, code: int) -> None:
    if "/dev/full" in shell and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    for arguments in (["plugins"], ["plugins", "--json"]):
        ran = command(*arguments, shell=shell)
        said = "surgery: can't write to the terminal or its pipe: no space left on device\n"
        assert (ran.returncode, ran.stderr) == (code, said if code else "")


def test_a_stream_that_fails_raises_an_error_of_ours() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="no space left on device"):
        SafeStream(Full()).write("x")


@pytest.mark.parametrize("width", ["60", "80", "120"])
def test_without_colors_a_picture_is_drawn_in_shades(run: Any, monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    monkeypatch.setenv("COLUMNS", width)
    for environment in ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, {"TERM": "dumb", "FORCE_COLOR": "1"}):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        shown = run("plugins", "show", "minmax")
        assert "▀" not in shown.out
        assert "▓" in shown.out
        assert max(map(len, shown.out.splitlines())) <= int(width)


@pytest.mark.parametrize(
    "arguments",
    [
        ["extract", "--fo\x1b[1mo"],
        ["extract", "--mode", "\x1b[31m\nx"],
        ["plugins", "[/x]\x1b[1m"],
        ["plugins", "new", "x", "--kind", "[red]\u202e"],
        ["extract", "--size", "\x1b[1m"],
        ["extract", "gone\x1b[31m\n[/x].pth"],
        ["extract", "facades", "[/x]\x1b.png"],
        ["extract", "--at", "[/x]\x1b"],
        ["extract", "--normalizer", "minmax:per=\x1b\n"],
        ["plugins", "check", "\x1b[31m[/x].py"],
        ["plugins", "show", "[/x]\x1b"],
    ],
)
def test_whatever_is_typed_is_told_back_in_one_line_that_steers_nothing(run: Any, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.code in (1, 2)
    assert result.err.startswith("surgery: ")
    assert result.err.count("\n") == 1
    assert result.err[:-1].isprintable()
