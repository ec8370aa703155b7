"""The options of commands that read files as inputs of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surgery.cli.options import parse_size

if TYPE_CHECKING:
    from surgery.plugins import Plugins

INPUTS = "Images"
"""The panel of these options in the help text."""


class Side(StrEnum):
    """The half of an AB pair that is the input, or both halves as channels."""

    left = "left"
    right = "right"
    both = "both"
    left_right = "left,right"
    right_left = "right,left"
    none = "none"


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """Options that say how files become the inputs of a model."""

    other_inputs: Annotated[
        list[str],
        typer.Option(
            "--input",
            metavar="NAME=FILES",
            help="Files for the parameter NAME of the model's forward, beside the images: mask=masks/*.png. "
            "Repeatable.",
            rich_help_panel=INPUTS,
        ),
    ] = field(default_factory=list)
    reader: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="What reads the images: tensor:key=x; or another input: mask=image:low=0. "
            "[dim]\\[default: image][/dim]",
            rich_help_panel=INPUTS,
        ),
    ] = field(default_factory=list)
    size: Annotated[
        str,
        typer.Option(
            metavar="SIZE",
            help="N, HxW or native. [dim]\\[default: the network's own][/dim]",
            rich_help_panel=INPUTS,
        ),
    ] = ""
    side: Annotated[
        Side,
        typer.Option(
            metavar="HALF",
            help="The half of an AB pair that is the input: left, right or none. For a discriminator, both halves as "
            "channels: both if it was trained from A to B, right,left if from B to A.",
            rich_help_panel=INPUTS,
        ),
    ] = Side.none
    value_range: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="LOW,HIGH",
            help="The values of black and white. [dim]\\[default: the network's own, or -1,1][/dim]",
            rich_help_panel=INPUTS,
        ),
    ] = None

    def arguments(self, plugins: Plugins) -> dict[str, Any]:
        """Return the arguments of `surgery.extract` for these options. Raises BadParameter."""
        image_reader, other_readers = parse_readers(self.reader)
        return {
            **({"reader": plugins.resolve("reader", image_reader)} if image_reader else {}),
            "readers": {name: plugins.resolve("reader", text) for name, text in other_readers.items()},
            "inputs": parse_inputs(self.other_inputs),
            "size": parse_size(self.size),
            "side": self.side.value,
            "range": parse_range(self.value_range),
        }


def parse_inputs(texts: list[str]) -> dict[str, list[str]]:
    """Return the values of --input: files by the name of the parameter. Raises BadParameter."""
    files_by_name: dict[str, list[str]] = {}
    for text in texts:
        name, equals, files = text.partition("=")
        if not (equals and files and name.isidentifier()):
            raise typer.BadParameter(f"an input is NAME=FILES, not {text!r}", param_hint="--input")
        files_by_name.setdefault(name, []).append(files)
    return files_by_name


def parse_readers(texts: list[str]) -> tuple[str | None, dict[str, str]]:
    """Return the values of --reader: the reader of the images, or None, and those of other inputs by name."""
    image_reader: str | None = None
    other_readers: dict[str, str] = {}
    for text in texts:
        name, equals, reader = text.partition("=")
        if equals and name.isidentifier():
            other_readers[name] = reader
        else:
            image_reader = text
    return image_reader, other_readers


def parse_range(text: str | None) -> tuple[float, float] | None:
    """Return the value of --range. Raises BadParameter."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"a range is LOW,HIGH, not {text!r}", param_hint="--range") from None
    if not low < high:
        raise typer.BadParameter(f"a range is LOW,HIGH with LOW < HIGH, not {text!r}", param_hint="--range")
    return low, high
