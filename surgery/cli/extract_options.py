"""The options of `extract`, in groups: each returns the arguments of `surgery.extract` that it stands for."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surgery.cli.input_options import INPUTS, InputOptions
from surgery.cli.shard_option import parse_shard

if TYPE_CHECKING:
    from surgery.plugins import Plugins

_DRAWING = "Drawing"
_OUTPUT = "Output"
_RUN = "Run"


class Mode(StrEnum):
    """The mode of the model's modules during a run."""

    eval = "eval"
    train = "train"
    as_is = "as-is"


@dataclass(frozen=True, kw_only=True)
class DrawingOptions:
    """Options that say how activations become pictures."""

    transform: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="A transform of the maps before they are drawn: abs, topk:k=8. Repeatable.",
            rich_help_panel=_DRAWING,
        ),
    ] = field(default_factory=list)
    layout: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="How values are read as maps: channels-first, channels-last, tokens:14x14, flat; for some operations "
            "'norm*=channels-last'. Repeatable. [dim]\\[default: auto, from the graph][/dim]",
            rich_help_panel=_DRAWING,
        ),
    ] = field(default_factory=list)
    normalizer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What chooses the limits of a picture: percentile:low=2,high=98. [dim]\\[default: minmax][/dim]",
            rich_help_panel=_DRAWING,
        ),
    ] = None
    tiler: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How maps are arranged: grid:columns=8,gap=2. [dim]\\[default: grid][/dim]",
            rich_help_panel=_DRAWING,
        ),
    ] = None
    colormap: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The name of a colormap. [dim]\\[default: viridis, or the normalizer's own][/dim]",
            rich_help_panel=_DRAWING,
        ),
    ] = None

    def arguments(self, plugins: Plugins) -> dict[str, Any]:
        """Return the arguments of `surgery.extract` for these options."""
        stages: dict[str, Any] = {}
        if self.normalizer:
            stages["normalizer"] = plugins.resolve("normalizer", self.normalizer)
        if self.tiler:
            stages["tiler"] = plugins.resolve("tiler", self.tiler)
        if self.colormap:
            stages["colormap"] = plugins.resolve("colormap", self.colormap)
        stages["transforms"] = [plugins.resolve("transform", name) for name in self.transform]
        from surgery.layouts import parse_layouts

        stages["layout"] = parse_layouts(self.layout)
        return stages


@dataclass(frozen=True, kw_only=True)
class ImageOptions(InputOptions):
    """Options that say how images are read, and how many at a time."""

    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Images in a batch.", rich_help_panel=INPUTS)] = 1

    def arguments(self, plugins: Plugins) -> dict[str, Any]:
        """Return the arguments of `surgery.extract` for these options. Raises BadParameter."""
        return {**super().arguments(plugins), "batch_size": self.batch_size}


@dataclass(frozen=True, kw_only=True)
class ModeOptions:
    """Options that say where, in which mode and from which seed a model runs."""

    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, ...", rich_help_panel=_RUN)] = "cpu"
    mode: Annotated[
        Mode,
        typer.Option(
            metavar="MODE",
            help="eval, train or as-is. The public pix2pix code runs its tests in train mode.",
            rich_help_panel=_RUN,
        ),
    ] = Mode.eval
    seed: Annotated[
        int,
        typer.Option(metavar="N", help="The seed of the random numbers of each batch.", rich_help_panel=_RUN),
    ] = 0

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `surgery.extract` for these options."""
        return {"device": self.device, "mode": self.mode.value, "seed": self.seed}


@dataclass(frozen=True, kw_only=True)
class RunOptions(ModeOptions):
    """Options that say how the model runs."""

    jobs: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Processes that share the images; for many images, one per core. Short for processes:workers=N.",
            rich_help_panel=_RUN,
        ),
    ] = 1
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What runs the batches: local, processes:workers=4, or an engine of a plugin. "
            "[dim]\\[default: local][/dim]",
            rich_help_panel=_RUN,
        ),
    ] = None
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="K/N",
            help="Do part K of N of the run, in a folder of its own below --out; auto: as Slurm says. "
            "`surgery merge` puts the parts together.",
            rich_help_panel=_RUN,
        ),
    ] = None
    readers: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Threads that read images beside the model; 0: its own.", rich_help_panel=_RUN
        ),
    ] = 1
    writers: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Threads that draw and write beside the model; 0: its own. For a GPU, several.",
            rich_help_panel=_RUN,
        ),
    ] = 1
    no_output: Annotated[
        bool,
        typer.Option("--no-output", help="Stop after the last chosen operation.", rich_help_panel=_RUN),
    ] = False
    gradients: Annotated[
        str | None,
        typer.Option(
            metavar="OF",
            help="Also draw the gradient of each chosen value: of the output's mean (output), of a part of it "
            "(channel=3,region=0,0,0.5,0.5; channel=top; pixel=12,40), or of a loss (loss.py:function).",
            rich_help_panel=_RUN,
        ),
    ] = None
    grad_cam: Annotated[
        bool,
        typer.Option("--grad-cam", help="Also draw the Grad-CAM of each chosen operation.", rich_help_panel=_RUN),
    ] = False
    no_check: Annotated[
        bool,
        typer.Option(
            "--no-check",
            help="Don't compare the first output with the original model's.",
            rich_help_panel=_RUN,
        ),
    ] = False

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `surgery.extract` for these options, without the engine."""
        return {
            **super().arguments(),
            "jobs": self.jobs,
            "shard": parse_shard(self.shard),
            "reader_threads": self.readers,
            "writer_threads": self.writers,
            "output": not self.no_output,
            "gradients": self.gradients,
            "grad_cam": self.grad_cam,
            "check": not self.no_check,
        }


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Options that say what is written, and where."""

    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="The folder to write to, or an address: s3://bucket/run.",
            rich_help_panel=_OUTPUT,
        ),
    ] = "activations"
    sink: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="What to write: png, sheet, page, npz, safetensors. Repeatable. [dim]\\[default: png, sheet][/dim]",
            rich_help_panel=_OUTPUT,
        ),
    ] = field(default_factory=list)
    page: Annotated[
        bool,
        typer.Option(
            "--page",
            help="Also write the page of the run, index.html, to walk through it in a browser. It shows the PNG files.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False
    measure: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="What to measure of each channel, for the manifest: checkerboard, dead, rank. Repeatable.",
            rich_help_panel=_OUTPUT,
        ),
    ] = field(default_factory=list)
    stats: Annotated[
        bool,
        typer.Option("--stats", help="Also record exact means, deviations, zeros and counts.", rich_help_panel=_OUTPUT),
    ] = False
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace the run that the folder holds: the files in its manifest.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False

    def arguments(self, plugins: Plugins) -> dict[str, Any]:
        """Return the arguments of `surgery.extract` for these options."""
        sinks = {"sinks": self._sinks(plugins)} if self.sink or self.page else {}
        for name in self.measure:
            plugins.resolve("measure", name)  # so that an unknown name is an error before the model is loaded
        settings = {"measures": self.measure, "stats": self.stats, "overwrite": self.overwrite}
        from surgery.output import parse_place

        return {"out": parse_place(os.path.expanduser(self.out)), **settings, **sinks}  # noqa: PTH111 - may be no path

    def _sinks(self, plugins: Plugins) -> list[Any]:
        """Return the chosen sinks; with --page, also those of the page and of the pictures that it shows."""
        from surgery.builtin import Page, Png

        sinks = [plugins.resolve("sink", name) for name in self.sink or ("png", "sheet")]
        for needed in (Png, Page) if self.page else ():
            if not any(isinstance(sink, needed) for sink in sinks):
                sinks.append(needed())
        return sinks
