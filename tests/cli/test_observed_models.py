"""How the command line shows models that are observed while they run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.cli.graph_view import code_view
from surgery.errors import TraceError
from tests.cli.test_graph_view import shown

MODELS = """
import torch
from torch import nn

class Sorts(nn.Module):
    def __init__(self):
        super().__init__()
        self.bright, self.dark = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 2, 1)

    def forward(self, x):
        if x.mean() > 0.5:
            return self.bright(x)
        return self.dark(x)

class Blends(nn.Module):
    def forward(self, x, mask):
        return x * mask if mask.mean() > 0 else x
"""


class Mapped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.vmap(lambda t: t.exp())(x)


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mapped = Mapped()

    def forward(self, x: Tensor) -> Tensor:
        if x.mean() > 0:
            x = x.neg()
        return self.mapped(x) + 1


@pytest.fixture
def gate() -> Any:
    return surgery.trace(Gate(), torch.ones(1, 3, 8, 8))


@pytest.fixture
def models(tmp_path: Path) -> str:
    (tmp_path / "models.py").write_text(MODELS)
    return str(tmp_path / "models.py")


@pytest.fixture
def photos(tmp_path: Path) -> tuple[str, str]:
    """A dark image and a bright one."""
    for name, level in (("dark", 5), ("bright", 250)):
        Image.fromarray(np.full((16, 16, 3), level, np.uint8)).save(tmp_path / f"{name}.png")
    return str(tmp_path / "dark.png"), str(tmp_path / "bright.png")


def test_the_view_ends_with_the_line_that_no_graph_holds_and_what_is_not_seen(gate: Any) -> None:
    narrow = shown(gate, 60).splitlines()
    assert max(map(len, narrow)) <= 60
    start = next(number for number, line in enumerate(narrow) if line.startswith("observed: "))
    assert narrow[start - 1] == "4 operations, 0 extracted, 0 parameters, 1.54 kB of values"
    assert all(line.startswith("  ") for line in narrow[start + 1 : -1])
    assert narrow[-1] == "reach 80%: nothing was seen of mapped"
    sentence = " ".join(line.strip() for line in narrow[start:-1])
    reason = "a branch or loop that depends on the values of a tensor or on its shape"
    assert re.fullmatch(rf"observed: \S*test_observed_models\.py:\d+: {reason}", sentence)
    assert shown(surgery.insert(gate, surgery.operations(gate)), 120).endswith("seen of mapped")


def test_a_request_to_observe_is_the_reason() -> None:
    observed = surgery.trace(nn.ReLU(), torch.ones(1), front_end="observed")
    assert shown(observed, 80).splitlines()[-2:] == ["observed, as requested", "reach 100%"]
    with pytest.raises(TraceError, match=r"no code of a graph, since --front-end observed was given"):
        code_view(observed)


def test_code_of_an_observed_model_is_one_line_with_the_reason_and_a_remedy(gate: Any) -> None:
    with pytest.raises(TraceError) as caught:
        code_view(gate)
    assert re.fullmatch(
        r"Gate has no code of a graph, since it is observed \(\S*test_observed_models\.py:\d+: a branch .* its shape\)"
        r"; --front-end symbolic says how to change that line, and --leaf NAME keeps a module whole",
        str(caught.value),
    )


def test_a_graph_from_elsewhere_has_no_such_line() -> None:
    assert shown(torch.fx.symbolic_trace(nn.ReLU()), 80).splitlines()[-1] == "1 operation, 0 extracted, 0 parameters"


def test_a_hazard_that_was_allowed_leaves_a_graph_unverified() -> None:
    class Counts(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x + self.calls

    traced = surgery.trace(Counts(), torch.ones(1), allow=["attribute"])
    assert shown(traced, 80).splitlines()[-1] == "traced symbolically, unverified: a hazard was allowed"


def test_inspect_runs_the_image_that_it_is_given(run: Any, models: str, photos: tuple[str, str]) -> None:
    dark, bright = photos
    assert "dark" in run("inspect", f"{models}:Sorts", dark).out
    result = run("inspect", f"{models}:Sorts", bright)
    assert "bright" in result.out
    assert "zeros" not in result.err
    assert "operations are those of a run on made-up numbers" in run("inspect", f"{models}:Sorts").err


def test_inspect_for_machines_notes_how_the_model_was_traced(run: Any, models: str) -> None:
    result = run("inspect", f"{models}:Sorts", "--json", "--size", "8")
    assert [entry["path"] for entry in json.loads(result.out)] == ["mean", "gt", "dark"]
    assert re.search(r"^surgery: note: observed: \S*models\.py:11: a branch .*; reach 100%$", result.err, re.MULTILINE)
    assert "note: traced" not in run("inspect", "--json").err


def test_a_model_that_only_observing_takes_asks_for_an_input(run: Any, models: str, photos: tuple[str, str]) -> None:
    result = run("inspect", f"{models}:Blends")
    assert result.code == 1
    assert "forward also needs mask; Blends is observed while it runs, so give an input that it takes" in result.err
    dark, bright = photos
    assert "mul ← x, mask" in run("inspect", f"{models}:Blends", dark, "--input", f"mask={bright}").out
    result = run("inspect", f"{models}:Blends", "--input", f"mask={bright}")
    assert (result.code, result.err) == (
        1,
        "surgery: Blends takes 2 inputs (x, mask); give x too: --input x=FILES\n",
    )
    assert (
        "mul ← x, mask" in run("inspect", f"{models}:Blends", "--input", f"x={dark}", "--input", f"mask={bright}").out
    )
    result = run("inspect", f"{models}:Blends", "missing.png", "--input", f"mask={bright}")
    assert (result.code, result.err) == (1, "surgery: there is no image missing.png\n")


def test_check_takes_a_model_that_is_observed_and_its_inputs(run: Any, models: str, photos: tuple[str, str]) -> None:
    result = run("check", f"{models}:Blends", photos[0], "--input", f"mask={photos[1]}")
    assert result.code == 0
    assert "the same, bit for bit" in result.out
    assert "\nobserved: " in result.out


DECLARING = """
import torch
from torch import nn

class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 2)

    def forward(self, input_ids):
        return self.embedding(input_ids) if input_ids.max() > 1 else input_ids

class Lightning(Text):
    example_input_array = torch.tensor([[1, 2]])

class Transformers(Text):
    main_input_name = "input_ids"
    dummy_inputs = {"input_ids": torch.tensor([[1, 2]])}
"""


@pytest.mark.parametrize("kind", ["Lightning", "Transformers"])
def test_the_example_that_a_model_declares_is_run(run: Any, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "texts.py"
    file.write_text(DECLARING)
    for command in ("inspect", "check"):
        result = run(command, f"{file}:{kind}")
        assert result.code == 0, result.err
    assert "embedding" in run("inspect", f"{file}:{kind}").out
