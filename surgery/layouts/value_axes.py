"""The axes of the values of one run, from call to call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import ref

from torch import Tensor

from surgery.graph import ValueSource, call_arguments, input_names, named_tensors
from surgery.layouts.axes import Axes, named_axes, unknown_axes
from surgery.layouts.axis_inference import infer_axes
from surgery.layouts.operation_calls import Call, Operand
from surgery.layouts.operation_kinds import CHANNELS_FIRST_AXES, module_kind
from surgery.layouts.required_axes import RequiredAxes

if TYPE_CHECKING:
    from torch import nn

    from surgery.eager import ObservedCall

_Described: TypeAlias = "tuple[tuple[Any, ...], dict[str, Any], list[tuple[int, ...]]]"
"""A call: its arguments with an `Operand` in place of each tensor, and the shapes of the tensors that it returned."""
_PLAIN_TYPES = (int, float, str, slice, type(None), type(Ellipsis))


class ValueAxes:
    """Tracks the axes of the values of a run: those of its inputs, of what each call returns, and of its output.

    What was inferred for a call serves the next run too, as long as the arguments have the same shapes and axes.
    """

    def __init__(self, model: nn.Module) -> None:
        self.image_size: tuple[int, int] | None = None
        """Height and width of the first input with four axes."""
        self._model = model
        self._required = RequiredAxes(model)
        self._by_tensor: dict[int, tuple[ref[Tensor], Operand]] = {}
        """By the identity of a tensor: the tensor, and what is known about it."""
        self._by_path: dict[tuple[str | None, str], Axes] = {}
        self._inferred: dict[str, tuple[_Described, list[Operand]]] = {}
        """Path of an operation -> its last call, and the tensors that it returned."""

    def find(self, path: str | None, key: str) -> Axes | None:
        """Return the axes of a tensor in an operation's value, or in the output if `path` is None.

        `key` is the tensor's place in the value: ``""`` for the value itself, ``"[0]"`` for the first of several.
        """
        return self._by_path.get((path, key))

    def begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Begin a run. Its inputs have the axes that the operations on them require, else an image's if they have four.

        Forgets the run before.
        """
        self._by_tensor.clear()
        self._by_path.clear()
        self.image_size = None
        positional, _ = call_arguments(self._model, {name: name for name in input_names(self._model)})
        for name, value in (*zip(positional, args, strict=False), *kwargs.items()):
            for _, tensor in named_tensors(value):
                shape = _shape(tensor)
                image = named_axes(shape, CHANNELS_FIRST_AXES[4], f"the input {name}") if len(shape) == 4 else None
                if image is not None and self.image_size is None:
                    self.image_size = (shape[2], shape[3])
                required = self._required.find(ValueSource(name, "input", None), shape)
                self._set(tensor, Operand(shape, required or image or unknown_axes(shape)))

    def add_call(self, path: str, call: ObservedCall) -> None:
        """Infer the axes of what a call returned. `path` has the number of the call."""
        tensors = list(named_tensors(call.value))
        if call.kind == "getitem" and not isinstance(call.args[0], Tensor):  # of a tuple of tensors
            results = [self._get(tensor) for _, tensor in tensors]
        else:
            shapes = [_shape(tensor) for _, tensor in tensors]
            described = self._describe(tuple(call.args)), self._describe(call.kwargs), shapes
            last, results = self._inferred.get(path, (None, []))
            if described != last:
                results = self._infer(path, call, described)
                self._inferred[path] = described, results
        for (key, tensor), result in zip(tensors, results, strict=True):
            self._by_path[path, key] = result.axes
            self._set(tensor, result)

    def end(self, output: Any) -> None:
        """Keep the axes of the output of the run."""
        for key, tensor in named_tensors(output):
            self._by_path[None, key] = self._get(tensor).axes

    def _infer(self, path: str, call: ObservedCall, described: _Described) -> list[Operand]:
        args, options, shapes = described
        kind = call.kind
        if call.is_module:
            module = self._model.get_submodule(call.path)
            kind = module_kind(module)
            if "norm" in kind:
                options = {**options, "normalized_shape": getattr(module, "normalized_shape", None)}
        elif kind == "getattr" and len(args) > 1:
            kind = str(args[1]).lower()
        results = []
        for shape in shapes:
            axes = infer_axes(Call(kind, f"{path} ({kind})", args, options, shape))
            if not axes.is_known:
                axes = self._required.find(ValueSource(path, "operation", None), shape) or axes
            results.append(Operand(shape, axes))
        return results

    def _describe(self, argument: Any) -> Any:
        """Return an argument with an `Operand` in place of each tensor, and of an object only those in it."""
        if isinstance(argument, Tensor):
            return self._get(argument)
        if isinstance(argument, _PLAIN_TYPES):
            return argument
        if isinstance(argument, (tuple, list)):
            return (list if isinstance(argument, list) else tuple)(map(self._describe, argument))
        if isinstance(argument, Mapping):
            return {name: self._describe(value) for name, value in argument.items()}
        return tuple(self._get(tensor) for _, tensor in named_tensors(argument))

    def _set(self, tensor: Tensor, operand: Operand) -> None:
        self._by_tensor[id(tensor)] = ref(tensor), operand

    def _get(self, tensor: Tensor) -> Operand:
        """Return what is known about a tensor. One that a call has resized in place is as it was before the call."""
        known, operand = self._by_tensor.get(id(tensor), (None, None))
        if operand is not None and known is not None and known() is tensor:
            return operand
        shape = _shape(tensor)
        return Operand(shape, unknown_axes(shape))


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return () if tensor.is_nested else tuple(tensor.shape)
