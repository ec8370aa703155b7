"""The command `view`, and the page of `extract`."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Any

import pytest


def test_view_makes_the_page_and_opens_it(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: not opened.append(address))  # type: ignore[func-returns-value]
    monkeypatch.setenv("DISPLAY", ":0")
    assert run("extract", "--at", "op:cat").code == 0
    result = run("view")
    assert (result.code, result.out, result.err) == (0, "activations/index.html\n", "")
    assert opened == [(tmp_path / "activations" / "index.html").as_uri()]
    assert run("view", "activations", "--no-open").out == "activations/index.html\n"
    assert len(opened) == 1
    assert run("verify").code == 0
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    result = run("view")
    assert (result.code, result.out) == (0, "activations/index.html\n")
    assert result.err == (
        "surgery: note: there is no display to open it on; its address is "
        f"{(tmp_path / 'activations' / 'index.html').as_uri()}\n"
    )
    assert len(opened) == 1


def test_view_of_something_else_is_one_line(run: Any) -> None:
    result = run("view", "nothing")
    assert (result.code, result.out, result.err) == (1, "", "surgery: there is no folder nothing\n")


def test_extract_with_page_writes_the_page_and_the_pictures_that_it_shows(run: Any, tmp_path: Path) -> None:
    result = run("extract", "--at", "op:cat", "--page", "--sink", "npz")
    assert result.code == 0
    assert result.out.endswith("look at activations/index.html\n")
    assert (tmp_path / "activations" / "facade-1" / "activations.npz").is_file()
    assert (tmp_path / "activations" / "page" / "pixels" / "facade-1" / "025-up8.cat.js").is_file()
    result = run("extract", "--at", "op:cat", "--sink", "page", "-o", "other")
    assert (result.code, result.err) == (
        1,
        "surgery: the sink page shows the files of the sink png; name both: png and page\n",
    )
