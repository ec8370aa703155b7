"""The modules, parameters and buffers of a model that a graph uses, under their paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import fx, nn

from surgery.graph import explain_input_checks

if TYPE_CHECKING:
    from collections.abc import Iterable


def collect_used(owner: nn.Module, graphs: Iterable[fx.Graph]) -> nn.Module:
    """Return a plain module with what graphs use of `owner`: the modules that they call, parameters and buffers.

    The paths stay as they are. A module that is not called itself becomes a plain one in the same mode.
    """
    used = nn.Module().train(owner.training)
    for node in (node for graph in graphs for node in graph.nodes):
        if node.op in ("call_module", "get_attr"):
            _adopt(owner, used, str(node.target).split("."), is_called=node.op == "call_module")
    explain_input_checks(used)
    return used


def _adopt(source: nn.Module, target: nn.Module, path: list[str], *, is_called: bool) -> None:
    """Give `target` what `source` has at a path."""
    name, *rest = path
    value: Any = getattr(source, name)
    if not rest and name in source._parameters:  # noqa: SLF001
        target.register_parameter(name, value)
    elif not rest and name in source._buffers:  # noqa: SLF001
        target.register_buffer(name, value, persistent=name not in source._non_persistent_buffers_set)  # noqa: SLF001
    elif not rest and not isinstance(value, nn.Module):
        vars(target)[name] = value
    elif not rest and is_called:
        target._modules[name] = value  # noqa: SLF001 - `add_module` refuses some names that a model may have
    elif target._modules.get(name) is not value:  # noqa: SLF001 - it may be called itself
        inner = target._modules.setdefault(name, nn.Module().train(value.training))  # noqa: SLF001
        _adopt(value, inner, rest, is_called=is_called)  # type: ignore[arg-type]
