"""The commands that examine a model and need no images: `inspect` and `check`."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surgery.cli.edit_options import EditOptions
from surgery.cli.examples import check_example_size, make_example, trace_if_possible
from surgery.cli.input_options import InputOptions
from surgery.cli.option_groups import expand_option_groups
from surgery.cli.options import (
    AtOption,
    JsonOption,
    ModelArgument,
    ModelOptions,
    PluginOptions,
)
from surgery.cli.standard_streams import print_note, print_output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType
    from torch import nn

    from surgery.rewriting import Selection

ExampleArgument = Annotated[
    str | None,
    typer.Argument(metavar="IMAGE", help="An input to run the model on. [dim]\\[default: made-up numbers][/dim]"),
]


@expand_option_groups
def inspect(
    model: ModelArgument = "facades",
    image: ExampleArgument = None,
    at: AtOption = [],  # noqa: B006
    depth: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="The levels of modules to expand. [dim]\\[default: all][/dim]"),
    ] = None,
    unfold: Annotated[bool, typer.Option("--unfold", help="Show each of the blocks that are alike.")] = False,
    code: Annotated[bool, typer.Option("--code", help="Print the Python code that torch.fx generated.")] = False,
    as_json: JsonOption = False,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Save what is printed as SVG.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Save what is printed as HTML.")] = None,
    *,
    editing: EditOptions,
    reading: InputOptions,
    loading: ModelOptions,
    plugin_options: PluginOptions,
) -> None:
    """Print a model's graph: its operations, edits and, with --at, the extractors after the chosen operations."""
    plugins = plugin_options.open()
    from surgery.cli.console import open_console
    from surgery.cli.documents import render_document
    from surgery.cli.graph_view import code_view, graph_record, graph_view
    from surgery.graph import trace_info
    from surgery.rewriting import parse_selection

    editing.recipe(plugins)
    selections = [parse_selection(text) for text in at]
    with _model_output_on_stderr(enabled=as_json):
        network = loading.load(model, plugins).eval()
        traced = trace_if_possible(network, make_example(network, image, reading, plugins), loading)
        _print_hazards(traced)
        if as_json:
            _print_how_traced(traced)
        if image is None and trace_info(traced).front_end == "observed":
            print_note(
                "these operations are those of a run on made-up numbers; `surgery inspect MODEL IMAGE` runs an image"
            )
        rewritten = _insert_extractors(editing.apply(traced, network, reading, plugins), selections)
    if as_json:
        print_output(json.dumps(graph_record(rewritten), indent=1))
        return
    console = open_console()

    def view(width: int) -> RenderableType:
        return code_view(rewritten) if code else graph_view(rewritten, width, depth=depth, fold=not unfold)

    console.print(view(console.width))
    for kind, file in (("svg", svg), ("html", html)):
        if file is not None:
            width = max(console.width, 120)
            _save(file, render_document(view(width), width, kind, f"surgery inspect {model}"))


@expand_option_groups
def check(
    model: ModelArgument = "facades",
    image: ExampleArgument = None,
    at: AtOption = ["*"],  # noqa: B006
    seed: Annotated[int, typer.Option(metavar="N", help="The seed of the random numbers in the input.")] = 0,
    as_json: JsonOption = False,
    *,
    editing: EditOptions,
    reading: InputOptions,
    loading: ModelOptions,
    plugin_options: PluginOptions,
) -> None:
    """Certify that the rewritten model equals the original, bit for bit, but for its edits, in eval and train mode."""
    plugins = plugin_options.open()
    from surgery.cli.console import open_console
    from surgery.cli.run_views import certificate_view
    from surgery.rewriting import parse_selection
    from surgery.tracing import trace
    from surgery.verification import certify

    editing.recipe(plugins)
    selections = [parse_selection(text) for text in at]
    with _model_output_on_stderr(enabled=as_json):
        network = loading.load(model, plugins, seed).eval()
        example = make_example(network, image, reading, plugins, seed)
        check_example_size(network, example)
        traced = trace(network, example, **loading.trace_arguments())
        _print_hazards(traced)
        inputs = example if isinstance(example, tuple) else (example,)
        edited = editing.apply(traced, network, reading, plugins, seed=seed)
        certificate = certify(network, _insert_extractors(edited, selections), *inputs)
    if as_json:
        print_output(json.dumps(certificate.record(), indent=1))
    else:
        console = open_console()
        console.print(certificate_view(certificate, console.width))
    if not certificate.same:
        raise typer.Exit(1)


def _print_hazards(traced: nn.Module) -> None:
    from surgery.graph import hazards

    for hazard in hazards(traced):
        print_note(hazard)


def _print_how_traced(traced: nn.Module) -> None:
    """Print how a model was traced, unless it is a graph that was verified."""
    from surgery.graph import trace_info

    if note := trace_info(traced).note:
        print_note(note)


def _insert_extractors(traced: nn.Module, selections: Sequence[Selection]) -> nn.Module:
    """Return the model with an extractor after each operation that any of the selections chooses."""
    from surgery.rewriting import insert, select_all

    return insert(traced, select_all(traced, selections))


def _save(file: Path, text: str) -> None:
    from surgery.output import write_atomically

    with write_atomically(file) as path:
        path.write_text(text, encoding="utf-8")


@contextmanager
def _model_output_on_stderr(*, enabled: bool) -> Iterator[None]:
    """Redirect what a model prints to stderr within the block, so that stdout holds nothing but JSON."""
    with redirect_stdout(sys.stderr) if enabled else nullcontext():
        yield
