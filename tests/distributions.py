"""Plugins for tests: files and installed distributions."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest


def plugin(folder: Path, text: str, name: str = "mine.py") -> Path:
    """Write a plugin file and return its path."""
    file = folder / name
    file.write_text(textwrap.dedent(text))
    return file


class Site:
    """A folder on `sys.path` with installed distributions, as pip would install them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        folder.mkdir()
        monkeypatch.syspath_prepend(str(folder))

    def install(
        self, name: str, text: str | None, *, entry: str = "", watchers: bool = False, version: str = "1.2"
    ) -> Path:
        """Install a distribution whose module has this text; None leaves out the module of its entry point."""
        module = name.replace("-", "_")
        file = self.folder / f"{module}.py"
        if text is not None:
            file.write_text(textwrap.dedent(text))
        info = self.folder / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        point = f"{entry or module}"
        groups = ["surgery", *(["surgery.watchers"] if watchers else [])]
        (info / "entry_points.txt").write_text("".join(f"[{group}]\n{module} = {point}\n" for group in groups))
        self.monkeypatch.setitem(sys.modules, module, None)  # so that it is restored
        self.monkeypatch.delitem(sys.modules, module)
        return file
