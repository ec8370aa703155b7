from __future__ import annotations

import pytest
import torch
from torch import Tensor

from surgery.graph.bitwise import bitwise_equal

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.complex64, torch.int64, torch.uint8, torch.bool]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 16])
@pytest.mark.parametrize("offset", [0, 1])
def test_one_changed_element_is_found_at_any_offset_and_alignment(dtype: torch.dtype, count: int, offset: int) -> None:
    values = torch.arange(count + offset).remainder(2).to(dtype)
    some, others = values[offset:], values[offset:].clone()
    assert bitwise_equal(some, others)
    assert bitwise_equal(others, some)
    for place in range(count):
        others[place] = others[place] == 0
        assert not bitwise_equal(some, others)
        others[place] = some[place]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.tensor([0.0]), torch.tensor([-0.0])),
        (torch.ones(2), torch.ones(2).double()),
        (torch.ones(2), torch.ones(2, 1)),
        (torch.ones(2), torch.ones(2).to_sparse()),
    ],
)
def test_tensors_that_only_compare_equal_are_not_bitwise_equal(one: Tensor, other: Tensor) -> None:
    assert not bitwise_equal(one, other)


def test_nan_equals_itself_and_strides_do_not_matter() -> None:
    values = torch.tensor([[1.0, float("nan")], [2.0, 3.0]])
    assert bitwise_equal(values, values.clone())
    assert bitwise_equal(values.t(), values.t().contiguous())
    assert bitwise_equal(torch.ones(2).to_sparse(), torch.ones(2).to_sparse())
    assert bitwise_equal(torch.empty(0, 3), torch.empty(0, 3))
    assert bitwise_equal(torch.complex(values, values).conj(), torch.complex(values, values).conj().resolve_conj())


def test_an_axis_of_one_element_may_have_any_stride() -> None:
    value = torch.ones(3).as_strided((1,), (259,))
    assert bitwise_equal(value, torch.ones(1))
    assert not bitwise_equal(value, torch.zeros(1))
