"""The type of the value that a proxy represents, inferred from the graph without any run.

With plain torch.fx, ``isinstance(x, Tensor)`` is False for a proxy. If the type can be inferred here, the result is
that of an eager run; if not, None is returned and the caller records a hazard.
"""

from __future__ import annotations

from operator import getitem
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.utils._device import _device_constructors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FACTORIES: set[Callable[..., Any]] = {*filter(None, _device_constructors()), torch.normal}
"""Functions of torch that make a tensor without taking one, such as `torch.zeros`."""


def infer_type(proxy: fx.Proxy, root: nn.Module, example_types: Mapping[str, type]) -> type | None:
    """Return the type of the value that a proxy represents; None if it can't be inferred.

    `root` is the module that is traced, and `example_types` has the types of the example's inputs by name.
    """
    if isinstance(proxy, fx.proxy.Attribute):
        is_of_tensor = infer_type(proxy.root, root, example_types) is Tensor
        return _ATTRIBUTE_TYPES.get(proxy.attr) if is_of_tensor else None
    return _infer_node_type(proxy.node, root, example_types)


def _infer_node_type(node: fx.Node, root: nn.Module, example_types: Mapping[str, type]) -> type | None:
    if node.op == "placeholder":
        return example_types.get(node.name, Tensor)
    if node.op == "get_attr" or node.target in FACTORIES:
        return Tensor
    if node.op == "call_module":
        return _infer_module_output_type(root.get_submodule(str(node.target)))
    first = node.args[0] if node.args else None
    if node.target in (getattr, getitem) and isinstance(first, fx.Node):
        return _infer_part_type(_infer_node_type(first, root, example_types), node.args[1])
    input_types = [_infer_node_type(argument, root, example_types) for argument in node.all_input_nodes]
    return _infer_call_type(node, input_types)


def _infer_module_output_type(module: nn.Module) -> type | None:
    returns_tuple = isinstance(module, (nn.RNNBase, nn.MultiheadAttention)) or getattr(module, "return_indices", False)
    return Tensor if type(module).__module__.startswith("torch.nn") and not returns_tuple else None


def _infer_part_type(whole: type | None, part: Any) -> type | None:
    """Return the type of an attribute, given by its name, or of an item, given by its index."""
    if whole is torch.Size and isinstance(part, int):
        return int
    if whole is not Tensor:
        return None
    return _ATTRIBUTE_TYPES.get(part) if isinstance(part, str) else Tensor


def _infer_call_type(node: fx.Node, input_types: list[type | None]) -> type | None:
    is_method = node.op == "call_method"
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if is_method and name in _INTEGER_METHODS:
        return torch.Size if name == "size" and len(node.args) + len(node.kwargs) == 1 else int
    home = "torch" if is_method else getattr(node.target, "__module__", None) or "torch"
    gives_tensor = name.strip("_") not in _NOT_ONE_TENSOR and home.partition(".")[0] in _TENSOR_PACKAGES
    return Tensor if gives_tensor and Tensor in input_types else None


_ATTRIBUTE_TYPES: dict[str, type] = {
    "shape": torch.Size,
    "dtype": torch.dtype,
    "device": torch.device,
    "layout": torch.layout,
    **dict.fromkeys(("ndim", "itemsize", "nbytes"), int),
    **dict.fromkeys(("requires_grad", "is_cuda", "is_sparse", "is_quantized", "is_leaf", "is_meta", "is_nested"), bool),
    **dict.fromkeys(("T", "H", "mT", "mH", "data", "real", "imag"), Tensor),
}
_INTEGER_METHODS = {"size", "dim", "ndimension", "numel", "nelement", "get_device", "element_size"}
_NOT_ONE_TENSOR = {
    *("split", "chunk", "unbind", "topk", "sort", "max", "min", "median", "mode", "kthvalue", "cummax", "cummin"),
    *("aminmax", "svd", "qr", "eigh", "eig", "slogdet", "lu", "getitem", "getattr", "size", "dim", "ndimension"),
    *("numel", "stride", "item", "tolist", "unique", "meshgrid", "broadcast_tensors", "tensor_split", "hsplit"),
    *("vsplit", "dsplit", "nonzero", "frexp", "std_mean", "var_mean", "is_floating_point", "is_complex", "data_ptr"),
    *("type", "multi_head_attention_forward", "gradient", "histogram", "histogramdd", "lu_factor", "inv_ex", "lstsq"),
    *("unsafe_split", "unsafe_chunk", "split_with_sizes", "atleast_1d", "atleast_2d", "atleast_3d", "block_diag"),
    *("is_contiguous", "is_nonzero", "is_signed", "is_set_to", "is_same_size", "equal", "allclose", "is_inference"),
    *("is_conj", "is_neg", "element_size", "nelement", "storage_offset", "get_device", "numpy", "result_type"),
    *("can_cast", "is_grad_enabled", "unique_consecutive", "cdist_forward", "triangular_solve", "geqrf", "linalg_svd"),
}
"""Names of functions and methods that return several tensors or none, or may do so."""
_TENSOR_PACKAGES = {"torch", "_operator", "surgery", "einops", "copy"}
"""Packages whose functions return one tensor when they receive one, unless `_NOT_ONE_TENSOR` names them."""
