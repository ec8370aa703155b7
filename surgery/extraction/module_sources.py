"""Where the modules of this process come from, for a worker that has to import them too."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgery.models import import_file_as, imported_files
from surgery.plugins import PluginFolders

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class ModuleSources:
    """Plain values by which another process finds the modules that this one has imported."""

    search_path: tuple[str, ...]
    """Folders from which modules are imported."""
    model_files: Mapping[str, Path]
    """The files of models that were given as ``file.py:callable``, by the names of their modules."""
    plugin_folders: PluginFolders

    @classmethod
    def current(cls) -> ModuleSources:
        """Return those of this process."""
        search_path = tuple(os.path.abspath(folder) for folder in sys.path)  # noqa: PTH100 - "" is the working folder
        return cls(search_path, imported_files(), PluginFolders.current())

    def restore(self) -> None:
        """Let the modules be found in this process, and import the files of models."""
        sys.path += [folder for folder in self.search_path if folder not in sys.path]
        self.plugin_folders.restore()
        for name, file in self.model_files.items():
            import_file_as(name, file)
