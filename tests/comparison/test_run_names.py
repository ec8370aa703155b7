"""Names of runs."""

from __future__ import annotations

import pytest

from surgery.comparison.run_names import name_runs, shorten
from surgery.comparison.runs import Run
from surgery.text import natural_key


@pytest.mark.parametrize(
    ("texts", "short"),
    [
        (["100_net_G.pth", "latest_net_G.pth"], ["100", "latest"]),
        (["a/latest_net_G.pth", "b/latest_net_G.pth"], ["a", "b"]),
        (["runs/a/5_net_G.pth", "runs/b/10_net_G.pth"], ["a/5", "b/10"]),
        (["facades", "facades-100"], ["facades", "facades-100"]),
        (["torchvision/resnet18", "torchvision/resnet50"], ["resnet18", "resnet50"]),
        (["one.pth", "one.pth"], ["one.pth", "one.pth"]),
        (["net.py:one", "other.pth"], ["net.py:one", "other.pth"]),
        (["net.py:one", "net.py:other"], ["one", "other"]),
    ],
)
def test_what_all_names_share_is_left_out(texts: list[str], short: list[str]) -> None:
    assert shorten(texts) == short


def test_epochs_are_in_the_order_of_their_numbers() -> None:
    names = ["latest_net_G.pth", "10_net_G.pth", "9_net_G.pth", "100_net_G.pth"]
    assert sorted(names, key=natural_key) == ["9_net_G.pth", "10_net_G.pth", "100_net_G.pth", "latest_net_G.pth"]


def test_runs_are_called_by_what_distinguishes_them() -> None:
    assert name_runs([Run("a.pth"), Run("a.pth", mode="train")]) == ["eval", "train"]
    assert name_runs([Run("a.pth"), Run("b.pth", seed=1)]) == ["a", "b, seed 1"]
    assert name_runs([Run("a.pth"), Run("a.pth")]) == ["a.pth", "a.pth (2)"]
    assert name_runs([Run("a.pth", name="mine"), Run("b.pth")]) == ["mine", "b"]
