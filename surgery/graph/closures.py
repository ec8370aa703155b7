"""Functions in a copied module: hooks and attributes whose closures refer to the original."""

from __future__ import annotations

import copy
import functools
import types
from collections import OrderedDict, defaultdict, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from torch import nn

from surgery.graph.deep_copy import M, add_nonleaf_tensors, copy_module
from surgery.graph.module_walks import list_modules

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONTAINERS = {dict, list, set, tuple, OrderedDict, defaultdict, deque}


def hook_dicts(module: nn.Module) -> Iterator[dict[Any, Any]]:
    """Yield the dicts in which a module keeps its hooks, of every kind, unless they are empty."""
    for name, hooks in vars(module).items():
        if isinstance(hooks, dict) and hooks and name.endswith("_hooks"):
            yield hooks


def rebind_modules(model: M, memo: dict[int, Any]) -> M:
    """Make the functions of a copied model refer to the copies of its modules; return `model`.

    The functions are hooks and functions in attributes. `memo` maps the identity of an original to its copy. If the
    closure of a function contains a module of the original, the function is replaced by one whose closure contains the
    copy. Everything else in the closure stays shared with the original.
    """
    rebinder = _ModuleRebinder(memo)
    for _, module in list_modules(model):
        for hooks in hook_dicts(module):
            hooks.update({key: rebinder.rebind(hook) for key, hook in hooks.items()})
        attributes = vars(module)
        for name, value in list(attributes.items()):
            if isinstance(value, (types.FunctionType, functools.partial)):
                attributes[name] = rebinder.rebind(value)
    return model


class _ModuleRebinder:
    """Replaces modules of the original by their copies in functions, and leaves everything else as it is."""

    def __init__(self, memo: dict[int, Any]) -> None:
        self._memo = memo
        self._done: dict[int, Any] = {}
        """Identity of a value -> what replaces it."""

    def rebind(self, value: Any) -> Any:
        """Return the copy of a module, a function that refers to copies, or the value itself."""
        if not isinstance(value, (nn.Module, types.FunctionType, functools.partial)):
            return value
        if id(value) not in self._done:
            self._done[id(value)] = value  # a function may refer to itself
            self._done[id(value)] = self._replacement(value)
        return self._done[id(value)]

    def _replacement(self, value: Any) -> Any:
        if isinstance(value, nn.Module):
            return self._module(value)
        return self._partial(value) if isinstance(value, functools.partial) else self._function(value)

    def _module(self, module: nn.Module) -> nn.Module:
        """Return the copy of `module`.

        A module outside the original that contains parts of it is copied too, such as the model that was traced.
        """
        if id(module) in self._memo:
            return self._memo[id(module)]  # type: ignore[no-any-return]
        has_copies = any(self._memo.get(id(part), part) is not part for part in _parts(module))
        return copy_module(module, self._memo) if has_copies else module

    def _partial(self, function: functools.partial[Any]) -> functools.partial[Any]:
        target = self.rebind(function.func)
        args = [self.rebind(value) for value in function.args]
        keywords = {name: self.rebind(value) for name, value in function.keywords.items()}
        before = (function.func, *function.args, *function.keywords.values())
        if all(new is old for new, old in zip((target, *args, *keywords.values()), before, strict=True)):
            return function
        return functools.partial(target, *args, **keywords)

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        cells = tuple(self._cell(cell) for cell in function.__closure__ or ())
        defaults = tuple(self.rebind(value) for value in function.__defaults__ or ())
        before = (*(function.__closure__ or ()), *(function.__defaults__ or ()))
        if all(new is old for new, old in zip((*cells, *defaults), before, strict=True)):
            return function
        return _function_like(function, cells, defaults)

    def _cell(self, cell: types.CellType) -> types.CellType:
        try:
            value = cell.cell_contents
        except ValueError:  # the cell is empty
            return cell
        replacement = self.rebind(value)
        return cell if replacement is value else types.CellType(replacement)


def copy_closure(function: Any, memo: dict[int, Any]) -> Any:
    """Return a function whose closure and defaults hold copies of containers; return anything else as it is.

    Other functions in the closure are copied in the same way, and all other values are shared. `memo` maps the identity
    of an original to its copy; a function that it maps to itself is copied nevertheless.
    """
    if isinstance(function, functools.partial):
        args = [_copy_closed_over(value, memo) for value in function.args]
        keywords = {name: _copy_closed_over(value, memo) for name, value in function.keywords.items()}
        return functools.partial(copy_closure(function.func, memo), *args, **keywords)
    if not isinstance(function, types.FunctionType) or not (function.__closure__ or function.__defaults__):
        return function
    if memo.get(id(function), function) is not function:
        return memo[id(function)]
    cells = tuple(memo.setdefault(id(cell), types.CellType()) for cell in function.__closure__ or ())
    result = memo[id(function)] = _function_like(function, cells, ())
    result.__defaults__ = tuple(_copy_closed_over(value, memo) for value in function.__defaults__ or ()) or None
    for original, cell in zip(function.__closure__ or (), cells, strict=True):
        with suppress(ValueError):  # the cell is empty
            cell.cell_contents = _copy_closed_over(original.cell_contents, memo)
    return result


def _copy_closed_over(value: Any, memo: dict[int, Any]) -> Any:
    if isinstance(value, types.FunctionType):
        return copy_closure(value, memo)
    if id(value) in memo:
        return memo[id(value)]
    if type(value) not in _CONTAINERS:
        return value
    try:
        return copy.deepcopy(value, add_nonleaf_tensors(value, memo))
    except Exception:  # noqa: BLE001 - something in it refuses to be copied
        return value


def _function_like(
    function: types.FunctionType, cells: tuple[types.CellType, ...], defaults: tuple[Any, ...]
) -> types.FunctionType:
    """Return a function with the code and attributes of `function`, and another closure and other defaults."""
    result = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, defaults or None, cells or None
    )
    result.__kwdefaults__ = function.__kwdefaults__
    vars(result).update(vars(function))
    return result


def _parts(module: nn.Module) -> Iterator[object]:
    for part in module.modules():
        yield from (part, *part._buffers.values(), *part._parameters.values())  # noqa: SLF001
