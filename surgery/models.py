"""From what names a model to the model."""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import ModelError, PluginError, SurgeryError, did_you_mean
from surgery.loading import said_of
from surgery.plugins import Plugins
from surgery.types import ModelFamily

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn

    from surgery.plugins import Plugin
    from surgery.types import CheckpointReader


def load_model(source: str | os.PathLike[str], *, plugins: Plugins | None = None) -> nn.Module:
    """A model from a weights file, a name or a callable, in this order.

    - a file that exists, or a name that ends as weights files do: its architecture is read from its keys, or a plugin
      recognises it;
    - ``package.module:callable``: what the callable returns, called without arguments, or the module that it is;
    - a name that a plugin offers: ``unet_256``, ``facades``, ``torchvision/resnet18``.

    The model is as it was constructed, which for most is train mode. Raises ModelError with what there is.
    """
    from torch import nn

    model = _open(str(source), plugins or Plugins())
    if not isinstance(model, nn.Module):
        raise ModelError(f"{source} gave {type(model).__name__}, and a model is a torch.nn.Module")
    return model


def _open(source: str, plugins: Plugins) -> object:
    from surgery.checkpoints import SUFFIXES, load_checkpoint

    path = Path(source)
    if path.is_file() or path.suffix in SUFFIXES:
        return load_checkpoint(path, readers=_readers(plugins))
    family, slash, name = source.partition("/")
    try:
        found = plugins.resolve("model", family if slash else source)
    except PluginError as error:
        if ":" in source and not slash:
            return _called(source)
        raise ModelError(f"{error}; a model is such a name, a weights file or package.module:callable") from error
    if isinstance(found, ModelFamily):
        if not name:
            raise ModelError(f"{family} is a family of models; name one of them: {family}/{found.names()[0]}")
        return _build(source, lambda: found.build(name))
    if slash:
        raise ModelError(f"{family} is a model, not a family of models; write {family}")
    return _build(source, found)


def _readers(plugins: Plugins) -> Iterator[CheckpointReader]:
    """The readers of checkpoints, each plugin imported only when those before it did not recognise the file."""
    for plugin, offered in plugins.each("checkpoint"):
        for name, reader in offered.items():
            yield partial(_ask, plugins, plugin, name, reader)


def _ask(
    plugins: Plugins, plugin: Plugin, name: str, reader: CheckpointReader, path: Path, state: Mapping[str, Tensor]
) -> nn.Module | None:
    """What a reader makes of a file; None, and a complaint, where it fails at a file that may be none of its own."""
    from torch import nn

    said = f"plugin {plugin.name}: checkpoint {name!r}"
    try:
        model: object = reader(path, state)
    except SurgeryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a stranger's code raises
        plugins.trouble(f"{said} raised {said_of(error)}; it is passed over")
        return None
    if model is None or isinstance(model, nn.Module):
        return model
    plugins.trouble(f"{said} gave {type(model).__name__}, not a torch.nn.Module or None; it is passed over")
    return None


def _called(source: str) -> object:
    """What ``package.module:callable`` gives. The working directory can be imported from, as in a Python shell."""
    module_name, _, attribute = source.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = import_module(module_name)
    except Exception as error:
        raise ModelError(f"{source}: can't import {module_name}: {type(error).__name__}: {error}") from error
    found: object = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ModelError(f"{module_name} has no {attribute!r}{did_you_mean(attribute, dir(module))}")
        found = getattr(found, part)
    from torch import nn

    if isinstance(found, nn.Module) or not callable(found):
        return found
    return _build(source, found)


def _build(source: str, factory: object) -> object:
    try:
        return factory()  # type: ignore[operator]
    except SurgeryError:
        raise
    except Exception as error:
        raise ModelError(f"{source} can't be built: {type(error).__name__}: {error}") from error
