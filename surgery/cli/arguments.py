"""What several commands take, and how what goes wrong is said."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from surgery.cli.streams import Stream, complain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from surgery.inputs import Size
    from surgery.plugins import Plugins, UntrustedPlugins


class Side(StrEnum):
    """Which half of an AB pair is the input, or both halves as channels."""

    left = "left"
    right = "right"
    both = "both"
    left_right = "left,right"
    right_left = "right,left"
    none = "none"


class Mode(StrEnum):
    """How the model runs."""

    eval = "eval"
    train = "train"
    as_is = "as-is"


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A weights file, a name such as torchvision/resnet18, file.py:callable or module:callable.",
    ),
]
Part = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it so
    typer.Option(metavar="NAME", help="The network to take of a weights file that holds several, such as netG."),
]
At = Annotated[
    list[str],
    typer.Option(
        "--at",
        metavar="SELECTION",
        help="Operations: patterns of paths, op:KIND, inside:MODULE, joined by & | ~ ( ). Repeatable.",
    ),
]
Leaves = Annotated[
    list[str], typer.Option("--leaf", metavar="MODULE", help="A module to keep whole: its path or class. Repeatable.")
]
Allowed = Annotated[
    list[str], typer.Option("--allow", metavar="KIND", help="A kind of hazard to accept when tracing. Repeatable.")
]
Sinks = Annotated[
    list[str],
    typer.Option(
        metavar="NAME",
        help="What to write: png, sheet, npz, safetensors. Repeatable. [dim]\\[default: png, sheet][/dim]",
    ),
]
Sizing = Annotated[
    str, typer.Option(metavar="SIZE", help="N, HxW or native. [dim]\\[default: the network's own][/dim]")
]


PluginFiles = Annotated[
    list[Path], typer.Option("--plugin", metavar="PATH", help="A plugin: a Python file or a folder. Repeatable.")
]
NoPlugin = Annotated[list[str], typer.Option(metavar="NAME", help="A plugin to leave out. Repeatable.")]
NoPlugins = Annotated[bool, typer.Option("--no-plugins", help="Leave out all but the built-in ones and --plugin's.")]
Strict = Annotated[bool, typer.Option("--strict-plugins", help="Take what is wrong with any plugin as an error.")]


Trusting = Annotated[
    bool, typer.Option("--trust", help="Run the plugins that the pyproject.toml here names, this once.")
]


def open_plugins(files: list[Path], blocked: list[str], bare: bool, strict: bool, trust: bool) -> Plugins:
    """The plugins that these options ask for; what is wrong with one is said at once.

    The user is asked once, in a terminal, whether a project's plugins may run; elsewhere they do not.
    """
    from surgery.plugins import Plugins

    consent = (lambda _: True) if trust else ask_for_trust
    return Plugins(files, blocked=blocked, bare=bare, strict=strict, on_warning=complain, confirm_trust=consent)


def ask_for_trust(several: Sequence[UntrustedPlugins]) -> bool:
    """Whether the user says that a project's plugins may run. The answer is remembered, and so is a no."""
    from surgery.plugins import record_trust

    if all(one.status == "refused" for one in several) or not _is_somebody_there():
        return False
    for by in dict.fromkeys(one.request.source for one in several):
        complain(f"{by} names plugins, whose code would run:")
        for one in several:
            for file in one.files if one.request.source == by else ():
                complain(f"  {file}{'  (or another file of it has changed)' if one.status == 'changed' else ''}")
    Stream(sys.stderr).write("surgery: run it, now and as long as it stays the same? [y/N] ")
    sys.stderr.flush()
    agreed = sys.stdin.readline().strip().lower() in ("y", "yes")
    for one in several:
        record_trust(one.request.path, one.files, trusted=agreed)
    return agreed


def _is_somebody_there() -> bool:
    return not os.environ.get("CI") and all(
        stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)
    )


def open_model(source: str, part: str | None, plugins: Plugins, seed: int = 0) -> nn.Module:
    """The model that is named; it is said which network of a file it is. Raises ModelError with what there is."""
    from surgery.models import get_provenance, load_model

    model = load_model(source, part=part, seed=seed, plugins=plugins)
    for note in get_provenance(model).notes_on_choice(source):
        complain(f"note: {note}")
    return model


def inputs_of(texts: list[str]) -> dict[str, list[str]]:
    """The values of --input: files by the name of the input."""
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, files = text.partition("=")
        if not (equals and files and name.isidentifier()):
            raise typer.BadParameter(f"an input is NAME=FILES, not {text!r}", param_hint="--input")
        found.setdefault(name, []).append(files)
    return found


def readers_of(texts: list[str]) -> tuple[str | None, dict[str, str]]:
    """The values of --reader: that of the images, and those of other inputs by name."""
    images: str | None = None
    others: dict[str, str] = {}
    for text in texts:
        name, equals, reader = text.partition("=")
        if equals and name.isidentifier():
            others[name] = reader
        else:
            images = text
    return images, others


def size_of(text: str) -> Size:
    """The value of --size."""
    if text == "":
        return None
    if text == "native":
        return "native"
    sides = text.lower().split("x")
    if not all(side.isdigit() and int(side) for side in sides) or len(sides) > 2:
        raise typer.BadParameter(f"a size is N, HxW or native, not {text!r}", param_hint="--size")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def range_of(text: str | None) -> tuple[float, float] | None:
    """The value of --range."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"a range is LOW,HIGH, not {text!r}", param_hint="--range") from None
    if not low < high:
        raise typer.BadParameter(f"a range is LOW,HIGH with LOW < HIGH, not {text!r}", param_hint="--range")
    return low, high
