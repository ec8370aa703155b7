"""Layouts of observed models: those of the same model's graph, and those of models that have no graph."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.builtin.readers import READERS
from surgery.builtin.sinks.png import Png
from surgery.layouts.value_axes import ValueAxes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from surgery.graph import FrontEnd

SIDE = 32


def resnet() -> nn.Module:
    return pytest.importorskip("torchvision").models.resnet18()  # type: ignore[no-any-return]


def vision_transformer() -> nn.Module:
    return pytest.importorskip("torchvision").models.VisionTransformer(  # type: ignore[no-any-return]
        image_size=SIDE, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32
    )


def swin() -> nn.Module:
    return pytest.importorskip("torchvision").models.SwinTransformer(  # type: ignore[no-any-return]
        [4, 4], 16, [2, 2], [2, 2], [4, 4], stochastic_depth_prob=0.0
    )


def unet() -> nn.Module:
    from surgery.models.pix2pix.unet import UNet

    return UNet(depth=5, width=4)


def layouts(model: nn.Module, front_end: FrontEnd, images: Tensor) -> dict[str, tuple[str, str]]:
    traced = surgery.trace(model, images, front_end=front_end)
    recorded = surgery.record(surgery.insert(traced, surgery.select(traced, "*")), images)
    return {each.path: (each.layout.name, each.layout.reason) for each in recorded}


@pytest.mark.parametrize("make", [resnet, vision_transformer, swin, unet], ids=lambda make: make.__name__)
def test_an_observed_model_has_the_layouts_of_its_graph(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model, images = make().eval(), torch.randn(2, 3, SIDE, SIDE)
    graph, observed = (layouts(model, front_end, images) for front_end in ("symbolic", "observed"))
    # A graph indexes tuples that Python unpacks in an observed run, and its functions of torchvision are one operation.
    same = {path for path in graph.keys() & observed.keys() if ".getitem" not in f".{path}"}
    assert len(same) >= min(len(graph), len(observed)) * 2 // 3
    assert {path: graph[path][0] for path in same} == {path: observed[path][0] for path in same}
    if make is not swin:  # whose graph does not show the origin of the axes through a function of torchvision
        assert {path: graph[path] for path in same} == {path: observed[path] for path in same}


class Branching(nn.Module):
    """Channels last; bright images take one way, dark ones another, and each keeps another number of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.bright, self.dark = nn.Conv2d(3, 6, 4, 4), nn.LayerNorm(6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        grid = self.embed(x).permute(0, 2, 3, 1)
        grid = self.bright(grid) if x.mean() > 0 else self.dark(grid) * 2
        tokens = grid.flatten(1, 2)
        return {"grid": grid, "kept": tokens[:, tokens[0, :, 0] > 0]}


def extract(tmp_path: Path, model: nn.Module, tensors: list[Tensor]) -> list[dict[str, Any]]:
    """Return the activations of each image, by path, from the manifest."""
    paths = [tmp_path / f"{number}.pt" for number in range(len(tensors))]
    for path, tensor in zip(paths, tensors, strict=True):
        torch.save(tensor, path)
    surgery.extract(model, paths, out=tmp_path / "o", reader=READERS["tensor"], sinks=[Png()], at="*")
    manifest = json.loads((tmp_path / "o" / "manifest.json").read_text())
    images = [each for each in manifest["images"] if "name" in each]  # not the activations of a whole batch
    return [{each["path"]: each for each in image["activations"]} for image in images]


def test_an_image_that_takes_another_way_has_the_layouts_of_that_way(tmp_path: Path) -> None:
    torch.manual_seed(0)
    images = [torch.rand(1, 3, 24, 40), -torch.rand(1, 3, 24, 40), torch.rand(1, 3, 24, 40)]
    bright, dark, again = extract(tmp_path, Branching().eval(), images)
    assert bright["bright"]["layout"] == dark["dark"]["layout"] == again["bright"]["layout"] == "channels-last"
    assert "dark" not in bright
    assert "bright" not in dark
    assert dark["mul"]["layout"] == "channels-last"
    assert "known from embed (conv2d)" in dark["mul"]["layout_reason"]
    assert dark["flatten"]["layout"] == "tokens:6x10"
    for image in (bright, dark, again):
        assert image["output[grid]"]["layout"] == "channels-last"


class Vit(nn.Module):
    """A transformer that is written as in many repositories: a branch on its number of tokens, and a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.token = nn.Conv2d(3, 8, 8, 8), nn.Parameter(torch.randn(1, 1, 8))
        self.norm, self.qkv, self.project = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).mT
        x = torch.cat((self.token.expand(len(x), -1, -1), x), dim=1)
        if x.abs().max().item() > 1e6:
            x = x.clamp(-1e6, 1e6)
        q, k, v = self.qkv(self.norm(x)).reshape(len(x), -1, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        attention = (q @ k.transpose(-2, -1)).softmax(-1)
        return x + self.project((attention @ v).transpose(1, 2).flatten(2))


def test_the_tokens_of_a_model_without_a_graph_lie_on_their_grid() -> None:
    found = layouts(Vit().eval(), "auto", torch.randn(2, 3, 24, 40))
    grids = {path: name for path, (name, _) in found.items()}
    assert {grids[path] for path in ("getattr", "cat", "norm", "qkv", "project", "add")} == {"tokens:3x5"}
    assert grids["softmax"] == "channels-first"
    assert "1 token beside the grid is not drawn" in found["project"][1]


def test_axes_are_inferred_again_only_for_calls_with_other_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    from surgery.layouts.axis_tracking import AxisTracker

    calls: list[str] = []
    infer = ValueAxes._infer

    def count(self: ValueAxes, path: str, *rest: Any) -> Any:
        calls.append(path)
        return infer(self, path, *rest)

    monkeypatch.setattr(ValueAxes, "_infer", count)
    traced = surgery.trace(Branching().eval(), torch.rand(1, 3, 24, 40), front_end="observed")
    tracker = AxisTracker(surgery.insert(traced, surgery.select(traced, "bright")))
    image = torch.rand(1, 3, 24, 40)
    tracker.run(image)
    assert {"embed", "bright", "flatten"} <= set(calls)
    calls.clear()
    tracker.run(image.clone())
    assert calls == []
    tracker.run(-image)
    assert "dark" in calls
    assert "embed" not in calls
