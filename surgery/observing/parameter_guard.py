"""Writes of a run to the parameters that a copy shares with its model: noted, and undone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from surgery.eager import DispatchMode
from surgery.graph import named_tensors, storage_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class ParameterGuard:
    """Keeps the values of parameters that a run writes to, which are known only when an operator is about to write.

    A gradient counts as part of its parameter. Copies of all parameters would cost more than a run, in a model with a
    lot of them.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._data = [(parameter, parameter.data, parameter.grad) for parameter in parameters]
        self._by_storage: dict[int, list[tuple[nn.Parameter, Tensor]]] = {}
        for parameter, _, gradient in self._data:
            for tensor in (parameter, gradient):
                if tensor is not None and (storage := storage_id(tensor)) is not None:
                    self._by_storage.setdefault(storage, []).append((parameter, tensor))
        self._values: dict[int, tuple[nn.Parameter, Tensor, Tensor]] = {}
        """By the identity of a tensor: the parameter that it belongs to, the tensor, and its value before the run."""
        self._replaced: list[nn.Parameter] = []

    @property
    def written(self) -> list[nn.Parameter]:
        """The parameters that the run wrote to, or that it gave other memory or another gradient."""
        found = [*(parameter for parameter, _, _ in self._values.values()), *self._replaced]
        return list({id(parameter): parameter for parameter in found}.values())

    def before_call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep the values of the parameters that an operator of torch writes to."""
        schema = getattr(func, "_schema", None)
        if schema is None or not schema.is_mutable:
            return
        given = {argument.name: value for argument, value in zip(schema.arguments, args, strict=False)} | kwargs
        targets = [given.get(each.name) for each in schema.arguments if each.alias_info and each.alias_info.is_write]
        for _, tensor in named_tensors(targets):
            for parameter, part in self._by_storage.get(storage_id(tensor) or 0, ()):
                if id(part) not in self._values:
                    self._values[id(part)] = parameter, part, part.detach().clone()

    @contextmanager
    def undo(self) -> Iterator[None]:
        """After the block, the parameters are what they were before it."""
        try:
            yield
        finally:
            for parameter, data, gradient in self._data:
                if parameter.grad is not gradient:
                    self._replaced.append(parameter)
                    parameter.grad = gradient
                if storage_id(parameter) != storage_id(data) or parameter.shape != data.shape:
                    self._replaced.append(parameter)
                    parameter.data = data
            with torch.no_grad():
                for _, part, value in self._values.values():
                    part.copy_(value)


@contextmanager
def guard_parameters(model: nn.Module) -> Iterator[ParameterGuard]:
    """Within the block, runs of `model` may write to its parameters; after it, the parameters are what they were."""
    guard = ParameterGuard(model.parameters())
    with guard.undo(), _GuardMode(guard):
        yield guard


class _GuardMode(DispatchMode):
    """Tells a guard of each call of an operator of torch."""

    def __init__(self, guard: ParameterGuard) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._guard = guard

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        self._guard.before_call(func, args, kwargs)
        return func(*args, **kwargs)
