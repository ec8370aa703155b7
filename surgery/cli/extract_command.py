"""The command `extract`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from surgery.cli.edit_options import ReferenceOptions
from surgery.cli.extract_options import DrawingOptions, ImageOptions, OutputOptions, RunOptions
from surgery.cli.option_groups import expand_option_groups
from surgery.cli.options import AtOption, ModelArgument, ModelOptions, PluginOptions
from surgery.cli.process_settings import tune_process
from surgery.cli.standard_streams import print_failures, print_note

if TYPE_CHECKING:
    from collections.abc import Iterable

    from surgery.output import Report


@expand_option_groups
def extract(
    model: ModelArgument = "facades",
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGES", help="Files, folders and patterns. [dim]\\[default: a shipped input][/dim]"),
    ] = None,
    at: AtOption = ["*"],  # noqa: B006
    *,
    output: OutputOptions,
    editing: ReferenceOptions,
    drawing: DrawingOptions,
    reading: ImageOptions,
    running: RunOptions,
    loading: ModelOptions,
    plugin_options: PluginOptions,
) -> None:
    """Run a model on images, and draw the value of every chosen operation."""
    tune_process()
    plugins = plugin_options.open()
    arguments = {
        **drawing.arguments(plugins),
        **reading.arguments(plugins),
        **running.arguments(),
        **output.arguments(plugins),
        **loading.trace_arguments(),
        "edits": editing.recipe(plugins),
        "reference": editing.reference,
        "plugins": plugins,
    }
    from surgery.cli.progress import ProgressBar
    from surgery.data import inputs
    from surgery.extraction import extract as run
    from surgery.inputs import collect_notes, find_images, reader_suffixes
    from surgery.models import load_model
    from surgery.output import Notes, format_notes
    from surgery.rewriting import parse_selection

    selections = [parse_selection(text) for text in at]
    notes: Notes = {}
    with collect_notes(notes):
        has_files = images or not any(isinstance(given, list) for given in arguments["inputs"].values())
        chosen = images or [str(inputs()[0])]
        paths = find_images(chosen, reader_suffixes(arguments.get("reader"))) if has_files else []
    network = load_model(model, part=loading.part, seed=running.seed, plugins=plugins)
    with ProgressBar(len(paths) or None) as bar:
        report = run(
            network,
            paths,
            at=selections,
            source=model,
            watchers=plugins.watchers(),
            progress=bar.advance,
            **arguments,
        )
    _print_report(report, format_notes(notes))
    for warning in report.warnings:
        plugins.warn(warning)
    print_failures(report.failed, report.images)
    if report.failed or report.interrupted:
        raise typer.Exit(1)


def _print_report(report: Report, reading_notes: Iterable[str]) -> None:
    from surgery.cli.console import open_console
    from surgery.cli.run_views import report_view

    for note in (*report.hazards, *reading_notes, *report.notes):
        print_note(note)
    console = open_console()
    console.print(report_view(report, console.width), soft_wrap=False)
