"""The commands that examine a model and need no images: `inspect` and `check`."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surgery.cli.option_groups import expand_option_groups
from surgery.cli.options import (
    AtOption,
    JsonOption,
    ModelArgument,
    ModelOptions,
    PluginOptions,
    SizeOption,
    parse_size,
)
from surgery.cli.standard_streams import print_message, print_note, print_output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType
    from torch import Tensor, nn

    from surgery.inputs import Size
    from surgery.rewriting import Selection

DEFAULT_SIDE = 224
"""Height and width in pixels of an example, for a model that doesn't say which size it takes."""


@expand_option_groups
def inspect(
    model: ModelArgument = "facades",
    at: AtOption = [],  # noqa: B006
    size: SizeOption = "",
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
    loading: ModelOptions,
    plugin_options: PluginOptions,
) -> None:
    """Print a model's graph: its operations and, with --at, the extractors inserted after the chosen ones."""
    plugins = plugin_options.open()
    from surgery.cli.console import open_console
    from surgery.cli.documents import render_document
    from surgery.cli.graph_view import code_view, graph_record, graph_view
    from surgery.rewriting import parse_selection

    selections = [parse_selection(text) for text in at]
    example_size = parse_size(size)
    with _model_output_on_stderr(enabled=as_json):
        network = loading.load(model, plugins).eval()
        traced = _trace_with_example_if_possible(network, example_size, loading)
        _print_hazards(traced)
        rewritten = _insert_extractors(traced, selections)
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
    at: AtOption = ["*"],  # noqa: B006
    size: SizeOption = "",
    seed: Annotated[int, typer.Option(metavar="N", help="The seed of the random numbers in the input.")] = 0,
    as_json: JsonOption = False,
    *,
    loading: ModelOptions,
    plugin_options: PluginOptions,
) -> None:
    """Certify that the rewritten model equals the original, bit for bit, in eval and in train mode."""
    plugins = plugin_options.open()
    from surgery.cli.console import open_console
    from surgery.cli.run_views import certificate_view
    from surgery.rewriting import parse_selection
    from surgery.tracing import trace
    from surgery.verification import certify

    selections = [parse_selection(text) for text in at]
    with _model_output_on_stderr(enabled=as_json):
        network = loading.load(model, plugins, seed).eval()
        example = _example_input(network, parse_size(size), seed)
        traced = trace(network, **loading.trace_arguments())
        _print_hazards(traced)
        certificate = certify(network, _insert_extractors(traced, selections), example)
    if as_json:
        print_output(json.dumps(certificate.record(), indent=1))
    else:
        open_console().print(certificate_view(certificate))
    if not certificate.same:
        raise typer.Exit(1)


def _trace_with_example_if_possible(model: nn.Module, size: Size, loading: ModelOptions) -> nn.Module:
    """Return the graph of a model, with shapes where an example of the given size runs; otherwise print why not."""
    from surgery.errors import TraceError
    from surgery.tracing import trace

    try:
        return trace(model, _example_input(model, size), **loading.trace_arguments())
    except TraceError as error:
        # Raises again where the example isn't the cause.
        traced = trace(model, **loading.trace_arguments())
        print_message(f"{error}; shown without shapes")
        return traced


def _print_hazards(traced: nn.Module) -> None:
    from surgery.graph import hazards

    for hazard in hazards(traced):
        print_note(hazard)


def _example_input(model: Any, size: Size, seed: int | None = None) -> Tensor:
    """Return a batch of one input that a model takes: random numbers from `seed`, or zeros for None.

    The shape is ``(1, channels, height, width)`` and the dtype is the model's. Without a `size`, the model's own size
    is used, or `DEFAULT_SIDE`. Raises ImageError when there is not enough memory.
    """
    import torch

    from surgery.errors import ImageError, first_line
    from surgery.inputs import input_channels, input_dtype

    own_size = getattr(getattr(model, "preprocessing", None), "size", None) or getattr(model, "size", None)
    if size in (None, "native"):
        size = own_size if isinstance(own_size, (int, tuple)) else DEFAULT_SIDE
    height, width = size if isinstance(size, tuple) else (size, size)
    shape: Any = (1, input_channels(model), height, width)
    try:
        if seed is None:
            return torch.zeros(shape, dtype=input_dtype(model))
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(input_dtype(model))
    except (RuntimeError, MemoryError, OverflowError) as error:
        text = "x".join(map(str, shape))
        raise ImageError(f"an input of {text} can't be made: {first_line(error)}; choose another --size") from error


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
