"""Copies of models that share the parameters, and nothing that a run of the copy could change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

import torch

from surgery.errors import TraceError
from surgery.graph.closures import copy_closure, hook_dicts, rebind_modules
from surgery.graph.containers import find_instances
from surgery.graph.deep_copy import MODULE_ATTRIBUTES, M, copy_module, is_immutable
from surgery.graph.derived_class import DerivedModel, copy_derived
from surgery.graph.module_walks import list_modules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


def copy_sharing_parameters(model: M, memo: dict[int, Any] | None = None) -> M:
    """Return a copy of `model` that has its own modules, modes, hooks and buffers, and the same parameters.

    `memo` maps the identity of an original to its copy, as in `copy.deepcopy`; it may name other parameters for the
    copy. Hooks, and functions in attributes, refer to the modules of the copy. Raises TraceError if something in the
    model can't be copied.
    """
    if isinstance(model, DerivedModel):
        return copy_derived(model, {} if memo is None else memo, copy_sharing_parameters)  # type: ignore[no-any-return]
    memo = add_shared_objects(model, memo)
    return rebind_modules(_copy_or_raise(model, memo), memo)


def copy_isolating_hooks(model: M, memo: dict[int, Any] | None = None) -> M:
    """Return a copy as `copy_sharing_parameters` does, whose hooks also store values in containers of their own.

    The containers in a hook's closure, such as a dict of features, are copied with the model, so a run of the copy
    leaves nothing in the original. `memo` is filled with the copies by the identity of the original.
    """
    if isinstance(model, DerivedModel):
        return copy_derived(model, {} if memo is None else memo, copy_isolating_hooks)  # type: ignore[no-any-return]
    memo = add_shared_objects(model, memo)
    result = _copy_or_raise(model, memo)
    for _, module in list_modules(result):
        for hooks in hook_dicts(module):
            hooks.update({key: copy_closure(hook, memo) for key, hook in hooks.items()})
    return rebind_modules(result, memo)


def add_shared_objects(model: nn.Module, memo: dict[int, Any] | None) -> dict[int, Any]:
    """Return `memo` (a new one for None), extended so that a copy shares the parameters of `model`."""
    memo = {} if memo is None else memo
    for shared in _shared_objects(model):
        memo.setdefault(id(shared), shared)
    return memo


def set_mode(model: M, training: bool | None) -> M:
    """Call the model's own `train(training)` unless `training` is None; return `model`."""
    if training is not None:
        model.train(training)  # its result is ignored: a model may override `train` and return nothing
    return model


def unshare_parameters(module: nn.Module) -> None:
    """Give `module` its own parameters over the same memory, so that moving it leaves other modules where they are."""
    own_parameters: dict[int, torch.nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in part._parameters.items():  # noqa: SLF001
            if _is_plain(parameter):
                fresh = torch.Tensor._make_subclass(type(parameter), parameter.detach(), parameter.requires_grad)  # noqa: SLF001
                vars(fresh).update(vars(parameter))
                own = own_parameters.setdefault(id(parameter), fresh)
                own.grad = None if parameter.grad is None else parameter.grad.detach()
                part._parameters[name] = own  # noqa: SLF001


def _is_plain(parameter: torch.nn.Parameter | None) -> TypeGuard[torch.nn.Parameter]:
    """Return whether a parameter is no more than memory: its class, if it is the user's, does not change torch."""
    kind = type(parameter)
    return issubclass(kind, torch.nn.Parameter) and kind.__torch_dispatch__ is torch.nn.Parameter.__torch_dispatch__


def _copy_or_raise(model: M, memo: dict[int, Any]) -> M:
    try:
        return copy_module(model, memo)
    except Exception as error:
        raise TraceError(
            f"{type(model).__name__} can't be copied ({type(error).__name__}: {error}); take what can't be copied out "
            "of the module's attributes"
        ) from error


def _shared_objects(model: nn.Module) -> Iterator[object]:
    """Yield what a copy has in common with its original."""
    modules = {module for _, module in list_modules(model)}
    for module in modules:
        yield from module._parameters.values()  # noqa: SLF001
        for name, value in vars(module).items():
            # Tensors that autograd computed: the weight of an old-style weight_norm, or features that are kept.
            if name not in MODULE_ATTRIBUTES and not is_immutable(value):
                yield from (tensor for tensor in find_instances(value) if not tensor.is_leaf)
        for hooks in hook_dicts(module):
            # A hook may be a method of something outside, such as a logger, which must not be copied.
            yield from (hook for hook in hooks.values() if getattr(hook, "__self__", None) not in modules)
