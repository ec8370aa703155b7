"""What `surgery check` prints of a certificate, at the widths of terminals."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from surgery import Certificate
from surgery.cli.run_views import certificate_view
from surgery.graph import Reach, TraceInfo
from surgery.text import replace_unencodable
from surgery.verification import Comparison

CASES = [("example", 57), ("again", 57), ("batch 2", 57), ("256x512", 1234)]
LINE = "models/unet.py:41: a branch that depends on the values of a tensor"
OBSERVED = TraceInfo("observed", LINE, is_verified=True, reach=Reach(197, 200, ("attention", "neck.pool")))


def certificate(tracing: TraceInfo) -> Certificate:
    comparisons = [
        Comparison(what, mode, case, True, count)
        for mode in ("eval", "train")
        for case, count in CASES
        for what in ("output", "values", "random numbers", "gradients")
    ]
    varies = Comparison("hooks", "train", "example", None, 0, "the original itself gives another each time it runs")
    return Certificate("UNet", 57, 3, (*comparisons, varies, Comparison("parameters", "", "", True, 9)), tracing)


def shown(value: Certificate, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(certificate_view(value, width))
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(("width", "tables"), [(60, 2), (80, 2), (120, 1)])
def test_a_certificate_is_readable_at_the_widths_of_terminals(width: int, tables: int) -> None:
    lines = shown(certificate(OBSERVED), width)
    assert max(map(len, lines)) <= width
    assert len([line for line in lines if line.startswith("values  ")]) == tables
    assert "1234 ✓" in "".join(lines)
    text = " ".join(lines)
    assert "models/unet.py:41" in text
    assert "reach 98%: nothing was seen of attention, neck.pool" in text
    assert all(replace_unencodable(line, "ascii").isascii() for line in lines)


def test_a_certificate_at_80_columns() -> None:
    assert shown(certificate(OBSERVED), 80) == [
        "UNet: 57 operations, 3 extracted",
        "observed: models/unet.py:41: a branch that depends on the values of a tensor",
        "reach 98%: nothing was seen of attention, neck.pool",
        "",
        "                   eval   eval     eval     eval",
        "                example  again  batch 2  256×512",
        "output             57 ✓   57 ✓     57 ✓   1234 ✓",
        "values             57 ✓   57 ✓     57 ✓   1234 ✓",
        "random numbers     57 ✓   57 ✓     57 ✓   1234 ✓",
        "gradients          57 ✓   57 ✓     57 ✓   1234 ✓",
        "hooks                 –      –        –        –",
        "",
        "                  train  train    train    train",
        "                example  again  batch 2  256×512",
        "output             57 ✓   57 ✓     57 ✓   1234 ✓",
        "values             57 ✓   57 ✓     57 ✓   1234 ✓",
        "random numbers     57 ✓   57 ✓     57 ✓   1234 ✓",
        "gradients          57 ✓   57 ✓     57 ✓   1234 ✓",
        "hooks                 –      –        –        –",
        "",
        "parameters  9 ✓",
        "hooks (train, example): the original itself gives another each time it runs",
        "the same, bit for bit",
    ]


@pytest.mark.parametrize(
    ("tracing", "first"),
    [
        (TraceInfo("symbolic", is_verified=True), "traced symbolically, verified on an example"),
        (TraceInfo("symbolic"), "traced symbolically, unverified: no example has run"),
        (TraceInfo(), "a graph that surgery.trace did not make, unverified"),
        (TraceInfo("observed", is_verified=True), "observed, as requested"),
    ],
)
def test_a_certificate_says_how_the_model_was_traced(tracing: TraceInfo, first: str) -> None:
    value = certificate(tracing)
    assert value.describe_tracing() == (first,)
    assert shown(value, 80)[1] == first
    assert first in value._repr_html_()
    assert first in repr(value)


def test_a_certificate_for_machines_says_how_the_model_was_traced() -> None:
    record: dict[str, Any] = certificate(OBSERVED).record()
    assert (record["front_end"], record["reason"], record["verified"]) == ("observed", LINE, True)
    assert record["reach"] == {
        "share": 0.985,
        "seen": 197,
        "total": 200,
        "unseen_modules": ("attention", "neck.pool"),
    }
    assert repr(certificate(OBSERVED)).startswith("Certificate(UNet: 57 operations, 3 extracted; observed: models/unet")
    assert certificate(TraceInfo("symbolic")).record()["reach"] is None
