"""Facts about values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.drawing.examples import make_drawing


def test_constant_channels_are_counted_in_maps_of_several_values() -> None:
    values = torch.zeros(1, 4, 2, 2)
    values[0, 1, 0, 0] = 1
    values[0, 2, 0, 0] = torch.nan
    values[0, 3] = torch.inf
    assert make_drawing(values).facts(0).constant_channels == 2
    assert make_drawing(torch.zeros(1, 3, 1, 1)).facts(0).constant_channels == 0


def test_exact_statistics_equal_those_of_numpy() -> None:
    values = torch.tensor([[[[0.0, 1.0], [2.0, torch.nan]], [[0.0, 0.0], [torch.inf, 5.0]]]])
    facts = make_drawing(values, stats=True).facts(0)
    finite = np.array([0, 1, 2, 0, 0, 5.0])
    assert facts.mean == pytest.approx(finite.mean())
    assert facts.std == pytest.approx(finite.std())
    assert (facts.zeros, facts.nan_count, facts.inf_count) == (3 / 8, 1, 1)
