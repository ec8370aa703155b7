"""From what names a model to the model."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.errors import ModelError, PluginError, SurgeryError, did_you_mean
from surgery.models.callables import (
    call_factory,
    list_definitions,
    load_from_file,
    load_from_module,
    parse_file_callable,
)
from surgery.plugins import Plugins, describe_error
from surgery.stages import ModelFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor, nn

    from surgery.models.checkpoints import LoadedNetwork
    from surgery.plugins import Plugin
    from surgery.stages import CheckpointReader

_IMAGES = frozenset(
    (
        ".bmp",
        ".gif",
        ".jpeg",
        ".jpg",
        ".jp2",
        ".png",
        ".ppm",
        ".pgm",
        ".tif",
        ".tiff",
        ".tga",
        ".webp",
        ".heic",
        ".avif",
    )
)


def load_model(
    source: str | os.PathLike[str], *, part: str | None = None, seed: int = 0, plugins: Plugins | None = None
) -> nn.Module:
    """A model from a weights file, a name or a callable, in this order.

    - a file that exists, or a name that ends as weights files do: its architecture is read from its keys, or a plugin
      recognizes it; of several networks in it, `part` names one;
    - ``file.py:callable`` and ``package.module:callable``: what the callable returns, called without arguments, or the
      module that it is;
    - a name that a plugin offers: ``unet_256``, ``facades``, ``torchvision/resnet18``.

    Weights that are not loaded are initialized from random numbers that start from `seed`, the same at every call;
    those of the process stay as they are. The model is as it was constructed, which for most is train mode.

    Raises ModelError with what there is.
    """
    from torch import nn

    from surgery.models.provenance import Provenance, build_with_seed, record_provenance

    if isinstance(source, nn.Module):
        raise ModelError(f"{type(source).__name__} is a model already, not the name of one")
    if not isinstance(source, (str, os.PathLike)):
        raise ModelError(f"a model is named by a text or a path, not by {type(source).__name__}")
    text = os.fsdecode(source)
    factory, advice = _resolve_factory(text, part, plugins or Plugins())
    opened: list[LoadedNetwork] = []
    model, samples = build_with_seed(partial(factory, opened.append), seed)
    if not isinstance(model, nn.Module):
        raise ModelError(f"{text} gave {type(model).__name__}, and a model is a torch.nn.Module")
    found = opened[0] if opened else None
    said = getattr(model, "weights_from", None)
    if found:
        network = f"network {found.part} of " if found.part else ""
        said = f"{network}{said or Path(text).name}"
    record_provenance(
        model,
        Provenance(
            weights=said if isinstance(said, str) else None,
            seed=seed,
            samples=samples,
            advice=advice() if samples and advice else "",
            part=found.part if found else "",
            others=found.others if found else (),
            averaged=bool(found and found.averaged),
        ),
    )
    return model


def _resolve_factory(
    source: str, part: str | None, plugins: Plugins
) -> tuple[Callable[[Callable[[LoadedNetwork], object]], object], Callable[[], str] | None]:
    """What makes the model, told how to report which network of a file it is, and how trained weights can be had."""
    from surgery.models.checkpoints.weights_files import WEIGHTS_SUFFIXES

    if not source.strip():
        raise ModelError("the name of the model is empty; is a variable of the shell not set?")
    path = _expand_home(source)
    if _path_is(path, Path.is_file) and path.suffix != ".py":
        if path.suffix.lower() in _IMAGES:
            raise ModelError(_explain_image(source))
        return partial(_load_weights_file, path, part, plugins), None
    is_name = "://" in source or re.match(r"[^/:]+(/[^/:]+)?:\w+=", source)
    if (file := parse_file_callable(source)) is None and path.suffix.lower() in WEIGHTS_SUFFIXES and not is_name:
        if not _path_is(path, Path.exists):
            raise ModelError(f"there is no file {source}{_suggest_file(path)}")
        return partial(_load_weights_file, path, part, plugins), None
    if part is not None:
        raise ModelError(f"a part is of a weights file, and {source} is none")
    if file is not None:
        return lambda _: load_from_file(source, *file), None
    return _resolve_name(source, path, plugins)


def _resolve_name(
    source: str, path: Path, plugins: Plugins
) -> tuple[Callable[[Any], object], Callable[[], str] | None]:
    family, slash, name = source.partition("/")
    try:
        found = plugins.resolve("model", family if slash else source)
    except PluginError as error:
        if (explained := next(_explain_source(source, path), None)) is not None:
            raise ModelError(explained) from error
        module = source.partition(":")[0]
        if ":" in source and not slash and plugins.find("model", module) is None:
            return lambda _: load_from_module(source), None
        if (near := _suggest_model(source, plugins)) is not None:
            raise ModelError(f"no model is called {source!r}; did you mean {near}?") from error
        raise ModelError(f"{error}; a model is such a name, a weights file or package.module:callable") from error
    if isinstance(found, ModelFamily):
        if not name:
            raise ModelError(f"{family} is a family of models; name one of them: {family}/{found.names()[0]}")
        advice = found.trained
        return lambda _: call_factory(source, partial(found.build, name)), partial(advice, name) if advice else None
    if slash:
        raise ModelError(f"{family} is a model, not a family of models; write {family}")
    return lambda _: call_factory(source, found), None


def _load_weights_file(
    path: Path, part: str | None, plugins: Plugins, report: Callable[[LoadedNetwork], object]
) -> nn.Module:
    from surgery.models.checkpoints import open_checkpoint

    opened = open_checkpoint(path, part, readers=_checkpoint_readers(plugins))
    report(opened)
    return opened.model


def _checkpoint_readers(plugins: Plugins) -> Iterator[CheckpointReader]:
    """The readers of checkpoints, each plugin imported only when those before it did not recognize the file."""
    for plugin, offered in plugins.iterate_offers("checkpoint"):
        for name, reader in offered.items():
            yield partial(_call_reader, plugins, plugin, name, reader)


def _call_reader(
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
        plugins.warn(f"{said} raised {describe_error(error)}; it is passed over")
        return None
    if model is None or isinstance(model, nn.Module):
        return model
    plugins.warn(f"{said} gave {type(model).__name__}, not a torch.nn.Module or None; it is passed over")
    return None


def _expand_home(source: str) -> Path:
    """The path, ``~`` being the home folder: behind ``=`` the shell leaves it."""
    try:
        return Path(source).expanduser()
    except RuntimeError:  # there is no such user
        return Path(source)


def _path_is(path: Path, ask: Callable[[Path], bool]) -> bool:
    """The answer to a question about a path; no for what can't be the name of a file."""
    try:
        return ask(path)
    except (OSError, ValueError):
        return False


def _explain_image(source: str) -> str:
    return f"{source} is an image, and the model comes first: surgery extract facades {source}"


def _explain_source(source: str, path: Path) -> Iterator[str]:
    """What somebody may have meant by what is no model, and what to write in its place."""
    from surgery.models.checkpoints.weights_files import WEIGHTS_SUFFIXES, list_weights_files

    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source):
        yield f"{source} is an address; nothing is downloaded: fetch the file, and name it here"
    if _path_is(path, Path.is_dir):
        inside = list_weights_files(path)
        if inside:
            shown = ", ".join(inside[:8]) + (f" and {len(inside) - 8} more" if len(inside) > 8 else "")
            first = "latest_net_G.pth" if "latest_net_G.pth" in inside else inside[0]
            yield f"{source} is a folder; name one of the weights files in it, such as {path / first}; it has {shown}"
        yield f"{source} is a folder with no weights file ({', '.join(WEIGHTS_SUFFIXES)}) in it"
    if path.suffix == ".py":
        if not _path_is(path, Path.is_file):
            yield f"there is no file {source}"
        names = list_definitions(path)
        shown = f"; it has {', '.join(names[:8])}" if names else ""
        yield f"{source} is a Python file; name the callable in it that returns the model: {source}:NAME{shown}"
    if path.suffix.lower() in _IMAGES:
        yield _explain_image(source)
    if similar := _suggest_file(path):
        yield f"there is no file {source}{similar}"


def _suggest_file(path: Path) -> str:
    """``; did you mean exp/latest_net_G.pth?``: a weights file whose name is like that of one that is not there."""
    from surgery.models.checkpoints.weights_files import WEIGHTS_SUFFIXES, list_weights_files

    straight = Path(str(path).replace("\\", "/"))
    candidates = [straight, *(Path(f"{straight}{suffix}") for suffix in WEIGHTS_SUFFIXES)]
    near = next((each for each in candidates if each != path and _path_is(each, Path.is_file)), None)
    if near is not None:
        return f"; did you mean {near}?"
    if path.parent == Path() and path.suffix.lower() not in WEIGHTS_SUFFIXES:
        return ""  # a name, which may be that of a model
    if not _path_is(path.parent, Path.is_dir):
        return f": there is no folder {path.parent}" if path.suffix.lower() in WEIGHTS_SUFFIXES else ""
    return did_you_mean(path.name, list_weights_files(path.parent))


def _suggest_model(source: str, plugins: Plugins) -> str | None:
    """The names of models in families that are like what was asked for; None where none is."""
    for plugin, offered in plugins.iterate_offers("model"):  # one after the other: some take seconds to import
        names: dict[str, str] = {}
        exact: list[str] = []
        for family, found in offered.items():
            names[family.lower()] = family
            if not isinstance(found, ModelFamily):
                continue
            try:
                inside = list(found.names())
            except Exception as error:  # noqa: BLE001 - whatever a stranger's code raises
                plugins.warn(f"plugin {plugin.name}: model {family!r} raised {describe_error(error)}")
                continue
            exact += [f"{family}/{name}" for name in inside if name.lower() == source.lower()]
            names |= {f"{family}/{name}".lower(): f"{family}/{name}" for name in inside}
            names |= {name.lower(): f"{family}/{name}" for name in reversed(inside) if name.lower() not in names}
        if exact:
            return " or ".join(repr(name) for name in exact[:3])
        if near := did_you_mean(source, names):
            return repr(names[near.split("'")[1]])
    return None
