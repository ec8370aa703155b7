from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import surgery
from surgery.display import code_view, graph_record
from surgery.report import Failure, Finding, Report
from surgery.terminal import export, plugins_view, report_view
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
        ├─ blocks.0
        │  ├─ conv                      conv2d  1×3×8×8                    768 B
        │  ├─ relu                      relu    1×3×8×8                    768 B
        │  └─ add                       add     1×3×8×8                    768 B
        │     └▸ ◉ ActivationExtractor
        ├─ blocks.1
        │  ├─ conv                      conv2d  1×3×8×8                    768 B
        │  ├─ relu                      relu    1×3×8×8                    768 B
        │  └─ add                       add     1×3×8×8                    768 B
        │     └▸ ◉ ActivationExtractor
        └─ chunk                        chunk   1×1×8×8, 1×1×8×8, 1×1×8×8  768 B
           └▸ ◉ ActivationExtractor

        7 operations, 3 extracted, 24 parameters, 5.38 kB of values
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
    assert text.splitlines()[-1] == "7 operations, 0 extracted, 24 parameters"


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


def found(path: str, facts: Facts) -> Finding:
    return Finding(Operation(path, path, "conv2d", 3, tensors=(TensorSpec("", (1, 64, 8, 8), "float32"),)), facts)


def test_what_a_run_found_is_a_table() -> None:
    report = Report(
        folder=Path("activations"),
        images=1,
        files=12,
        failed=(Failure("x.png", "gone"),),
        findings=(
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
    from surgery.plugins import KINDS, Plugins

    text = printed(plugins_view(Plugins(), KINDS), 80)
    lines = text.splitlines()
    assert lines[:2] == [f"surgery {surgery.__version__}  built in", "  transforms   abs, mean, topk, fft, pca"]
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("kind", ["svg", "html"])
def test_what_is_saved_is_what_is_printed_and_needs_nothing_from_outside(opened: Any, kind: str) -> None:
    from surgery.display import graph_view

    document = export(graph_view(opened, 120), 120, kind, "a title")
    assert "ActivationExtractor" in document.replace("&#160;", " ")
    assert "url(" not in document.replace("url(#", "")
    assert "src=" not in document
