"""Activations of values of every kind."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import surgery
from surgery.builtin.default_recipe import DEFAULT_RECIPE
from surgery.builtin.tilers import Grid
from surgery.drawing.activations import make_activations, make_image_activations
from surgery.graph.tensors import named_tensors
from surgery.types import BACKGROUND
from tests.drawing.examples import OPERATION


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.uint8])
def test_drawing_does_not_write_to_the_values(dtype: torch.dtype) -> None:
    values = (torch.rand(2, 3, 9, 9) * 2 - 1).to(dtype)
    before = values.clone()
    drawn = [make_image_activations(OPERATION, values, ["a", "b"], (-1.0, 1.0), DEFAULT_RECIPE)]
    drawn += [
        make_activations(OPERATION, values, ["a", "b"], DEFAULT_RECIPE),
        make_activations(OPERATION, values, None, DEFAULT_RECIPE),
    ]
    for activation in itertools.chain(*drawn):
        assert activation.pictures
        assert activation.facts.min is not None
        assert torch.equal(values, before)


@pytest.mark.parametrize(
    ("shape", "pictures", "channels"),
    [
        ((2, 3, 4, 5), 1, 3),
        ((2, 7), 1, 1),
        ((2, 6, 8), 1, 1),
        ((2, 3, 4, 5, 6), 1, 3),
        ((2,), 1, 1),
        ((2, 3, 2, 4, 5, 6), 1, 3),
        ((8, 3, 4, 5), 1, 12),
        ((8, 6, 8), 1, 4),
        ((8, 5), 1, 1),
    ],
)
def test_values_of_any_rank_are_drawn_as_maps(shape: tuple[int, ...], pictures: int, channels: int) -> None:
    values = torch.randn(shape)
    found = list(make_activations(OPERATION, values, ["a", "b"], DEFAULT_RECIPE))
    assert [activation.image for activation in found] == ["a", "b"]
    for number, activation in enumerate(found):
        assert len(activation.pictures) == pictures
        assert len(activation.levels.low) == channels
        share = shape[0] // 2
        assert torch.equal(activation.values, values[number] if share == 1 else values[number * share :][:share])


@pytest.mark.parametrize("shape", [(), (3, 4), (1, 2, 3)])
def test_values_that_can_not_be_split_by_image_belong_to_the_whole_batch(shape: tuple[int, ...]) -> None:
    found = list(make_activations(OPERATION, torch.randn(shape), ["a", "b"], DEFAULT_RECIPE))
    assert [(activation.image, activation.values.shape) for activation in found] == [(None, torch.Size(shape))]
    assert len(found[0].pictures) == 1


def test_an_empty_value_has_no_picture_and_no_facts() -> None:
    (activation,) = make_activations(OPERATION, torch.zeros(1, 0, 3, 3), ["a"], DEFAULT_RECIPE)
    assert activation.pictures == ()
    assert activation.facts.min is None


def test_tensors_are_found_in_containers_of_every_kind() -> None:
    @dataclass
    class Pair:
        left: Any
        right: Any

    one, other = torch.zeros(1), torch.ones(1)
    value = {"a": [one, 3], "b": Pair(None, (other,)), "c": Pair}
    assert [(key, tensor.item()) for key, tensor in named_tensors(value)] == [("[a][0]", 0), ("[b][right][0]", 1)]


def test_containers_give_one_activation_for_each_tensor() -> None:
    value = (torch.zeros(1, 2), {"logits": [torch.ones(1, 3), "text"]}, None)
    found = list(make_activations(OPERATION, value, ["a"], DEFAULT_RECIPE))
    assert [activation.path for activation in found] == ["f[0]", "f[1][logits][0]"]


def test_a_long_vector_is_folded_to_a_near_square() -> None:
    (picture,) = surgery.draw(torch.arange(1000.0)[None], tiler=Grid(least=1))
    assert picture.pixels.shape == (25, 40)
    (prime,) = surgery.draw(torch.arange(13.0)[None], tiler=Grid(least=1))
    assert prime.pixels.shape == (4, 4)
    assert (prime.pixels == BACKGROUND).sum() == 3
