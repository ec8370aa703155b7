from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

import surgery
from benchmarks.examination import examine
from benchmarks.tools import compute_reference, run_tool
from benchmarks.truth import choose_models
from benchmarks.truth_table import render_summary, render_table
from benchmarks.zoo import ZooModel, list_models
from benchmarks.zoo.inputs import tokens
from surgery.errors import TraceError
from surgery.graph.trace_info import Reach
from surgery.rewriting.extractor import ActivationExtractor
from surgery.text import format_count
from tests.nets import Branching, Containers, InPlace, Reused

if TYPE_CHECKING:
    from collections.abc import Callable

TRUTH = Path(__file__).parents[2] / "benchmarks" / "TRUTH.md"
IN_PLACE = ZooModel("tests", "in_place", InPlace, (3, 6, 6))
BRANCHING = ZooModel("tests", "branching", Branching, (3, 6, 6))


def asked(tool: str, model: nn.Module, *inputs: Tensor) -> Any:
    with torch.no_grad():
        return run_tool(tool, model, inputs, compute_reference(model, inputs))


def test_what_hooks_and_torchvision_give_is_seen_to_be_overwritten_and_ours_is_not() -> None:
    model, x = IN_PLACE.build(), torch.randn(1, 3, 6, 6)
    given = asked("forward hooks", model, x)
    assert (given.values, given.known, given.wrong, given.first) == (4, 4, 2, "norm")
    given = asked("surgery", model, x)
    assert (given.known, given.wrong, given.failure) == (4, 0, "")


def test_torchvision_gives_values_of_functions_too() -> None:
    class Functions(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + 1).relu_() * torch.ones_like(x).mul_(3)

    given = asked("torchvision", Functions(), torch.tensor([-3.0, 0.5, 2.0]))
    assert (given.values, given.known, given.wrong, given.first) == (5, 5, 2, "add")


@pytest.mark.parametrize("net", [Reused, Containers])
def test_each_call_and_each_tensor_of_a_module_is_a_value(net: type[nn.Module]) -> None:
    model, x = net().eval(), torch.randn(2, 6, 4)
    expected = 3  # three calls; the sequence and two states of an LSTM
    for tool in ("forward hooks", "surgery"):
        given = asked(tool, model, x)
        assert (given.known, given.wrong) == (expected, 0)


def test_a_tool_that_raises_gives_nothing_and_says_why() -> None:
    given = asked("torchvision", Branching().eval(), torch.randn(1, 3, 2, 2))
    assert (given.values, given.wrong) == (0, 0)
    assert given.failure.startswith("TraceError: ")


def test_a_tool_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import tools

    monkeypatch.setitem(tools.TOOLS, "captum", ("no_such_package", tools.TOOLS["captum"][1]))
    assert asked("captum", nn.ReLU(), torch.zeros(1)).failure == "no_such_package is not installed"
    entry = replace(IN_PLACE, required_packages=("torch", "no_such_package"))
    assert entry.missing_package == "no_such_package is not installed: pip install -e '.[zoo]'"
    assert IN_PLACE.missing_package is None


def test_a_model_that_is_as_it_is_gives_a_line_that_says_so() -> None:
    row = examine(IN_PLACE, ["surgery", "forward hooks"])
    assert (row.plain, row.refusal, row.differences, row.unsure) == ("refuses", "", (), ())
    assert (row.batches, row.sizes, row.wrong, row.train, row.untouched) == (2, 2, 0, True, True)
    assert row.values == 4 * 10  # on one, on two, on a wide one, and on two in train mode
    assert not row.is_bad


def late(waiting: list[Callable[[], None]]) -> Callable[[ActivationExtractor, Any], Any]:
    """An extractor that lets its listener take the value when the next operation has run."""

    def forward(self: ActivationExtractor, value: Any) -> Any:
        for take in waiting:
            take()
        listener = self.listener
        waiting[:] = [lambda: listener(self.operation, value)] if listener else []
        return value

    return forward


def test_a_wrong_value_of_ours_would_be_counted_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActivationExtractor, "forward", late([]))
    row = examine(IN_PLACE, ["surgery"])
    assert row.wrong > 3
    assert row.tools["surgery"].wrong > 0
    assert row.is_bad
    assert row.differences[0].startswith("values (eval example): norm (")
    text = render_table([row], [], [])
    assert "## What differs" in text
    assert f"| **all** | 1 | 0 | 1 | {row.values} | {row.wrong} | 0 | 0 |" in text
    assert f"surgery: {format_count(row.wrong, 'wrong value')} of {row.values}" in render_summary([row])


def test_a_model_that_is_observed_gives_a_line_that_says_so_and_why() -> None:
    row = examine(BRANCHING, ["surgery"])
    assert (row.plain, row.refusal, row.differences, row.front_end) == ("refuses", "", (), "observed")
    assert "tests/nets.py:" in row.reason
    assert row.reach is not None
    assert 0 < row.reach.seen <= row.reach.total
    assert row.trace_seconds > row.eager_seconds > 0
    assert row.tools["surgery"].known > 0
    assert not row.is_bad
    text = render_table([replace(row, reach=Reach(3, 4, ("conv",)))], [], [])
    assert re.search(r"\| \*\*all\*\* \| 1 \| 0 \| 1 \| \d+ \| 0 \| 0 \| 0 \| 1 \| 0\.750 \| \d+\.\d \|", text)
    assert "`tests` `branching`: 3 of 4 calls are part of an operation; nothing of conv" in text
    assert re.search(r"## Why models are observed\n\n- a branch .*: 1\n", text)
    assert "1 model, 1 traced, 1 of them observed" in render_summary([row])


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(98, 4)

    def forward(self, ids: Tensor, scale: float = 1.0, *, mask: Tensor | None = None) -> dict[str, Tensor]:
        hidden = self.embedding(ids) * scale
        return {"hidden": hidden if mask is None else hidden * mask[..., None]}


def test_a_model_is_examined_on_inputs_by_name_on_a_batch_and_at_another_size() -> None:
    row = examine(ZooModel("tests", "named", Named, takes={"ids": tokens(5), "scale": 2.0}), ["surgery"])
    assert (row.differences, row.batches, row.sizes, row.train, row.wrong) == ((), 2, 2, True, 0)
    assert row.shape == (5,)
    assert row.tools["surgery"].known > 0


def test_a_fault_of_ours_is_a_result_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise IndexError("out of range\nand more")

    monkeypatch.setattr(surgery, "trace", fail)
    row = examine(IN_PLACE, [])
    assert row.differences == ("surgery fails: IndexError: out of range",)
    assert row.is_bad


def test_a_refusal_is_bad_where_torch_fx_alone_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise TraceError("Branching can't be traced: tests/nets.py:3: no")

    monkeypatch.setattr(surgery, "trace", refuse)
    row = replace(examine(BRANCHING, []), seconds=60)
    assert row.plain == "refuses"
    assert "tests/nets.py:" in row.refusal
    assert not row.is_bad
    assert replace(row, plain="right").is_bad
    text = render_table([row], ["tests other: not installed"], ["branching"])
    assert f"`tests` `branching`: {row.refusal}" in text
    assert "Made by `python -m benchmarks.truth branching` in 1 minutes of CPU" in text
    assert "- tests other: not installed" in text
    assert "| branching | 3×6×6 | refused |" in text


@pytest.mark.parametrize("touch", ["attribute", "mode", "weight", "buffer", "hook", "gradient"])
def test_a_model_that_was_touched_is_bad(touch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = surgery.trace

    def touching(model: InPlace, *inputs: Any) -> Any:
        traced = trace(model, *inputs)
        if touch == "attribute":
            model.mine = 1  # type: ignore[assignment]
        elif touch == "mode":
            model.norm.train()
        elif touch == "weight":
            model.conv.weight.data.view(-1)[3] += 1e-3
        elif touch == "buffer":
            model.norm.running_mean.add_(1)
        elif touch == "hook":
            model.conv.register_forward_hook(lambda *_: None)
        else:
            model.conv.weight.requires_grad_(False)
        return traced

    assert examine(IN_PLACE, []).untouched
    monkeypatch.setattr(surgery, "trace", touching)
    row = examine(IN_PLACE, [])
    assert not row.untouched
    assert row.is_bad


def test_the_models_are_all_of_torchvision_and_many_of_the_others() -> None:
    from torchvision import models

    every = list(list_models())
    names = [(entry.zoo, entry.name) for entry in every]
    assert len(set(names)) == len(names) > 300
    ours = {name.removesuffix("_int8") for zoo, name in names if zoo.startswith("torchvision.")}
    assert ours == set(models.list_models())
    assert sum(zoo == "timm" for zoo, _ in names) > 150
    assert [entry.name for entry in choose_models(["resnet1?", "torchvision.optical_flow"])] == [
        *("resnet18", "raft_large", "raft_small")
    ]
    assert [entry.zoo for entry in choose_models(["torchvision.classification/resnet18"])] == [
        "torchvision.classification"
    ]


def test_weights_are_random_and_the_same_each_time() -> None:
    entry = next(entry for entry in list_models() if entry.name == "resnet18")
    model = entry.build()
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.is_floating_point():
            assert value.std() > 0.01, name
    other = entry.build()
    assert all(torch.equal(one, same) for one, same in zip(model.parameters(), other.parameters(), strict=True))
    (one,), (same,) = entry.inputs(2), entry.inputs(2)
    assert torch.equal(one, same)
    assert not model.training


def test_the_table_was_made_by_a_full_run_in_which_nothing_was_wrong() -> None:
    text = TRUTH.read_text(encoding="utf-8")
    assert re.search(r"Made by `python -m benchmarks.truth --tool surgery( --jobs \d+)?` in", text)
    row = next(line for line in text.splitlines() if line.startswith("| **all** |"))
    _, models, _, traced, values, wrong, others, touched, observed, reach, _ = row.strip("| ").split(" | ")
    assert int(models) == int(traced) == len(list(list_models()))
    assert (wrong, others) == ("0", "0")
    assert int(touched) <= 1  # version counters of parameters that tracing has written and put back
    assert float(reach) >= 0.98
    said = " ".join((TRUTH.parent.parent / "README.md").read_text(encoding="utf-8").split())
    assert f"Of the {values} values of {models} models, 0 differ" in said
    assert f"{observed} of them are observed" in said
