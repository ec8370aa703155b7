"""The command `compare`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surgery.cli.compare_options import RunsOptions, Sort, parse_alignment, split_edits, split_models_and_images
from surgery.cli.input_options import InputOptions
from surgery.cli.option_groups import expand_option_groups
from surgery.cli.options import AtOption, JsonOption, ModelOptions, PluginOptions
from surgery.cli.process_settings import tune_process
from surgery.cli.standard_streams import print_failures, print_note, print_output

if TYPE_CHECKING:
    from surgery.comparison import RunComparison


@expand_option_groups
def compare(
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL... IMAGES...",
            help="Models, then images. Models are weights files, names such as torchvision/resnet18, file.py:callable "
            "or module:callable; from the first argument that is none of these, all are files, folders and patterns of "
            "images. [dim]\\[default of the images: a shipped input][/dim]",
        ),
    ] = None,
    at: AtOption = ["*"],  # noqa: B006
    align: Annotated[
        list[str],
        typer.Option(
            metavar="PATTERN=PATTERN",
            help="Operations of the first model and of the others that correspond: 'down*=enc*'. Repeatable.",
        ),
    ] = [],  # noqa: B006
    no_own: Annotated[
        bool, typer.Option("--no-own", help="Don't tell the difference that an operation adds from the inherited one.")
    ] = False,
    threshold: Annotated[
        float, typer.Option(min=0, metavar="NUMBER", help="The relative difference from which one counts.")
    ] = 1e-3,
    sort: Annotated[
        Sort, typer.Option(metavar="ORDER", help="By relative difference, by own difference, or in execution order.")
    ] = Sort.execution,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Also write tables, and sheets and pictures of each image."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that the folder holds.")] = False,
    top: Annotated[
        int, typer.Option(min=0, metavar="N", help="Operations that are drawn, at most: those that differ most.")
    ] = 8,
    channels: Annotated[
        int, typer.Option(min=0, metavar="N", help="Channels of each of them that are drawn, at most.")
    ] = 2,
    as_json: JsonOption = False,
    *,
    varying: RunsOptions,
    reading: InputOptions,
    loading: ModelOptions,
    plugin_options: PluginOptions,
) -> None:
    """Run models, modes, seeds, dtypes or edits side by side, and find the operation from which they differ."""
    tune_process()
    plugins = plugin_options.open()
    arguments = {
        **reading.arguments(plugins),
        **loading.trace_arguments(),
        "align": parse_alignment(align),
    }
    from surgery.cli.progress import ProgressBar
    from surgery.comparison import compare as run
    from surgery.data import inputs
    from surgery.rewriting import parse_selection

    selections = [parse_selection(text) for text in at]
    others, edits = split_edits(given or [], varying.edit)
    sources, images = split_models_and_images(others, varying.epochs, plugins)
    has_files = images or not any(isinstance(each, list) for each in arguments["inputs"].values())
    runs = replace(varying, edit=edits).make(sources, loading, plugins)
    with ProgressBar(None) as bar:
        found = run(
            runs,
            (images or [str(inputs()[0])]) if has_files else (),
            at=selections,
            own=not no_own,
            threshold=threshold,
            out=None if out is None else out.expanduser(),
            overwrite=overwrite,
            top=top,
            channels=channels,
            plugins=plugins,
            progress=bar.advance,
            **arguments,
        )
    _print_comparison(found, sort, as_json=as_json)
    print_failures(found.failed, found.images)
    if found.failed or found.interrupted:
        raise typer.Exit(1)


def _print_comparison(found: RunComparison, sort: Sort, *, as_json: bool) -> None:
    from surgery.cli.compare_view import comparison_view
    from surgery.cli.console import open_console
    from surgery.output import as_json as encode

    for note in found.notes:
        print_note(note)
    if as_json:
        print_output(json.dumps(json.loads(encode(found.content())), indent=1))
        return
    console = open_console()
    console.print(comparison_view(found, sort.value, console.width), soft_wrap=False)
