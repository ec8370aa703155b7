"""From the name of a model, a weights file or a callable to the model."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import ModelError, PluginError
from surgery.models.callables import call_factory, load_from_file, load_from_module, parse_file_callable
from surgery.models.plugin_readers import is_checkpoint_folder, iterate_readers, list_weights_suffixes
from surgery.models.suggestions import (
    IMAGE_SUFFIXES,
    describe_command_with_image,
    explain_source,
    path_is,
    suggest_file,
    suggest_model,
)
from surgery.plugins import Plugins
from surgery.stages import LoadedNetwork, ModelFamily

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


def load_model(
    source: str | os.PathLike[str], *, part: str | None = None, seed: int = 0, plugins: Plugins | None = None
) -> nn.Module:
    """Return the model of a weights file, a callable or a name.

    `source` is one of these, tried in this order:

    - a file that exists, or a name with the suffix of a weights file: the architecture is read from the keys, by the
      project or by a plugin; `part` names one of several networks in the file;
    - a folder that a plugin recognizes as a checkpoint;
    - ``file.py:callable`` and ``package.module:callable``: the result of the callable, which is called without
      arguments, or the module that this names;
    - a name that a plugin offers: ``unet_256``, ``facades``, ``torchvision/resnet18``.

    Weights that are not loaded are initialized with random numbers from `seed`, and are the same at every call. The
    random generators of the process keep their state. The model is as constructed, which for most is in train mode.

    Raises ModelError, which says what there is, for a source that is none of these.
    """
    from torch import nn

    from surgery.models.provenance import Provenance, record_provenance
    from surgery.models.random_weights import track_random_weights

    if isinstance(source, nn.Module):
        raise ModelError(f"{type(source).__name__} is a model already, not the name of one")
    if not isinstance(source, (str, os.PathLike)):
        raise ModelError(f"a model is named by a text or a path, not by {type(source).__name__}")
    text = os.fsdecode(source)
    recipe = _resolve_source(text, part, plugins or Plugins())
    with track_random_weights(seed) as tracker:
        built = recipe.build()
    network = built if isinstance(built, LoadedNetwork) else None
    model = network.model if network else built
    if not isinstance(model, nn.Module):
        raise ModelError(f"{text} returned {type(model).__name__}, and a model is a torch.nn.Module")
    weights = getattr(model, "weights_from", None)
    weights = weights if isinstance(weights, str) else None
    if network:
        entry = f"network {network.part} of " if network.part else ""
        weights = f"{entry}{weights or Path(text).name}"
    samples = tracker.sample_random_parameters(model)
    provenance = Provenance(
        weights=weights,
        seed=seed,
        samples=samples,
        advice=recipe.suggest_trained() if samples and recipe.suggest_trained else "",
        part=network.part if network else "",
        others=network.others if network else (),
        averaged=network is not None and network.averaged,
        remarks=network.notes if network else (),
    )
    record_provenance(model, provenance)
    return model


@dataclass(frozen=True, slots=True)
class _ModelRecipe:
    """How the model of a source is built."""

    build: Callable[[], object]
    """Returns a `LoadedNetwork` for a weights file, else the model, or whatever a user's callable returns."""
    suggest_trained: Callable[[], str] | None = None
    """Returns how to get trained weights in place of random ones."""


def _resolve_source(source: str, part: str | None, plugins: Plugins) -> _ModelRecipe:
    """Return how to build the model of a source. Raises ModelError for a source that is none."""
    from surgery.models.checkpoints import WEIGHTS_SUFFIXES

    if not source.strip():
        raise ModelError("the name of the model is empty; is a variable of the shell not set?")
    path = _expand_home(source)
    if path_is(path, Path.is_file) and path.suffix != ".py":
        if path.suffix.lower() in IMAGE_SUFFIXES:
            raise ModelError(describe_command_with_image(source))
        return _ModelRecipe(partial(_open_weights_file, path, part, plugins))
    is_name = "://" in source or re.match(r"[^/:]+(/[^/:]+)?:\w+=", source)
    file_callable = parse_file_callable(source)
    if file_callable is None and path.suffix.lower() in WEIGHTS_SUFFIXES and not is_name:
        if not path_is(path, Path.exists):
            raise ModelError(f"there is no file {source}{suggest_file(path, WEIGHTS_SUFFIXES)}")
        return _ModelRecipe(partial(_open_weights_file, path, part, plugins))
    if path_is(path, Path.is_dir) and is_checkpoint_folder(path, plugins):
        return _ModelRecipe(partial(_open_weights_file, path, part, plugins))
    if part is not None:
        raise ModelError(f"{source} is not a weights file, and only a weights file has parts; leave out part {part!r}")
    if file_callable is not None:
        return _ModelRecipe(partial(load_from_file, source, *file_callable))
    return _resolve_name(source, path, plugins)


def _resolve_name(source: str, path: Path, plugins: Plugins) -> _ModelRecipe:
    """Return how to build the model of a name that a plugin offers, or of ``package.module:callable``."""
    family, slash, name = source.partition("/")
    try:
        offered = plugins.resolve("model", family if slash else source)
    except PluginError as error:
        if (explanation := explain_source(source, path, list_weights_suffixes(plugins))) is not None:
            raise ModelError(explanation) from error
        module = source.partition(":")[0]
        if ":" in source and not slash and plugins.find("model", module) is None:
            return _ModelRecipe(partial(load_from_module, source))
        if (near := suggest_model(source, plugins)) is not None:
            raise ModelError(f"no model is called {source!r}; did you mean {near}?") from error
        raise ModelError(f"{error}; a model is such a name, a weights file or package.module:callable") from error
    if isinstance(offered, ModelFamily):
        if not name:
            raise ModelError(f"{family} is a family of models; name one of them: {family}/{offered.names()[0]}")
        suggest = partial(offered.trained, name) if offered.trained else None
        return _ModelRecipe(partial(call_factory, source, partial(offered.build, name)), suggest)
    if slash:
        raise ModelError(f"{family} is a model, not a family of models; write {family}")
    return _ModelRecipe(partial(call_factory, source, offered))


def _open_weights_file(path: Path, part: str | None, plugins: Plugins) -> object:
    from surgery.models.checkpoints import open_checkpoint

    return open_checkpoint(path, part, readers=iterate_readers(plugins))


def _expand_home(source: str) -> Path:
    """Return the path with ``~`` expanded: after ``=`` the shell does not do it."""
    try:
        return Path(source).expanduser()
    except RuntimeError:  # there is no such user
        return Path(source)
