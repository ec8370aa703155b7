"""The command `ablate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from surgery.cli.extract_options import ModeOptions
from surgery.cli.input_options import InputOptions
from surgery.cli.option_groups import expand_option_groups
from surgery.cli.options import AtOption, ModelArgument, ModelOptions, PluginOptions
from surgery.cli.process_settings import tune_process
from surgery.cli.standard_streams import print_failures, print_note
from surgery.cli.study_options import VariantOptions


@expand_option_groups
def ablate(
    model: ModelArgument = "facades",
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGES", help="Files, folders and patterns. [dim]\\[default: a shipped input][/dim]"),
    ] = None,
    at: AtOption = ["*"],  # noqa: B006
    edit: Annotated[
        str, typer.Option(metavar="EDIT", help="What is done to it: zero, mean, noise:std=2, 'zero:region=0,0,1,0.5'.")
    ] = "zero",
    reference: Annotated[
        list[str],
        typer.Option(metavar="FILES", help="Images for an edit that needs a reference run: mean:over=reference."),
    ] = [],  # noqa: B006
    within: Annotated[
        Path | None,
        typer.Option(metavar="MASK", help="An image or array: the effect inside its white region is ranked."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The folder to write to.")] = Path(
        "ablations"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that the folder holds.")] = False,
    *,
    varying: VariantOptions,
    reading: InputOptions,
    running: ModeOptions,
    loading: ModelOptions,
    plugin_options: PluginOptions,
) -> None:
    """Edit operations, modules or channels one by one, and draw and rank what becomes of the output."""
    tune_process(keep_memory=True)
    plugins = plugin_options.open()
    arguments = {
        **varying.arguments(plugins),
        **reading.arguments(plugins),
        **running.arguments(),
        **loading.trace_arguments(),
    }
    from surgery.cli.console import open_console
    from surgery.cli.progress import ProgressBar
    from surgery.cli.study_view import ablation_view
    from surgery.data import inputs
    from surgery.rewriting import parse_selection
    from surgery.studies import ablate as run

    selections = [parse_selection(text) for text in at]
    has_files = images or not any(isinstance(given, list) for given in arguments["inputs"].values())
    network = loading.load(model, plugins, running.seed)
    with ProgressBar(None) as bar:
        study = run(
            network,
            (images or [str(inputs()[0])]) if has_files else (),
            at=selections,
            edit=edit,
            reference=reference,
            within=within,
            out=out.expanduser(),
            overwrite=overwrite,
            source=model,
            progress=bar.advance,
            **arguments,
        )
    for note in study.notes:
        print_note(note)
    console = open_console()
    console.print(ablation_view(study, varying.top, console.width), soft_wrap=False)
    print_failures(study.failed, len(study.images))
    if study.failed or study.interrupted:
        raise typer.Exit(1)
