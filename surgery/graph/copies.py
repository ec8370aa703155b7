"""Copies of modules that share what is heavy and nothing that can be changed by running them."""

from __future__ import annotations

import copy
import copyreg
import functools
import types
from collections import OrderedDict, defaultdict, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from surgery.errors import TraceError
from surgery.graph.containers import find_instances

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

M = TypeVar("M", bound="nn.Module")

MODULE_ATTRIBUTES = frozenset(vars(torch.nn.Module()))
"""The attributes that every module has."""


def copy_sharing_parameters(model: M, memo: dict[int, Any] | None = None) -> M:
    """A copy of `model` with modules, modes, hooks and buffers of its own, and the very same parameters.

    `memo` may have other parameters, by the identity of the original's. Hooks, and functions in attributes, that have
    closed over a module of the model have the copy of it. Raises TraceError where something refuses to be copied.
    """
    memo = sharing(model, memo)
    return following(_guarded(model, memo), memo)


def sharing(model: nn.Module, memo: dict[int, Any] | None) -> dict[int, Any]:
    """`memo`, with what a copy has in common with its original."""
    memo = {} if memo is None else memo
    for shared in _shared(model):
        memo.setdefault(id(shared), shared)
    return memo


def _guarded(model: M, memo: dict[int, Any]) -> M:
    try:
        return copy_module(model, memo)
    except Exception as error:
        raise TraceError(
            f"{type(model).__name__} can't be copied ({type(error).__name__}: {error}); take what can't be copied out "
            "of the module's attributes"
        ) from error


def copy_isolating_hooks(model: M, memo: dict[int, Any] | None = None) -> M:
    """A twin whose hooks keep their values in copies of their own too.

    What a hook's closure holds, such as the dict that it keeps features in, is copied with the model: a run of the
    twin leaves nothing in the original. `memo` is given the copies by the identity of the original.
    """
    memo = sharing(model, memo)
    copied = _guarded(model, memo)
    for module in copied.modules():
        for name, hooks in vars(module).items():
            if name.endswith("_hooks") and isinstance(hooks, dict):
                hooks.update({key: copy_closure(hook, memo) for key, hook in hooks.items()})
    return following(copied, memo)


def following(copied: M, memo: dict[int, Any]) -> M:
    """`copied` itself, in which functions that have closed over modules of the original have their copies instead.

    They are hooks, and functions in attributes. All else that they have closed over stays shared with the original's.
    """
    done: dict[int, Any] = {}
    for module in copied.modules():
        attributes = vars(module)
        for name, value in list(attributes.items()):
            if name.endswith("_hooks") and isinstance(value, dict):
                value.update({key: _following(hook, memo, done) for key, hook in value.items()})
            elif isinstance(value, (types.FunctionType, functools.partial)):
                attributes[name] = _following(value, memo, done)
    return copied


def _following(value: Any, memo: dict[int, Any], done: dict[int, Any]) -> Any:
    """The copy of a module, a function with copies of modules in it, or the value itself.

    A module that is none of the original's but has parts of it is copied: the model that a graph was traced from is.
    """
    if isinstance(value, torch.nn.Module):
        if id(value) not in done:
            has_copies = id(value) not in memo and any(memo.get(id(part), part) is not part for part in _inside(value))
            done[id(value)] = copy_module(value, memo) if has_copies else memo.get(id(value), value)
        return done[id(value)]
    if not isinstance(value, (types.FunctionType, functools.partial)):
        return value
    if id(value) in done:
        return done[id(value)]
    done[id(value)] = value  # while it is looked into: it may refer to itself
    if isinstance(value, functools.partial):
        parts: Any = (value.func, *value.args, *value.keywords.values())
        own = [_following(part, memo, done) for part in parts]
        if any(new is not old for new, old in zip(own, parts, strict=True)):
            given = own[1 : 1 + len(value.args)]
            named = dict(zip(value.keywords, own[1 + len(value.args) :], strict=True))
            done[id(value)] = functools.partial(own[0], *given, **named)
        return done[id(value)]
    cells = tuple(_following_cell(cell, memo, done) for cell in value.__closure__ or ())
    defaults = tuple(_following(default, memo, done) for default in value.__defaults__ or ())
    pairs = zip((*cells, *defaults), (*(value.__closure__ or ()), *(value.__defaults__ or ())), strict=True)
    if any(new is not old for new, old in pairs):
        function = types.FunctionType(
            value.__code__, value.__globals__, value.__name__, defaults or None, cells or None
        )
        function.__kwdefaults__ = value.__kwdefaults__
        vars(function).update(vars(value))
        done[id(value)] = function
    return done[id(value)]


def _inside(module: nn.Module) -> Iterator[object]:
    for part in module.modules():
        yield from (part, *part._buffers.values(), *part._parameters.values())  # noqa: SLF001


def _following_cell(cell: types.CellType, memo: dict[int, Any], done: dict[int, Any]) -> types.CellType:
    try:
        value = cell.cell_contents
    except ValueError:  # it is empty
        return cell
    own = _following(value, memo, done)
    return cell if own is value else types.CellType(own)


def copy_closure(function: Any, memo: dict[int, Any]) -> Any:
    """A function whose closure holds copies; anything else is left as it is."""
    if isinstance(function, functools.partial):
        args = [_closed_over(value, memo) for value in function.args]
        named = {name: _closed_over(value, memo) for name, value in function.keywords.items()}
        return functools.partial(copy_closure(function.func, memo), *args, **named)
    if not isinstance(function, types.FunctionType) or not (function.__closure__ or function.__defaults__):
        return function
    if id(function) in memo:
        return memo[id(function)]
    cells = tuple(memo.setdefault(id(cell), types.CellType()) for cell in function.__closure__ or ())
    copied = types.FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)
    memo[id(function)] = copied
    copied.__defaults__ = tuple(_closed_over(value, memo) for value in function.__defaults__ or ()) or None
    copied.__kwdefaults__ = function.__kwdefaults__
    copied.__dict__.update(function.__dict__)
    for cell, own in zip(function.__closure__ or (), cells, strict=True):
        with suppress(ValueError):  # an empty cell
            own.cell_contents = _closed_over(cell.cell_contents, memo)
    return copied


def _closed_over(value: Any, memo: dict[int, Any]) -> Any:
    """The copy of what a function has closed over: of containers, and of functions; all else is shared."""
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, types.FunctionType):
        return copy_closure(value, memo)
    if type(value) not in _CONTAINERS:
        return value
    try:
        return copy.deepcopy(value, _with_results(value, memo))
    except Exception:  # noqa: BLE001 - it holds something that refuses to be copied
        return value


_CONTAINERS = {dict, list, set, tuple, OrderedDict, defaultdict, deque}


def _with_results(value: Any, memo: dict[int, Any]) -> dict[int, Any]:
    """`memo`, with copies of the results of autograd in a value, which `copy.deepcopy` refuses."""
    for tensor in find_instances(value):
        if not tensor.is_leaf and id(tensor) not in memo:
            memo[id(tensor)] = tensor.detach().clone()
    return memo


def set_mode(model: M, training: bool | None) -> M:
    """`model` itself, put into train or eval mode in its own way; left as it is for None."""
    if training is not None:
        model.train(training)  # which may be the model's own, and return nothing
    return model


def copy_module(module: M, memo: dict[int, Any]) -> M:
    """What `copy.deepcopy` gives, in a third of the time: that asks each module how it wants to be pickled."""
    if id(module) in memo:
        return memo[id(module)]  # type: ignore[no-any-return]
    kind = type(module)
    if not _is_copied_plainly(kind):
        return copy.deepcopy(module, memo)
    copied = memo[id(module)] = kind.__new__(kind)
    memo.setdefault(id(memo), []).append(module)  # as `copy.deepcopy` does, so that its identity stays its own
    # In two steps, since what is in a module may refer to it.
    state = vars(copied) if kind.__setstate__ is torch.nn.Module.__setstate__ else {}
    for name, value in module.__getstate__().items():  # type: ignore[no-untyped-call]
        state[name] = _copied(name, value, memo)
    if state is not vars(copied):
        copied.__setstate__(state)  # type: ignore[no-untyped-call]
    return copied


def _copied(name: str, value: Any, memo: dict[int, Any]) -> Any:
    """An attribute of a module."""
    if name == "_modules":
        copies = ((key, None if child is None else copy_module(child, memo)) for key, child in value.items())
        return type(value)(copies)
    if name == "_parameters":
        return type(value)((key, memo.get(id(parameter), parameter)) for key, parameter in value.items())
    if type(value) in _ATOMS:
        return value
    if name in MODULE_ATTRIBUTES and not value and isinstance(value, (dict, set)) and id(value) not in memo:
        memo[id(value)] = type(value)()  # a handle of a hook refers to it
    return copy.deepcopy(value, _with_results(value, memo))


_ATOMS = frozenset((int, float, complex, str, bytes, bool, type(None)))


def _is_copied_plainly(kind: type[nn.Module]) -> bool:
    """Whether `copy.deepcopy` copies what a module says are its attributes one by one, and does nothing else."""
    pickled_otherwise = any(hasattr(kind, name) for name in ("__deepcopy__", "__getnewargs__", "__getnewargs_ex__"))
    return (
        not pickled_otherwise
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and kind not in copyreg.dispatch_table
    )


def unshare_parameters(module: nn.Module) -> None:
    """Give `module` parameters of its own over the same memory, so that moving it moves nobody else's."""
    owned: dict[int, torch.nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in part._parameters.items():  # noqa: SLF001
            if type(parameter) is torch.nn.Parameter:
                own = owned.setdefault(id(parameter), torch.nn.Parameter(parameter.detach(), parameter.requires_grad))
                own.grad = None if parameter.grad is None else parameter.grad.detach()
                part._parameters[name] = own  # noqa: SLF001


def _shared(model: nn.Module) -> Iterator[object]:
    """What a copy has in common with its original."""
    modules = set(model.modules())
    for module in modules:
        yield from module._parameters.values()  # noqa: SLF001
        for name, value in vars(module).items():
            # Results of autograd, such as a weight computed by an old-style weight_norm, or features that are kept.
            if name not in MODULE_ATTRIBUTES:
                yield from (tensor for tensor in find_instances(value) if not tensor.is_leaf)
        for name, hooks in vars(module).items():
            if name.endswith("_hooks") and isinstance(hooks, dict):
                # A hook that belongs to something outside, a logger say, must not be copied with all that it holds.
                yield from (hook for hook in hooks.values() if getattr(hook, "__self__", None) not in modules)
