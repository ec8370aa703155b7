"""Pages are opened from files in a browser: hostile names, and sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor, nn

import surgery

if TYPE_CHECKING:
    from tests.page.conftest import Opener

HOSTILE = (
    "<script>document.title='hacked'</script>",
    "\"'><img src=x onerror=document.title='hacked'>",
    "#%41 &amp; ?q=1 \u00e9\u4e2d\U0001f600",
    "x" * 300,
)


def test_the_page_of_the_shipped_model_opens(open_page: Opener, facades: Path) -> None:
    page = open_page(facades)
    assert page.title() == "UNet \N{EN DASH} surgery"
    assert "up3.cat" in page.content()


class Named(nn.Module):
    """Its modules have hostile names, as far as torch allows them."""

    def __init__(self) -> None:
        super().__init__()
        for name in HOSTILE:
            self.add_module(name.replace(".", "_"), nn.Conv2d(3, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        for module in self.children():
            x = module(x)
        return x


def test_hostile_names_are_shown_as_text(open_page: Opener, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    pixels = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    for name in HOSTILE:
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name.replace('/', '_')[:200]}.png")
    out = tmp_path / HOSTILE[0].replace("/", "_") / "out"
    source = f"{HOSTILE[1]}.pth"
    surgery.extract(Named(), tmp_path / "images", out=out, size=8, sinks=["png", "page"], source=source, check=False)
    page = open_page(out)
    assert page.title() == f"{source} \N{EN DASH} surgery"
    assert page.evaluate("document.querySelectorAll('img[src=x]').length") == 0
    names = [path.name for path in out.iterdir() if path.is_dir() and path.name != "page"]
    assert len(names) == len(HOSTILE)
    for name in names:
        assert len(list((out / "page" / "pixels" / name).iterdir())) == len(HOSTILE) + 2


def synthetic_run(folder: Path, operations: int, images: int) -> None:
    """Write the run of a chain of operations with skips, by hand: every image has pictures of two."""
    from surgery.drawing import encode_png, make_palette
    from surgery.types import Picture

    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    png = encode_png(Picture(pixels, make_palette("viridis"), np.zeros(1), np.ones(1)), {"surgery": b"{}"}, level=1)
    nodes: list[dict[str, Any]] = [
        {
            "path": f"block{number // 100}.layer{number}",
            "kind": "conv2d",
            "index": number,
            "scopes": [f"block{number // 100}"],
        }
        for number in range(1, operations + 1)
    ]
    edges = [[number, number + 1] for number in range(operations - 1)]
    edges += [[number, number + 50] for number in range(0, operations - 50, 100)]
    drawn = [nodes[0], nodes[operations // 2]]
    head = {
        "surgery": "0",
        "model": {"class": "Chain"},
        "settings": {},
        "operations": drawn,
        "graph": {"operations": nodes, "edges": edges},
    }
    entries = []
    for image in range(images):
        name = f"image{image}"
        (folder / name).mkdir(parents=True)
        activations = []
        for node in drawn:
            file = f"{name}/{node['index']:04}-{node['path']}.png"
            (folder / file).write_bytes(png)
            activations.append(
                {"path": node["path"], "index": node["index"], "shape": [1, 8, 8], "files": [{"file": file}]}
            )
        entries.append({"name": name, "source": name, "size": [8, 8], "activations": activations})
    text = json.dumps({**head, "images": entries})
    (folder / "manifest.json").write_text("{\n" + text[1:], encoding="utf-8")


@pytest.mark.parametrize(("operations", "images"), [(5000, 1), (40, 1000)])
def test_large_runs_open(open_page: Opener, tmp_path: Path, operations: int, images: int) -> None:
    synthetic_run(tmp_path / "large", operations, images)
    surgery.write_page(tmp_path / "large")
    assert (tmp_path / "large" / "page" / "run.js").stat().st_size < 400 * (operations + images)
    page = open_page(tmp_path / "large")
    assert page.title() == "Chain \N{EN DASH} surgery"
