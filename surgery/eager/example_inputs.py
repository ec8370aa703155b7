"""The inputs of a model while it is traced: their names, and the values that an example gives for them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from surgery.errors import TraceError
from surgery.graph import call_arguments, input_names


@dataclass(frozen=True, slots=True)
class ExampleInputs:
    """The inputs of a graph, in the order of its placeholders."""

    names: tuple[str, ...]
    example: dict[str, Any] | None
    """The example's value for each input; None without an example."""
    keyword_names: frozenset[str] = frozenset()
    """The names of the inputs that the model receives as keyword arguments."""

    @property
    def settings(self) -> dict[str, Any]:
        """The inputs whose value in the example is a flag, a name or None: they are constants of a graph."""
        example = self.example or {}
        return {name: value for name, value in example.items() if value is None or isinstance(value, _SETTING_TYPES)}

    def split(self, values: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return values by name as the positional and the keyword arguments of the model."""
        positional = [values[name] for name in self.names if name not in self.keyword_names]
        return positional, {name: values[name] for name in self.names if name in self.keyword_names}

    def split_for(self, traced: nn.Module, values: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return values by name as the arguments of a traced model, whose inputs may have another order."""
        if self.keyword_names and set(values) == set(input_names(traced)):
            return call_arguments(traced, values)
        return self.split(values)  # for other inputs than it has, a call raises an error that names them


_SETTING_TYPES = (bool, str, bytes, torch.dtype, torch.device, torch.memory_format, torch.layout)


def bind_example(model: nn.Module, example: Any) -> ExampleInputs:
    """Return the inputs of an example; without an example, the parameters of `forward` that have no default.

    An example is one value, a sequence of positional arguments, or a dict of keyword arguments: a dict whose keys are
    all names of parameters of `forward`. Raises TraceError if `forward` does not take it.
    """
    signature = inspect.signature(model.forward)
    if example is None:
        return ExampleInputs(_required_names(signature), None, _keyword_only_names(signature))
    if isinstance(example, Mapping) and _is_keyword_arguments(example, signature):
        return _bind_keywords(signature, example)
    values = tuple(example) if isinstance(example, (tuple, list)) else (example,)
    names = _positional_names(signature, values)
    return ExampleInputs(tuple(names), dict(zip(names, values, strict=True)))


def explain_dict(model: nn.Module, example: Any) -> str | None:
    """Return what a dict was taken for that is one input and not the inputs by name; None for any other example."""
    signature = inspect.signature(model.forward)
    if not isinstance(example, Mapping) or _is_keyword_arguments(example, signature):
        return None
    names = [name for name, p in signature.parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if not names:
        return "the dict was given as the first input, and forward names none: give a tuple of the inputs"
    return f"the dict was given as {names[0]}, since its keys are not inputs; forward takes {', '.join(names)}"


def _required_names(signature: inspect.Signature) -> tuple[str, ...]:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = signature.parameters.values()
    return tuple(p.name for p in parameters if p.default is p.empty and p.kind not in variadic)


def _keyword_only_names(signature: inspect.Signature) -> frozenset[str]:
    return frozenset(p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY)


def _is_keyword_arguments(example: Mapping[Any, Any], signature: inspect.Signature) -> bool:
    """Return whether a dict holds the inputs by name, and is not an input itself."""
    try:
        signature.bind(**example)
    except TypeError:
        required = _required_names(signature)
        # With one required parameter that the dict does not name, the dict is that input.
        return len(required) != 1 or required[0] in example or bool(_keyword_only_names(signature) & set(required))
    return bool(example)


def _bind_keywords(signature: inspect.Signature, example: Mapping[str, Any]) -> ExampleInputs:
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    accepted = [name for name, p in signature.parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    unknown = [] if takes_any else [str(name) for name in example if name not in accepted]
    if unknown:
        raise TraceError(f"forward takes no {', '.join(unknown)}; it takes {', '.join(accepted)}")
    if missing := [name for name in _required_names(signature) if name not in example]:
        raise TraceError(f"the example gives {', '.join(example)}, but forward also needs {', '.join(missing)}")
    names = (*(name for name in accepted if name in example), *(name for name in example if name not in accepted))
    positional = {name for name, p in signature.parameters.items() if p.kind is p.POSITIONAL_ONLY}
    return ExampleInputs(names, {name: example[name] for name in names}, frozenset(names) - positional)


def _positional_names(signature: inspect.Signature, values: tuple[Any, ...]) -> list[str]:
    """Return the names of the parameters that receive positional values; ``*rest`` gives ``rest_0``, ``rest_1``."""
    positional = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    variadic = next((name for name, p in signature.parameters.items() if p.kind is p.VAR_POSITIONAL), None)
    names = [parameter.name for parameter in positional[: len(values)]]
    extra = len(values) - len(names)
    if extra and variadic is None:
        raise TraceError(f"the example has {len(values)} inputs, but forward takes {len(names)}: {', '.join(names)}")
    missing = [name for name in _required_names(signature) if name not in names]
    if missing:
        raise TraceError(f"the example has {len(values)} inputs, but forward also needs {', '.join(missing)}")
    return names + [f"{variadic}_{number}" for number in range(extra)]


def check_initialized(model: nn.Module) -> None:
    """Raise TraceError for a model with lazy modules, which have no parameters before their first run."""
    for path, module in model.named_modules():
        if any(nn.parameter.is_lazy(value) for value in (*module._parameters.values(), *module._buffers.values())):  # noqa: SLF001
            raise TraceError(
                f"{type(model).__name__} can't be traced: {path or 'it'} ({type(module).__name__}) gets its "
                "parameters in the first run; run the model once"
            )
