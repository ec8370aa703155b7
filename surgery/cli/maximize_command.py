"""The command `maximize`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from surgery.cli.edit_options import EditOptions
from surgery.cli.examples import check_example_size, make_example
from surgery.cli.extract_options import Mode
from surgery.cli.input_options import InputOptions
from surgery.cli.option_groups import expand_option_groups
from surgery.cli.options import ModelArgument, ModelOptions, PluginOptions
from surgery.cli.process_settings import tune_process
from surgery.cli.standard_streams import print_note

_ASCENT = "Ascent"


@dataclass(frozen=True, kw_only=True)
class AscentOptions:
    """Options that say how the images are changed."""

    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Steps.", rich_help_panel=_ASCENT)] = 128
    rate: Annotated[float, typer.Option(metavar="X", help="The size of a step.", rich_help_panel=_ASCENT)] = 0.05
    jitter: Annotated[
        int, typer.Option(min=0, metavar="N", help="The most pixels a step moves it by.", rich_help_panel=_ASCENT)
    ] = 8
    variation: Annotated[
        float, typer.Option(metavar="X", help="The weight of the total variation.", rich_help_panel=_ASCENT)
    ] = 1.0
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Change pixels, not frequencies.", rich_help_panel=_ASCENT)
    ] = False
    seed: Annotated[int, typer.Option(metavar="N", help="The seed of the first images.", rich_help_panel=_ASCENT)] = 0
    batch_size: Annotated[
        int, typer.Option(min=1, metavar="N", help="The most images at once.", rich_help_panel=_ASCENT)
    ] = 4
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, ...", rich_help_panel=_ASCENT)] = "cpu"
    mode: Annotated[Mode, typer.Option(metavar="MODE", help="eval, train or as-is.", rich_help_panel=_ASCENT)] = (
        Mode.eval
    )

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `surgery.maximize` for these options."""
        names = ("steps", "rate", "jitter", "variation", "seed", "batch_size")
        return {**{name: getattr(self, name) for name in names}, "frequencies": not self.pixels}


@expand_option_groups
def maximize(
    model: ModelArgument = "facades",
    image: Annotated[
        str | None,
        typer.Argument(metavar="IMAGE", help="An input whose top channels are taken, and whose size the images have."),
    ] = None,
    at: Annotated[str, typer.Option("--at", metavar="SELECTION", help="One operation, by its path: down3.conv.")] = "",
    channel: Annotated[list[str], typer.Option(metavar="N", help="Channels: 5, or 0-15,20. Repeatable.")] = [],  # noqa: B006
    top: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="So many channels, those most active on IMAGE.")
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(metavar="T,L,H,W", help="The part of the map: top, left, height, width in shares of it."),
    ] = None,
    layout: Annotated[
        list[str], typer.Option(metavar="NAME", help="How values are read as maps, as in `surgery extract`.")
    ] = [],  # noqa: B006
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The folder to write to.")] = Path(
        "maximized"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that the folder holds.")] = False,
    *,
    ascending: AscentOptions,
    editing: EditOptions,
    reading: InputOptions,
    loading: ModelOptions,
    plugin_options: PluginOptions,
) -> None:
    """Find inputs that excite channels of an operation as much as possible, and draw them."""
    if not at:
        raise typer.BadParameter("name one operation, such as down3.conv", param_hint="--at")
    if bool(channel) == (top is not None):
        raise typer.BadParameter("choose channels: --channel 5, --channel 0-15, or IMAGE and --top 16")
    if top is not None and image is None:
        raise typer.BadParameter("the top channels are those of an image: surgery maximize MODEL IMAGE --top N")
    tune_process()
    plugins = plugin_options.open()
    from surgery.cli.console import open_console
    from surgery.cli.maximize_view import maximized_view
    from surgery.cli.progress import ProgressBar
    from surgery.extraction import copy_for_run
    from surgery.layouts import parse_layouts
    from surgery.models import get_provenance
    from surgery.output import check_overwrite
    from surgery.rewriting import parse_selection
    from surgery.synthesis import maximize as run
    from surgery.tracing import trace

    selection, layouts = parse_selection(at), parse_layouts(layout)
    editing.recipe(plugins)
    check_overwrite(out.expanduser(), overwrite=overwrite)
    network = loading.load(model, plugins, ascending.seed)
    for note in get_provenance(network).notes_on_random_weights(network, model):
        print_note(note)
    subject = copy_for_run(network, ascending.mode.value, ascending.device)
    example = make_example(subject, image, reading, plugins)
    check_example_size(subject, example)
    traced = editing.apply(
        trace(subject, example, **loading.trace_arguments()),
        subject,
        reading,
        plugins,
        layout=layouts,
        device=ascending.device,
        seed=ascending.seed,
    )
    with ProgressBar(None) as bar:
        found = run(
            traced,
            selection,
            ",".join(channel) or None,
            top=top,
            image=example,
            limits=reading.find_limits(subject),
            region=_parse_region(region),
            layout=layouts,
            progress=bar.advance,
            **ascending.arguments(),
        )
    files = found.save(out.expanduser(), source=model, original=network, overwrite=overwrite)
    console = open_console()
    console.print(maximized_view(found, files, out, console.width), soft_wrap=False)


def _parse_region(text: str | None) -> tuple[float, float, float, float] | None:
    if text is None:
        return None
    try:
        top, left, height, width = map(float, text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"a region is top,left,height,width in shares of the map, not {text!r}", param_hint="--region"
        ) from None
    return top, left, height, width
