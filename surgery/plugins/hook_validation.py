"""Checks of a plugin's hooks and of what they offer, before anything is used."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from surgery.errors import PluginError, did_you_mean
from surgery.plugins.guarded_calls import locate_definition
from surgery.plugins.hook_markers import PROJECT
from surgery.stages import ModelFamily

if TYPE_CHECKING:
    import pluggy

    from surgery.plugins.object_kinds import Kind


def check_hooks(module: object, manager: pluggy.PluginManager) -> None:
    """Check the functions of a module that are marked as hooks against the specifications in `manager`.

    Raises PluginError if there is none, if a hook is not known, or if one takes an argument that it does not have.
    """
    known = [name for name in vars(manager.hook) if name.startswith(f"{PROJECT}_")]
    has_marked, unmarked = False, []
    for name in dir(module):
        value = inspect.getattr_static(module, name, None)
        options = getattr(value, f"{PROJECT}_impl", None)
        if isinstance(options, dict):
            has_marked = True
            hook = options.get("specname") or name
            if hook in known:
                _check_arguments(hook, value, manager)
            elif not options.get("optionalhook"):
                raise PluginError(f"there is no hook {hook}{did_you_mean(hook, known)}{locate_definition(value)}")
        elif name.startswith(f"{PROJECT}_") and inspect.isfunction(value):
            unmarked.append(f"{name}{locate_definition(value)}")
    if not has_marked:
        function = unmarked[0] if unmarked else "a function such as surgery_colormaps"
        raise PluginError(f"offers nothing: mark {function} with @surgery.hookimpl")


def _check_arguments(hook: str, function: object, manager: pluggy.PluginManager) -> None:
    accepted = getattr(manager.hook, hook).spec.argnames
    taken = inspect.signature(function).parameters if inspect.isfunction(function) else ()
    if unknown := [argument for argument in taken if argument not in accepted]:
        listed = ", ".join(accepted) or "nothing"
        raise PluginError(f"{hook} takes {listed}, and not {', '.join(unknown)}{locate_definition(function)}")


def describe_invalid_offer(kind: Kind, name: object, value: object) -> str | None:
    """Return what is wrong with one entry of the mapping that a hook returned, or None if it is valid."""
    if not isinstance(name, str) or not name:
        return f"a {kind} under the name {name!r:.60}; a name is a string"
    if kind == "colormap":
        is_wrong = value is None or isinstance(value, (bool, int, float, bytes))
        expected = "offer a list of colors, a name or a function"
        return f"{value!r:.60} as colormap {name!r}; {expected}" if is_wrong else None
    if kind == "model":
        is_valid = callable(value) or isinstance(value, ModelFamily)
        return None if is_valid else f"{value!r:.60} as model {name!r}; offer a function or a ModelFamily"
    if isinstance(value, type):
        return f"the class {value.__name__} as {kind} {name!r}; offer an instance, {value.__name__}()"
    return None if callable(value) else f"{value!r:.60} as {kind} {name!r}; offer a function"
