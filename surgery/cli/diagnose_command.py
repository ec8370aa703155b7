"""The command `diagnose`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from surgery.cli.edit_options import EditOptions
from surgery.cli.extract_options import ModeOptions
from surgery.cli.input_options import InputOptions
from surgery.cli.option_groups import expand_option_groups
from surgery.cli.options import AtOption, ModelArgument, ModelOptions, PluginOptions
from surgery.cli.process_settings import tune_process
from surgery.cli.standard_streams import print_failures, print_note


@expand_option_groups
def diagnose(
    model: ModelArgument = "facades",
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGES", help="Files, folders, patterns. [dim]\\[default: the shipped inputs][/dim]"),
    ] = None,
    at: AtOption = ["*"],  # noqa: B006
    measure: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="What to measure: checkerboard, dead, equivariance. Repeatable. [dim]\\[default: all but a few][/dim]",
        ),
    ] = [],  # noqa: B006
    threshold: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=NUMBER", help="From where on a number is a finding: checkerboard=0.3, noise=none. Repeatable."
        ),
    ] = [],  # noqa: B006
    layout: Annotated[
        list[str], typer.Option(metavar="NAME", help="How values are read as maps, as in `surgery extract`.")
    ] = [],  # noqa: B006
    top: Annotated[
        int, typer.Option(min=1, metavar="N", help="Rows of the table, at most; those with findings come first.")
    ] = 64,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="A folder for plots, a sheet and tables."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that the folder holds.")] = False,
    *,
    editing: EditOptions,
    reading: InputOptions,
    running: ModeOptions,
    loading: ModelOptions,
    plugin_options: PluginOptions,
) -> None:
    """Measure every operation, and name those where something goes wrong: a checkerboard, dead channels, a collapse."""
    thresholds = dict(map(_parse_threshold, threshold))
    tune_process()
    plugins = plugin_options.open()
    arguments = {**reading.arguments(plugins), **running.arguments(), **loading.trace_arguments()}
    edits = editing.recipe(plugins)
    from surgery.cli.console import open_console
    from surgery.cli.diagnosis_view import diagnosis_view
    from surgery.cli.progress import ProgressBar
    from surgery.data import inputs
    from surgery.diagnosis import DEFAULT_MEASURES
    from surgery.diagnosis import diagnose as run
    from surgery.layouts import parse_layouts
    from surgery.rewriting import parse_selection

    selections = [parse_selection(text) for text in at]
    has_files = images or not any(isinstance(given, list) for given in arguments["inputs"].values())
    network = loading.load(model, plugins, running.seed)
    with ProgressBar(None) as bar:
        diagnosis = run(
            network,
            (images or [str(path) for path in inputs()]) if has_files else (),
            at=selections,
            measures=measure or DEFAULT_MEASURES,
            thresholds=thresholds,
            edits=edits,
            reference=editing.reference,
            layout=parse_layouts(layout),
            out=None if out is None else out.expanduser(),
            overwrite=overwrite,
            source=model,
            plugins=plugins,
            progress=bar.advance,
            **arguments,
        )
    for note in diagnosis.notes:
        print_note(note)
    console = open_console()
    console.print(diagnosis_view(diagnosis, top, console.width), soft_wrap=False)
    print_failures(diagnosis.failed, len(diagnosis.images))
    if diagnosis.failed or diagnosis.interrupted:
        raise typer.Exit(1)


def _parse_threshold(text: str) -> tuple[str, float | None]:
    """Return the measure and the number of a text such as ``checkerboard=0.3``. Raises BadParameter."""
    name, equals, number = text.rpartition("=")
    wrong = typer.BadParameter(f"--threshold takes a measure and a number, checkerboard=0.3, not {text!r}")
    if not equals or not name.strip():
        raise wrong
    try:
        return name.strip(), None if number.strip().lower() == "none" else float(number)
    except ValueError:
        raise wrong from None
