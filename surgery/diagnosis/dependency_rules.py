"""What a kernel of torch reads for some elements of its value, whatever the numbers are.

A rule takes a call and elements of its value, bool of the value's shape. It yields tensors that the call was given,
each with those of its elements that are read: bool that broadcasts to the tensor's shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from surgery.diagnosis.kernel_calls import Given, KernelCall
from surgery.diagnosis.linear_kernels import (
    LINEAR,
    WINDOWED_AS_MEANS,
    read_adaptive_pool,
    read_convolution,
    read_linear,
    read_max_pool,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Rule: TypeAlias = Callable[[KernelCall, Tensor], Iterable[tuple[Given, Tensor]]]

_ALL = torch.ones((), dtype=torch.bool)


def find_rule(call: KernelCall) -> Rule | None:
    """Return the rule for a call; None if nothing is known about the kernel."""
    if call.name in _RULES:
        return _RULES[call.name]
    return _read_same_element if torch.Tag.pointwise in call.kernel.tags else None


def spread_everywhere(call: KernelCall, elements: Tensor) -> Iterator[tuple[Given, Tensor]]:  # noqa: ARG001
    """Yield all that a call was given. It is the rule for kernels of which nothing is known, and for global ones."""
    for _, given in call.tensors():
        yield given, _ALL


def _read_same_element(call: KernelCall, elements: Tensor) -> Iterator[tuple[Given, Tensor]]:
    for _, given in call.tensors():
        yield given, _shrink(elements, given.place.size)


def _read_others(call: KernelCall, elements: Tensor) -> Iterator[tuple[Given, Tensor]]:
    """The rule of kernels that overwrite a tensor, or make one like it, without reading it."""
    for name, given in call.tensors():
        if name != "self":
            yield given, _shrink(elements, given.place.size)


def _read_along_axes(call: KernelCall, elements: Tensor) -> Iterator[tuple[Given, Tensor]]:
    """The rule of sums, softmax, sorting: all along some axes, which the value may lack."""
    given = call.arguments["self"]
    count = len(given.place.size)
    dims = call.arguments.get("dim")
    axes = _axes(range(count) if dims in (None, []) else dims, count)
    if elements.ndim < count:
        for axis in axes:
            elements = elements.unsqueeze(axis)
    yield given, _any(elements, axes)


def _read_gated_halves(call: KernelCall, elements: Tensor) -> Iterator[tuple[Given, Tensor]]:
    yield call.arguments["self"], torch.cat([elements, elements], call.arguments["dim"])


def _read_normalized(call: KernelCall, elements: Tensor) -> Iterator[tuple[Given, Tensor]]:
    """The rule of layer norms: all of the last axes."""
    axes = _axes(range(-len(call.arguments["normalized_shape"]), 0), elements.ndim)
    yield from _with_all_others(call, call.arguments["input"], _any(elements, axes))


def _read_groups(call: KernelCall, elements: Tensor) -> Iterator[tuple[Given, Tensor]]:
    """The rule of group norms: all of the group in the same image."""
    groups = elements.reshape(elements.shape[0], call.arguments["group"], -1)
    read = groups.any(2, keepdim=True).expand_as(groups).reshape(elements.shape)
    yield from _with_all_others(call, call.arguments["input"], read)


def _read_batch_norm(call: KernelCall, elements: Tensor) -> Iterator[tuple[Given, Tensor]]:
    """The rule of batch and instance norms: all of the channel, or the element alone if the statistics are given."""
    is_fixed = call.name in _FIXED_NORMS or call.arguments.get("training") is False
    read = elements if is_fixed else _any(elements, [axis for axis in range(elements.ndim) if axis != 1])
    yield from _with_all_others(call, call.arguments["input"], read)


def _read_product(call: KernelCall, elements: Tensor) -> Iterator[tuple[Given, Tensor]]:
    """The rule of products of matrices: rows of the first, columns of the second, and elements of what is added."""
    names = _FACTORS[call.name]
    for name, given in call.tensors():
        if name not in names:
            yield given, _shrink(elements, given.place.size)
    yield call.arguments[names[0]], elements.any(-1, keepdim=True)
    yield call.arguments[names[1]], elements.any(-2, keepdim=True)


def _read_attention(call: KernelCall, elements: Tensor) -> Iterator[tuple[Given, Tensor]]:
    """The rule of attention: the token itself of the queries, and all tokens of keys and values in the same head."""
    rows = elements.any(-1, keepdim=True)
    same_heads = len({call.arguments[name].place.size[:-2] for name in ("query", "key", "value")}) == 1
    heads = _any(rows, [rows.ndim - 2]) if same_heads else _ALL
    for name, given in call.tensors():
        yield given, rows if name == "query" else heads if name in ("key", "value") else _ALL


def _read_rows(call: KernelCall, elements: Tensor) -> Iterator[tuple[Given, Tensor]]:
    """The rule of embeddings: the number of the row, and any row."""
    yield call.arguments["weight"], _ALL
    yield call.arguments["indices"], elements.any(-1)


def _with_all_others(call: KernelCall, given: Given, read: Tensor) -> Iterator[tuple[Given, Tensor]]:
    yield given, read
    for _, other in call.tensors():
        if other is not given:
            yield other, _ALL


def _any(elements: Tensor, axes: Sequence[int]) -> Tensor:
    return elements.any(tuple(axes), keepdim=True) if axes else elements


def _axes(given: Any, count: int) -> list[int]:
    """Return axes as numbers from 0, in order."""
    numbers = given if isinstance(given, Iterable) else [given]
    return sorted({number % count for number in numbers}) if count else []


def _shrink(elements: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return the elements of a tensor of some size that was broadcast to that of `elements`; all of it if it wasn't."""
    extra = elements.ndim - len(size)
    if extra < 0:
        return _ALL
    found = _any(elements, range(extra)).reshape(elements.shape[extra:])
    found = _any(found, [axis for axis, count in enumerate(size) if count == 1])
    return found if found.shape == size else _ALL


_ELEMENTWISE = (
    "clone _to_copy lift_fresh_copy hardswish hardsigmoid _prelu_kernel log_sigmoid_forward rrelu_with_noise "
    "native_dropout bernoulli where masked_fill gelu silu mish clamp fake_quantize_per_tensor_affine"
)
_OVERWRITES = (
    "copy fill zero normal uniform random exponential geometric log_normal cauchy empty_like zeros_like ones_like "
    "full_like rand_like randn_like randint_like new_empty new_zeros new_ones new_full new_empty_strided"
)
_ALONG_AXES = (
    "sum mean prod amax amin max min aminmax any all argmax argmin median mode kthvalue topk sort std var std_mean "
    "var_mean norm linalg_vector_norm logsumexp count_nonzero cumprod logcumsumexp cummax cummin _softmax _log_softmax "
    "_safe_softmax nansum"
)
_FIXED_NORMS = frozenset({"_native_batch_norm_legit_no_training", "_batch_norm_no_update"})
_BATCH_NORMS = (
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm "
    "miopen_batch_norm _batch_norm_with_update _batch_norm_no_update"
)
_FACTORS = {
    "mm": ("self", "mat2"),
    "bmm": ("self", "mat2"),
    "addmm": ("mat1", "mat2"),
    "baddbmm": ("batch1", "batch2"),
}
_ATTENTION = (
    "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention "
    "_scaled_dot_product_fused_attention_overrideable"
)
_RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE.split(), _read_same_element),
    **dict.fromkeys(_OVERWRITES.split(), _read_others),
    **dict.fromkeys(_ALONG_AXES.split(), _read_along_axes),
    **dict.fromkeys(_BATCH_NORMS.split(), _read_batch_norm),
    **dict.fromkeys(_FACTORS, _read_product),
    **dict.fromkeys(_ATTENTION.split(), _read_attention),
    **dict.fromkeys(LINEAR, read_linear),
    **dict.fromkeys(WINDOWED_AS_MEANS, read_adaptive_pool),
    **dict.fromkeys(("max_pool2d_with_indices", "max_pool3d_with_indices"), read_max_pool),
    **dict.fromkeys(("dot", "vdot", "mv"), spread_everywhere),
    "convolution": read_convolution,
    "embedding": _read_rows,
    "glu": _read_gated_halves,
    "native_group_norm": _read_groups,
    "native_layer_norm": _read_normalized,
    "_fused_rms_norm": _read_normalized,
}
