"""What the user probably meant by a source that is not a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import did_you_mean
from surgery.models.callables import list_definitions
from surgery.plugins import describe_error
from surgery.stages import ModelFamily
from surgery.text import abbreviate_list

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from surgery.plugins import Plugins

IMAGE_SUFFIXES = frozenset(
    ".bmp .gif .jpeg .jpg .jp2 .png .ppm .pgm .tif .tiff .tga .webp .heic .avif".split()  # noqa: SIM905
)


def path_is(path: Path, predicate: Callable[[Path], bool]) -> bool:
    """Return whether a predicate such as `Path.is_file` holds; False for a text that can't be a path."""
    try:
        return predicate(path)
    except (OSError, ValueError):
        return False


def describe_command_with_image(source: str) -> str:
    """Return how to write a command whose first argument is an image, where a model is expected."""
    return f"{source} is an image, and the model comes first: facades {source}"


def explain_source(source: str, path: Path, suffixes: Sequence[str]) -> str | None:
    """Return what a source that is not a model is, and what to write instead; None if it can't be told.

    `suffixes` are those of weights files.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source):
        return f"{source} is an address; nothing is downloaded: fetch the file, and name it here"
    if path_is(path, Path.is_dir):
        return _explain_folder(source, path, suffixes)
    if path.suffix == ".py":
        return _explain_python_file(source, path)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return describe_command_with_image(source)
    similar = suggest_file(path, suffixes)
    if similar or path.suffix.lower() in suffixes:
        return f"there is no file {source}{similar}"
    return None


def _explain_folder(source: str, folder: Path, suffixes: Sequence[str]) -> str:
    from surgery.models.checkpoints import describe_tensorflow_folder, list_weights_files

    names = list_weights_files(folder, suffixes)
    if not names and (description := describe_tensorflow_folder(folder)):
        return f"{source} {description}"
    if not names:
        return f"{source} is a folder with no weights file ({', '.join(suffixes)}) in it"
    first = "latest_net_G.pth" if "latest_net_G.pth" in names else names[0]
    shown = abbreviate_list(names, 8)
    return f"{source} is a folder; name one of the weights files in it, such as {folder / first}; it has {shown}"


def _explain_python_file(source: str, path: Path) -> str:
    if not path_is(path, Path.is_file):
        return f"there is no file {source}"
    names = list_definitions(path)
    shown = f"; it has {', '.join(names[:8])}" if names else ""
    return f"{source} is a Python file; name the callable in it that returns the model: {source}:NAME{shown}"


def suggest_file(path: Path, suffixes: Sequence[str]) -> str:
    """Return ``; did you mean exp/latest_net_G.pth?`` for a weights file of a similar name; empty if there is none."""
    from surgery.models.checkpoints import list_weights_files

    with_slashes = Path(str(path).replace("\\", "/"))
    candidates = [with_slashes, *(Path(f"{with_slashes}{suffix}") for suffix in suffixes)]
    near = next((each for each in candidates if each != path and path_is(each, Path.is_file)), None)
    if near is not None:
        return f"; did you mean {near}?"
    if path.parent == Path() and path.suffix.lower() not in suffixes:
        return ""  # a name, which may be that of a model
    if not path_is(path.parent, Path.is_dir):
        return f": there is no folder {path.parent}" if path.suffix.lower() in suffixes else ""
    return did_you_mean(path.name, list_weights_files(path.parent, suffixes))


def suggest_model(source: str, plugins: Plugins) -> str | None:
    """Return the quoted names of models, also of those in families, that are like `source`; None if there are none."""
    for plugin, offered in plugins.iterate_offers("model"):  # one after the other: some take seconds to import
        by_lower_name: dict[str, str] = {}
        exact: list[str] = []
        for family, model in offered.items():
            by_lower_name[family.lower()] = family
            if not isinstance(model, ModelFamily):
                continue
            try:
                members = list(model.names())
            except Exception as error:  # noqa: BLE001 - whatever a plugin's code raises
                plugins.warn(f"plugin {plugin.name}: model {family!r} raised {describe_error(error)}")
                continue
            exact += [f"{family}/{name}" for name in members if name.lower() == source.lower()]
            by_lower_name |= {f"{family}/{name}".lower(): f"{family}/{name}" for name in members}
            short = {name.lower(): f"{family}/{name}" for name in reversed(members)}
            by_lower_name |= {name: full for name, full in short.items() if name not in by_lower_name}
        if exact:
            return " or ".join(repr(name) for name in exact[:3])
        if near := did_you_mean(source, by_lower_name):
            return repr(by_lower_name[near.split("'")[1]])
    return None
