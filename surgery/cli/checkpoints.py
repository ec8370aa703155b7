"""Several checkpoints of one command: which arguments they are, and the folder of each one's run."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from surgery.cli.standard_streams import print_message
from surgery.errors import SurgeryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from surgery.output import Place

T = TypeVar("T")


def split_checkpoints(model: str, given: Sequence[str], *, has_reader: bool) -> tuple[list[str], list[str]]:
    """Return the models and the images among the arguments of `extract`.

    Behind a weights file, further ones with the same suffix are models too, until another argument comes. A pattern
    stands for the files that it matches. Several weights files are in the order of the numbers in their names. With
    `has_reader`, a reader of inputs is chosen, which may read such files: then the first one alone is a model.

    Raises BadParameter for one that comes after an image.
    """
    from surgery.models import WEIGHTS_SUFFIXES
    from surgery.text import natural_key

    suffix = Path(model).suffix.lower()
    if has_reader or suffix not in WEIGHTS_SUFFIXES:
        return [model], list(given)
    is_weights = [Path(text).suffix.lower() == suffix and not Path(text).is_dir() for text in given]
    count = is_weights.index(False) if False in is_weights else len(given)
    if True in is_weights[count:]:
        late = given[count + is_weights[count:].index(True)]
        raise typer.BadParameter(f"models come before images: move {late} before {given[count]}")
    models = dict.fromkeys(file for text in (model, *given[:count]) for file in _find_files(text))
    return sorted(models, key=natural_key), list(given[count:])


def run_folders(models: Sequence[str], out: Place) -> list[Place]:
    """Return the folder of each model's run: `out` itself for one model, else one in it, called like the checkpoint."""
    from surgery.comparison import shorten
    from surgery.text import unique_image_names

    if len(models) == 1:
        return [out]
    names = [Path(model).stem for model in models]
    if len(set(names)) < len(names):  # they are in different folders
        names = shorten([Path(model).with_suffix("").as_posix() for model in models])
    return [out / name for name in unique_image_names(names, reserved=("page", "index.html"))]


def run_checkpoints(folders: Mapping[str, Place], run: Callable[[str, Place], T]) -> list[T]:
    """Run models, each into its folder, and return what it returns of each.

    One of several that fails is reported and left out. Ctrl-C ends with the run that it interrupts.
    """
    if len(folders) == 1:
        return [run(model, folder) for model, folder in folders.items()]
    reports: list[T] = []
    for model, folder in folders.items():
        try:
            reports.append(run(model, folder))
        except SurgeryError as error:
            reason = str(error)
            print_message(reason if model in reason else f"{model}: {reason}")
            continue
        if getattr(reports[-1], "interrupted", False):
            break
    return reports


def _find_files(text: str) -> list[str]:
    """Return the files that a pattern matches; the text itself if it is no pattern or matches none."""
    path = Path(text).expanduser()
    if path.exists() or not glob.has_magic(text):
        return [text]
    return glob.glob(str(path)) or [text]  # noqa: PTH207
