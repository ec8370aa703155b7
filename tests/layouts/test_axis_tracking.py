"""Axes that are tracked through a graph or an observed run, and the pictures that follow from them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.builtin.sinks.png import Png
from surgery.builtin.sinks.tensor_archives import Npz
from surgery.types import NAN

if TYPE_CHECKING:
    from pathlib import Path

    from surgery.graph import FrontEnd

SIDE, WIDE, STRIDE = 24, 40, 8


ROWS, COLUMNS = SIDE // STRIDE, WIDE // STRIDE


"""The grid that the first convolution returns: 3 x 5."""


class Patches(nn.Module):
    """A convolution of patches and the layers of the models below."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, channels, STRIDE, STRIDE)
        self.norm = nn.LayerNorm(channels)
        self.mlp = nn.Linear(channels, channels)
        self.token = nn.Parameter(torch.randn(1, 3, channels))


class LastNorm(Patches):
    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.norm(self.embed(x).permute(0, 2, 3, 1)))


class PlainTokens(Patches):
    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.norm(self.embed(x).flatten(2).transpose(1, 2)))


class ClassToken(Patches):
    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x.reshape(x.shape[0], x.shape[1], -1).permute(0, 2, 1)
        return self.mlp(torch.cat((self.token[:, :1].expand(x.shape[0], -1, -1), x), 1))


class RegistersBehind(Patches):
    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.embed(x).flatten(2).mT, self.token.expand(x.shape[0], -1, -1)], dim=1)
        return self.mlp(self.norm(x))


class SequenceFirst(Patches):
    """Tokens first, ``(T, B, C)``, as in older transformers."""

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.norm(self.embed(x).flatten(2).permute(2, 0, 1)))


class Heads(Patches):
    """Queries of an attention of two heads: ``(B, heads, T, C / heads)``."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.mlp(self.embed(x).flatten(2).transpose(1, 2))
        return x.unflatten(2, (2, -1)).transpose(1, 2) * 2


class Windows(nn.Module):
    """Square windows of a grid along the batch, as in Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 4, 4)
        self.mlp = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).permute(0, 2, 3, 1)
        b, h, w, c = x.shape
        x = x.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        return self.mlp(x)


class Mixer(Patches):
    """A linear layer over the positions: ``(B, C, T)`` and back."""

    def __init__(self) -> None:
        super().__init__(6)
        self.places = nn.Linear(ROWS * COLUMNS, ROWS * COLUMNS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        return x + self.places(x.transpose(1, 2)).transpose(1, 2)


def expected_maps(model: nn.Module, output: Tensor) -> Tensor:
    """Return the output as maps ``(B, C, H, W)``, rearranged by hand."""
    if isinstance(model, LastNorm):
        return output.permute(0, 3, 1, 2)
    if isinstance(model, Windows):
        parts = output.view(2, ROWS * 2 // 2, COLUMNS * 2 // 2, 2, 2, 6)
        return parts.permute(0, 5, 1, 3, 2, 4).reshape(2, 6, ROWS * 2, COLUMNS * 2)
    if isinstance(model, SequenceFirst):
        output = output.transpose(0, 1)
    if isinstance(model, Heads):
        output = output.transpose(1, 2).flatten(2)
    if isinstance(model, ClassToken):
        output = output[:, 1:]
    return output[:, : ROWS * COLUMNS].transpose(1, 2).unflatten(2, (ROWS, COLUMNS))


MODELS = {
    LastNorm: "channels-last",
    PlainTokens: f"tokens:{ROWS}x{COLUMNS}",
    ClassToken: f"tokens:{ROWS}x{COLUMNS}",
    RegistersBehind: f"tokens:{ROWS}x{COLUMNS}",
    SequenceFirst: f"tokens:{ROWS}x{COLUMNS}",
    Heads: f"tokens:{ROWS}x{COLUMNS}",
    Windows: "windows:2x2",
    Mixer: f"tokens:{ROWS}x{COLUMNS}",
}


def random_images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, SIDE, WIDE, generator=torch.Generator().manual_seed(1))


def rewrite(model: nn.Module, at: str = "*", front_end: FrontEnd = "symbolic") -> Any:
    traced = surgery.trace(model.eval(), random_images(1), front_end=front_end)
    return surgery.insert(traced, surgery.select(traced, at))


@pytest.mark.parametrize("front_end", ["symbolic", "observed"])
@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_spatial_axes_are_tracked(kind: type[nn.Module], front_end: FrontEnd) -> None:
    torch.manual_seed(0)
    model = kind().eval()
    images = random_images()
    *_, last = surgery.record(rewrite(model, front_end=front_end), images)
    assert last.layout.name == MODELS[kind]
    assert "known from" in last.layout.reason
    with torch.no_grad():
        expected = surgery.draw(expected_maps(model, model(images)))
    assert len(last.pictures) == len(expected) == 2
    for ours, theirs in zip(last.pictures, expected, strict=True):
        assert np.array_equal(ours.pixels, theirs.pixels)
        assert np.array_equal(ours.low, theirs.low)


@pytest.mark.parametrize("kind", [ClassToken, SequenceFirst, Windows], ids=lambda kind: kind.__name__)
def test_each_image_of_a_batch_gets_its_own_picture_and_exact_values(kind: type[nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = kind().eval()
    images = random_images().clamp(-1, 1)
    for number, image in enumerate(images):
        torch.save(image[None], tmp_path / f"{number}.pt")
    paths = [tmp_path / "0.pt", tmp_path / "1.pt"]
    from surgery.builtin.readers import READERS

    surgery.extract(
        model, paths, out=tmp_path / "o", batch_size=2, reader=READERS["tensor"], sinks=[Npz(), Png()], at="mlp"
    )
    with torch.no_grad():
        output = model(images)
        expected = surgery.draw(expected_maps(model, output))
    for number in range(2):
        (picture,) = (tmp_path / "o" / str(number)).glob("*-mlp.png")
        with Image.open(picture) as image:
            assert np.array_equal(np.asarray(image), expected[number].pixels)
            note = json.loads(image.text["surgery"])  # type: ignore[attr-defined]
        assert note["layout"] == MODELS[kind]
        own = output[:, number] if kind is SequenceFirst else output.view(2, -1, *output.shape[1:])[number]
        kept = np.load(tmp_path / "o" / str(number) / "activations.npz")["mlp"]
        assert np.array_equal(kept, own.squeeze(0).numpy())
    entry = next(
        each
        for each in json.loads((tmp_path / "o" / "manifest.json").read_text())["images"][0]["activations"]
        if each["path"] == "mlp"
    )
    assert entry["layout"] == MODELS[kind]
    assert "known from embed (conv2d)" in entry["layout_reason"]


def test_a_class_token_is_not_drawn_and_counts_in_the_facts() -> None:
    class Odd(ClassToken):
        def forward(self, x: Tensor) -> Tensor:
            x = self.embed(x).flatten(2).transpose(1, 2)
            return torch.cat((self.token[:, :2].expand(x.shape[0], -1, -1), x), 1)

    model = Odd()
    with torch.no_grad():
        model.token[0, 1, 2], model.token[0, 0, 3] = 77.0, torch.nan
    *_, last = surgery.record(rewrite(model), random_images(1))
    assert "2 tokens beside the grid are not drawn" in last.layout.reason
    assert (last.facts.max, last.facts.nan, last.facts.channels) == (77.0, True, 6)
    assert last.pictures[0].high.max() < 77
    assert NAN not in last.pictures[0].pixels


def test_unknown_axes_follow_from_the_operation_that_takes_the_value() -> None:
    class Opaque(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :, ::2, ::2].permute(0, 2, 3, 1).contiguous()

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.act, self.norm = Opaque(), nn.GELU(), nn.LayerNorm(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.act(self.inner(x)))

    traced = surgery.trace(Model(), leaves=["inner"])
    first, *_ = surgery.record(surgery.insert(traced, surgery.select(traced, "*")), random_images(1))
    assert (first.path, first.layout.name) == ("inner", "channels-last")
    assert "norm (layernorm), which takes it" in first.layout.reason


@pytest.mark.parametrize(("axes", "name"), [(1, "channels-last"), (3, "channels-first")])
def test_a_norm_by_a_function_tells_the_axes_if_it_normalizes_over_the_last_alone(axes: int, name: str) -> None:
    class Opaque(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :, ::2, ::2].contiguous()

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.weight = Opaque(), nn.Parameter(torch.ones((3, 12, 20)[-axes:]))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.layer_norm(self.inner(x), self.weight.shape, self.weight)

    traced = surgery.trace(Model(), leaves=["inner"])
    first, *_ = surgery.record(surgery.insert(traced, surgery.select(traced, "inner")), random_images(1))
    assert first.layout.name == name


def test_an_attention_map_is_drawn_for_each_head() -> None:
    class Attention(Heads):
        def forward(self, x: Tensor) -> Tensor:
            q = super().forward(x)
            return (q @ q.transpose(-2, -1)).softmax(-1)

    *_, last = surgery.record(rewrite(Attention()), random_images(1))
    assert last.layout.name == "channels-first"
    assert last.levels.codes.shape == (2, ROWS * COLUMNS, ROWS * COLUMNS)


def test_codes_of_channels_first_maps_are_written_directly_to_tiles() -> None:
    *_, last = surgery.record(
        rewrite(nn.Sequential(nn.Conv2d(3, 60, 3), nn.BatchNorm2d(60), nn.ReLU())), random_images(1)
    )
    assert (last.layout.name, last.layout.layout) == ("channels-first", None)
    assert last.pictures[0].scanlines is not None  # written directly


def test_the_gates_of_squeeze_and_excitation_keep_their_number_of_channels() -> None:
    gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 12, 1), nn.Sigmoid())
    _, _, last = surgery.record(rewrite(gate), random_images(2))
    assert last.layout.name == "vector"
    assert (last.facts.channels, last.facts.constant_channels) == (12, 0)
    picture = last.pictures[0]
    assert picture.low.tolist() == [last.values[0].min().item()]
    assert picture.high.tolist() == [last.values[0].max().item()]
