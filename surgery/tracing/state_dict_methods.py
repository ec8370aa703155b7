"""What a model does itself when its state is saved or loaded, which a graph module would not do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from surgery.graph import Hazard, format_location, list_modules

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_LOADING = ("load_state_dict", "_load_from_state_dict"), "load into the model and trace it again"
_SAVING = ("state_dict", "_save_to_state_dict", "get_extra_state"), "save the state of the model itself"


def find_state_dict_methods(model: nn.Module, leaves: Collection[str]) -> Iterator[Hazard]:
    """Yield a hazard for each method by which a model saves or loads its state in its own way, of those that are lost.

    `leaves` are the paths of the modules that are one operation. The graph module is of another class than the model:
    its `state_dict` would have other keys, and its `load_state_dict` raises an error for a hazard that is only noted.
    The modules in it are of their own classes, so their methods are called; but what ``set_extra_state`` of a module
    that is no leaf sets is a constant of the graph.
    """
    for names, remedy in (_LOADING, _SAVING):
        for name in names:
            if (line := _find_line(model, name)) is not None:
                what = f"{type(model).__name__} has {name} of its own, which its graph does not call"
                yield Hazard("state-dict", line, what, remedy, changes_result=names is _SAVING[0])
    for path, module in list_modules(model):
        line = _find_line(module, "set_extra_state")
        if path and line is not None and not any(f"{path}.".startswith(f"{leaf}.") for leaf in leaves):
            what = (
                f"set_extra_state of {path} may change what forward computes, and the graph has what it computed before"
            )
            yield Hazard("state-dict", line, what, "keep the module whole", changes_result=True)


def _find_line(module: nn.Module, name: str) -> str | None:
    """Return the line of a method that a class outside of torch defines; None if it is torch's."""
    owner = next(each for each in type(module).__mro__ if name in vars(each) or each is nn.Module)
    if owner.__module__.partition(".")[0] == "torch":
        return None
    code = getattr(vars(owner)[name], "__code__", None)
    return format_location((code.co_filename, code.co_firstlineno)) if code is not None else owner.__name__
