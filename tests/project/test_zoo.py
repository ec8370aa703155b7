from __future__ import annotations

from collections import Counter
from inspect import signature
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.zoo import ZooModel, list_models
from benchmarks.zoo.__main__ import check
from benchmarks.zoo.inputs import Drawn, Listed, floats, images, integers, tokens

pytestmark = pytest.mark.filterwarnings(
    "ignore"
)  # what models written as users write them warn of is not ours to raise

MODELS = tuple(list_models())
RETYPED = [entry for entry in MODELS if entry.zoo == "retyped"]


def test_the_zoos_hold_many_models_of_each_library_whether_or_not_it_is_installed() -> None:
    counted = Counter(entry.zoo.partition(".")[0] for entry in MODELS)
    least = {"timm": 150, "segmentation_models_pytorch": 20, "transformers": 200, "diffusers": 60, "monai": 45}
    assert {name: counted[name] >= count for name, count in least.items()} == dict.fromkeys(least, True)
    assert counted["retyped"] >= 30
    kinds = {entry.zoo.partition(".")[2] for entry in MODELS if entry.zoo.startswith("transformers.")}
    assert kinds >= {"text", "vision", "audio", "detection", "state_space", "mixture_of_experts", "encoder_decoder"}


@pytest.mark.parametrize("entry", RETYPED, ids=lambda entry: entry.name)
def test_a_retyped_network_builds_and_runs_the_same_twice(entry: ZooModel) -> None:
    if entry.missing_package:
        pytest.skip(entry.missing_package)
    assert check(entry) == []


class Adding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def forward(self, first: Tensor, rest: list[Tensor], flag: bool = False) -> Tensor:
        self.seen.append((first.shape, [one.shape for one in rest], flag))
        return first.float().sum() + sum(one.sum() for one in rest)


def test_inputs_are_drawn_as_described_by_position_or_by_name() -> None:
    takes = {"first": tokens(5), "rest": Listed(images(4, 8)), "flag": True}
    entry = ZooModel("tests", "adding", Adding, takes=takes)
    given = entry.inputs(2)
    assert isinstance(given, dict)
    assert list(given) == list(signature(Adding.forward).parameters)[1:]
    assert given["first"].shape == (2, 5)
    assert 3 <= int(given["first"].min()) <= int(given["first"].max()) < 98
    assert [one.shape for one in given["rest"]] == [(3, 4, 4)] * 2
    assert not torch.equal(*given["rest"])
    assert torch.equal(given["first"], entry.inputs(2)["first"])  # type: ignore[call-overload]
    other: Any = entry.inputs(1, other=True)
    assert (other["first"].shape, other["rest"][0].shape) == ((1, 9), (3, 8, 8))
    assert (entry.input_shape, entry.has_other_size) == ((5,), True)
    assert check(entry) == []


def test_a_tensor_can_have_rows_or_no_batch_and_tokens_a_placeholder() -> None:
    entry = ZooModel("tests", "", Adding, takes=(floats(3, rows=4), floats(3, rows=0), integers(below=7)))
    assert [one.shape for one in entry.inputs(2)] == [(8, 3), (3,), (2,)]
    assert not entry.has_other_size
    (marked,) = ZooModel("tests", "", Adding, takes=(tokens(8, placeholder=(98, 3)),)).inputs(2)
    assert (marked == 98).sum(1).tolist() == [3, 3]
    (image,) = ZooModel("tests", "", Adding, (3, 4, 4)).inputs(2)
    assert image.shape == (2, 3, 4, 4)


def test_a_model_that_is_not_the_same_twice_is_found() -> None:
    class Counting(nn.Module):
        runs = 0

        def forward(self, x: Tensor) -> Tensor:
            Counting.runs += 1
            return x + Counting.runs

    assert check(ZooModel("tests", "", Counting, takes=(Drawn((2,)),))) == ["two runs differ"]


def test_a_model_that_is_built_by_chance_or_gives_nothing_is_found() -> None:
    class Chance(nn.Module):
        built = 0

        def __init__(self) -> None:
            super().__init__()
            Chance.built += 1
            self.register_buffer("value", torch.full((2,), float(Chance.built)))

        def forward(self, x: Tensor) -> None:
            del x

    faults = check(ZooModel("tests", "", Chance, takes=(Drawn((2,)),)))
    assert faults == ["two builds differ", "no tensor comes out", "two runs leave other states"]
