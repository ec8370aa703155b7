"""State outside a model is found in any arrangement of the user's modules."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import torch

import surgery

if TYPE_CHECKING:
    from pathlib import Path

FIRST = """
import torch
import second_of_a_circle
TABLE = {}
class Net(torch.nn.Module):
    def forward(self, x):
        return second_of_a_circle.double(x, second_of_a_circle.first_of_a_circle.TABLE)
"""
SECOND = """
import torch
import first_of_a_circle
def double(x, table):
    table["double"] = x
    return x * 2
"""


def test_modules_of_the_user_may_import_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "first_of_a_circle.py").write_text(FIRST)
    (tmp_path / "second_of_a_circle.py").write_text(SECOND)
    monkeypatch.syspath_prepend(tmp_path)
    import first_of_a_circle  # type: ignore[import-not-found]

    try:
        traced = surgery.trace(first_of_a_circle.Net(), torch.ones(2))
        assert torch.equal(traced(torch.ones(2)), torch.full((2,), 2.0))
        assert [operation.kind for operation in surgery.operations(traced)] == ["mul"]
    finally:
        for name in ("first_of_a_circle", "second_of_a_circle"):
            sys.modules.pop(name, None)
