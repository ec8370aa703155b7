from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.page.conftest import settle

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page
    from torch import Tensor

    from tests.page.conftest import Opener

ALL_VALUES = """() => {
  const { activation } = shown;
  const size = activation.width * activation.height;
  const values = new Float32Array(activation.channels * size).fill(NaN);
  for (let channel = 0; channel < activation.channels; channel += 1) {
    const table = Array.from({ length: 251 }, (_, code) => activation.readCode(channel, code).value);
    activation.codes(channel).forEach((code, i) => (values[channel * size + i] = table[code]));
  }
  let text = "";
  for (const byte of new Uint8Array(values.buffer)) text += String.fromCharCode(byte);
  return [btoa(text), activation.low.map((_, channel) => activation.readCode(channel, 0).error)];
}"""
MAP = ".map-stage canvas"


def read_all(page: Page) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return all values of the operation that is shown, ``(C, H * W)``, and the error of each channel."""
    text, errors = page.evaluate(ALL_VALUES)
    values = np.frombuffer(base64.b64decode(text), np.float32).reshape(len(errors), -1)
    return values.astype(float), np.array(errors)


def point_at(page: Page, column: int, row: int, size: int) -> None:
    """Move the pointer to the middle of a pixel of the enlarged map, which has `size` pixels a side."""
    box = page.locator(MAP).first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * (column + 0.5) / size, box["y"] + box["height"] * (row + 0.5) / size)


def shown_value(page: Page) -> tuple[float, float]:
    """The value under the pointer and its error, as they are written."""
    value, error = page.locator("#value").inner_text().replace("−", "-").split("±")
    return float(value), float(error)


def test_every_value_that_the_page_reads_is_exact_to_half_a_level(
    facades: Path, exact: dict[str, dict[str, Tensor]], open_page: Opener
) -> None:
    page = open_page(facades, "#op=down1.conv&image=facade-2")
    for path in ("down1.conv", "down7.conv", "up8.deconv", "up4.deconv", "up2.cat"):  # maps of 128 to 2 pixels
        page.evaluate(f"chooseOperation('{path}')")
        page.wait_for_function(f"() => shown.activation.note.operation === '{path}'")
        values, errors = read_all(page)
        expected = exact["facade-2"][path].flatten(1).double().numpy()
        half_level = (expected.max(1) - expected.min(1)) / 250 / 2
        assert np.allclose(errors, half_level, rtol=1e-5)
        assert (np.abs(values - expected) <= half_level[:, None] * 1.001 + 1e-7).all()


def test_a_vector_is_one_map_of_its_elements(
    facades: Path, exact: dict[str, dict[str, Tensor]], open_page: Opener
) -> None:
    page = open_page(facades, "#op=down8.conv&channel=0&image=facade-1")
    values, errors = read_all(page)
    expected = exact["facade-1"]["down8.conv"].flatten().numpy()
    assert np.abs(values[0] - expected).max() <= errors[0] * 1.001
    point_at(page, 3, 5, 8)
    assert "element 43" in page.locator(".where").inner_text()
    assert abs(shown_value(page)[0] - expected[43]) <= 2 * errors[0]
    page.evaluate("update({ channel: null, pointer: null })")
    assert page.locator(".caption").inner_text() == "all elements"
    assert page.locator("#readout").inner_text() == "a vector of 1×64×1×1"


@pytest.mark.parametrize(("path", "size", "column", "row"), [("up2.cat", 128, 17, 99), ("up7.cat", 4, 0, 3)])
def test_the_value_under_the_pointer_is_that_of_the_pixel(
    path: str, size: int, column: int, row: int, facades: Path, exact: dict[str, dict[str, Tensor]], open_page: Opener
) -> None:
    page = open_page(facades, f"#op={path}&channel=5&image=facade-1")
    page.wait_for_selector(MAP)
    point_at(page, column, row, size)
    value, error = shown_value(page)
    channel = exact["facade-1"][path][5]
    half_level = float(channel.max() - channel.min()) / 250 / 2
    assert error == pytest.approx(half_level, rel=0.06)  # it is written with two digits
    assert abs(value - float(channel[row, column])) <= half_level * 1.07
    assert f"row {row}, column {column}" in page.locator(".where").inner_text()
    assert page.locator("#readout").inner_text().endswith(page.locator("#value").inner_text())


def test_a_click_marks_a_place_and_the_same_place_is_marked_before_and_after(
    facades: Path, exact: dict[str, dict[str, Tensor]], open_page: Opener
) -> None:
    page = open_page(facades, "#op=up2.cat&channel=3&image=facade-1")
    page.wait_for_selector(".place-item")
    point_at(page, 40, 80, 128)
    page.mouse.down()
    page.mouse.up()
    page.mouse.move(5, 5)
    assert "marked" in page.locator(".where").inner_text()
    assert "place=0.31641,0.62891" in page.evaluate("location.hash")
    items = {each.get_attribute("data-path"): each for each in page.locator(".place-item").all()}
    assert list(items) == ["input", "down1.conv", "up2.norm", "up2.cat", "up1.act", "output"]
    values = exact["facade-1"]
    for path, channel in (("up2.cat", 3), ("up1.act", 3)):
        shown = float(items[path].locator(".place-value").inner_text().replace("−", "-"))
        exact_map = values[path][channel]
        assert shown == pytest.approx(float(exact_map[80, 40]), abs=float(exact_map.max() - exact_map.min()) / 490)
    dot = page.locator(".place-item[data-path='input'] .dot")
    assert dot.evaluate("dot => [dot.style.left, dot.style.top].map(parseFloat)") == pytest.approx(
        [31.64, 62.89], abs=0.3
    )
    assert page.locator(".graph-canvas.has-place").count() == 1
    page.keyboard.press("Shift+ArrowRight")
    assert "row 80, column 41" in page.locator(".where").inner_text()


def test_the_operand_of_a_cat_is_shown_in_the_channel_that_it_became(facades: Path, open_page: Opener) -> None:
    page = open_page(facades, "#op=up2.cat&channel=11&image=facade-1&place=0.5,0.5")
    page.wait_for_selector(".place-item")
    channels = {
        each.get_attribute("data-path"): each.get_attribute("data-channel")
        for each in page.locator(".place-item").all()
    }
    assert channels["up2.norm"] == "3"  # the cat has 8 channels of down1 before it
    assert channels["up1.act"] == "11"


def test_the_maximum_of_a_channel_can_be_marked(
    facades: Path, exact: dict[str, dict[str, Tensor]], open_page: Opener
) -> None:
    page = open_page(facades, "#op=up2.cat&channel=3&image=facade-1")
    page.wait_for_selector(MAP)
    channel = exact["facade-1"]["up2.cat"][3]
    page.get_by_role("button", name="Mark the largest value").click()
    assert shown_value(page)[0] == pytest.approx(float(channel.max()), abs=1e-3)
    page.keyboard.press("n")
    assert shown_value(page)[0] == pytest.approx(float(channel.min()), abs=1e-3)


def test_channels_are_sorted_by_what_their_values_say(
    facades: Path, exact: dict[str, dict[str, Tensor]], open_page: Opener
) -> None:
    page = open_page(facades, "#op=down2.conv&image=facade-1&place=0.7,0.5")
    values = exact["facade-1"]["down2.conv"].flatten(1)
    row, column = int(0.5 * 64), int(0.7 * 64)
    at_mark = (values[:, row * 64 + column] - values.mean(1)) / values.std(1, correction=0)
    numbers = {"contrast": values.std(1), "range": values.max(1).values - values.min(1).values, "mark": at_mark}
    for name, expected in numbers.items():
        page.get_by_label("Sort channels by").select_option(name)
        assert page.locator(".cell").first.get_attribute("data-channel") == str(int(expected.argmax()))
        order: list[int] = page.evaluate("shown.order")
        assert torch.diff(expected[order]).max() < 0.02  # half levels may exchange equal neighbours
        assert sorted(order) == list(range(16))
    page.get_by_label("Order: largest first").click()
    assert page.evaluate("shown.order") == order[::-1]


def test_png_files_with_every_filter_are_read(facades: Path, open_page: Opener) -> None:
    random = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8)
    pixels = np.stack([ramp * 3, random.integers(0, 256, (40, 50), np.uint8), ramp[::-1] ** 2], 2)
    pixels[20:, :, 1] = ramp[20:] // 3
    picture = Image.fromarray(pixels)
    page = open_page(facades)
    for image in (picture, picture.convert("L"), picture.quantize(200)):
        file = io.BytesIO()
        image.save(file, "PNG", optimize=True)
        text = base64.b64encode(file.getvalue()).decode()
        decoded = page.evaluate("async (text) => Array.from((await decodePng(bytesOfBase64(text))).pixels)", text)
        assert decoded == np.asarray(image).reshape(-1).tolist()


def test_the_next_image_keeps_operation_channel_and_mark(
    facades: Path, exact: dict[str, dict[str, Tensor]], open_page: Opener
) -> None:
    page = open_page(facades, "#op=up3.cat&channel=5&image=facade-1&place=0.5,0.25")
    page.keyboard.press("]")
    page.wait_for_function("() => location.hash.includes('facade-2')")
    settle(page)
    page.wait_for_function("() => shown.activation.note.image === 'facade-2'")
    channel = exact["facade-2"]["up3.cat"][5]
    page.wait_for_function("() => document.querySelector('.place-item')")
    assert abs(shown_value(page)[0] - float(channel[16, 32])) <= float(channel.max() - channel.min()) / 480


def test_a_place_that_is_marked_among_all_channels_sorts_them(facades: Path, open_page: Opener) -> None:
    page = open_page(facades, "#op=down1.conv&image=facade-1")
    box = page.locator(".cell[data-channel='2'] canvas").bounding_box()
    assert box is not None
    # the middle of the larger tree
    place = {"x": box["width"] * 0.66, "y": box["height"] * 0.76}
    page.locator(".cell[data-channel='2'] canvas").click(position=place, modifiers=["Shift"])
    page.mouse.move(5, 5)
    assert page.evaluate("state.place") == pytest.approx([0.66, 0.76], abs=0.01)
    assert page.locator(".cells.has-place").count() == 1
    page.get_by_label("Sort channels by").select_option("mark")
    assert page.locator(".cell").first.get_attribute("data-channel") == "5"  # the channel that is bright at trees
