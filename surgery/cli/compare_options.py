"""The options of `compare`: what its runs are."""

from __future__ import annotations

import glob
import itertools
import os
import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from surgery.cli.options import ModelOptions
    from surgery.comparison import Run
    from surgery.plugins import Plugins

_RUNS = "Runs"
_CALLABLE = re.compile(r"[^:]+\.py:\S+|[\w.]+:[\w.]+")


class Sort(StrEnum):
    """The order of the rows of a comparison."""

    relative = "relative"
    own = "own"
    execution = "execution"


@dataclass(frozen=True, kw_only=True)
class RunsOptions:
    """Options that say what is compared: each value of each of them, with each model, is a run."""

    epochs: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Weights files as the models, in the order of the numbers in their names: 'checkpoints/*_net_G.pth'. "
            "All arguments are images then.",
            rich_help_panel=_RUNS,
        ),
    ] = None
    mode: Annotated[
        str, typer.Option(metavar="MODES", help="eval, train, as-is, or several: eval,train.", rich_help_panel=_RUNS)
    ] = "eval"
    seed: Annotated[
        str,
        typer.Option(
            metavar="NUMBERS",
            help="Seeds of the random numbers of each image, such as those of dropout in train mode: 1,2,3. With one "
            "seed, all runs draw the same numbers.",
            rich_help_panel=_RUNS,
        ),
    ] = "0"
    dtype: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="float32, bfloat16, float16 or float64, or several. [dim]\\[default: the model's own][/dim]",
            rich_help_panel=_RUNS,
        ),
    ] = ""
    device: Annotated[
        str, typer.Option(metavar="NAMES", help="cpu, cuda, ..., or several: cpu,cuda.", rich_help_panel=_RUNS)
    ] = "cpu"
    edit: Annotated[
        list[str],
        typer.Option(
            metavar="EDITS",
            help="The edits of a run, with ; between them: 'up3.cat = zero'. Each --edit is a run, and '' is the model "
            "without edits, with which a single one is compared.",
            rich_help_panel=_RUNS,
        ),
    ] = field(default_factory=list)

    def make(self, sources: Sequence[str], loading: ModelOptions, plugins: Plugins) -> list[Run]:
        """Return the runs, whose models are loaded. Raises BadParameter, and what `surgery.load_model` raises."""
        from surgery.comparison import Run, WeightStore, name_runs

        seeds = [_parse_seed(text) for text in _split(self.seed, "--seed")]
        varied: list[Sequence[Any]] = [
            sources,
            _split(self.mode, "--mode"),
            seeds,
            _split(self.dtype, "--dtype") if self.dtype else [None],
            _split(self.device, "--device"),
        ]
        others = 1
        for values in varied:
            others *= len(values)
        runs = [
            Run(source, mode=mode, seed=seed, dtype=dtype, device=device, edits=edits)
            for source, mode, seed, dtype, device, edits in itertools.product(
                *varied, self._recipes(plugins, is_alone=others == 1)
            )
        ]
        if len(runs) < 2:
            raise typer.BadParameter(
                "a comparison takes at least 2 runs: give a second model, or --mode eval,train, --seed 1,2, "
                "--dtype float32,bfloat16, or --edit"
            )
        names = name_runs(runs, plugins)
        models: dict[tuple[str, int], nn.Module] = {}
        store = WeightStore()
        for run in runs:
            if (key := (str(run.model), run.seed)) not in models:
                models[key] = loading.load(key[0], plugins, run.seed)
                store.add(models[key])
        return [
            replace(run, model=models[str(run.model), run.seed], source=str(run.model), name=name)
            for run, name in zip(runs, names, strict=True)
        ]

    def _recipes(self, plugins: Plugins, *, is_alone: bool) -> list[list[str]]:
        """Return the edits of each run. If nothing else varies, a single recipe is compared with none."""
        from surgery.editing import parse_edits, resolve_edit

        recipes = [[part.strip() for part in text.split(";") if part.strip()] for text in self.edit] or [[]]
        for _, change in parse_edits([text for recipe in recipes for text in recipe]):
            resolve_edit(change, plugins)
        return [[], *recipes] if is_alone and len(recipes) == 1 and recipes[0] else recipes


def split_models_and_images(given: Sequence[str], epochs: str | None, plugins: Plugins) -> tuple[list[str], list[str]]:
    """Return the models and the images among the arguments of `compare`.

    The first one is a model, and those after it are until one does not look like a model: a weights file, a name that a
    plugin offers, a callable, or a word that is no file. With `epochs`, a pattern of weights files, all are images.

    Raises BadParameter for a model after an image or beside `epochs`, and for a pattern that matches fewer than two
    files.
    """
    if epochs is not None:
        if (model := next((text for text in given if _is_weights_file(text, plugins)), None)) is not None:
            raise typer.BadParameter(f"the models are those of {epochs}: leave out {model}", param_hint="--epochs")
        return _find_epochs(epochs), list(given)
    if not given:
        raise typer.BadParameter("give a model: MODEL [MODEL ...] IMAGES...")
    if _is_image_file(given[0]):
        raise typer.BadParameter(f"{given[0]} is an image, and models come before images: facades {given[0]}")
    count = next((place for place, text in enumerate(given) if place and not _is_model(text, plugins)), len(given))
    late = next((text for text in given[count:] if _is_weights_file(text, plugins)), None)
    if late is not None:
        raise typer.BadParameter(f"models come before images: move {late} before {given[count]}")
    return list(given[:count]), list(given[count:])


def _find_epochs(pattern: str) -> list[str]:
    from surgery.text import natural_key

    found = sorted(glob.glob(str(Path(pattern).expanduser())), key=natural_key)  # noqa: PTH207
    if len(found) < 2:
        matches = f"only {found[0]}" if found else "no file"
        raise typer.BadParameter(f"{pattern} matches {matches}, and a comparison takes 2", param_hint="--epochs")
    return found


def _is_model(text: str, plugins: Plugins) -> bool:
    from surgery.errors import PluginError

    path = Path(text).expanduser()
    if _is_weights_file(text, plugins):
        return True
    if os.path.exists(path) or glob.has_magic(text) or not text.strip():  # noqa: PTH110 - no error for a long name
        return False
    try:
        family, slash, _ = text.partition("/")
        if plugins.find("model", family if slash else text) is not None:
            return True
    except PluginError:
        return True  # which says what is wrong when it is loaded
    return _CALLABLE.fullmatch(text) is not None or not (path.suffix or slash)


def _is_weights_file(text: str, plugins: Plugins) -> bool:
    from surgery.models import is_weights_source

    return is_weights_source(Path(text).expanduser(), plugins)


def _is_image_file(text: str) -> bool:
    from surgery.models import IMAGE_SUFFIXES

    path = Path(text).expanduser()
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()


def split_edits(given: Sequence[str], edits: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments that are no edits, and all edits: after ``--edit ''`` others may follow, as in a list."""
    found = [text for text in given if edits and "=" in text and not glob.glob(str(Path(text).expanduser()))]  # noqa: PTH207
    return [text for text in given if text not in found], [*edits, *found]


def _split(text: str, option: str) -> list[str]:
    """Return the values of an option that are separated by commas. Raises BadParameter for none."""
    values = [part.strip() for part in text.split(",")]
    if not all(values):
        raise typer.BadParameter(f"values are separated by commas, and none is empty: not {text!r}", param_hint=option)
    return values


def _parse_seed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"a seed is a whole number, not {text!r}", param_hint="--seed") from None


def parse_alignment(texts: Sequence[str]) -> dict[str, str]:
    """Return the values of --align as a mapping. Raises BadParameter."""
    names: dict[str, str] = {}
    for text in texts:
        one, equals, other = (part.strip() for part in text.partition("="))
        if not (equals and one and other):
            raise typer.BadParameter(f"an alignment is PATTERN=PATTERN, not {text!r}", param_hint="--align")
        names[one] = other
    return names
