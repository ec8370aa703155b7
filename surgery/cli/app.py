"""The command line: names and text in, values to the functions that do the work."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from surgery.cli.arguments import (
    Allowed,
    At,
    Leaves,
    Mode,
    Model,
    NoPlugin,
    NoPlugins,
    Part,
    PluginFiles,
    Side,
    Sinks,
    Sizing,
    Strict,
    Trusting,
    inputs_of,
    open_plugins,
    range_of,
    readers_of,
    size_of,
)
from surgery.cli.inspect_commands import check, inspect
from surgery.cli.plugin_commands import app as authoring
from surgery.cli.streams import complain, ready_streams, say
from surgery.cli.verify_command import verify
from surgery.errors import SurgeryError

if TYPE_CHECKING:
    from surgery.inputs import Notes
    from surgery.output import Report

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="See inside a trained PyTorch model: every operation it computes, as a picture.",
)


@app.callback(invoke_without_command=True)
def version(
    *, show: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False
) -> None:
    if show:
        from surgery import __version__

        compiled = (
            "" if find_spec("surgery.drawing._kernels") else ", without its compiled passes: drawing takes longer"
        )
        say(f"torch-surgery {__version__}{compiled}")
        raise typer.Exit


@app.command()
def extract(
    model: Model = "facades",
    images: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads it so
        typer.Argument(
            metavar="IMAGES", help="Files, folders and patterns. [dim]\\[default: an input that ships][/dim]"
        ),
    ] = None,
    part: Part = None,
    at: At = ["*"],  # noqa: B006
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The folder to write to.")] = Path(
        "activations"
    ),
    transform: Annotated[
        list[str], typer.Option(metavar="NAME", help="Other maps of each activation's: abs, topk:k=8. Repeatable.")
    ] = [],  # noqa: B006
    layout: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="How values are read as maps: channels-first, channels-last, tokens:14x14, flat; for some operations "
            "'norm*=channels-last'. Repeatable. [dim]\\[default: auto, as the graph tells][/dim]",
        ),
    ] = [],  # noqa: B006
    normalizer: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="NAME",
            help="Which values are the ends of the scale: percentile:low=2,high=98. [dim]\\[default: minmax][/dim]",
        ),
    ] = None,
    tiler: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="NAME", help="How channels are laid out: grid:columns=8,gap=2. [dim]\\[default: grid][/dim]"
        ),
    ] = None,
    colormap: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="NAME", help="A colormap's name. [dim]\\[default: viridis, or the normalizer's own][/dim]"
        ),
    ] = None,
    sink: Sinks = [],  # noqa: B006
    beside: Annotated[
        list[str],
        typer.Option(
            "--input",
            metavar="NAME=FILES",
            help="What forward's parameter NAME is given beside the image: mask=masks/*.png. Repeatable.",
        ),
    ] = [],  # noqa: B006
    reader: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="What reads the images: tensor:key=x; or an input: mask=image:low=0. [dim]\\[default: image][/dim]",
        ),
    ] = [],  # noqa: B006
    size: Sizing = "",
    side: Annotated[
        Side,
        typer.Option(
            help="The half of an AB pair that is the input, or both halves as channels, for a discriminator: both for "
            "one trained from A to B, right,left from B to A."
        ),
    ] = Side.none,
    limits: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--range",
            help="The values of black and white. [dim]\\[default: the network's own, or -1,1][/dim]",
            metavar="LOW,HIGH",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Images in a batch.")] = 1,
    jobs: Annotated[
        int, typer.Option(min=1, metavar="N", help="Processes that share the images: one a core, where they are many.")
    ] = 1,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, ...")] = "cpu",
    mode: Annotated[Mode, typer.Option(help="train is the public pix2pix code's own test mode.")] = Mode.eval,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the random numbers, before every batch.")] = 0,
    stats: Annotated[bool, typer.Option("--stats", help="Exact mean, deviation, zeros and counts as well.")] = False,
    no_output: Annotated[bool, typer.Option("--no-output", help="Stop behind the last chosen operation.")] = False,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Do not compare the first output with the original model's.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run that the folder holds: the files in its manifest.")
    ] = False,
    leaf: Leaves = [],  # noqa: B006
    allow: Allowed = [],  # noqa: B006
    plugin: PluginFiles = [],  # noqa: B006
    no_plugin: NoPlugin = [],  # noqa: B006
    no_plugins: NoPlugins = False,
    strict_plugins: Strict = False,
    trust: Trusting = False,
) -> None:
    """Run a model on images, and draw what every chosen operation computes."""
    _settle_process()
    plugins = open_plugins(plugin, no_plugin, no_plugins, strict_plugins, trust)
    single: dict[Any, str | None] = {"normalizer": normalizer, "tiler": tiler, "colormap": colormap}
    single["reader"], other_readers = readers_of(reader)
    stages: dict[str, Any] = {kind: plugins.resolve(kind, name) for kind, name in single.items() if name}
    stages |= {"sinks": [plugins.resolve("sink", name) for name in sink]} if sink else {}
    stages["transforms"] = [plugins.resolve("transform", name) for name in transform]
    from surgery.cli.tables import Bar, report_view, terminal
    from surgery.data import inputs
    from surgery.extraction import extract as run
    from surgery.inputs import collect_notes, find_images, format_notes, reader_suffixes
    from surgery.layouts import parse_layouts
    from surgery.models import load_model
    from surgery.rewriting import parse_selection

    stages["layout"] = parse_layouts(layout)
    stages["inputs"] = inputs_of(beside)
    stages["readers"] = {name: plugins.resolve("reader", text) for name, text in other_readers.items()}
    chosen = [parse_selection(text) for text in at]
    wanted, span = size_of(size), range_of(limits)
    noticed: Notes = {}
    with collect_notes(noticed):
        given = find_images(images or [str(inputs()[0])], reader_suffixes(stages.get("reader")))
    network = load_model(model, part=part, seed=seed, plugins=plugins)
    with Bar(len(given)) as bar:
        report = run(
            network,
            given,
            at=chosen,
            out=out.expanduser(),
            **stages,
            size=wanted,
            side=side.value,
            range=span,
            batch_size=batch_size,
            jobs=jobs,
            device=device,
            mode=mode.value,
            seed=seed,
            stats=stats,
            output=not no_output,
            leaves=leaf,
            allow=allow,
            check=not no_check,
            source=model,
            overwrite=overwrite,
            watchers=plugins.watchers(),
            progress=bar.advance,
        )
    console = terminal()
    for noted in (*report.hazards, *format_notes(noticed), *report.notes):
        complain(f"note: {noted}")
    console.print(report_view(report, console.width), soft_wrap=False)
    for trouble in report.warnings:
        plugins.warn(trouble)
    _finish(report)


app.command()(inspect)
app.command()(check)
app.command()(verify)
app.add_typer(authoring, name="plugins")


def main() -> None:
    """The entry point of `surgery`: errors of ours are one line and exit code 1, a wrong usage is one and 2."""
    with ready_streams():
        try:
            sys.exit(app(standalone_mode=False) or 0)
        except _MISUSE as error:
            if message := error.format_message().replace(". Did you", "; did you").rstrip("."):
                complain(f"{message[0].lower()}{message[1:]}; {_help_of(error)}")
            sys.exit(error.exit_code)
        except SurgeryError as error:
            complain(str(error))
            sys.exit(1)


_MISUSE: Any = typer.BadParameter.__mro__[2]
"""What is raised for arguments that can't be read; typer has no public name for it."""


def _help_of(error: Any) -> str:
    command = error.ctx.command_path if getattr(error, "ctx", None) else "surgery"
    return f"`{command} --help` lists what it takes"


def _settle_process() -> None:
    """What is measured to be faster for a process that does nothing else, and no library should decide for others."""
    # Torch's: large pages for large tensors, where there are any. A batch's memory is given back to the system after
    # each operation and taken again for the next, page by page.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # Threads of torch that wait for work would else spin, and take the time of those that write.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # The collector would look through all that torch brings, some dozen times, and find next to nothing.
    gc.set_threshold(50_000, 10, 10)
    if "MALLOC_ARENA_MAX" not in os.environ:
        _share_memory_among_threads()


def _share_memory_among_threads() -> None:
    """Have glibc, if it is there, keep one store of memory: what a thread gives back to its own no other can have."""
    import ctypes

    arenas = -8  # M_ARENA_MAX in malloc.h
    with suppress(AttributeError, OSError, TypeError):  # there is no glibc
        ctypes.CDLL(None).mallopt(arenas, 1)


def _finish(report: Report) -> None:
    for failure in report.failed:
        complain(failure.reason if failure.path in failure.reason else f"{failure.path}: {failure.reason}")
    if report.failed:
        complain(f"{len(report.failed)} of {len(report.failed) + report.images} images failed")
    if report.failed or report.interrupted:
        raise typer.Exit(1)
