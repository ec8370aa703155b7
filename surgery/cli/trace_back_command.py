"""The command `trace-back`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from surgery.cli.edit_options import EditOptions
from surgery.cli.examples import make_example
from surgery.cli.extract_options import ModeOptions
from surgery.cli.input_options import InputOptions
from surgery.cli.option_groups import expand_option_groups
from surgery.cli.options import AtOption, ModelArgument, ModelOptions, PluginOptions
from surgery.cli.process_settings import tune_process
from surgery.cli.standard_streams import print_note


@expand_option_groups
def trace_back(
    model: ModelArgument = "facades",
    image: Annotated[
        str | None, typer.Argument(metavar="IMAGE", help="The input. [dim]\\[default: a shipped one][/dim]")
    ] = None,
    pixel: Annotated[str, typer.Option(metavar="ROW,COLUMN", help="The pixel of the output, or a score: 120,88.")] = "",
    at: AtOption = ["*"],  # noqa: B006
    channel: Annotated[
        int | None, typer.Option(metavar="N", help="The channel of the pixel. [dim]\\[default: their mean][/dim]")
    ] = None,
    tensor: Annotated[
        str, typer.Option(metavar="KEY", help="The tensor of the output, if it holds several: [0], [logits].")
    ] = "",
    layout: Annotated[
        list[str], typer.Option(metavar="NAME", help="How values are read as maps, as in `surgery extract`.")
    ] = [],  # noqa: B006
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The folder to write to.")] = Path(
        "traced-back"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that the folder holds.")] = False,
    *,
    reading: InputOptions,
    running: ModeOptions,
    editing: EditOptions,
    loading: ModelOptions,
    plugin_options: PluginOptions,
) -> None:
    """Draw which positions of the image and of each operation a pixel of the output can depend on, and does."""
    place = _parse_pixel(pixel)
    tune_process()
    plugins = plugin_options.open()
    from surgery.cli.console import open_console
    from surgery.cli.trace_back_view import pixel_trace_view
    from surgery.data import inputs
    from surgery.diagnosis import trace_back as run
    from surgery.extraction import copy_for_run
    from surgery.layouts import parse_layouts
    from surgery.models import get_provenance
    from surgery.output import check_overwrite
    from surgery.rewriting import parse_selection
    from surgery.tracing import trace

    selections, layouts = [parse_selection(text) for text in at], parse_layouts(layout)
    editing.recipe(plugins)
    check_overwrite(out.expanduser(), overwrite=overwrite)
    network = loading.load(model, plugins, running.seed)
    for note in get_provenance(network).notes_on_random_weights(network, model):
        print_note(note)
    subject = copy_for_run(network, running.mode.value, running.device)
    example = make_example(subject, image or str(inputs()[0]), reading, plugins)
    traced = editing.apply(
        trace(subject, example, **loading.trace_arguments()),
        subject,
        reading,
        plugins,
        layout=layouts,
        device=running.device,
        seed=running.seed,
    )
    found = run(
        traced,
        example,
        place,
        at=selections,
        channel=channel,
        tensor=tensor,
        layout=layouts,
        limits=reading.find_limits(subject),
        seed=running.seed,
    )
    files = found.save(out.expanduser(), source=model, original=network, overwrite=overwrite)
    for note in found.notes:
        print_note(note)
    console = open_console()
    console.print(pixel_trace_view(found, files, out, console.width), soft_wrap=False)


def _parse_pixel(text: str) -> tuple[int, int]:
    try:
        row, column = map(int, text.split(","))
    except ValueError:
        given = f", not {text!r}" if text else ""
        raise typer.BadParameter(
            f"name a pixel of the output: ROW,COLUMN, such as 120,88{given}", param_hint="--pixel"
        ) from None
    return row, column
