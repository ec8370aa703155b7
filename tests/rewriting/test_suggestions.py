"""Suggestions for selections that match nothing, and messages in the words of the command line."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

import surgery
from surgery.cli.option_names import with_option_names
from surgery.errors import SelectionError


@pytest.fixture(scope="module")
def traced() -> Any:
    return surgery.trace(surgery.load_model("facades").eval())


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("down", "down*"),
        ("up", "up*"),
        ("conv2d", "op:conv2d"),
        ("Conv2d", "op:conv2d"),
        ("batch_norm2d", "op:batchnorm2d"),
        ("conv*2d", "op:conv*2d"),
        ("up3", "inside:up3"),
        ("op:up3.cat", "up3.cat"),
        ("op:up3", "inside:up3"),
        ("inside:cat", "op:cat"),
        ("inside:up3.cat", "up3.cat"),
        ("DOWN1.conv", "down1.conv"),
        ("Down1.*", "down1.*"),
        ("inside:UP3", "inside:up3"),
        ("1", "down1.conv"),
        ("001", "down1.conv"),
        ("001-down1.conv.png", "down1.conv"),
        ("50", None),
        ("down1.cnv", "down1.conv"),
        ("layer9.*", None),
        ("deconv", "*deconv*"),
        ("op:norm", "op:*norm*"),
        ("op:cot", "op:cat"),
        ("down1.conv & op:cta", "op:cat"),
        ("op:con2d", "op:conv2d"),
        ("inside:upp3", "inside:up3"),
    ],
)
def test_the_suggested_selection_matches_and_is_what_was_meant(traced: Any, asked: str, meant: str | None) -> None:
    with pytest.raises(SelectionError) as caught:
        surgery.select(traced, asked)
    found = re.search(r"; did you mean '(.*)'\?$", str(caught.value))
    if meant is not None:
        assert found is not None, str(caught.value)
        assert found[1] == meant
    if found is not None:
        assert surgery.select(traced, found[1])


class Squeeze(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu()


def test_the_class_of_a_module_suggests_the_first_module_of_that_class() -> None:
    traced = surgery.trace(nn.Sequential(nn.Tanh(), Squeeze(), Squeeze()))
    for asked in ("Squeeze", "squeeze", "inside:Squeeze"):
        with pytest.raises(SelectionError, match=r"did you mean 'inside:1'\?"):
            surgery.select(traced, asked)


@pytest.mark.parametrize(
    ("python", "command"),
    [
        ("keep the enclosing module whole with leaves=[...]", "keep the enclosing module whole with --leaf NAME"),
        ("whole: leaves=['Block'], or --leaf Block on the command line", "whole: --leaf Block"),
        ("whole with leaves=['a.b']; or not", "whole with --leaf a.b; or not"),
        ("accept it with allow=['random'] (--allow random)", "accept it with --allow random"),
        ("accept it with allow=['state']", "accept it with --allow state"),
        ("--side both (side='both') gives 6", "--side both gives 6"),
        ("--side right,left (side='right,left') gives 6", "--side right,left gives 6"),
        ("add --overwrite (overwrite=True) to replace it, or", "add --overwrite to replace it, or"),
        ("--side right takes one half (side= in Python)", "--side right takes one half"),
        ("image:black=0,white=9 (black=0, white=9 in Python)", "image:black=0,white=9"),
        ("a size of (1, 3) is not 4", "a size of (1, 3) is not 4"),
    ],
)
def test_the_command_line_names_options_and_python_arguments(python: str, command: str) -> None:
    assert with_option_names(python) == command


MODELS = """
import torch
from torch import nn
class Branch(nn.Module):
    def forward(self, x): return x if x.sum() > 0 else -x
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch = Branch()
    def forward(self, x): return self.branch(x)
class Random(nn.Module):
    def forward(self, x):
        import random
        return x * random.random()
"""


@pytest.mark.parametrize(
    ("name", "option"), [("Branch", "--leaf NAME"), ("Net", "--leaf Branch"), ("Random", "--allow random")]
)
def test_errors_of_tracing_name_options_at_the_command_line(run: Any, tmp_path: Any, name: str, option: str) -> None:
    (tmp_path / f"nets_of_{name}.py".lower()).write_text(MODELS)
    result = run("inspect", f"nets_of_{name}".lower() + f":{name}", "--front-end", "symbolic")
    assert result.code == 1
    assert option in result.err
    assert not re.search(r"leaves=|allow=|in Python|on the command line", result.err)
