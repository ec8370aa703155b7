"""Modes that see the calls of torch's operators, beside torch's compiler."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from surgery.eager import DispatchMode

TRACES = """
import sys, torch, surgery
from torch import nn
from surgery.data import inputs
model, image = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), torch.randn(1, 3, 8, 8)
for front_end in ("symbolic", "observed"):
    traced = surgery.trace(model, image, front_end=front_end)
    opened = surgery.insert(traced, surgery.select(traced, "*"))
    assert len(surgery.record(opened, image)) == 2
    assert surgery.certify(model, opened, image).same
surgery.extract(model, inputs()[:1], size=32, out="out", sinks=["png"])
surgery.ablate(model, inputs()[:1], size=32, at="*", out="ablated")
print("torch._dynamo" in sys.modules)
"""


def test_what_is_traced_run_and_compared_does_not_import_the_compiler(tmp_path: Any) -> None:
    done = subprocess.run([sys.executable, "-c", TRACES], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr


class Doubling(DispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {})) * 2


@pytest.mark.filterwarnings("ignore")
def test_no_mode_is_compiled() -> None:
    compiled: list[str] = []

    def backend(module: Any, _inputs: Any) -> Any:
        compiled.append(module.code)
        return module.forward

    torch._dynamo.reset()
    add = torch.compile(lambda x: torch.add(x, 1), backend=backend)
    x = torch.ones(2)
    assert torch.equal(add(x), torch.full((2,), 2.0))
    with Doubling():  # type: ignore[no-untyped-call]
        value = add(x)
    assert torch.equal(value, torch.full((2,), 4.0))
    assert len(compiled) == 1


def test_every_mode_of_the_project_is_one_that_is_not_compiled() -> None:
    for file in (Path(__file__).parents[2] / "surgery").rglob("*.py"):
        assert "TorchDispatchMode" not in file.read_text(encoding="utf-8") or file.name == "dispatch_modes.py", file
