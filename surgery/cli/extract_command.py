"""The command `extract`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from surgery.cli.checkpoints import run_checkpoints, run_folders, split_checkpoints
from surgery.cli.edit_options import EditOptions
from surgery.cli.estimate_options import EstimateOptions
from surgery.cli.extract_options import DrawingOptions, ImageOptions, OutputOptions, RunOptions
from surgery.cli.input_options import read_standard_input
from surgery.cli.option_groups import expand_option_groups
from surgery.cli.options import AtOption, ModelArgument, ModelOptions, PluginOptions
from surgery.cli.process_settings import tune_process
from surgery.cli.standard_streams import print_failures, print_message, print_note, print_output

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from surgery.extraction import Estimate
    from surgery.output import Place, Report


@expand_option_groups
def extract(
    model: ModelArgument = "facades",
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGES",
            help="Files, folders, patterns, tar shards and Parquet tables, here or at addresses "
            "(s3://bucket/photos/), a list of files (@list.txt), or - for a list from standard input; before them, "
            "further weights files, each of which has a run of its own. [dim]\\[default: a shipped input][/dim]",
        ),
    ] = None,
    at: AtOption = ["*"],  # noqa: B006
    *,
    output: OutputOptions,
    editing: EditOptions,
    drawing: DrawingOptions,
    reading: ImageOptions,
    running: RunOptions,
    pricing: EstimateOptions,
    loading: ModelOptions,
    plugin_options: PluginOptions,
) -> None:
    """Run a model on images, and draw the value of every chosen operation.

    Several weights files have a run each, in a folder of its own below --out. With --dry-run nothing is run or written.
    """
    pricing.check()
    tune_process()
    plugins = plugin_options.open()
    arguments = {
        **drawing.arguments(plugins),
        **reading.arguments(plugins),
        **running.arguments(),
        "engine": None if running.engine is None else plugins.resolve("engine", running.engine),
        **output.arguments(plugins),
        **loading.trace_arguments(),
        "edits": editing.recipe(plugins),
        "reference": editing.reference,
        "plugins": plugins,
    }
    from surgery.cli.progress import ProgressBar
    from surgery.data import inputs
    from surgery.extraction import estimate
    from surgery.extraction import extract as run
    from surgery.inputs import collect_notes, find_images, reader_suffixes
    from surgery.models import load_model
    from surgery.output import Address, Notes, format_notes, write_page
    from surgery.rewriting import parse_selection

    selections = [parse_selection(text) for text in at]
    models, images = split_checkpoints(model, images or [], has_reader=arguments.get("reader") is not None)
    notes: Notes = {}
    with collect_notes(notes):
        has_files = images or not any(isinstance(given, list) for given in arguments["inputs"].values())
        chosen = read_standard_input(images) if images else [str(inputs()[0])]
        paths = find_images(chosen, reader_suffixes(arguments.get("reader"))) if has_files else ()
    folders = run_folders(models, arguments.pop("out"))

    def estimate_model(source: str, folder: Place) -> Estimate:
        network = load_model(source, part=loading.part, seed=running.seed, plugins=plugins)
        return estimate(network, paths, at=selections, source=source, out=folder, sample=pricing.sample, **arguments)

    if pricing.dry_run:
        estimates = run_checkpoints(dict(zip(models, folders, strict=True)), estimate_model)
        fits = _print_estimates(estimates, format_notes(notes), as_json=pricing.json)
        if len(estimates) < len(models) or not (fits or pricing.force):
            raise typer.Exit(1)
        return

    def run_model(source: str, folder: Place) -> Report:
        network = load_model(source, part=loading.part, seed=running.seed, plugins=plugins)
        with ProgressBar(len(paths) or None, source if len(models) > 1 else "extracting") as bar:
            return run(
                network,
                paths,
                at=selections,
                source=source,
                out=folder,
                watchers=plugins.watchers(),
                progress=bar.advance,
                force=pricing.force,
                **arguments,
            )

    reports = run_checkpoints(dict(zip(models, folders, strict=True)), run_model)
    has_page = output.page and len(models) > 1 and running.shard is None
    done = [each.folder for each in reports if each.images and not isinstance(each.folder, Address)]
    page = write_page(*done) if has_page and done else None
    _print_reports(reports, format_notes(notes), page)
    for report in reports:
        for warning in report.warnings:
            plugins.warn(warning)
        print_failures(report.failed, report.images)
    if len(reports) < len(models) or any(report.failed or report.interrupted for report in reports):
        raise typer.Exit(1)


def _print_estimates(estimates: Sequence[Estimate], reading_notes: Iterable[str], *, as_json: bool) -> bool:
    """Print what runs will need. Return whether each fits on its disk."""
    from surgery.cli.console import open_console
    from surgery.cli.estimate_view import estimate_view
    from surgery.output import as_json as encode

    for note in reading_notes:
        print_note(note)
    for each in estimates:
        if as_json:
            print_output(encode(each.content()).decode())
        else:
            console = open_console()
            console.print(estimate_view(each, console.width), soft_wrap=False)
    lacks = [line for each in estimates if (line := each.explain_lack_of_space()) is not None]
    for line in lacks:
        print_message(line)
    return not lacks


def _print_reports(reports: Sequence[Report], reading_notes: Iterable[str], page: Path | None) -> None:
    """Print the report of one run, or a table of several, whose page is given if they have one."""
    from surgery.cli.console import open_console
    from surgery.cli.run_views import report_view, runs_view

    hazards = [str(hazard) for report in reports for hazard in report.hazards]
    notes = [note for report in reports for note in report.notes]
    for note in dict.fromkeys([*hazards, *reading_notes, *notes]):
        print_note(note)
    console = open_console()
    view = report_view(reports[0], console.width) if len(reports) == 1 else runs_view(reports, page, console.width)
    console.print(view, soft_wrap=False)
