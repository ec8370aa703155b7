"""A model that is traced already, wherever a model is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.builtin import Zero
from surgery.editing import edits_of
from surgery.errors import TraceError

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
makers = pytest.mark.parametrize("maker", ["symbolic", "observed"])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        return torch.tanh(self.head(torch.cat((h, h.relu()), 1)))


def edited(maker: Any) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    model = Net().eval()
    return model, surgery.edit(surgery.trace(model, X, front_end=maker), "cat", Zero(channels=[0, 5]))


def paths(model: nn.Module) -> list[str]:
    return [operation.path for operation in surgery.operations(model)]


@makers
@pytest.mark.parametrize("example", [(), (X,)])
def test_a_traced_model_is_traced_as_it_is_with_its_edits(maker: str, example: tuple[Any, ...]) -> None:
    _, model = edited(maker)
    opened = surgery.insert(model, surgery.select(model, "*"))
    for given in (model, opened):
        again = surgery.trace(given, *example)
        assert again is not given
        assert paths(again) == paths(model) == ["conv", "relu", "cat", "cat'", "head", "tanh"]
        assert torch.equal(again(X), model(X))
        assert edits_of(again) == ["cat = zero:channels=0,5"]
        assert surgery.record(surgery.insert(again, surgery.select(again, "cat'")), X)[0].path == "cat'"


def test_a_graph_that_was_traced_without_an_example_gets_its_shapes() -> None:
    traced = surgery.trace(Net())
    assert surgery.operations(traced)[0].shape is None
    assert surgery.operations(surgery.trace(traced, X))[0].shape == (2, 4, 8, 8)
    assert surgery.operations(traced)[0].shape is None
    with pytest.raises(TraceError, match=r"^the example does not run: Given groups=1"):
        surgery.trace(traced, X[:, :2])


@makers
def test_a_run_of_an_edited_model_records_its_edits(maker: str, tmp_path: Path) -> None:
    _, model = edited(maker)
    photo = tmp_path / "photo.png"
    Image.new("RGB", (8, 8), (200, 90, 30)).save(photo)
    for more in ([], ["conv = zero:channels=1"]):
        surgery.extract(model, photo, at="cat*", edits=more, out=tmp_path / "run", overwrite=True)
        manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
        operations = [each["path"] for each in manifest["images"][0]["activations"]]
        assert [path for path in operations if path.startswith("cat")] == ["cat", "cat'"]
        assert manifest["settings"]["edits"] == ["cat = zero:channels=0,5", *more]
        without = "without the edits, " if more else ""
        assert manifest["check"].startswith(f"{without}the output of the first batch is the original")


@makers
def test_an_edited_model_is_studied_compared_and_certified(maker: str) -> None:
    original, model = edited(maker)
    x = X[:1]
    [row] = surgery.ablate(model, x, at="cat").rows
    both = surgery.edit(surgery.trace(original, x), "cat", Zero())
    with torch.no_grad():
        difference = float((both(x) - model(x)).abs().mean())
    assert row.effect.mean_abs == pytest.approx(difference, rel=1e-5)
    assert [row.share for row in surgery.patch(model, x, X[1:], at="conv")] == [1.0]
    comparison = surgery.compare([surgery.Run(original), surgery.Run(model)], x)
    assert "differs from Net from cat on" in str(comparison)
    assert surgery.certify(model, surgery.edit(model, "conv", Zero()), x, modes=["eval"]).same


@makers
def test_what_was_decided_by_the_trace_can_not_be_asked_for_again(maker: str) -> None:
    _, model = edited(maker)
    other = {"symbolic": "observed", "observed": "symbolic"}[maker]
    with pytest.raises(
        TraceError, match=rf"^Net is a traced model, {maker}; trace the model itself to have it {other}$"
    ):
        surgery.trace(model, X, front_end=other)  # type: ignore[arg-type]
    with pytest.raises(TraceError, match=r"^Net is a traced model, whose leaves are chosen; give leaves where the mod"):
        surgery.trace(model, X, leaves=["conv"])


@pytest.mark.parametrize("example", [(), (X,)])
def test_a_model_with_an_edited_observed_part_can_not_be_traced(example: tuple[Any, ...]) -> None:
    _, model = edited("observed")
    whole = nn.Sequential(model, nn.Identity())
    assert torch.equal(whole(X), model(X))
    with pytest.raises(TraceError, match="Net is observed and has edits, which a model that it is a part of would los"):
        surgery.trace(whole, *example)
