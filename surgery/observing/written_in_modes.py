"""Models that may write to tensors in one mode only, as a codebook that learns does: by the names in their code."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from torch import nn

from surgery.eager import user_classes
from surgery.graph import hook_dicts, is_user_file, list_modules

if TYPE_CHECKING:
    from collections.abc import Iterator


def may_write_in_one_mode(model: nn.Module) -> bool:
    """Return whether a class of a model asks for its mode and writes to tensors in place, in code that a run may reach.

    A method is reached if its name occurs in a function that is. Where a name may be made of a text, and where a run
    may call very many functions, all methods are. So a constructor that fills weights does not count.
    """
    methods = [
        (kind, name, function)
        for kind in user_classes(model)
        for name, value in vars(kind).items()
        for function in _functions_of(value)
    ]
    used: dict[type, set[str]] = {}
    seen: set[int] = set()
    names = {*_CALLED_BY_TORCH, *_names_of_hooks(model)}
    while found := [each for each in methods if each[1] in names or names & _CALLING_ANY]:
        methods = [each for each in methods if each not in found]
        for kind, _, function in found:
            own = names_in(function.__code__)
            used.setdefault(kind, set()).update(own)
            names |= own
            if not names & _CALLING_ANY:
                names |= _names_in_globals(function, seen)
    return any(("training" in own or "train" in vars(kind)) and any(map(_writes, own)) for kind, own in used.items())


_CALLED_BY_TORCH = ("forward", "__call__", "__getattr__", "__getattribute__", "__setattr__", "train")
_CALLING_ANY = {"getattr", "methodcaller", "eval", "exec"}
_MAX_FUNCTIONS = 200


def names_used(kind: type) -> set[str]:
    """Return the global names and attributes that the methods of a class use."""
    functions = [function for value in vars(kind).values() for function in _functions_of(value)]
    return set[str]().union(*(names_in(function.__code__) for function in functions))


@lru_cache(maxsize=4096)
def names_in(code: CodeType) -> frozenset[str]:
    """Return the global names and attributes in a function's code, including the functions defined in it."""
    inner = [names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return frozenset(code.co_names).union(*inner)


def _functions_of(value: Any) -> Iterator[FunctionType]:
    """Yield the functions that an attribute of a class calls: a method, what it wraps, the parts of a property."""
    waiting, seen = [value], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, property):
            waiting += [each.fget, each.fset]
        elif isinstance(each, FunctionType):
            yield each
            for cell in each.__closure__ or ():
                with suppress(ValueError):  # the cell is empty
                    waiting += [cell.cell_contents] if isinstance(cell.cell_contents, FunctionType) else []
        waiting += [getattr(each, name, None) for name in ("__func__", "__wrapped__")]


def _names_in_globals(function: FunctionType, seen: set[int]) -> set[str]:
    """Return the names in the user's functions and classes that a function uses by global names, and so on."""
    names: set[str] = set()
    waiting: list[Any] = [function]
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if len(seen) > _MAX_FUNCTIONS:
            return _CALLING_ANY
        own = names_in(each.__code__)
        names |= own
        found = [each.__globals__[name] for name in own if name in each.__globals__]
        found += [
            vars(home)[name] for home in found if isinstance(home, ModuleType) for name in own & vars(home).keys()
        ]
        helpers = [kind for kind in found if isinstance(kind, type) and not issubclass(kind, nn.Module)]
        found += [value for kind in helpers for value in vars(kind).values()]
        called = [part for value in found for part in _functions_of(value)]
        waiting += [part for part in called if is_user_file(part.__code__.co_filename)]
    return names


def _names_of_hooks(model: nn.Module) -> Iterator[str]:
    for _, module in list_modules(model):
        for hooks in hook_dicts(module):
            yield from (getattr(hook, "__name__", "") for hook in hooks.values())


def _writes(name: str) -> bool:
    return name == "data" or name.rstrip("_") + "_" == name
