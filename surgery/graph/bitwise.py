"""Comparison of tensors bit for bit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def bitwise_equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same dtype, shape and bits: NaN equals NaN, and 0.0 is not -0.0."""
    if one.dtype != other.dtype or one.shape != other.shape or one.layout != other.layout:
        return False
    if one.layout is not torch.strided:
        return bitwise_equal(one.to_dense(), other.to_dense())
    if one.is_quantized:
        return bitwise_equal(one.int_repr(), other.int_repr()) and bitwise_equal(one.dequantize(), other.dequantize())
    if one.numel() == 0:
        return True
    flat = _flatten(one), _flatten(other)
    # Comparing eight bytes at a time takes a third of the time, but needs aligned memory.
    aligned = all(values.nbytes % 8 == values.storage_offset() * values.element_size() % 8 == 0 for values in flat)
    bits = torch.int64 if aligned else torch.uint8
    return torch.equal(flat[0].view(bits), flat[1].view(bits))


def _flatten(tensor: Tensor) -> Tensor:
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    # An axis of one element may have any stride.
    return flat if flat.stride(0) == 1 else flat.clone(memory_format=torch.contiguous_format)


def describe_difference(one: Any, other: Any) -> str:
    """Return how two values differ, as text: other types, shapes or dtypes, or the largest difference."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return f"{one!r:.40} is not {other!r:.40}"
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"{tuple(one.shape)} {one.dtype} is not {tuple(other.shape)} {other.dtype}"
    if not (one.is_floating_point() or one.is_complex()):
        return "the values differ"
    return f"the values differ by up to {(one.double() - other.double()).abs().nan_to_num().max().item():.3g}"
