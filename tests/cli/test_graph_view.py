from __future__ import annotations

import io
import re
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import surgery
from surgery.cli.documents import render_document
from surgery.cli.graph_view import code_view, graph_record
from surgery.cli.plugin_views import plugins_view
from surgery.cli.run_views import report_view
from surgery.output import Failure, OperationSummary, Report
from surgery.types import Facts, Operation, TensorSpec


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x)) + x


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        for block in self.blocks:
            x = block(x)
        return x.chunk(3, 1)


def printed(view: Any, width: int, **options: Any) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, **options)
    console.print(view)
    return "\n".join(line.rstrip() for line in file.getvalue().rstrip().splitlines())


def shown(opened: Any, width: int) -> str:
    file = io.StringIO()
    surgery.show(opened, console=Console(file=file, width=width))
    return "\n".join(line.rstrip() for line in file.getvalue().rstrip().splitlines())


@pytest.fixture
def opened() -> Any:
    traced = surgery.trace(Net().eval(), torch.zeros(1, 3, 8, 8))
    return surgery.insert(traced, surgery.select(traced, "op:add | op:chunk"))


def test_the_graph_is_a_tree_with_the_extractors_standing_out(opened: Any) -> None:
    expected = """
        operation                       kind    shape                       size
        x                               input   1×3×8×8                    768 B
        ├─ blocks.0
        │  ├─ conv                      conv2d  1×3×8×8                    768 B
        │  ├─ relu                      relu    1×3×8×8                    768 B
        │  └─ add ← relu, x             add     1×3×8×8                    768 B
        │     └▸ ◉ ActivationExtractor
        ├─ blocks.1
        │  ├─ conv                      conv2d  1×3×8×8                    768 B
        │  ├─ relu                      relu    1×3×8×8                    768 B
        │  └─ add ← relu, blocks.0.add  add     1×3×8×8                    768 B
        │     └▸ ◉ ActivationExtractor
        └─ chunk                        chunk   1×1×8×8, 1×1×8×8, 1×1×8×8  768 B
           └▸ ◉ ActivationExtractor
        output                          output  1×1×8×8, 1×1×8×8, 1×1×8×8  768 B

        7 operations, 3 extracted, 24 parameters, 5.38 kB of values
        traced symbolically, verified on an example
    """
    assert shown(opened, 80) == textwrap.dedent(expected).strip("\n").rstrip()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 160])
def test_nothing_is_wider_than_the_terminal_and_the_operations_always_stay(opened: Any, width: int) -> None:
    text = shown(opened, width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("◉ ActivationExtractor") == 3
    assert ("line" in text.splitlines()[0]) == (width >= 120)


def test_colors_come_with_a_terminal_alone(opened: Any) -> None:
    file = io.StringIO()
    surgery.show(opened, console=Console(file=file, width=80, force_terminal=True, color_system="standard"))
    assert "\x1b[1;35m└▸ ◉ ActivationExtractor" in file.getvalue()
    assert "\x1b" not in shown(opened, 80)


def test_a_graph_without_an_example_is_shown_without_shapes() -> None:
    text = shown(surgery.trace(Net()), 100)
    assert text.splitlines()[0].split() == ["operation", "kind", "line"]
    assert text.splitlines()[-2:] == [
        "7 operations, 0 extracted, 24 parameters",
        "traced symbolically, unverified: no example has run",
    ]


def test_the_code_has_its_extractors_marked(opened: Any) -> None:
    lines = printed(code_view(opened), 120).splitlines()
    marked = [line for line in lines if line.endswith("# ◉")]
    assert [line.split(" = ")[1].split("(")[0] for line in marked] == [
        "self.extractors.blocks_0_add",
        "self.extractors.blocks_1_add",
        "self.extractors.chunk",
    ]


def test_the_record_has_every_tensor_of_every_operation(opened: Any) -> None:
    record = graph_record(opened)
    assert [entry["path"] for entry in record][-2:] == ["blocks.1.add", "chunk"]
    assert [spec["key"] for spec in record[-1]["tensors"]] == ["[0]", "[1]", "[2]"]
    assert [entry["extracted"] for entry in record] == [False, False, True, False, False, True, True]


def found(path: str, facts: Facts) -> OperationSummary:
    return OperationSummary(
        Operation(path, path, "conv2d", 3, tensors=(TensorSpec("", (1, 64, 8, 8), "float32"),)), facts
    )


def test_what_a_run_found_is_a_table() -> None:
    report = Report(
        folder=Path("activations"),
        images=1,
        files=12,
        failed=(Failure("x.png", "gone"),),
        summaries=(
            found("down1.conv", Facts(-1.25, 3e6, 64, 2, nan=False, inf=False)),
            found("down2.conv", Facts(None, None, 64, 0, nan=True, inf=True)),
        ),
        seconds=1.26,
        interrupted=False,
    )
    expected = """
             operation   kind    shape             range  remarks
        003  down1.conv  conv2d  1×64×8×8  -1.25 … 3e+06  2/64 constant
        003  down2.conv  conv2d  1×64×8×8                 NaN, infinite

        activations/  1 image, 12 files, 1.3 s
    """
    assert printed(report_view(report, 80), 80) == textwrap.dedent(expected).strip("\n").rstrip()


def test_plugins_are_listed_with_what_they_offer() -> None:
    from surgery.plugins.object_kinds import KINDS
    from surgery.plugins.registry import Plugins

    text = printed(plugins_view(Plugins(), KINDS), 80)
    lines = text.splitlines()
    assert lines[:2] == [f"surgery {surgery.__version__}  built in", "  transforms   abs, mean, topk, fft, pca"]
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("kind", ["svg", "html"])
def test_what_is_saved_is_what_is_printed_and_needs_nothing_from_outside(opened: Any, kind: str) -> None:
    from surgery.cli.graph_view import graph_view

    document = render_document(graph_view(opened, 120), 120, kind, "a title")
    assert "ActivationExtractor" in document.replace("&#160;", " ")
    assert "url(" not in document.replace("url(#", "")
    assert "src=" not in document


class Residual(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 1)
        self.body = nn.Sequential(*(Block() for _ in range(blocks)))

    def forward(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        stem = self.stem(image)
        body = self.body(stem * mask)
        return {"sum": body + stem, "stem": stem}


@pytest.fixture
def residual() -> Any:
    return surgery.trace(Residual(5).eval(), (torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8)))


def labels(text: str) -> list[str]:
    """The first column, without the lines of the tree."""
    return [re.split("  +", re.sub("^[│├└─ ]*", "", line))[0] for line in text.splitlines()[1:-3]]


def test_inputs_edges_and_the_output_are_shown(residual: Any) -> None:
    assert labels(shown(residual, 120)) == [
        *("image", "mask", "stem ← image", "mul ← stem, mask", "body", "0 … 4: 5 alike"),
        *("conv", "relu", "add ← relu, mul", "add ← body.4.add, stem", "output ← add, stem"),
    ]
    assert shown(residual, 120).splitlines()[-2].endswith("12 operations folded")
    opened = surgery.insert(residual, surgery.select(residual, "*"))  # extractors are no operations
    everywhere = [label for label in labels(shown(opened, 120)) if "Extractor" not in label]
    assert everywhere == labels(shown(residual, 120))


def test_every_block_is_shown_where_that_is_wanted_and_where_they_differ(residual: Any) -> None:
    unfolded = io.StringIO()
    surgery.show(residual, fold=False, console=Console(file=unfolded, width=120))
    assert unfolded.getvalue().count("conv2d") == 6
    assert "folded" not in unfolded.getvalue()
    for selection, blocks in {"body.2.relu": ["0", "1", "2", "3", "4"], "body.0.relu": ["0", "1 … 4: 4 alike"]}.items():
        opened = surgery.insert(residual, surgery.select(residual, selection))
        assert [label for label in labels(shown(opened, 120)) if label[0].isdigit()] == blocks


def test_blocks_of_other_shapes_or_edges_are_not_alike() -> None:
    skipping = -1

    class Skips(nn.Module):
        def __init__(self, widths: tuple[int, ...]) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(a, b, 1), nn.ReLU()) for a, b in pairwise(widths))

        def forward(self, x: Tensor) -> Tensor:
            first = x
            for number, block in enumerate(self.blocks):
                x = block(first if number == skipping else x)
            return x

    def blocks(*widths: int) -> list[str]:
        traced = surgery.trace(Skips(widths), torch.zeros(1, 3, 4, 4))
        return [label for label in labels(shown(traced, 120)) if label.startswith("blocks")]

    assert blocks(3, 4, 5, 6) == ["blocks.0", "blocks.1", "blocks.2"]
    assert blocks(3, 3, 3, 3, 3, 3) == ["blocks.0 … blocks.4: 5 alike"]
    skipping = 2  # takes the input
    assert blocks(3, 3, 3, 3, 3, 3) == [f"blocks.{number}" for number in range(5)]


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (1, ["image", "mask", "stem ← image", "mul ← stem, mask", "body", "add ← body.4.add, stem"]),
        (2, ["image", "mask", "stem ← image", "mul ← stem, mask", "body", "0 … 4: 5 alike", "add ← body.4.add, stem"]),
    ],
)
def test_modules_are_opened_to_a_depth(residual: Any, depth: int, expected: list[str]) -> None:
    opened = surgery.insert(residual, surgery.select(residual, "body.*.conv"))
    file = io.StringIO()
    surgery.show(opened, depth=depth, console=Console(file=file, width=100))
    lines = [label for label in labels(file.getvalue()) if "Extractor" not in label]
    assert lines == [*expected, "output ← add, stem"]
    assert "15 operations  1×3×8×8" in file.getvalue()
    assert "◉ 5 ActivationExtractors" in file.getvalue()
    assert "folded" not in file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_shape_stays_and_the_line_goes_where_there_is_little_room(residual: Any, width: int) -> None:
    text = shown(residual, width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("1×3×8×8") >= 7
    assert ("line" in text.splitlines()[0]) == (width >= 120)
    assert "add" in text


def test_what_is_read_of_the_model_itself_is_a_source_and_so_is_nothing() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 1, 4))

        def forward(self, x: Tensor) -> Tensor:
            token = self.token.expand(2, -1, -1)
            return torch.cat([token, x, torch.ones(x.shape)], 1)

    traced = surgery.trace(Tokens(), torch.zeros(2, 3, 4))
    assert "expand ← token" in labels(shown(traced, 120))
    (expand,) = [entry for entry in graph_record(traced) if entry["kind"] == "expand"]
    assert expand["inputs"] == [
        {"kind": "attribute", "path": "token", "tensors": [{"key": "", "shape": [1, 1, 4], "dtype": "float32"}]}
    ]


def test_the_record_has_the_edges(residual: Any) -> None:
    record = {entry["path"]: entry for entry in graph_record(residual)}
    assert [source["path"] for source in record["body.1.add"]["inputs"]] == ["body.1.relu", "body.0.add"]
    mask = {"kind": "input", "path": "mask", "tensors": [{"key": "", "shape": [1, 1, 8, 8], "dtype": "float32"}]}
    assert record["mul"]["inputs"] == [{"kind": "operation", "path": "stem"}, mask]
    assert [path for path, entry in record.items() if entry["output"]] == ["stem", "add"]


def test_the_tree_fits_a_terminal_of_ascii(residual: Any) -> None:
    from surgery.text.characters import replace_unencodable

    text = replace_unencodable(shown(residual, 80), "ascii")
    assert "|- mul < stem, mask" in text
    assert "\\" not in text


def test_a_network_of_hundreds_of_operations_is_read_in_a_few_lines(run: Any) -> None:
    result = run("inspect", "torchvision/resnet101", "--depth", "2", "--size", "64")
    assert result.code == 0, result.err
    assert len(result.out.splitlines()) < 35
    assert "1 … 22: 22 alike" in result.out
    assert "220 operations" in result.out
    whole = run("inspect", "torchvision/resnet101", "--unfold", "--size", "64")
    assert len(whole.out.splitlines()) > 350
    assert run("inspect", "--depth", "0").code == 2
