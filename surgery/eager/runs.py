"""One run of a module, and all that is known of it afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from surgery.graph import clone_inputs, named_tensors

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 0
"""Of the random generators, before each run."""


@dataclass(slots=True)
class Ran:
    """What is known of one run."""

    output: list[tuple[str, Any]]
    generators: list[tuple[str, Tensor]]
    buffers: list[tuple[str, Tensor]]
    modes: list[tuple[str, bool]]
    gradients: list[tuple[str, Tensor | None]]
    hooks: Counter[tuple[str, str]]


def run_once(module: nn.Module, inputs: tuple[Any, ...], *, gradients: bool) -> Ran:
    """Run a module that nobody else has."""
    fired = _count_hooks(module)
    leaves = [
        value.detach().clone().requires_grad_(gradients) if _takes_gradient(value) else clone_inputs(value)
        for value in inputs
    ]
    sources = [(f"input {number}", leaf) for number, leaf in enumerate(leaves) if _takes_gradient(leaf)]
    sources += [(name, value) for name, value in module.named_parameters() if value.requires_grad]
    with torch.random.fork_rng(), torch.set_grad_enabled(gradients):
        torch.manual_seed(SEED)
        # A clone, since a model may work in place on its input, which a leaf does not allow.
        result = module(*(leaf.clone() if _takes_gradient(leaf) else leaf for leaf in leaves))
        generators = [torch.random.get_rng_state()]
        if torch.cuda.is_available():
            generators += torch.cuda.get_rng_state_all()
        found = _gradients(result, [value for _, value in sources]) if gradients else []
    return Ran(
        output=[*_plain(result), *((key, tensor.detach().clone()) for key, tensor in named_tensors(result))],
        generators=[(f"generator {number}", state) for number, state in enumerate(generators)],
        buffers=[(name, buffer.detach().clone()) for name, buffer in module.named_buffers()],
        modes=[(path, part.training) for path, part in module.named_modules()],
        gradients=[(name, gradient) for (name, _), gradient in zip(sources, found, strict=False)],
        hooks=fired,
    )


def _takes_gradient(value: Any) -> bool:
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def _gradients(result: Any, sources: list[Tensor]) -> list[Tensor | None]:
    outputs = [tensor for _, tensor in named_tensors(result) if tensor.requires_grad]
    if not outputs or not sources:
        return []
    generator = torch.Generator().manual_seed(SEED)
    weights = [torch.randn(tensor.shape, generator=generator).to(tensor) for tensor in outputs]
    return list(torch.autograd.grad(outputs, sources, weights, allow_unused=True))


def _plain(result: Any) -> list[tuple[str, Any]]:
    """What in an output is no tensor, and how it is built."""
    return [("", shape_of(result))]


def shape_of(value: Any) -> Any:
    """How a value is built, and what in it is no tensor."""
    if isinstance(value, Tensor):
        return "tensor"
    if isinstance(value, Mapping):
        return type(value).__name__, [(name, shape_of(item)) for name, item in value.items()]
    if isinstance(value, (tuple, list)):
        return type(value).__name__, [shape_of(item) for item in value]
    return value if isinstance(value, (int, float, str, bool, type(None))) else type(value).__name__


def _count_hooks(module: nn.Module) -> Counter[tuple[str, str]]:
    """Make each hook of each module count how often it fires."""
    fired: Counter[tuple[str, str]] = Counter()

    def counting(hook: Callable[..., Any], key: tuple[str, str]) -> Callable[..., Any]:
        def count(*args: Any, **kwargs: Any) -> Any:
            fired[key] += 1
            return hook(*args, **kwargs)

        return count

    for path, part in module.named_modules():
        for kind in ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"):
            hooks = getattr(part, kind)
            for key, hook in list(hooks.items()):
                hooks[key] = counting(hook, (path, kind.strip("_")))
    return fired
