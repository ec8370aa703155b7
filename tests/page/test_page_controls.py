"""The controls of the page: sliders, focus, dark and light."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.page.conftest import settle

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.page.conftest import Opener


def drag(page: Page, label: str, shown: str) -> list[Any]:
    """Drag a slider from its left to its right end, and return what the page shows at each step."""
    box = page.get_by_label(label).bounding_box()
    assert box is not None
    row = box["y"] + box["height"] / 2
    values = []
    page.mouse.move(box["x"] + 4, row)
    page.mouse.down()
    for step in range(1, 7):
        page.mouse.move(box["x"] + 4 + (box["width"] - 8) * step / 6, row)
        settle(page)
        values.append(page.evaluate(shown))
    page.mouse.up()
    return values


def test_what_is_shown_follows_a_slider_while_it_is_dragged(facades: Path, open_page: Opener) -> None:
    page = open_page(facades, "#op=down2.conv&image=facade-1")
    sizes = drag(page, "Size of a channel", "state.cell")
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == 400
    page.get_by_label("Size of a channel").dblclick()
    page.wait_for_function("() => state.cell === 0")
    fitted = page.evaluate("channelsView.cell")
    assert abs(int(page.get_by_label("Size of a channel").input_value()) - fitted) <= 4
    page.evaluate("currentRun().images.push({ ...currentRun().images[0], name: 'third' }); drawToolbar()")
    images = drag(
        page, "Image slider", "[state.image, Number(document.querySelector('[aria-label=Image] select').value)]"
    )
    assert images[-1] == [2, 2]
    assert images == sorted(images)
    page.wait_for_function("() => document.querySelector('[aria-label=\"Image slider\"]').title === 'Image 3 of 3'")


@pytest.mark.parametrize("label", ["Sort channels by", "Kind", "Measure drawn along the graph", "Colormap", "View"])
def test_a_control_keeps_the_focus_when_its_choice_changes(label: str, facades: Path, open_page: Opener) -> None:
    page = open_page(facades, "#op=down2.conv")
    page.get_by_label(label, exact=True).focus()
    for _ in range(2 if label != "Measure drawn along the graph" else 1):
        before = page.get_by_label(label, exact=True).input_value()
        page.keyboard.press("ArrowDown")
        settle(page)
        assert page.get_by_label(label, exact=True).input_value() != before
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == label
    assert page.evaluate("state.operation") == "down2.conv"


def test_the_page_is_dark_or_light_as_the_system_is_until_the_user_chooses(facades: Path, open_page: Opener) -> None:
    page = open_page(facades)
    background, light, dark = "getComputedStyle(document.body).backgroundColor", "rgb(238, 240, 243)", "rgb(12, 15, 19)"
    assert page.evaluate(background) == light
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(background) == dark
    page.keyboard.press("t")
    assert page.evaluate(background) == light
    page.emulate_media(color_scheme="light")
    assert page.evaluate(background) == light
    page.keyboard.press("t")
    assert page.evaluate(background) == dark
