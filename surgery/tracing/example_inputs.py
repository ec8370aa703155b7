"""What a model is given while it is traced, and whether it can be."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from surgery.errors import TraceError


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of a graph, in order."""

    names: tuple[str, ...]
    example: dict[str, Any] | None
    """What the example gives for each; None without an example."""
    by_keyword: frozenset[str] = frozenset()
    """Those that the model is given by keyword."""

    @property
    def settings(self) -> dict[str, Any]:
        """The inputs that the example gives and that are no tensors: flags, numbers, names."""
        given = self.example or {}
        return {name: value for name, value in given.items() if value is None or isinstance(value, _SETTINGS)}

    def split(self, values: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Values by name, as they are given to the model: by position, and by keyword."""
        positional = [values[name] for name in self.names if name not in self.by_keyword]
        return positional, {name: values[name] for name in self.names if name in self.by_keyword}


_SETTINGS = (bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.memory_format, torch.layout)


def inputs_of(model: nn.Module, example: Any) -> Inputs:
    """The inputs that an example gives, or without one those that have no default.

    An example is a value, a sequence of what the model takes by position, or a dict of what it takes by keyword: a dict
    whose keys are all names of parameters of `forward`. Raises TraceError where `forward` does not take it.
    """
    signature = inspect.signature(model.forward)
    if example is None:
        return Inputs(_required(signature), None, _keyword_only(signature))
    if isinstance(example, Mapping) and _are_keywords(example, signature):
        return _by_keyword(signature, example)
    values = tuple(example) if isinstance(example, (tuple, list)) else (example,)
    names = _positional(signature, values)
    return Inputs(tuple(names), dict(zip(names, values, strict=True)))


def _required(signature: inspect.Signature) -> tuple[str, ...]:
    """The names of the inputs that must be given."""
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = signature.parameters.values()
    return tuple(p.name for p in parameters if p.default is p.empty and p.kind not in several)


def _keyword_only(signature: inspect.Signature) -> frozenset[str]:
    return frozenset(p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY)


def _are_keywords(example: Mapping[Any, Any], signature: inspect.Signature) -> bool:
    """Whether a dict has the inputs by their names, and is not an input itself."""
    try:
        signature.bind(**example)
    except TypeError:
        required = _required(signature)
        # One parameter and a dict that does not name it: the dict is the input.
        return len(required) != 1 or required[0] in example or bool(_keyword_only(signature) & set(required))
    return bool(example)


def _by_keyword(signature: inspect.Signature, example: Mapping[str, Any]) -> Inputs:
    several = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    takes = [name for name, p in signature.parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    unknown = [] if several else [str(name) for name in example if name not in takes]
    if unknown:
        raise TraceError(f"forward takes no {', '.join(unknown)}; it takes {', '.join(takes)}")
    if missing := [name for name in _required(signature) if name not in example]:
        raise TraceError(f"the example gives {', '.join(example)}, but forward also needs {', '.join(missing)}")
    names = (*(name for name in takes if name in example), *(name for name in example if name not in takes))
    positional = {name for name, p in signature.parameters.items() if p.kind is p.POSITIONAL_ONLY}
    return Inputs(names, {name: example[name] for name in names}, frozenset(names) - positional)


def _positional(signature: inspect.Signature, inputs: tuple[Any, ...]) -> list[str]:
    """The names of inputs that are given by position."""
    positional = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    rest = next((name for name, p in signature.parameters.items() if p.kind is p.VAR_POSITIONAL), None)
    names = [parameter.name for parameter in positional[: len(inputs)]]
    extra = len(inputs) - len(names)
    if extra and rest is None:
        raise TraceError(f"the example has {len(inputs)} inputs, but forward takes {len(names)}: {', '.join(names)}")
    missing = [name for name in _required(signature) if name not in names]
    if missing:
        raise TraceError(f"the example has {len(inputs)} inputs, but forward also needs {', '.join(missing)}")
    return names + [f"{rest}_{number}" for number in range(extra)]


def refuse_unready(model: nn.Module) -> None:
    """Raise TraceError for a model that has not got its parameters yet."""
    for path, module in model.named_modules():
        if any(nn.parameter.is_lazy(value) for value in (*module._parameters.values(), *module._buffers.values())):  # noqa: SLF001
            raise TraceError(
                f"{type(model).__name__} can't be traced: {path or 'it'} ({type(module).__name__}) gets its "
                "parameters in the first run; run the model once"
            )
