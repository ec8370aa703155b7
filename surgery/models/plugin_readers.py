"""The checkpoint readers of plugins, called so that a failing one is passed over with a warning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import SurgeryError
from surgery.interrupts import raising_interrupts
from surgery.models.suggestions import IMAGE_SUFFIXES, path_is
from surgery.plugins import describe_error
from surgery.stages import LoadedNetwork

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn

    from surgery.plugins import Plugin, Plugins
    from surgery.stages import CheckpointReader


class PluginReader:
    """A plugin's checkpoint reader. If it fails, it warns and returns None: the file may be none of its own."""

    def __init__(self, plugins: Plugins, plugin: Plugin, name: str, reader: CheckpointReader) -> None:
        self._plugins = plugins
        self._what = f"plugin {plugin.name}: checkpoint {name!r}"
        self._reader = reader
        self.reads_parts = bool(getattr(reader, "reads_parts", False))
        self.suffixes: tuple[str, ...] = tuple(getattr(reader, "suffixes", ()))

    def recognizes_folder(self, path: Path) -> bool:
        """Return whether a folder is a checkpoint for this reader."""
        recognizes = getattr(self._reader, "recognizes_folder", None)
        try:
            with raising_interrupts():
                return recognizes is not None and bool(recognizes(path))
        except Exception as error:  # noqa: BLE001 - whatever a plugin's code raises
            self._warn(f"raised {describe_error(error)} for the folder {path}")
            return False

    def __call__(
        self, path: Path, state: Mapping[str, Tensor], /, **part: str | None
    ) -> nn.Module | LoadedNetwork | None:
        from torch import nn

        try:
            with raising_interrupts():
                found: object = self._reader(path, state, **part)
        except SurgeryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a plugin's code raises
            self._warn(f"raised {describe_error(error)}")
            return None
        if found is None or isinstance(found, nn.Module):
            return found
        if isinstance(found, LoadedNetwork) and isinstance(found.model, nn.Module):
            return found
        self._warn(f"returned {type(found).__name__}, not a torch.nn.Module, a LoadedNetwork or None")
        return None

    def _warn(self, failure: str) -> None:
        self._plugins.warn(f"{self._what} {failure}; it is passed over")


def iterate_readers(plugins: Plugins) -> Iterator[PluginReader]:
    """Yield the checkpoint readers. A plugin is imported when its turn comes."""
    for plugin, offered in plugins.iterate_offers("checkpoint"):
        for name, reader in offered.items():
            yield PluginReader(plugins, plugin, name, reader)


def is_checkpoint_folder(path: Path, plugins: Plugins) -> bool:
    """Return whether a folder is a checkpoint for a reader."""
    return any(reader.recognizes_folder(path) for reader in iterate_readers(plugins))


def is_weights_source(path: Path, plugins: Plugins) -> bool:
    """Return whether a path has the suffix of a weights file, or is a folder that is a checkpoint for a reader.

    Plugins are imported only for what is neither an image nor a weights file of torch.
    """
    from surgery.models.checkpoints import WEIGHTS_SUFFIXES

    if path_is(path, Path.is_dir):
        return is_checkpoint_folder(path, plugins)
    suffix = path.suffix.lower()
    if not suffix or suffix in WEIGHTS_SUFFIXES or suffix in IMAGE_SUFFIXES:
        return suffix in WEIGHTS_SUFFIXES
    return suffix in list_weights_suffixes(plugins)


def list_weights_suffixes(plugins: Plugins) -> tuple[str, ...]:
    """Return the suffixes of weights files: those of torch, and those of the readers."""
    from surgery.models.checkpoints import WEIGHTS_SUFFIXES

    own = (suffix for reader in iterate_readers(plugins) for suffix in reader.suffixes)
    return tuple(dict.fromkeys((*WEIGHTS_SUFFIXES, *own)))
