from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import surgery
from surgery.data import inputs
from tests.page.conftest import settle

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page
    from torch import Tensor

    from tests.page.conftest import Opener

GRAY_OF_MAP = """(panel) => {
  const { canvas } = enlargedView.panels[panel];
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return Array.from({ length: data.length / 4 }, (_, i) => data[4 * i]);
}"""
LEVEL = 3 / 255
"""Half a level of the picture, one of the palette and the rounding of the colors between two stops."""


def drawn_gray(page: Page, panel: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The brightness of each pixel of an enlarged map, from 0 to 1."""
    page.wait_for_function("() => enlargedView.panels.length > 0")
    settle(page)
    return np.array(page.evaluate(GRAY_OF_MAP, panel)) / 255


@pytest.mark.parametrize(
    ("options", "low_share", "high_share", "is_shared"),
    [("", 0, 1, False), ("&scale=operation", 0, 1, True), ("&clip=5", 0.05, 0.95, False)],
)
def test_another_scale_is_applied_to_the_codes_in_the_browser(
    options: str,
    low_share: float,
    high_share: float,
    is_shared: bool,
    facades: Path,
    exact: dict[str, dict[str, Tensor]],
    open_page: Opener,
) -> None:
    page = open_page(facades, f"#op=up3.deconv&channel=4&image=facade-1&colors=gray{options}")
    values = exact["facade-1"]["up3.deconv"].double().numpy()
    scaled = values if is_shared else values[4]
    low, high = np.quantile(scaled, [low_share, high_share])
    step = (values[4].max() - values[4].min()) / 250 / (high - low)
    expected = np.clip((values[4].reshape(-1) - low) / (high - low), 0, 1)
    assert np.abs(drawn_gray(page) - expected).max() <= LEVEL + step


def test_one_scale_for_all_images_takes_the_extremes_of_all(
    facades: Path, exact: dict[str, dict[str, Tensor]], open_page: Opener
) -> None:
    page = open_page(facades, "#op=up3.deconv&channel=4&image=facade-1&colors=gray&scale=images&view=images")
    both = [exact[name]["up3.deconv"].double().numpy() for name in ("facade-1", "facade-2")]
    low, high = min(each.min() for each in both), max(each.max() for each in both)
    page.wait_for_function("() => enlargedView.panels.length === 2")
    for panel, values in enumerate(both):
        expected = (values[4].reshape(-1) - low) / (high - low)
        assert np.abs(drawn_gray(page, panel) - expected).max() <= LEVEL


def test_a_scale_around_zero_has_zero_in_the_middle(
    facades: Path, exact: dict[str, dict[str, Tensor]], open_page: Opener
) -> None:
    page = open_page(facades, "#op=up3.deconv&channel=4&image=facade-1&colors=gray&zero=1")
    values = exact["facade-1"]["up3.deconv"][4].double().numpy().reshape(-1)
    assert np.abs(drawn_gray(page) - (values / np.abs(values).max() + 1) / 2).max() <= LEVEL


def test_colors_can_be_reversed(facades: Path, open_page: Opener) -> None:
    page = open_page(facades, "#op=up3.deconv&channel=4&image=facade-1&colors=gray")
    plain = drawn_gray(page)
    page.get_by_label("Reverse the colors").click()
    assert np.abs(drawn_gray(page) - (1 - plain)).max() <= 1 / 255
    assert "reversed=1" in page.evaluate("location.hash")


def test_as_drawn_the_page_shows_the_colors_of_the_png(facades: Path, open_page: Opener) -> None:
    from PIL import Image

    page = open_page(facades, "#op=down1.conv&channel=0&image=facade-1")
    drawn_gray(page)
    with Image.open(facades / "facade-1" / "001-down1.conv.png") as picture:
        expected = np.asarray(picture.convert("RGB"))[:128, :128].reshape(-1, 3)
    context = "enlargedView.panels[0].canvas.getContext('2d').getImageData(0, 0, 128, 128).data"
    drawn = np.array(page.evaluate(f"Array.from({context})")).reshape(-1, 4)
    assert (drawn[:, :3] == expected).all()


def test_the_difference_of_two_images_is_exact_to_both_half_levels(
    facades: Path, exact: dict[str, dict[str, Tensor]], open_page: Opener
) -> None:
    page = open_page(facades, "#op=up3.cat&channel=5&image=facade-1")
    page.get_by_label("View").select_option("difference")
    page.wait_for_function("() => enlargedView.panels.length === 3")
    assert page.locator(".panel figcaption span:first-child").all_inner_texts() == [
        "facade-1",
        "− facade-2",
        "= difference",
    ]
    operands = [exact[name]["up3.cat"][5] for name in ("facade-1", "facade-2")]
    error = sum(float(each.max() - each.min()) / 250 / 2 for each in operands)
    expected = (operands[0] - operands[1]).numpy()
    for column, row in ((0, 0), (31, 40), (63, 12)):
        reading = page.evaluate(f"() => shown.activation.read(5, {column}, {row})")
        assert abs(reading["value"] - float(expected[row, column])) <= reading["error"] * 1.001
        assert reading["error"] == pytest.approx(error, rel=1e-5)
    low, high = page.evaluate("() => limitsOf(shown.activation, 5)")
    assert low == -high == pytest.approx(-np.abs(expected).max(), abs=error)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two runs: the shipped model, and the same with a skip set to zero."""
    root = tmp_path_factory.mktemp("runs")
    for name, edits in (("plain", ()), ("edited", ("up3.cat = zero:channels=0-15",))):
        folder = root / name
        surgery.extract(
            surgery.load_model("facades"),
            inputs()[:1],
            at="up2* | up1*",
            edits=edits,
            out=folder,
            sinks=["png", "page"],
        )
    return surgery.write_page(root / "plain", root / "edited").parent


def test_runs_stand_beside_each_other_and_their_difference_is_shown(runs: Path, open_page: Opener) -> None:
    page = open_page(runs, "#run=plain&op=up2.deconv&channel=3&view=runs&place=0.5,0.5")
    page.wait_for_function("() => enlargedView.panels.length === 2")
    captions = page.locator(".panel figcaption span:first-child").all_inner_texts()
    assert captions == ["plain", "edited"]
    readings = page.evaluate("() => enlargedView.panels.map((panel) => readAt(panel.activation, 3, state.place))")
    plain, edited = (each["value"] for each in readings)
    page.evaluate("update({ place: null })")
    ends = page.evaluate("() => enlargedView.panels.map((panel) => formatNumber(panel.activation.low[3], 3))")
    shown = page.locator(".panel-reading").all_inner_texts()
    assert [each.split(" … ")[0] for each in shown] == ends  # each has a scale of its own, and says which
    page.evaluate("update({ place: [0.5, 0.5] })")
    assert abs(plain - edited) > sum(each["error"] for each in readings)
    page.get_by_label("View").select_option("difference")
    page.wait_for_function("() => enlargedView.panels.length === 3")
    difference = page.evaluate("() => readAt(shown.activation, 3, state.place).value")
    assert difference == pytest.approx(plain - edited)
    assert "minus=run:edited" in page.evaluate("location.hash")
    page.keyboard.press(">")
    page.wait_for_function("() => location.hash.includes('minus=run:plain')")
    page.wait_for_function("() => document.querySelector('.panel figcaption span').textContent === 'edited'")
    assert page.evaluate("() => readAt(shown.activation, 3, state.place).value") == pytest.approx(edited - plain)


def test_another_run_keeps_what_is_seen(runs: Path, open_page: Opener) -> None:
    page = open_page(runs, "#run=edited&op=up2.cat&channel=9&place=0.25,0.5")
    before = page.evaluate("() => readAt(shown.activation, 9, state.place).value")
    page.keyboard.press("<")
    page.wait_for_function("() => location.hash.includes('run=plain')")
    settle(page)
    assert page.evaluate("[state.operation, state.channel, state.place]") == ["up2.cat", 9, [0.25, 0.5]]
    page.wait_for_function(f"() => readAt(shown.activation, 9, state.place).value !== {before}")


def test_a_run_without_the_operation_says_so(runs: Path, open_page: Opener) -> None:
    page = open_page(runs, "#run=edited&op=up3.cat'")
    page.keyboard.press("<")
    page.wait_for_selector(".message:not([hidden])")
    assert page.locator(".message").inner_text() == "plain has no operation up3.cat'"
