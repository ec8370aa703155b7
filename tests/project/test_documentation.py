"""The documentation: every block of code in it runs, and the site is built."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from surgery.graph import HAZARD_KINDS
from surgery.tracing import explanations
from tests.project.documents import blocks, run

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "pages").rglob("*.md"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT / "docs" / "pages")))
def test_every_block_of_a_page_runs_and_prints_what_the_page_says(path: Path, in_prepared_folder: Path) -> None:
    run(path.read_text(encoding="utf-8"))


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(ROOT / "docs" / "mkdocs.yml")]
    done = subprocess.run(
        [*command, "--site-dir", str(tmp_path / "site")],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "surgery_colormaps" in (tmp_path / "site/reference/hooks/index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("```python\n1 / 0\n```\n", "division by zero"),
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "the page says"),
        ("```console\n$ surgery inspect --at nothing\n```\n", "ends with 1"),
        ("```console\n$ surgery --version\nanother\n```\n", "the page says"),
        ("```sh\nrm file\n```\n", "nothing runs rm"),
        ("```\nno language\n```\n", "has no language"),
        ("```fortran\n```\n", "no known language"),
    ],
)
def test_a_block_that_does_not_hold_is_found(
    page: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((AssertionError, ValueError, ZeroDivisionError), match=said):
        run(page)


def test_the_blocks_of_a_page_are_found_with_their_titles() -> None:
    page = '- item\n\n    ```python title="a.py"\n    x = 1\n    ```\n\n```text\ny\n```\n'
    assert [(block.language, block.title, block.text, block.line) for block in blocks(page)] == [
        ("python", "a.py", "x = 1\n", 3),
        ("text", None, "y\n", 7),
    ]


def test_each_reason_and_each_kind_of_hazard_has_its_remedy() -> None:
    page = (ROOT / "docs/pages/how-to/observed-models.md").read_text(encoding="utf-8")
    for kind in HAZARD_KINDS:
        assert f"| `{kind}` |" in page
    for _, reason in explanations._REASONS:
        assert reason.split(", ")[0] in page, reason


def test_the_resize_of_the_checkerboard_page_is_nearest_to_the_transposed_convolution() -> None:
    page = (ROOT / "docs/pages/explanation/checkerboard.md").read_text(encoding="utf-8")
    (block,) = [block.text for block in blocks(page) if "def resize_instead" in block.text]
    source = block.partition("\n\n\nreplaced = ")[0]
    assert source in (ROOT / "examples" / "checkerboard.py").read_text(encoding="utf-8")
    names: dict[str, Any] = {"torch": torch, "nn": nn}
    exec(source, names)  # noqa: S102
    former, other = (nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1).requires_grad_(requires_grad=False) for _ in "12")
    maps = torch.randn(2, 3, 6, 9)
    other.weight.copy_(torch.randn(3, 5, 4, 1) @ torch.tensor([[3.0, 5.0, 4.0, 2.0]]))
    other.weight += other.weight.flip(2).clone()  # now b - a = c - d along rows and along columns
    assert torch.allclose(names["resize_instead"](other)(maps), other(maps), atol=1e-4)
    # No kernel that a resize and a convolution have is nearer: the rest is at right angles to all of them.
    impulse = torch.zeros(1, 3, 5, 5)
    for channel in range(3):
        impulse.zero_()[0, channel, 2, 2] = 1
        rest = former(impulse) - names["resize_instead"](former)(impulse)
        kernel = other(impulse) - other(torch.zeros_like(impulse))
        assert abs((rest * kernel).sum().item()) < 1e-5 * kernel.norm().item()
        assert rest.norm().item() > 0.05
