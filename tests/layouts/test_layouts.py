"""Layouts of values: tracked through the graph, guessed from sizes, or requested."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.builtin.default_recipe import DEFAULT_RECIPE
from surgery.builtin.normalizers import NORMALIZERS, Fixed
from surgery.builtin.sinks.png import Png
from surgery.builtin.sinks.tensor_archives import Npz
from surgery.cli import app as cli
from surgery.errors import RenderError, SelectionError
from surgery.layouts.axes import Axis, Factor, named_axes, reshape_axes, simple_axis
from surgery.layouts.layout_decision import LayoutHints, decide_layout
from surgery.layouts.value_layouts import ChannelsFirst, ChannelsLast, Flat, Tokens, parse_layout
from surgery.types import NAN

if TYPE_CHECKING:
    from pathlib import Path

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


def truth(model: nn.Module, output: Tensor) -> Tensor:
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


def given(count: int = 2) -> Tensor:
    return torch.randn(count, 3, SIDE, WIDE, generator=torch.Generator().manual_seed(1))


def opened(model: nn.Module, at: str = "*") -> Any:
    traced = surgery.trace(model.eval())
    return surgery.insert(traced, surgery.select(traced, at))


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_spatial_axes_are_tracked_through_the_graph(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind().eval()
    images = given()
    *_, last = surgery.record(opened(model), images)
    assert last.layout.name == MODELS[kind]
    assert "known from" in last.layout.reason
    with torch.no_grad():
        expected = surgery.draw(truth(model, model(images)))
    assert len(last.pictures) == len(expected) == 2
    for ours, theirs in zip(last.pictures, expected, strict=True):
        assert np.array_equal(ours.pixels, theirs.pixels)
        assert np.array_equal(ours.low, theirs.low)


@pytest.mark.parametrize("kind", [ClassToken, SequenceFirst, Windows], ids=lambda kind: kind.__name__)
def test_each_image_of_a_batch_gets_its_own_picture_and_exact_values(kind: type[nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = kind().eval()
    images = given().clamp(-1, 1)
    for number, image in enumerate(images):
        torch.save(image[None], tmp_path / f"{number}.pt")
    paths = [tmp_path / "0.pt", tmp_path / "1.pt"]
    from surgery.builtin.readers import READERS

    surgery.extract(
        model, paths, out=tmp_path / "o", batch_size=2, reader=READERS["tensor"], sinks=[Npz(), Png()], at="mlp"
    )
    with torch.no_grad():
        output = model(images)
        expected = surgery.draw(truth(model, output))
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
    *_, last = surgery.record(opened(model), given(1))
    assert "2 tokens beside the grid are not drawn" in last.layout.reason
    assert (last.facts.max, last.facts.nan, last.facts.channels) == (77.0, True, 6)
    assert last.pictures[0].high.max() < 77
    assert NAN not in last.pictures[0].pixels


@pytest.mark.parametrize(
    ("shape", "image", "name", "guessed"),
    [
        ((1, 197, 768), (224, 224), "tokens:14x14", True),
        ((1, 196, 768), (224, 224), "tokens:14x14", True),
        ((1, 201, 384), (224, 224), "tokens:14x14", True),
        ((1, 280, 64), (224, 320), "tokens:14x20", True),
        ((64, 49, 96), (224, 224), "windows:7x7", True),
        ((1, 100, 256), (224, 224), "flat", False),
        ((1, 128, 768), None, "flat", False),
        ((1, 56, 56, 96), (224, 224), "channels-first", False),
    ],
)
def test_a_layout_is_guessed_from_sizes_if_no_operation_determines_it(
    shape: tuple[int, ...], image: tuple[int, int] | None, name: str, guessed: bool
) -> None:
    found = decide_layout(shape, 1, LayoutHints(image_size=image))
    assert (found.name, found.is_guessed) == (name, guessed)
    assert guessed or "by default" in found.reason


def test_guessed_windows_are_put_together_to_the_original_maps() -> None:
    maps = torch.randn(1, 3, 56, 56)
    windows = maps.view(1, 3, 8, 7, 8, 7).permute(0, 2, 4, 3, 5, 1).reshape(64, 49, 3)
    found = decide_layout(tuple(windows.shape), 1, LayoutHints(image_size=(224, 224)))
    assert found.layout is not None
    assert torch.equal(found.layout(windows[None]), maps)  # type: ignore[arg-type]


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
    first, *_ = surgery.record(surgery.insert(traced, surgery.select(traced, "*")), given(1))
    assert (first.path, first.layout.name) == ("inner", "channels-last")
    assert "norm (layernorm), which takes it" in first.layout.reason


def test_an_attention_map_is_drawn_for_each_head() -> None:
    class Attention(Heads):
        def forward(self, x: Tensor) -> Tensor:
            q = super().forward(x)
            return (q @ q.transpose(-2, -1)).softmax(-1)

    *_, last = surgery.record(opened(Attention()), given(1))
    assert last.layout.name == "channels-first"
    assert last.levels.codes.shape == (2, ROWS * COLUMNS, ROWS * COLUMNS)


def test_codes_of_channels_first_maps_are_written_directly_to_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, last = surgery.record(opened(nn.Sequential(nn.Conv2d(3, 60, 3), nn.BatchNorm2d(60), nn.ReLU())), given(1))
    assert (last.layout.name, last.layout.layout) == ("channels-first", None)
    assert last.pictures[0].scanlines is not None  # written directly


def test_a_reshape_merges_and_splits_factors() -> None:
    axes = named_axes((2, 6, 8, 8), ("batch", "channel", "height", "width"), "")
    windows = reshape_axes(axes, (2, 6, 4, 2, 4, 2))
    assert windows is not None
    assert windows.items[3].factors == (Factor("height", 2, (1,)),)
    merged = reshape_axes(windows, (2, 6, 64))
    assert merged is not None
    assert merged.items[2].names == {"height", "width"}
    assert reshape_axes(axes, (2, 6, 5, 13)) is None
    tokens = named_axes((1, 9, 4), ("batch", "", "channel"), "")
    mixed = (tokens.items[0], Axis((Factor("height", 2), Factor("width", 4)), before=1), simple_axis("channel", 4))
    assert reshape_axes(type(tokens)(mixed), (1, 3, 3, 4)) is None


VALUES = torch.randn(2, 4, 5, 6)
TOKENS = torch.randn(2, 17, 6)


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("channels-last", VALUES, VALUES.permute(0, 3, 1, 2)),
        ("channels-first", VALUES, VALUES),
        ("flat", VALUES, VALUES.reshape(2, 1, 20, 6)),
        ("tokens:4x4", TOKENS, TOKENS[:, 1:].transpose(1, 2).unflatten(2, (4, 4))),
        ("tokens:2X8", TOKENS, TOKENS[:, 1:].transpose(1, 2).unflatten(2, (2, 8))),
        ("flat", TOKENS, TOKENS[:, None]),
    ],
)
def test_a_requested_layout_applies(text: str, values: Tensor, expected: Tensor) -> None:
    drawn = surgery.draw(values, layout=parse_layout(text))
    for ours, theirs in zip(drawn, surgery.draw(expected), strict=True):
        assert np.array_equal(ours.pixels, theirs.pixels)


def test_a_layout_can_be_a_function() -> None:
    drawn = surgery.draw(VALUES, layout=lambda values: values.transpose(2, 3))
    for ours, theirs in zip(drawn, surgery.draw(VALUES.transpose(2, 3)), strict=True):
        assert np.array_equal(ours.pixels, theirs.pixels)
    with pytest.raises(RenderError, match=r"has to return \(B, C, H, W\) or None, not \(1, 4, 30\)"):
        surgery.draw(VALUES, layout=lambda values: values.flatten(2))
    with pytest.raises(RenderError, match=r"can't take \(1, 4, 5, 6\)"):
        surgery.draw(VALUES, layout=lambda values: values.unflatten(1, (3, 3)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("channel-last", "no layout is called 'channel-last'; .*did you mean 'channels-last'"),
        ("tokens", "names their grid, as in tokens:14x14"),
        ("tokens:14", "names their grid"),
        ("tokens:0x4", "names their grid"),
        ("flat:2", "no layout is called 'flat:2'"),
    ],
)
def test_an_unknown_layout_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(RenderError, match=message):
        parse_layout(text)


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["surgery", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)  # type: ignore[arg-type]


def test_the_command_line_requests_layouts_for_all_operations_or_a_selection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["extract", "facades", "--at", "down1.conv | down2.conv", "--sink", "png", "-o"]
    asked = ["--layout", "channels-last", "--layout", "down2*=auto", "--layout", "output=tokens:2x2"]
    assert run(monkeypatch, *words, str(tmp_path / "o"), *asked) == 0
    printed = capsys.readouterr().out
    assert "layouts: 1 channels-last; the manifest says why" in printed
    manifest = json.loads((tmp_path / "o" / "manifest.json").read_text())
    assert manifest["recipe"]["layouts"] == "*=channels-last, down2*=auto, output=tokens:2x2"
    said = {each["path"]: (each["layout"], each["layout_reason"]) for each in manifest["operations"]}
    assert said["down1.conv"] == ("channels-last", "requested")
    assert said["down2.conv"] == ("channels-first", "its axes are known from down2.conv (conv2d)")
    (picture,) = (tmp_path / "o").glob("*/*-down1.conv.png")
    with Image.open(picture) as image:
        note = json.loads(image.text["surgery"])  # type: ignore[attr-defined]
    assert (note["layout"], note["layout_reason"], len(note["low"])) == ("channels-last", "requested", 128)
    assert run(monkeypatch, *words, str(tmp_path / "p"), "--layout", "nothing*=flat") == 1
    assert "'nothing*', which matches none of 2 chosen operations" in capsys.readouterr().err
    assert run(monkeypatch, *words, str(tmp_path / "q"), "--layout", "down1*=tokens:7x7") == 0
    assert "the layout that was asked for does not fit down1.conv" in capsys.readouterr().out


def test_python_takes_layouts_as_values(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    image = np.zeros((12, 20, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")

    def names(layout: Any) -> list[str | None]:
        out = tmp_path / str(len(list(tmp_path.iterdir())))  # a folder of its own for each run
        report = surgery.extract(model, tmp_path / "a.png", out=out, sinks=[Png()], layout=layout)
        return [finding.layout.name if finding.layout else None for finding in report.summaries]

    assert names(None) == ["image", "channels-first", "channels-first", "channels-first"]
    assert names(Flat()) == ["image", "flat", "flat", "flat"]
    assert names({"1": ChannelsLast(), "output": ChannelsFirst()}) == [
        *("image", "channels-first", "channels-last", "channels-first")
    ]
    assert names({surgery.op("relu"): Tokens(3, 3)})[2] == "channels-first"
    with pytest.raises(SelectionError, match="matches none of 2 chosen operations"):
        names({"7": Flat()})


@pytest.mark.parametrize("name", NORMALIZERS)
@pytest.mark.parametrize("shape", [(2, 30, 1, 1), (2, 30), (2, 1, 30), (2, 1, 1, 30)], ids=str)
def test_values_without_spatial_axes_are_drawn_in_one_picture(name: str, shape: tuple[int, ...]) -> None:
    values = torch.randn(2, 30)
    layout = ChannelsLast() if shape[1:3] == (1, 1) and len(shape) == 4 and shape[3] > 1 else None
    expected = surgery.draw(values, normalizer=NORMALIZERS[name])
    drawn = surgery.draw(values.reshape(shape), normalizer=NORMALIZERS[name], layout=layout)
    for ours, theirs in zip(drawn, expected, strict=True):
        assert np.array_equal(ours.pixels, theirs.pixels)
        assert (ours.low, ours.high) == (theirs.low, theirs.high)
        assert len(np.unique(ours.pixels)) > 3


def test_the_gates_of_squeeze_and_excitation_keep_their_number_of_channels() -> None:
    gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 12, 1), nn.Sigmoid())
    _, _, last = surgery.record(opened(gate), given(2))
    assert last.layout.name == "vector"
    assert (last.facts.channels, last.facts.constant_channels) == (12, 0)
    picture = last.pictures[0]
    assert picture.low.tolist() == [last.values[0].min().item()]
    assert picture.high.tolist() == [last.values[0].max().item()]


def test_transforms_receive_maps_of_one_value_and_may_return_a_vector() -> None:
    from surgery.builtin.transforms import Abs, TopK

    values = torch.randn(1, 40, 1, 1)
    (picture,) = surgery.draw(values, transforms=[TopK(9), Abs()], normalizer=Fixed(0, 3))
    assert len(picture.low) == 1
    assert len(np.unique(picture.pixels)) == 9
    pooled = surgery.draw(torch.randn(1, 40, 5, 5), transforms=[lambda maps: maps.mean((2, 3), keepdim=True)])
    assert len(np.unique(pooled[0].pixels)) > 10
    assert len(pooled[0].low) == 1


def test_the_default_recipe_requests_no_layout() -> None:
    assert DEFAULT_RECIPE.describe()["layouts"] == "auto"
