"""The way of a plugin's author: begin one, check it, look at it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.broken import BROKEN


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("title", BROKEN)
def test_a_broken_promise_is_one_line_with_the_input_that_broke_it(run: Any, tmp_path: Path, title: str) -> None:
    text, line = BROKEN[title]
    (tmp_path / "bad.py").write_text(text)
    result = run("plugins", "check", "bad.py")
    assert result.code == 1, result.out
    assert re.search(line, result.out), result.out + result.err
    assert re.search(r"\d+ promises? (is|are) broken\n$", result.out), result.out
