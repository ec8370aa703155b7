"""The options of commands that read files as inputs of a model."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surgery.cli.options import parse_size

if TYPE_CHECKING:
    from torch import nn

    from surgery.inputs import FilePatterns, RunInputs
    from surgery.plugins import Plugins
    from surgery.stages import Limits

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
            help="Files for the parameter NAME of the model's forward, beside the images or in their place: "
            "mask=masks/*.png; or a number, true, false, null, or a list of numbers: timestep=10. Repeatable.",
            rich_help_panel=INPUTS,
        ),
    ] = field(default_factory=list)
    reader: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="What reads the images: tensor:key=x; or another input: mask=image:low=0. "
            "[dim]\\[default: image, array or waveform, by the first file's suffix][/dim]",
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

    def find_files(self, model: nn.Module, images: FilePatterns, plugins: Plugins) -> RunInputs:
        """Return the files of a run on images. Raises ImageError, ModelError and PluginError as `surgery.extract`."""
        from surgery.builtin import default_reader
        from surgery.inputs import find_inputs

        options = self.arguments(plugins)
        return find_inputs(
            model,
            images,
            reader=options.get("reader"),
            default_reader=default_reader,
            inputs=options["inputs"],
            readers=options["readers"],
            size=options["size"],
            side=options["side"],
            value_range=options["range"],
        )

    def find_limits(self, model: nn.Module) -> Limits:
        """Return the values of black and white: those of --range, or those that the model wants."""
        from surgery.inputs import model_preprocessing

        given, preprocessing = parse_range(self.value_range), model_preprocessing(model)
        if given is not None:
            return given
        return preprocessing.limits if preprocessing is not None else (-1.0, 1.0)


def read_standard_input(images: list[str]) -> list[str | Path]:
    """Return names of images with ``-`` replaced by the paths that standard input lists.

    Raises ImageError for a standard input that lists none, and BadParameter for one that is a terminal.
    """
    from surgery.inputs import parse_list

    given: list[str | Path] = []
    for number, name in enumerate(images):
        if name != "-":
            given.append(name)
        elif sys.stdin is None or sys.stdin.isatty():
            raise typer.BadParameter("- reads the paths of images from standard input, which is a terminal")
        elif "-" in images[:number]:
            raise typer.BadParameter("- is given twice, and standard input can be read once")
        else:
            given += parse_list(sys.stdin.buffer.read(), "standard input")
    return given


def parse_inputs(texts: list[str]) -> dict[str, Any]:
    """Return the values of --input by the name of the parameter: files, or a value. Raises BadParameter."""
    inputs: dict[str, Any] = {}
    for text in texts:
        name, equals, given = text.partition("=")
        if not (equals and given and name.isidentifier()):
            raise typer.BadParameter(f"an input is NAME=FILES, not {text!r}", param_hint="--input")
        is_value, value = _parse_value(given)
        if not is_value and isinstance(files := inputs.setdefault(name, []), list):
            files.append(given)
        elif name in inputs:
            raise typer.BadParameter(f"the input {name} is given twice", param_hint="--input")
        else:
            inputs[name] = value
    return inputs


def _parse_value(text: str) -> tuple[bool, Any]:
    """Return whether a text is a number, true, false, null or a list of numbers, and not a file; and its value."""
    try:
        value = json.loads(text)
    except ValueError:
        return False, None
    if isinstance(value, (str, dict)) or Path(text).exists():
        return False, None
    return True, tuple(value) if isinstance(value, list) else value


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
