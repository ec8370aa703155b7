"""Models whose own `train` changes weights, as those do that merge LoRA weights for eval mode."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING

from torch import nn

from surgery.errors import TraceError
from surgery.graph import bitwise_equal, copy_sharing_parameters, format_location, list_modules, set_mode

if TYPE_CHECKING:
    from torch import Tensor


def refuse_changing_modes(model: nn.Module) -> None:
    """Raise TraceError if a change of mode changes a parameter or a buffer of the model, which no graph does.

    A copy with parameters of its own is put into each mode, if a class that is not torch's overrides `train`.
    """
    kinds = {kind for kind in {type(module) for _, module in list_modules(model)} if overrides_train(kind)}
    if not kinds:
        return
    own_parameters = {id(parameter): copy.deepcopy(parameter) for parameter in model.parameters()}
    subject = copy_sharing_parameters(model, own_parameters)
    for mode in (not model.training, model.training):
        before = {name: value.detach().clone() for name, value in _values(subject).items()}
        after = _values(set_mode(subject, mode))
        names = [*before, *(name for name in after if name not in before)]
        changed = next((name for name in names if not _is_same(before.get(name), after.get(name))), None)
        if changed is not None:
            lines = ", ".join(sorted(f"{kind.__name__}.train{_locate(kind)}" for kind in kinds))
            raise TraceError(
                f"{lines} changes {changed} when the model is put into {'train' if mode else 'eval'} mode, and a graph "
                "keeps the weights that it has; merge them for good before, or trace with front_end='observed'"
            )


def overrides_train(kind: type[nn.Module]) -> bool:
    """Return whether a class that is not torch's has its own `train`."""
    return not (getattr(kind.train, "__module__", "") or "").startswith("torch.")


def _values(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers by name, also those that are shared or not in the `state_dict`."""
    named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    return {name: value.data for name, value in named}


def _is_same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and one.device == other.device and bitwise_equal(one, other)


def _locate(kind: type[nn.Module]) -> str:
    code = getattr(inspect.unwrap(kind.train), "__code__", None)
    return f" ({format_location((code.co_filename, code.co_firstlineno))})" if code is not None else ""
