"""What a model is given while it is traced, and whether it can be."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from torch import nn

from surgery.errors import TraceError
from surgery.sources import shown

if TYPE_CHECKING:
    from collections.abc import Sequence


def input_names(signature: inspect.Signature, inputs: tuple[Any, ...] | None) -> list[str]:
    """Names of the inputs: those that the example gives, or those that must be given."""
    positional = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    rest = next((name for name, p in signature.parameters.items() if p.kind is p.VAR_POSITIONAL), None)
    if inputs is None:
        return [parameter.name for parameter in positional if parameter.default is parameter.empty]
    names = [parameter.name for parameter in positional[: len(inputs)]]
    extra = len(inputs) - len(names)
    if extra and rest is None:
        raise TraceError(f"the example has {len(inputs)} inputs, but forward takes {len(names)}: {', '.join(names)}")
    missing = [p.name for p in positional[len(inputs) :] if p.default is p.empty]
    if missing:
        raise TraceError(f"the example has {len(inputs)} inputs, but forward also needs {', '.join(missing)}")
    return names + [f"{rest}_{number}" for number in range(extra)]


def refuse_unready(model: nn.Module, names: Sequence[str], inputs: tuple[Any, ...] | None) -> None:
    """Raise TraceError for a model that has not got its parameters yet, and for an example that gives None."""
    for path, module in model.named_modules():
        if any(nn.parameter.is_lazy(value) for value in (*module._parameters.values(), *module._buffers.values())):  # noqa: SLF001
            raise TraceError(
                f"{type(model).__name__} can't be traced: {path or 'it'} ({type(module).__name__}) gets its "
                "parameters in the first run; run the model once"
            )
    for name, value in zip(names, inputs or (), strict=False):
        if value is None:
            code = inspect.unwrap(model.forward).__code__
            raise TraceError(
                f"{type(model).__name__} can't be traced: {shown((code.co_filename, code.co_firstlineno))}: "
                f"the example gives None for {name}, which a graph would take for a value; leave it out, or "
                "trace a module that calls the model with it"
            )
