"""Weights that are kept in files are the same weights."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
import torch
from torch import nn

from surgery.comparison import Run, WeightStore, compare, compare_setup


class Mixed(nn.Module):
    """Parameters that are shared, half, on a step in memory, empty and single, and buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.tied = self.conv
        self.short = nn.Parameter(torch.randn(5).half())
        self.strided = nn.Parameter(torch.randn(4, 6)[:, ::2])
        self.empty = nn.Parameter(torch.empty(0))
        self.single = nn.Parameter(torch.randn(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.tied(self.conv(x)[:, :3])) * self.single


def is_mapped(tensor: torch.Tensor) -> bool:
    with open("/proc/self/maps") as maps:  # noqa: PTH123
        areas = [line.split() for line in maps if "deleted" in line]
    bounds = [[int(each, 16) for each in area[0].split("-")] for area in areas]
    return any(low <= tensor.data_ptr() < high for low, high in bounds)


@pytest.fixture
def model() -> nn.Module:
    return Mixed().eval()


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
def test_weights_beyond_the_limit_are_in_a_file_and_keep_their_bits(model: nn.Module) -> None:
    before, x = copy.deepcopy(model), torch.randn(1, 3, 8, 8)
    strides = {name: tensor.stride() for name, tensor in model.state_dict().items()}
    store = WeightStore(limit=0)
    store.add(model)
    for (name, tensor), other in zip(model.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(tensor, other)
        assert (tensor.dtype, tensor.stride()) == (other.dtype, strides[name])
        assert is_mapped(tensor) == (tensor.numel() > 0 and name != "strided"), name
    assert torch.equal(model(x), before(x))
    assert model.get_parameter("tied.weight") is model.get_parameter("conv.weight")
    with torch.no_grad():
        model.get_parameter("conv.weight").add_(1)  # writes to no other model
    copied = copy.deepcopy(model)
    assert not is_mapped(copied.get_parameter("conv.weight"))
    assert copied.get_parameter("conv.weight").untyped_storage().nbytes() == 3 * 4 * 9 * 4


@linux
def test_weights_within_the_limit_stay(model: nn.Module) -> None:
    store, other = WeightStore(limit=1000), copy.deepcopy(model)  # which is enough for one
    store.add(model)
    assert not is_mapped(model.get_parameter("conv.weight"))
    store.add(other)
    assert is_mapped(other.get_parameter("conv.weight"))


def test_a_full_disk_leaves_the_weights_in_memory(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("surgery.comparison.weight_store._reserve", fail)
    pointer = model.get_parameter("conv.weight").data_ptr()
    WeightStore(limit=0).add(model)
    assert model.get_parameter("conv.weight").data_ptr() == pointer


def test_a_comparison_of_stored_weights_is_the_same(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        torch.manual_seed(len(name) + ord(name[0]))
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        torch.save(network.state_dict(), tmp_path / f"{name}.pth")
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef load(name):\n    model = nn.Sequential(nn.Conv2d(3, 4, 3), "
        f"nn.BatchNorm2d(4))\n    model.load_state_dict(torch.load(f'{tmp_path}/{{name}}.pth'))\n    return model\n\n\n"
        "def one():\n    return load('one')\n\n\ndef two():\n    return load('two')\n"
    )
    runs, x = [Run(f"{tmp_path}/net.py:{name}") for name in ("one", "two")], torch.randn(1, 3, 8, 8)
    expected = compare(runs, x)
    used: list[int] = []

    class Small(WeightStore):
        def __init__(self) -> None:
            super().__init__(limit=0)

        def add(self, model: nn.Module) -> None:
            used.append(1)
            super().add(model)

    monkeypatch.setattr(compare_setup, "WeightStore", Small)
    assert compare(runs, x).records() == expected.records()
    assert len(used) == 2
