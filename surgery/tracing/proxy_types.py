"""Whether the value that a proxy represents is a tensor, inferred from the graph without any run.

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
        return _infer_part_type(infer_type(proxy.root, root, example_types), proxy.attr)
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
    is_tensor = part in _TENSOR_ATTRIBUTES if isinstance(part, str) else True
    return Tensor if whole is Tensor and is_tensor else None


def _infer_call_type(node: fx.Node, input_types: list[type | None]) -> type | None:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    home = "torch" if node.op == "call_method" else getattr(node.target, "__module__", None) or "torch"
    gives_tensor = name.strip("_") not in _NOT_ONE_TENSOR and home.partition(".")[0] in _TENSOR_PACKAGES
    return Tensor if gives_tensor and Tensor in input_types else None


_TENSOR_ATTRIBUTES = {"T", "H", "mT", "mH", "data", "real", "imag"}
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
