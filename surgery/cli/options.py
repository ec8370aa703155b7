"""Arguments and options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surgery.cli.standard_streams import print_message, print_note
from surgery.cli.trust_prompt import ask_for_trust

if TYPE_CHECKING:
    from torch import nn

    from surgery.inputs import Size
    from surgery.plugins import Plugins

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A weights file, a name such as torchvision/resnet18, file.py:callable or module:callable.",
    ),
]
AtOption = Annotated[
    list[str],
    typer.Option(
        "--at",
        metavar="SELECTION",
        help="Operations: patterns of paths, op:KIND, inside:MODULE, joined by & | ~ ( ). Repeatable.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_MODEL = "Model"
_PLUGINS = "Plugins"


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Options that say how a model is loaded and traced."""

    part: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The network to take from a weights file that holds several, such as netG.",
            rich_help_panel=_MODEL,
        ),
    ] = None
    leaf: Annotated[
        list[str],
        typer.Option(
            metavar="MODULE",
            help="A module to keep whole, by its path or its class. Repeatable.",
            rich_help_panel=_MODEL,
        ),
    ] = field(default_factory=list)
    allow: Annotated[
        list[str],
        typer.Option(metavar="KIND", help="A kind of hazard to accept. Repeatable.", rich_help_panel=_MODEL),
    ] = field(default_factory=list)
    front_end: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="symbolic (a graph of torch.fx), observed (any Python), or auto: symbolic where it is faithful.",
            rich_help_panel=_MODEL,
        ),
    ] = "auto"

    def trace_arguments(self) -> dict[str, Any]:
        """Return the options of tracing as arguments of `surgery.trace`."""
        return {"leaves": self.leaf, "allow": self.allow, "front_end": self.front_end}

    def load(self, source: str, plugins: Plugins, seed: int = 0) -> nn.Module:
        """Return the model that `source` names, and print which network of a file it is. Raises ModelError."""
        from surgery.models import get_provenance, load_model

        model = load_model(source, part=self.part, seed=seed, plugins=plugins)
        for note in get_provenance(model).notes_on_network(source):
            print_note(note)
        return model


@dataclass(frozen=True, kw_only=True)
class PluginOptions:
    """Options that say which plugins a command uses."""

    plugin: Annotated[
        list[Path],
        typer.Option(metavar="PATH", help="A plugin: a Python file or a folder. Repeatable.", rich_help_panel=_PLUGINS),
    ] = field(default_factory=list)
    no_plugin: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="A plugin to leave out. Repeatable.", rich_help_panel=_PLUGINS),
    ] = field(default_factory=list)
    no_plugins: Annotated[
        bool,
        typer.Option(
            "--no-plugins",
            help="Use the built-in plugins and those of --plugin alone.",
            rich_help_panel=_PLUGINS,
        ),
    ] = False
    strict_plugins: Annotated[
        bool,
        typer.Option("--strict-plugins", help="Stop at any fault of a plugin.", rich_help_panel=_PLUGINS),
    ] = False
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Run the plugins that pyproject.toml names, this once.",
            rich_help_panel=_PLUGINS,
        ),
    ] = False

    def open(self) -> Plugins:
        """Return the plugins that these options choose, and print their faults.

        In a terminal, the user is asked whether the plugins of a project may run. Elsewhere they don't run.
        """
        from surgery.plugins import Plugins

        return Plugins(
            self.plugin,
            blocked=self.no_plugin,
            bare=self.no_plugins,
            strict=self.strict_plugins,
            on_warning=print_message,
            confirm_trust=(lambda _: True) if self.trust else ask_for_trust,
        )

    @property
    def are_given(self) -> bool:
        """Whether the user gave any of these options."""
        return self != PluginOptions()


def parse_size(text: str) -> Size:
    """Return the value of --size: None for "", "native", a side, or (height, width). Raises BadParameter."""
    if text == "":
        return None
    if text == "native":
        return "native"
    sides = text.lower().split("x")
    if not all(side.isdigit() and int(side) for side in sides) or len(sides) > 2:
        raise typer.BadParameter(f"a size is N, HxW or native, not {text!r}", param_hint="--size")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))
