"""Every model of the zoos against an eager run that clones: ``pytest -m zoo``, some hours on one thread."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
import torch

from benchmarks.examination import examine
from benchmarks.zoo import list_models

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.model_result import ModelResult
    from benchmarks.zoo import ZooModel

# What the models of others warn of is not ours to raise.
pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("ignore")]

TRACED_WHOLE = {"torchvision.classification", "torchvision.segmentation", "torchvision.video", "timm"}

ENTRIES = tuple(list_models())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    gc.collect()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.zoo}-{entry.name}")
def test_a_model_that_torch_fx_can_trace_is_traced_and_every_value_is_right(
    entry: ZooModel, rows: list[ModelResult]
) -> None:
    if entry.missing_package:
        pytest.skip(entry.missing_package)
    row = examine(entry, ["surgery", "forward hooks", "torchvision"])
    rows.append(row)
    if row.refusal:
        assert row.plain != "right", row.refusal
        assert ".py:" in row.refusal, "a refusal names the line"
        return
    assert row.differences == ()
    # Some models run in train mode only with labels.
    assert [
        line for line in row.unsure if not line.startswith("output (train example): the original does not run")
    ] == []
    assert row.wrong == 0
    assert row.values > 0
    if ours := row.tools.get("surgery"):
        assert ours.wrong == 0
        assert row.values >= ours.known > 0
    assert row.batches == 2
    assert row.train or row.unsure
    assert row.untouched
    assert row.front_end == "symbolic" or ".py:" in row.reason, "a reason names the line"
    if row.plain == "right" and entry.zoo in TRACED_WHOLE:
        assert row.front_end == "symbolic"
    if entry.zoo.startswith("torchvision."):
        assert row.notes == (), "a false alarm"


def test_nearly_all_models_are_taken_and_at_least_150_are_graphs(rows: list[ModelResult]) -> None:
    if len(rows) < 150:
        pytest.skip("only some models were chosen")
    traced = [row for row in rows if not row.refusal]
    assert len(traced) >= 0.99 * len(rows)
    assert sum(row.front_end == "symbolic" for row in traced) >= 150
    assert sum(row.wrong for row in traced) == 0
    hooks = [row.tools["forward hooks"] for row in rows if "forward hooks" in row.tools]
    assert sum(tool.wrong for tool in hooks) > 1000, "the yardstick sees what hooks get wrong"
