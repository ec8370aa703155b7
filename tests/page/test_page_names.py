from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.data import inputs
from surgery.stages import Preprocessing
from tests.page.conftest import settle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.page.conftest import Opener

HOSTILE = [
    "<script>window.stolen = 1</script>",
    "<img src=x onerror='window.stolen = 1'>",
    '" onmouseover="window.stolen = 1',
    "]]> --> </textarea></script><svg onload=window.stolen=1>",
    "javascript:window.stolen=1",
    "${window.stolen = 1}",
    "日本語 \u202e abc \U0001f3e0",
    "x" * 300,
]


@pytest.fixture
def changed_run(facades: Path, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], None]], Path]:
    """Copies the page of the shipped model, with a change to what run.js says."""

    def change(function: Callable[[dict[str, Any]], None]) -> Path:
        folder = tmp_path / "run"
        shutil.copytree(facades, folder)
        script = folder / "page" / "run.js"
        text = script.read_text(encoding="utf-8")
        start, end = text.index("(") + 1, text.rindex(")")
        content = json.loads(text[start:end])
        function(content["runs"][0])
        new = json.dumps(content).replace("<", "\\u003c")
        script.write_text(f"{text[:start]}{new}{text[end:]}", encoding="utf-8")
        return folder

    return change


def test_a_hostile_name_is_shown_as_text(
    changed_run: Callable[[Callable[[dict[str, Any]], None]], Path], open_page: Opener
) -> None:
    def rename(run: dict[str, Any]) -> None:
        for operation, name in zip(run["operations"][3:], HOSTILE, strict=False):
            operation |= {"name": name, "path": name, "kind": name, "target": name, "remarks": [name]}
            operation |= {"modules": [name], "source": {"file": name, "line": 1, "text": name}, "layout": name}
        run |= {"label": HOSTILE[0], "check": HOSTILE[0], "notes": HOSTILE, "hazards": HOSTILE, "recipe": HOSTILE}
        for image, name in zip(run["images"], HOSTILE, strict=False):
            image |= {"name": name, "source": name}

    page = open_page(changed_run(rename))
    for name in HOSTILE:
        page.evaluate("(path) => update({ operation: path, channel: 0, place: [0.5, 0.5], view: 'images' })", name)
        page.wait_for_function("(path) => document.querySelector('h1').textContent === path", arg=name)
        facts = page.locator("#facts-pane").text_content() or ""
        assert facts.count(name) >= 7
        page.evaluate("(query) => update({ query })", name)
    page.wait_for_selector(".place-item")
    assert page.evaluate("window.stolen") is None
    assert page.locator("#panes script, #panes svg[onload], #panes img[onerror], #toolbar script").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_a_folder_of_any_name_is_found(facades: Path, tmp_path: Path, open_page: Opener) -> None:
    folder = tmp_path / "100% #1? <b> ü"
    shutil.copytree(facades, folder)
    for place in ("page/pixels", "page/measures", ""):
        for each in (folder / place).glob("facade-1*"):
            each.rename(each.with_name(each.name.replace("facade-1", "a#1 %20?")))
    script = folder / "page" / "run.js"
    script.write_text(script.read_text(encoding="utf-8").replace('"facade-1"', '"a#1 %20?"'), encoding="utf-8")
    page = open_page(folder, "#op=up3.cat&channel=5&image=a%231%20%2520%3F")
    assert page.locator(".cell").count() > 8
    page.wait_for_function("() => document.querySelectorAll('.crop.is-loaded').length > 5")
    assert page.evaluate("measureSummary('checkerboard', 'up4.deconv').most") > 0.5


def test_missing_pixels_are_said_and_the_page_goes_on(facades: Path, tmp_path: Path, open_page: Opener) -> None:
    folder = tmp_path / "run"
    shutil.copytree(facades, folder)
    (folder / "page" / "pixels" / "facade-1" / "001-down1.conv.js").unlink()
    page = open_page(folder, "#op=down1.conv&image=facade-1")
    assert page.locator(".message").inner_text() == (
        "page/pixels/facade-1/001-down1.conv.js is missing; run `surgery view` on the folder"
    )
    page.keyboard.press("ArrowDown")
    page.wait_for_selector(".cell")
    assert [fault for fault in open_page.faults if "ERR_FILE_NOT_FOUND" not in fault] == []
    open_page.faults.clear()


def test_damaged_pixels_are_said(facades: Path, tmp_path: Path, open_page: Opener) -> None:
    folder = tmp_path / "run"
    shutil.copytree(facades, folder)
    damages: dict[str, Callable[[str], str]] = {
        "002-down2.act": lambda text: text[: len(text) // 2],
        "003-down2.conv": lambda text: f'{text[:-400]}");',
        "004-down2.norm": lambda text: text.replace("/", "@"),
        "005-down3.act": lambda text: text.replace("/", "A"),
    }
    for name, damage in damages.items():
        script = folder / "page" / "pixels" / "facade-1" / f"{name}.js"
        start, text = script.read_text(encoding="utf-8").split(", ")
        script.write_text(f"{start}, {damage(text)}", encoding="utf-8")
    page = open_page(folder, "#op=down1.conv&image=facade-1")
    for name in damages:
        page.keyboard.press("ArrowDown")
        message = f"page/pixels/facade-1/{name}.js is damaged; run `surgery view` on the folder"
        page.wait_for_function("(text) => document.querySelector('.message').textContent === text", arg=message)
    assert all("unexpected token" in fault for fault in open_page.faults)
    open_page.faults.clear()


@pytest.mark.parametrize("name", ["run.js", "app/png.js", "app/main.js"])
def test_a_missing_part_of_the_page_is_said(facades: Path, tmp_path: Path, open_page: Opener, name: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(facades, folder)
    (folder / "page" / name).unlink()
    page = open_page(folder, size=(390, 844))
    assert page.locator(".message").inner_text() == f"page/{name} is missing: run `surgery view` on the folder"
    assert all("ERR_FILE_NOT_FOUND" in fault for fault in open_page.faults)
    open_page.faults.clear()


def test_an_operation_that_was_not_drawn_says_so(
    changed_run: Callable[[Callable[[dict[str, Any]], None]], Path], open_page: Opener
) -> None:
    def forget(run: dict[str, Any]) -> None:
        run["operations"][3]["picture"] = []
        run["operations"][4]["picture"] = ["004-down2.norm"]
        run["images"][0]["missing"] = ["004-down2.norm"]

    page = open_page(changed_run(forget), "#op=down2.conv")
    assert page.locator(".message").inner_text() == "this operation was not drawn"
    page.keyboard.press("ArrowDown")
    page.wait_for_function("() => document.querySelector('.message').textContent.includes('did not run')")


def test_a_run_that_was_stopped_says_so(
    changed_run: Callable[[Callable[[dict[str, Any]], None]], Path], open_page: Opener
) -> None:
    page = open_page(changed_run(lambda run: run.update(interrupted=True)))
    assert "this run was stopped" in page.locator("#facts-pane").inner_text()


def test_pictures_of_an_unknown_tiler_are_shown_as_they_are(
    changed_run: Callable[[Callable[[dict[str, Any]], None]], Path], open_page: Opener
) -> None:
    def forget(run: dict[str, Any]) -> None:
        run["operations"][3] |= {"tiles": None, "maps": [16, 5, 5]}

    folder = changed_run(forget)
    page = open_page(folder, "#op=down1.conv")
    page.evaluate("tilesOf = () => null; heldActivations.clear(); chooseOperation('down2.conv')")
    page.wait_for_selector("img.whole")
    assert "can't tell" in page.locator(".message").inner_text()


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a model with values that are not finite, several outputs, and a value that all images share."""

    class Odd(nn.Module):
        preprocessing = Preprocessing((8, 8), mean=(0.5,) * 3, std=(0.5,) * 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            zero = torch.zeros(())
            return torch.cat([torch.log(x[:, :1]), x[:, 1:2] / zero, x[:, 2:] * 0], 1), x.mean((2, 3))

    folder = tmp_path_factory.mktemp("odd") / "run"
    surgery.extract(Odd(), inputs()[:2], out=folder, sinks=["png", "page"], measures=["sparsity"])
    return folder


def test_values_that_are_not_finite_are_named_counted_and_have_special_colors(odd: Path, open_page: Opener) -> None:
    page = open_page(odd, "#op=cat&channel=0&image=facade-1")
    page.wait_for_function("() => enlargedView.panels.length > 0")
    codes = page.evaluate("Array.from(shown.activation.codes(0))")
    assert 252 in codes  # the logarithm of a negative number
    column, row = codes.index(252) % 8, codes.index(252) // 8
    page.evaluate(f"update({{ place: [{(column + 0.5) / 8}, {(row + 0.5) / 8}] }})")
    assert page.locator("#value").inner_text() == "NaN"
    assert f"{codes.count(252)} values NaN" in page.locator("figure.histogram figcaption").inner_text()
    pixel = "enlargedView.panels[0].canvas.getContext('2d').getImageData"
    color = page.evaluate(f"Array.from({pixel}({column}, {row}, 1, 1).data)")[:3]
    with Image.open(next((odd / "facade-1").glob("*-cat.png"))) as picture:
        assert color == picture.getpalette()[3 * 252 : 3 * 253]  # type: ignore[index]
    page.evaluate("update({ channel: 1 })")
    assert page.locator("#value").inner_text() in ("∞", "−∞", "NaN")
    page.evaluate("update({ channel: 2 })")
    assert page.locator("#value").inner_text() == "0"
    for scale in ("operation", "images"):
        page.evaluate(f"update({{ scale: '{scale}', clip: 2, aroundZero: true }})")
        settle(page)


def test_a_value_that_all_images_of_a_batch_share_is_found(odd: Path, open_page: Opener) -> None:
    page = open_page(odd, "#op=zeros&channel=0&image=facade-2")
    assert page.locator(".cell").count() == 1
    assert page.evaluate("readAt(shown.activation, 0, [0.5, 0.5]).value") == 0
    page.wait_for_selector(".node[data-path='zeros'] .crop.is-loaded")
    page.wait_for_function("() => measureSummary('sparsity', 'zeros')?.most === 1")
    assert page.evaluate("measureNumbers('sparsity', 'cat').length") == 3
    assert "sparsity" in page.locator("#facts-pane").inner_text()
