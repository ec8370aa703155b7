"""The command `patch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from surgery.cli.extract_options import ModeOptions
from surgery.cli.input_options import InputOptions
from surgery.cli.option_groups import expand_option_groups
from surgery.cli.options import AtOption, ModelArgument, ModelOptions, PluginOptions
from surgery.cli.process_settings import tune_process
from surgery.cli.standard_streams import print_note
from surgery.cli.study_options import VariantOptions


@expand_option_groups
def patch(
    model: ModelArgument,
    a: Annotated[str, typer.Argument(metavar="A", help="The image whose run is changed.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The image whose values are put into the run of A.")],
    at: AtOption = ["*"],  # noqa: B006
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The folder to write to.")] = Path(
        "patched"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that the folder holds.")] = False,
    *,
    varying: VariantOptions,
    reading: InputOptions,
    running: ModeOptions,
    loading: ModelOptions,
    plugin_options: PluginOptions,
) -> None:
    """Put the values of one image into the run of another, and draw and rank how much of its output they carry."""
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
    from surgery.cli.study_view import patch_view
    from surgery.rewriting import parse_selection
    from surgery.studies import patch as run

    selections = [parse_selection(text) for text in at]
    network = loading.load(model, plugins, running.seed)
    with ProgressBar(None) as bar:
        study = run(
            network,
            a,
            b,
            at=selections,
            out=out.expanduser(),
            overwrite=overwrite,
            source=model,
            progress=bar.advance,
            **arguments,
        )
    for note in study.notes:
        print_note(note)
    console = open_console()
    console.print(patch_view(study, varying.top, console.width), soft_wrap=False)
    if study.interrupted:
        raise typer.Exit(1)
