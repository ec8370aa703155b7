"""How fast the page of a run opens and scrolls, beside a bare page of the same pictures.

    python -m benchmarks.page [--rounds N] [--run FOLDER]

Without a folder, pix2pix's unet_256 with 64 channels and random weights is run on one image of 256 x 256: 57 pictures,
25,000 channels. Both pages are opened from `file://` in headless Chromium, each in a new browser with an empty cache,
and take turns. `opens` is the time from the navigation until the pictures in view are drawn: of the page, the graph and
the channels of the first operation; of the bare page, its load event, when all its pictures are read. `scrolls` are the
times between frames while a wheel turns: 95th percentile, and the longest. Needs Playwright and Chromium.
"""

from __future__ import annotations

import argparse
import html
import shutil
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from playwright.sync_api import sync_playwright

import surgery
from surgery.data import inputs

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RECORD_FRAMES = """() => {
  window.frames_ = [];
  let last = performance.now();
  const step = (now) => { window.frames_.push(now - last); last = now; window.frame_ = requestAnimationFrame(step); };
  window.frame_ = requestAnimationFrame(step);
}"""
TAKE_FRAMES = "() => { cancelAnimationFrame(window.frame_); return window.frames_.slice(2); }"
FIRST_VIEW = """() => {
  const isDrawn = document.querySelector('.node') && document.querySelector('.cell')
    && !document.querySelector('[aria-busy]');
  return isDrawn ? performance.now() : null;
}"""
LARGEST = "() => currentRun().operations.reduce((a, b) => ((b.maps ?? [0])[0] > (a.maps ?? [0])[0] ? b : a)).path"


def write_bare_page(folder: Path) -> Path:
    """Write a page that has the run's pictures below each other, and nothing else."""
    pictures = sorted(each for each in folder.glob("*/*.png") if not each.name.startswith("sheet"))
    images = "".join(f'<img alt="" src="{html.escape(quote(str(each.relative_to(folder))))}">' for each in pictures)
    page = folder / "bare.html"
    page.write_text(f"<!doctype html><style>img{{display:block;max-width:100%}}</style>{images}", encoding="utf-8")
    return page


def open_page(browser: Browser, path: Path, drawn: str) -> tuple[Page, float]:
    """Open a page, and return it with the milliseconds until the function `drawn` returns a time."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(path.as_uri(), wait_until="commit")
    return page, float(page.wait_for_function(drawn, polling="raf").json_value())


def scroll(page: Page, x: int, steps: int = 60) -> list[float]:
    """Turn the wheel over a place, and return the milliseconds between the frames."""
    page.mouse.move(x, 500)
    page.evaluate(RECORD_FRAMES)
    for _ in range(steps):
        page.mouse.wheel(0, 240)
        page.wait_for_timeout(16)
    frames: list[float] = page.evaluate(TAKE_FRAMES)
    return sorted(frames)


def measure(path: Path, *, is_bare: bool) -> dict[str, Any]:
    """Return what one opening of a page gives, in milliseconds."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disk-cache-size=1"]
        )
        drawn = "() => performance.getEntriesByType('navigation')[0].loadEventEnd || null" if is_bare else FIRST_VIEW
        page, opened = open_page(browser, path, drawn)
        frames = {"scrolls": scroll(page, 900)} if is_bare else {"graph scrolls": scroll(page, 200)}
        if not is_bare:
            page.evaluate(f"chooseOperation(({LARGEST})())")
            page.wait_for_function("() => !document.querySelector('[aria-busy]')")
            frames["channels scroll"] = scroll(page, 760)
        browser.close()
    return {"opens": opened, **frames}


def percentile(frames: list[float], share: float) -> float:
    return frames[min(len(frames) - 1, int(share * len(frames)))]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", type=Path, help="the folder of a run that has a page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.run
        if folder is None:
            folder = Path(temporary) / "run"
            surgery.extract(surgery.load_model("unet_256"), [inputs()[0]], out=folder, sinks=["png", "page"])
        bare = write_bare_page(folder)
        rounds = [
            (measure(folder / "index.html", is_bare=False), measure(bare, is_bare=True)) for _ in range(options.rounds)
        ]
        bare.unlink()
    ratios = [page["opens"] / plain["opens"] for page, plain in rounds]
    print("| | page | bare page | ratio |\n| --- | --: | --: | --: |")
    opened = [median(each["opens"] for each in column) for column in zip(*rounds, strict=True)]
    print(f"| opens | {opened[0]:.0f} ms | {opened[1]:.0f} ms | {median(ratios):.2f} |")
    plain = sorted(frame for _, each in rounds for frame in each["scrolls"])
    for name in ("graph scrolls", "channels scroll"):
        frames = sorted(frame for each, _ in rounds for frame in each[name])
        for share, label in ((0.95, "95 %"), (1, "longest")):
            ours, theirs = percentile(frames, share), percentile(plain, share)
            print(f"| {name}, {label} of frames | {ours:.0f} ms | {theirs:.0f} ms | {ours / theirs:.2f} |")


if __name__ == "__main__":
    main()
