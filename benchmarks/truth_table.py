"""The results of `benchmarks.truth` as Markdown."""

from __future__ import annotations

import platform
import re
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from statistics import fmean, median
from typing import TYPE_CHECKING

import surgery
from benchmarks.tools import TOOLS
from surgery.text import format_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.model_result import ModelResult
    from benchmarks.tools import ToolResult
    from surgery.graph.trace_info import Reach

_HEAD = """# Truth

For each model: the original runs eagerly beside the traced model that is open after every operation, and everything is
compared bit for bit. In eval mode on one input, on two, and on one of another size where the model takes it: outputs,
the value of every operation against a run that clones each value the moment it is produced, buffers, random numbers.
In train mode on two inputs: the same. Gradients on the first input in both modes. Afterwards the original's parameters,
buffers, modes, attributes and hooks. Weights are random, and none is zero or one all over, nor are running statistics,
so that no operation leaves its input as it is.
"""

_TOOLS = """The {count} models of torchvision, timm and segmentation_models_pytorch in eval mode, one input each, and
each tool asked for every value it can give.
*Known* are the values that can be held against the truth: those of modules against a run whose hooks clone;
torchvision's, of functions too, against its own graph run node by node; ours against the hooks that clone as well,
since its functions are held above. *Wrong* is what is not, bit for bit, what was computed there. A tool that raises
gives nothing for that model.
"""


def render_table(rows: Sequence[ModelResult], skipped: Sequence[str], arguments: Sequence[str]) -> str:
    """Return the whole file: summaries, then differences, refusals and notes, then a row for each model."""
    parts = [_HEAD, _origin(arguments, sum(row.seconds for row in rows)), "## Ours\n", _surgery_summary(rows)]
    if any(row.tools for row in rows):
        parts += ["## Beside others\n", _TOOLS.format(count=sum(bool(row.tools) for row in rows)), _tools_summary(rows)]
    if differing := [row for row in rows if row.differences or not row.untouched]:
        lines = [f"{row.name}: {difference}" for row in differing for difference in row.differences or ["touched"]]
        parts += ["## What differs\n", _list(lines)]
    unsure = [f"{row.name}: {line}" for row in rows for line in row.unsure]
    parts += ["## Where the original differs from itself\n", _list(unsure)] if unsure else []
    parts += ["## What is refused\n", _refusals(rows)]
    if reasons := Counter(_reason_kind(row.reason) for row in rows if row.reason):
        parts += ["## Why models are observed\n", _list(f"{reason}: {n}" for reason, n in reasons.most_common())]
    unseen = [_unseen(row, row.reach) for row in rows if row.reach and row.reach.seen < row.reach.total]
    parts += ["## What is not seen\n", _list(unseen)] if unseen else []
    noted = [f"`{row.name}`: {_condense(row.notes)}" for row in rows if row.notes]
    parts += ["## What was noted while tracing\n", _list(noted)] if noted else []
    parts += ["## What was not run\n", _list(skipped)] if skipped else []
    for zoo, some in groupby(rows, key=lambda row: row.zoo):
        parts += [f"## {zoo}\n", _model_rows(list(some))]
    return "\n".join(parts)


def _origin(arguments: Sequence[str], seconds: float) -> str:
    names = ["torch", "torchvision", "timm", "segmentation-models-pytorch", "transformers", "diffusers", "monai"]
    known = [f"{name} {found}" for name in names if (found := _version(name))]
    command = " ".join(["python -m benchmarks.truth", *arguments])
    python = f"Python {platform.python_version()}"
    where = f"on one thread ({platform.machine()}); {', '.join([python, *known])}, surgery {surgery.__version__}"
    return f"Made by `{command}` in {seconds / 60:.0f} minutes of CPU {where}.\n"


def _version(name: str) -> str:
    if name == "surgery":
        return surgery.__version__
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _surgery_summary(rows: Sequence[ModelResult]) -> str:
    head = ["zoo", "models", "torch.fx alone", "traced", "values", "wrong", "other differences", "originals touched"]
    head += ["observed", "mean reach", "trace / eager run"]
    lines = []
    for zoo, some in [*((zoo, list(some)) for zoo, some in groupby(rows, key=lambda row: row.zoo)), ("**all**", rows)]:
        traced = [row for row in some if not row.refusal]
        others = sum(not line.startswith("values") for row in traced for line in row.differences)
        wrong, touched = sum(row.wrong for row in traced), sum(not row.untouched for row in traced)
        plain = sum(row.plain == "right" for row in some)
        values = sum(row.values for row in traced)
        observed = [row for row in traced if row.front_end == "observed"]
        found = [zoo, len(some), plain, len(traced), f"{values:,}", wrong, others, touched, len(observed)]
        lines.append([*found, _mean_reach(observed), _median_cost(observed)])
    explained = (
        "*torch.fx alone*: how many `torch.fx.symbolic_trace` takes and gets right on the first input. *Observed*: how"
        " many of the traced models run their own Python; *reach*: the share of their calls of torch's operators that"
        " are part of an operation; *trace / eager run*: the CPU time of tracing one of them, in eager runs (median).\n"
    )
    return _table(head, lines) + "\n" + explained


def _mean_reach(observed: Sequence[ModelResult]) -> str:
    shares = [row.reach.share for row in observed if row.reach]
    return f"{fmean(shares):.3f}" if shares else "–"


def _median_cost(observed: Sequence[ModelResult]) -> str:
    costs = [row.trace_seconds / row.eager_seconds for row in observed if row.eager_seconds]
    return f"{median(costs):.1f}" if costs else "–"


def _tools_summary(rows: Sequence[ModelResult]) -> str:
    head = ["tool", "models", "raises on", "values", "known", "wrong", "of known", "models with a wrong value", "CPU"]
    lines = []
    for tool in dict.fromkeys(tool for row in rows for tool in row.tools):
        given = [row.tools[tool] for row in rows if tool in row.tools]
        gave = [one for one in given if not one.failure]
        known, wrong = sum(one.known for one in gave), sum(one.wrong for one in gave)
        share = f"{wrong / known:.1%}" if known else "–"
        wrong_models = sum(one.wrong > 0 for one in gave)
        taken = f"{sum(one.seconds for one in given):.0f} s"
        values = f"{sum(one.values for one in gave):,}"
        name = f"{tool} {_version(tool)}".strip()
        lines.append(
            [
                name,
                len(gave),
                len(given) - len(gave),
                values,
                f"{known:,}",
                f"{wrong:,}",
                share,
                wrong_models,
                taken,
            ]
        )
    return _table(head, lines)


def _reason_kind(reason: str) -> str:
    """Return the reason why a model is observed without the place, the advice and what is in parentheses."""
    return re.split(r" \(|; ", re.sub(r"^.*?\.py:\d+: ", "", reason))[0]


def _unseen(row: ModelResult, reach: Reach) -> str:
    modules = f"; nothing of {', '.join(reach.unseen_modules)}" if reach.unseen_modules else ""
    return f"`{row.zoo}` `{row.name}`: {reach.seen} of {reach.total} calls are part of an operation{modules}"


def _refusals(rows: Sequence[ModelResult]) -> str:
    lines = []
    for row in rows:
        if row.refusal:
            plain = {"right": " **torch.fx alone gets it right.**", "wrong": " torch.fx alone gets it wrong."}
            lines.append(f"`{row.zoo}` `{row.name}`: {row.refusal}.{plain.get(row.plain, '')}")
    return _list(lines) if lines else "Nothing.\n"


def _model_rows(rows: Sequence[ModelResult]) -> str:
    tools = list(dict.fromkeys(tool for row in rows for tool in row.tools if tool != "surgery"))
    head = ["model", "input", "operations", "values", "wrong", "batches", "sizes", "train", "untouched"]
    head += ["front end", "reach", "trace", "eager run", *tools]
    lines = []
    for row in rows:
        shape = "×".join(map(str, row.shape))
        facts = [row.operations, row.values, row.wrong, row.batches, row.sizes, _tick(row.train), _tick(row.untouched)]
        reach = f"{row.reach.share:.3f}" if row.reach else "–"
        facts += [row.front_end, reach, f"{row.trace_seconds:.2f} s", f"{row.eager_seconds * 1000:.1f} ms"]
        found = ["refused", *["–"] * (len(facts) - 1)] if row.refusal else facts
        lines.append(
            [row.name, shape, *found, *(_tool_cell(row.tools[tool]) if tool in row.tools else "" for tool in tools)]
        )
    return _table(head, lines)


def _tool_cell(one: ToolResult) -> str:
    return "raises" if one.failure else f"**{one.wrong}**/{one.known}" if one.wrong else f"0/{one.known}"


def _tick(yes: bool) -> str:
    return "✓" if yes else "✗"


def _condense(notes: Iterable[str]) -> str:
    counted = Counter(notes)
    first = next(iter(counted))
    return first if len(counted) == 1 else f"{first}; and {len(counted) - 1} more like it"


def _list(lines: Iterable[str]) -> str:
    return "".join(f"- {line}\n" for line in lines)


def _table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    rows = [head, ["---", *["--:"] * (len(head) - 1)], *([str(cell) for cell in line] for line in lines)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def render_summary(rows: Sequence[ModelResult]) -> str:
    """Return a few lines for the terminal."""
    traced = [row for row in rows if not row.refusal]
    values, wrong = sum(row.values for row in traced), sum(row.wrong for row in traced)
    plain = sum(row.plain == "right" for row in rows)
    observed = sum(row.front_end == "observed" for row in rows)
    count = format_count(len(rows), "model")
    lines = [
        f"{count}, {len(traced)} traced, {observed} of them observed, {plain} by torch.fx alone",
        f"surgery: {format_count(wrong, 'wrong value')} of {values:,}",
    ]
    for tool in TOOLS:
        given = [row.tools[tool] for row in rows if tool in row.tools and not row.tools[tool].failure]
        if given and tool != "surgery":
            wrong, known = sum(one.wrong for one in given), sum(one.known for one in given)
            lines.append(f"{tool}: {format_count(wrong, 'wrong value')} of {known:,}")
    return "\n".join(lines)
