"""Pages of sheets: drawn as places in one palette, they look as if they had been drawn in RGB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from surgery.builtin.default_recipe import DEFAULT_RECIPE
from surgery.builtin.sinks.page_canvas import PageCanvas
from surgery.builtin.sinks.page_colors import GRAY, INK, PAPER, RULE, WARNING
from surgery.builtin.sinks.text_fitting import font
from surgery.builtin.sinks.thumbnails import GUTTER, Thumbnails, apply_palette, fit_thumbnail
from surgery.drawing import color_lines, compiled_kernels, make_activations, make_palette, read_channel_codes
from surgery.types import LEVELS, MINUS_INF, NAN, Operation

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

VIRIDIS, MAGMA, GRAYS = (make_palette(name) for name in ("viridis", "magma", "gray"))


def difference(page: PageCanvas, expected: Image.Image) -> int:
    shown = np.asarray(page.image()).astype(int)
    return int(np.abs(shown - np.asarray(expected).astype(int)).max())


def noise(*shape: int, top: int = 256) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, top, shape, dtype=np.uint8)


def mode_of(page: PageCanvas, folder: Path) -> str:
    page.save(folder / "page.png", {"picks": b"{}"})
    with Image.open(folder / "page.png") as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), np.asarray(page.image()))
        return image.mode


@pytest.mark.parametrize(("color", "shades"), [(INK, 15), (GRAY, 11), (WARNING, 7)])
@pytest.mark.parametrize(
    ("text", "size", "anchor", "stroke"),
    [("up2.cat", 20, "la", 0.4), ("-1.24 … 3", 15, "la", 0), ("low", 14, "rm", 0), ("Ärger gy", 14, "lm", 0)],
)
def test_a_text_is_that_of_pillow_up_to_the_shades_of_its_edges(
    color: Any, shades: int, text: str, size: int, anchor: str, stroke: float
) -> None:
    page = PageCanvas(200, 60)
    page.write(text, 90, 25, size, color, stroke=stroke, anchor=anchor)
    expected = Image.new("RGB", (200, 60), PAPER)
    ImageDraw.Draw(expected).text((90, 25), text, fill=color, font=font(size), anchor=anchor, stroke_width=stroke)
    assert difference(page, expected) <= 1 + 250 / shades / 2


def test_a_rule_is_that_of_pillow() -> None:
    page = PageCanvas(50, 20)
    page.rule(5, 9, 44, 2)
    expected = Image.new("RGB", (50, 20), PAPER)
    ImageDraw.Draw(expected).line((5, 9, 44, 9), fill=RULE, width=2)
    assert difference(page, expected) == 0


def test_what_runs_off_the_page_is_cut() -> None:
    page = PageCanvas(60, 12, [VIRIDIS])
    page.write("a long text", -4, -3, 20, INK)
    page.draw(Thumbnails(noise(1, 30, 30)), VIRIDIS, 40, 5, 30)
    assert page.image().size == (60, 12)


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 64, 64), (3, 100, 60), (2, 1, 1), (1, 300, 300)])
@pytest.mark.parametrize("palettes", [[VIRIDIS], [VIRIDIS, MAGMA], [VIRIDIS, MAGMA, GRAYS]])
def test_thumbnails_are_those_of_their_colors(
    shape: tuple[int, ...], palettes: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    codes = noise(*shape, top=LEVELS)
    thumbnails = Thumbnails.of_codes(codes, 64)
    page = PageCanvas(64 * 3 + 2 * GUTTER, 64 * len(palettes), palettes)
    expected = Image.new("RGB", (page.width, 64 * len(palettes)), PAPER)
    for row, palette in enumerate(palettes):
        page.draw(thumbnails, palette, 0, 64 * row, 64 + GUTTER)
        for column, each in enumerate(codes):
            averaged = fit_thumbnail(Image.fromarray(each), 64)
            expected.paste(apply_palette(np.asarray(averaged), palette), ((64 + GUTTER) * column, 64 * row))
    exact = len(palettes) > 2
    assert difference(page, expected) <= (0 if exact else 3 * len(palettes))
    assert mode_of(page, tmp_path) == ("RGB" if exact else "P")


@pytest.mark.parametrize(("top", "mode"), [(3, "P"), (256, "RGB")])
def test_images_keep_their_exact_colors(top: int, mode: str, tmp_path: Path) -> None:
    image, other = noise(20, 30, 3, top=top), noise(20, 30, 3, top=2)
    codes = noise(2, 20, 20, top=LEVELS)
    page = PageCanvas(120, 60, [VIRIDIS], [image, other])
    page.draw(Thumbnails(np.stack([image, other])), None, 3, 5, 40)
    page.draw(Thumbnails(codes), VIRIDIS, 3, 30, 22)
    shown = np.asarray(page.image())
    assert np.array_equal(shown[5:25, 3:33], image)
    assert np.array_equal(shown[5:25, 43:73], other)
    assert np.abs(shown[30:50, 3:23].astype(int) - VIRIDIS[codes[0]]).max() <= 5
    assert mode_of(page, tmp_path) == mode


def test_a_single_nan_is_seen_on_a_reduced_thumbnail() -> None:
    codes = np.zeros((2, 130, 130), np.uint8)
    codes[0, 77, 31] = NAN
    codes[1, 76:78, 31] = MINUS_INF, NAN
    for size in (65, 64, 1):  # reduced by a whole factor, by another, and to a single pixel
        first, second = Thumbnails.of_codes(codes, size).pixels
        assert (first == NAN).sum() == 1
        assert NAN in second
        assert first[155 * size // 260, 63 * size // 260] == NAN


@pytest.mark.parametrize("shape", [(1, 5, 64, 70), (1, 7, 6, 6), (2, 40), (2, 3, 1, 1), (1, 4, 0, 3)])
def test_the_codes_of_single_channels_are_those_of_the_levels(shape: tuple[int, ...]) -> None:
    images = [f"image-{number}" for number in range(shape[0])]
    for activation in make_activations(Operation("a", "a", "conv2d", 1), torch.randn(shape), images, DEFAULT_RECIPE):
        codes, levels = read_channel_codes(activation), activation.levels.codes
        assert codes.count == (len(levels) if levels.size else 0)
        if codes.count:
            chosen = [codes.count - 1, 0]
            assert np.array_equal(codes.read(chosen), levels[chosen])
            assert np.array_equal(codes.read(None), levels)
            assert codes.palette is not None
            assert np.array_equal(codes.palette, VIRIDIS)


@pytest.mark.parametrize("shape", [(1, 2), (3, 8), (70, 31), (2, 1), (0, 4)])
def test_lines_are_colored_alike_with_and_without_the_kernels(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = noise(*shape)
    lines[len(lines) // 2 :] = lines[: len(lines) - len(lines) // 2]  # some lines repeat those above
    colored = color_lines(lines, VIRIDIS)
    monkeypatch.setattr(compiled_kernels, "kernels", None)
    assert np.array_equal(colored, color_lines(lines, VIRIDIS))
    assert np.array_equal(colored[:, 1:].reshape(len(lines), shape[1] - 1, 3), VIRIDIS[lines[:, 1:]])
