"""The commands that look at a model and need no images: `inspect` and `check`."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from surgery.cli.arguments import (
    Allowed,
    At,
    Leaves,
    Model,
    NoPlugin,
    NoPlugins,
    Part,
    PluginFiles,
    Sizing,
    Strict,
    Trusting,
    open_model,
    open_plugins,
    size_of,
)
from surgery.cli.streams import complain, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType
    from torch import Tensor

    from surgery.inputs import Size
    from surgery.rewriting import Selection


def inspect(
    model: Model = "facades",
    part: Part = None,
    at: At = [],  # noqa: B006
    size: Sizing = "",
    leaf: Leaves = [],  # noqa: B006
    allow: Allowed = [],  # noqa: B006
    depth: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, metavar="N", help="How many levels of modules are opened. [dim]\\[default: all][/dim]"),
    ] = None,
    unfold: Annotated[bool, typer.Option("--unfold", help="Show every one of the blocks that are alike.")] = False,
    code: Annotated[bool, typer.Option("--code", help="Print the Python that torch.fx generated.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the operations for machines.")] = False,
    svg: Annotated[Optional[Path], typer.Option(metavar="FILE", help="Save what is printed as SVG.")] = None,  # noqa: UP045
    html: Annotated[Optional[Path], typer.Option(metavar="FILE", help="Save what is printed as HTML.")] = None,  # noqa: UP045
    plugin: PluginFiles = [],  # noqa: B006
    no_plugin: NoPlugin = [],  # noqa: B006
    no_plugins: NoPlugins = False,
    strict_plugins: Strict = False,
    trust: Trusting = False,
) -> None:
    """Print a model's graph: its operations and, with --at, the extractors inserted behind those chosen."""
    plugins = open_plugins(plugin, no_plugin, no_plugins, strict_plugins, trust)
    from surgery.cli.graph_view import code_view, graph_record, graph_view
    from surgery.cli.tables import export, terminal
    from surgery.rewriting import parse_selection

    chosen = [parse_selection(text) for text in at]
    wanted = size_of(size)
    with _aside(as_json):
        traced = _noted(_traced(open_model(model, part, plugins), wanted, leaf, allow))
        opened = _opened(traced, chosen)
    if as_json:
        say(json.dumps(graph_record(opened), indent=1))
        return
    console = terminal()

    def view(width: int) -> RenderableType:
        return code_view(opened) if code else graph_view(opened, width, depth=depth, fold=not unfold)

    console.print(view(console.width))
    for kind, file in (("svg", svg), ("html", html)):
        if file is not None:
            width = max(console.width, 120)
            _save(file, export(view(width), width, kind, f"surgery inspect {model}"))


def check(
    model: Model = "facades",
    part: Part = None,
    at: At = ["*"],  # noqa: B006
    size: Sizing = "",
    leaf: Leaves = [],  # noqa: B006
    allow: Allowed = [],  # noqa: B006
    seed: Annotated[int, typer.Option(metavar="N", help="Of the random numbers that are the input.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print for machines.")] = False,
    plugin: PluginFiles = [],  # noqa: B006
    no_plugin: NoPlugin = [],  # noqa: B006
    no_plugins: NoPlugins = False,
    strict_plugins: Strict = False,
    trust: Trusting = False,
) -> None:
    """Certify that the rewritten model is the original: everything compared bit for bit, in eval and in train mode."""
    plugins = open_plugins(plugin, no_plugin, no_plugins, strict_plugins, trust)
    from surgery.cli.tables import certificate_view, terminal
    from surgery.rewriting import parse_selection
    from surgery.tracing import trace
    from surgery.verification import certify

    chosen = [parse_selection(text) for text in at]
    with _aside(as_json):
        network = open_model(model, part, plugins, seed).eval()
        example = _example(network, size_of(size), seed)
        opened = _opened(_noted(trace(network, leaves=leaf, allow=allow)), chosen)
        certificate = certify(network, opened, example)
    if as_json:
        say(json.dumps(certificate.record(), indent=1))
    else:
        terminal().print(certificate_view(certificate))
    if not certificate.same:
        raise typer.Exit(1)


def _traced(model: Any, size: Size, leaves: list[str], allow: list[str]) -> Any:
    """The model traced with an example of the size it takes; without shapes, and saying why, where that can't run."""
    from surgery.errors import TraceError
    from surgery.tracing import trace

    model.eval()
    try:
        return trace(model, _example(model, size), leaves=leaves, allow=allow)
    except TraceError as error:
        bare = trace(model, leaves=leaves, allow=allow)  # where it is not for the example, it raises here again
        complain(f"{error}; shown without shapes")
        return bare


def _noted(traced: Any) -> Any:
    """The graph, after what was noticed while it was traced was said."""
    from surgery.graph import hazards

    for hazard in hazards(traced):
        complain(f"note: {hazard}")
    return traced


def _example(model: Any, size: Size, seed: int | None = None) -> Tensor:
    """An input of the size and the dtype that a model takes: random numbers from `seed`, or zeros for None."""
    import torch

    from surgery.errors import ImageError, first_line
    from surgery.inputs import input_channels, input_dtype

    own = getattr(getattr(model, "preprocessing", None), "size", None) or getattr(model, "size", None)
    side = size if size not in (None, "native") else own if isinstance(own, (int, tuple)) else 224
    height, width = side if isinstance(side, tuple) else (side, side)
    shape = 1, input_channels(model), height, width
    try:
        if seed is None:
            return torch.zeros(shape, dtype=input_dtype(model))
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(input_dtype(model))
    except (RuntimeError, MemoryError, OverflowError) as error:
        said = "x".join(map(str, shape))
        raise ImageError(f"an input of {said} can't be made: {first_line(error)}; choose another --size") from error


def _opened(traced: Any, chosen: list[Selection]) -> Any:
    from surgery.rewriting import insert, select

    operations = {operation.index: operation for selection in chosen for operation in select(traced, selection)}
    return insert(traced, [operations[index] for index in sorted(operations)])


def _save(file: Path, text: str) -> None:
    from surgery.output import write_atomically

    with write_atomically(file) as path:
        path.write_text(text, encoding="utf-8")


@contextmanager
def _aside(wanted: bool) -> Iterator[None]:
    """What a model prints goes to stderr, where stdout is for machines."""
    with redirect_stdout(sys.stderr) if wanted else nullcontext():
        yield
