from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.models.checkpoints import load_checkpoint
from surgery.models.pix2pix.norms import Norm, build_norm
from surgery.models.pix2pix.patchgan import PatchGAN, PixelGAN
from surgery.models.pix2pix.resnet import ResNet
from surgery.models.pix2pix.state_dicts import from_public, read_architecture, to_public
from surgery.models.pix2pix.unet import UNet

KEYS: dict[str, dict[str, list[int]]] = json.loads((Path(__file__).parents[1] / "data/public_keys.json").read_text())


def norm2d(norm: Norm, channels: int) -> nn.Module:
    return build_norm(norm, channels) or nn.Identity()


class Level(nn.Module):
    """A level of the U-Net as the public code nests it, written from its description."""

    def __init__(
        self,
        outer: int,
        inner: int,
        inside: Level | None,
        norm: Norm,
        channels: int | None = None,
        *,
        dropout: bool = False,
    ) -> None:
        super().__init__()
        bias = norm == "instance"
        self.outermost = channels is not None
        down = nn.Conv2d(channels or outer, inner, 4, 2, 1, bias=bias)
        width = inner * (1 if inside is None else 2)
        up = nn.ConvTranspose2d(width, outer, 4, 2, 1, bias=bias or self.outermost)
        if self.outermost:
            assert inside is not None
            steps = [down, inside, nn.ReLU(True), up, nn.Tanh()]
        elif inside is None:
            steps = [nn.LeakyReLU(0.2, True), down, nn.ReLU(True), up, norm2d(norm, outer)]
        else:
            steps = [nn.LeakyReLU(0.2, True), down, norm2d(norm, inner), inside]
            steps += [nn.ReLU(True), up, norm2d(norm, outer)] + ([nn.Dropout(0.5)] if dropout else [])
        self.model = nn.Sequential(*steps)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class PublicUNet(nn.Module):
    def __init__(self, depth: int, width: int, norm: Norm, *, dropout: bool) -> None:
        super().__init__()
        block = Level(8 * width, 8 * width, None, norm)
        for _ in range(depth - 5):
            block = Level(8 * width, 8 * width, block, norm, dropout=dropout)
        for factor in (4, 2, 1):
            block = Level(factor * width, 2 * factor * width, block, norm)
        self.model = Level(3, width, block, norm, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class PublicBlock(nn.Module):
    def __init__(self, channels: int, norm: Norm, *, dropout: bool) -> None:
        super().__init__()
        bias = norm == "instance"
        steps = [
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
            norm2d(norm, channels),
            nn.ReLU(True),
        ]
        steps += [nn.Dropout(0.5)] if dropout else []
        steps += [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias), norm2d(norm, channels)]
        self.conv_block = nn.Sequential(*steps)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class PublicResNet(nn.Module):
    def __init__(self, blocks: int, width: int, norm: Norm, *, dropout: bool) -> None:
        super().__init__()
        bias = norm == "instance"
        steps = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7, bias=bias), norm2d(norm, width), nn.ReLU(True)]
        for channels in (width, 2 * width):
            steps += [nn.Conv2d(channels, 2 * channels, 3, 2, 1, bias=bias), norm2d(norm, 2 * channels), nn.ReLU(True)]
        steps += [PublicBlock(4 * width, norm, dropout=dropout) for _ in range(blocks)]
        for channels in (4 * width, 2 * width):
            steps += [nn.ConvTranspose2d(channels, channels // 2, 3, 2, 1, output_padding=1, bias=bias)]
            steps += [norm2d(norm, channels // 2), nn.ReLU(True)]
        steps += [nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*steps)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class PublicPatchGAN(nn.Module):
    def __init__(self, depth: int, width: int, norm: Norm) -> None:
        super().__init__()
        steps: list[nn.Module] = [nn.Conv2d(6, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
        before = width
        for level in range(1, depth + 1):
            after = width * min(2**level, 8)
            stride = 2 if level < depth else 1
            steps += [nn.Conv2d(before, after, 4, stride, 1, bias=norm == "instance"), norm2d(norm, after)]
            steps += [nn.LeakyReLU(0.2, True)]
            before = after
        self.model = nn.Sequential(*steps, nn.Conv2d(before, 1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class PublicPixel(nn.Module):
    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        bias = norm == "instance"
        self.net = nn.Sequential(
            nn.Conv2d(6, width, 1),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(width, 2 * width, 1, bias=bias),
            norm2d(norm, 2 * width),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(2 * width, 1, 1, bias=bias),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def variants() -> list[Any]:
    found: list[Any] = []
    norms: tuple[Norm, ...] = ("batch", "instance", "none")
    for norm in norms:
        for dropout in (True, False):
            unets = [(PublicUNet(depth, 2, norm, dropout=dropout), depth) for depth in (7, 8)]
            found += [(public, {"depth": depth, "dropout": dropout}, UNet) for public, depth in unets]
            found.append((PublicResNet(6, 2, norm, dropout=dropout), {"blocks": 6, "dropout": dropout}, ResNet))
        found += [(PublicPatchGAN(depth, 2, norm), {"depth": depth}, PatchGAN) for depth in (3, 5)]
        found.append((PublicPixel(2, norm), {}, PixelGAN))
        found[-9:] = [(public, {**options, "norm": norm}, kind) for public, options, kind in found[-9:]]
    return found


@pytest.mark.parametrize(("public", "options", "kind"), variants())
@pytest.mark.parametrize("training", [False, True])
def test_each_network_computes_bit_for_bit_what_the_public_one_does(
    public: nn.Module, options: dict[str, Any], kind: type[nn.Module], training: bool
) -> None:
    state = from_public(public.state_dict())
    assert state is not None
    ours = kind(width=2, **options)
    ours.load_state_dict(state, strict=True)
    found = read_architecture(public.state_dict())
    assert found is not None
    assert found[0] is kind
    assert {name: found[1][name] for name in options if name in found[1]} == {
        name: value for name, value in options.items() if name in found[1]
    }
    x = torch.randn(1, 6 if kind in (PatchGAN, PixelGAN) else 3, 256, 256)
    results = []
    for network in (public.train(training), ours.train(training)):
        torch.manual_seed(0)
        with torch.no_grad():
            results.append(network(x.clone()))
    assert torch.equal(*results)


def test_the_values_at_the_cats_are_the_public_ones() -> None:
    public = PublicUNet(7, 2, "batch", dropout=True).eval()
    ours = UNet(7, width=2).eval()
    ours.load_state_dict(from_public(public.state_dict()) or {}, strict=True)
    expected: list[Tensor] = []

    def keep(module: nn.Module, _: Any, result: Tensor) -> None:
        expected.append(result.clone())

    for module in public.modules():
        if isinstance(module, Level) and not module.outermost:
            module.register_forward_hook(keep)
    x = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        public(x)
        traced = surgery.trace(ours)
        recorded = surgery.record(surgery.insert(traced, surgery.select(traced, "op:cat")), x)
    assert len(recorded) == 6
    for activation, values in zip(recorded, expected, strict=True):
        assert torch.equal(activation.values, values), activation.path


@pytest.mark.parametrize("name", KEYS)
def test_each_public_state_dict_is_recognized_loads_strictly_and_is_written_back(name: str) -> None:
    state = {key: torch.zeros(()).expand(shape) for key, shape in KEYS[name].items()}
    found = read_architecture(state)
    assert found is not None
    kind, options = found
    words = name.split("_")
    expected = {"unet": UNet, "resnet": ResNet, "D": PixelGAN if "pixel" in words else PatchGAN}[words[0]]
    assert kind is expected
    assert options["norm"] in words
    assert options["width"] == 64
    if kind is UNet:
        assert 2 ** options["depth"] == int(words[1])
    if kind is ResNet:
        assert f"{options['blocks']}blocks" in words
        assert options["dropout"] == ("dropout" in words)
    with torch.device("meta"):
        model = kind(**options)
    ours = from_public(state)
    assert ours is not None
    model.load_state_dict(ours, assign=True, strict=True)
    assert [(key, list(value.shape)) for key, value in to_public(model).items()] == list(KEYS[name].items())


def test_running_statistics_of_an_old_instance_norm_are_dropped() -> None:
    model = UNet(7, width=1, norm="instance")
    state = to_public(model)
    state["model.model.1.model.2.running_mean"] = torch.zeros(2)
    assert read_architecture(state) == read_architecture(to_public(model))
    restored = from_public(state)
    assert restored is not None
    model.load_state_dict(restored, strict=True)


def test_a_unet_has_seven_cats_under_readable_names() -> None:
    traced = surgery.trace(UNet(8, width=1))
    paths = [operation.path for operation in surgery.select(traced, "op:cat")]
    assert paths == [f"up{level}.cat" for level in range(8, 1, -1)]
    assert [operation.path for operation in surgery.select(traced, "blocks* | up3*")] == [
        f"up3.{step}" for step in ("act", "deconv", "norm", "cat")
    ]


def test_the_standard_unet_has_the_known_number_of_parameters() -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in UNet(8).parameters()) == 54_413_955
        assert len(surgery.operations(surgery.trace(UNet(8)))) == 55


def test_the_shipped_generator_paints_unseen_facades(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    from facades import draw_pair

    from surgery.data import inputs, weights

    model = load_checkpoint(weights("facades")).eval()
    errors = []
    for seed, path in zip((3, 7, 11, 12), inputs(), strict=True):
        label_map, image = draw_pair(seed)
        given = surgery.load_image(path)
        expected = torch.from_numpy(label_map).permute(2, 0, 1).float().div(255).sub(0.5).div(0.5)
        assert torch.equal(given[0], expected)
        with torch.no_grad():
            painted = model(given)[0]
        errors.append((painted - (torch.from_numpy(image).permute(2, 0, 1).float() / 127.5 - 1)).abs().mean().item())
    assert max(errors) < 0.2
