from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import surgery
from surgery.data import inputs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request
    from torch import Tensor

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests with a browser on one worker, so that there is one browser."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Opener:
    """Opens pages of runs from their folders, and notes errors and requests that leave the folder."""

    browser: Browser
    contexts: ExitStack
    faults: list[str] = field(default_factory=list)

    def __call__(self, folder: Path, link: str = "", *, size: tuple[int, int] = (1280, 800)) -> Page:
        """Open a page at a link, and wait until its pictures are drawn."""
        context = self.browser.new_context(viewport={"width": size[0], "height": size[1]})
        self.contexts.callback(context.close)
        page = context.new_page()
        root = folder.as_uri()
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("dialog", self._dismiss)
        page.on("request", lambda request: self._note_request(request, root))
        page.goto(f"{root}/index.html{link}")
        settle(page)
        return page

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "willReadFrequently" not in message.text:  # the tests read canvases
            self.faults.append(f"console: {message.text}")

    def _dismiss(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _note_request(self, request: Request, root: str) -> None:
        if not request.url.startswith((f"{root}/", "data:")):
            self.faults.append(f"request: {request.url}")


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Opener]:
    with ExitStack() as contexts:
        opener = Opener(browser, contexts)
        yield opener
    assert not opener.faults


def settle(page: Page) -> None:
    """Wait until the channels in view are drawn."""
    page.wait_for_function("""() => !document.querySelector('[aria-busy]')
      && (!byId('channels').clientWidth || document.querySelector('.cell, .message:not([hidden])'))""")


@pytest.fixture(scope="session")
def facades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the shipped model, with two images and a measure."""
    folder = tmp_path_factory.mktemp("facades") / "run"
    surgery.extract(
        surgery.load_model("facades"), inputs()[:2], out=folder, sinks=["png", "page"], measures=["checkerboard"]
    )
    return folder


@pytest.fixture(scope="session")
def exact() -> dict[str, dict[str, Tensor]]:
    """The exact values of the shipped model: image -> path -> ``(C, H, W)``."""
    model = surgery.load_model("facades").eval()
    values = {}
    for file in inputs()[:2]:
        image = surgery.load_image(file, size=256)
        traced = surgery.trace(model, image)
        recorded = surgery.record(surgery.insert(traced, surgery.select(traced, "*")), image)
        values[Path(file).stem] = {each.path: each.values[0] for each in recorded}
    return values
