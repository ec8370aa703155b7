"""One run of a module, and its results for a comparison with another run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from surgery.eager.random_states import seed_torch
from surgery.graph import clone_inputs, named_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Split: TypeAlias = "Callable[[Mapping[str, Any]], tuple[Sequence[Any], Mapping[str, Any]]]"
"""From inputs by name to the positional and the keyword arguments of a call."""

SEED = 0
"""The seed of torch's random generators before each run."""


@dataclass(slots=True)
class RunResult:
    """The output of a run and the state after it, as pairs of a name and a value."""

    output: list[tuple[str, Any]]
    """First the structure of the output under an empty name, then a clone of each tensor in it."""
    generators: list[tuple[str, Tensor]]
    """The state of each random generator of torch after the run."""
    buffers: list[tuple[str, Tensor]]
    modes: list[tuple[str, bool]]
    """For each module, whether it is in train mode after the run."""
    gradients: list[tuple[str, Tensor | None]]
    """The gradients of inputs and parameters; empty for a run without gradients."""
    hooks: Counter[tuple[str, str]]
    """How often each kind of hook of each module was called."""


def run_once(module: nn.Module, inputs: Mapping[str, Any], split: Split, *, gradients: bool) -> RunResult:
    """Run a module on clones of inputs, with seeded random numbers, and return its results.

    `inputs` are given by name, and `split` returns them as the positional and the keyword arguments of the module.
    The module is modified: its hooks count their calls, and the run may change its buffers. Gradients are
    those of a fixed random weighting of the outputs.
    """
    hook_calls = _count_hook_calls(module)
    leaves = clone_leaves(inputs, gradients=gradients)
    sources = [(f"input{key}", leaf) for key, leaf in named_tensors(leaves) if _can_require_grad(leaf)]
    sources += [(name, value) for name, value in module.named_parameters() if value.requires_grad]
    with torch.random.fork_rng(), torch.set_grad_enabled(gradients):
        seed_torch(SEED)
        # A clone, since a model may work in place on its input, which torch forbids for a leaf.
        arguments, keywords = split(clone_inputs(leaves))
        output = module(*arguments, **keywords)
        generators = [torch.random.get_rng_state()]
        if torch.cuda.is_available():
            generators += torch.cuda.get_rng_state_all()
        values = _compute_gradients(output, [value for _, value in sources]) if gradients else []
    return RunResult(
        output=[
            ("", output_structure(output)),
            *((key, tensor.detach().clone()) for key, tensor in named_tensors(output)),
        ],
        generators=[(f"generator {number}", state) for number, state in enumerate(generators)],
        buffers=[(name, buffer.detach().clone()) for name, buffer in module.named_buffers()],
        modes=[(path, part.training) for path, part in module.named_modules()],
        gradients=[(name, gradient) for (name, _), gradient in zip(sources, values, strict=False)],
        hooks=hook_calls,
    )


def clone_leaves(inputs: Any, *, gradients: bool) -> Any:
    """Return clones of inputs of which autograd knows nothing, and which require gradients if `gradients` is true."""
    with torch.no_grad():
        clones = clone_inputs(inputs)
    originals = {id(tensor) for _, tensor in named_tensors(inputs)}
    for _, tensor in named_tensors(clones):
        if id(tensor) not in originals and _can_require_grad(tensor):  # a container of another type is not cloned
            tensor.requires_grad_(gradients)
    return clones


def _can_require_grad(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _compute_gradients(output: Any, sources: list[Tensor]) -> list[Tensor | None]:
    outputs = [tensor for _, tensor in named_tensors(output) if tensor.requires_grad]
    if not outputs or not sources:
        return []
    generator = torch.Generator().manual_seed(SEED)
    weights = [torch.randn(tensor.shape, generator=generator).to(tensor) for tensor in outputs]
    return list(torch.autograd.grad(outputs, sources, weights, allow_unused=True))


def output_structure(value: Any) -> Any:
    """Return the nesting of dicts, lists and tuples in an output, with the values that are not tensors."""
    if isinstance(value, Tensor):
        return "tensor"
    if isinstance(value, Mapping):
        return type(value).__name__, [(name, output_structure(item)) for name, item in value.items()]
    if isinstance(value, (tuple, list)):
        return type(value).__name__, [output_structure(item) for item in value]
    return value if isinstance(value, (int, float, str, bool, type(None))) else type(value).__name__


def _count_hook_calls(module: nn.Module) -> Counter[tuple[str, str]]:
    """Replace each hook of each module by one that counts its calls, and return the counts."""
    calls: Counter[tuple[str, str]] = Counter()

    def counting(hook: Callable[..., Any], key: tuple[str, str]) -> Callable[..., Any]:
        def count(*args: Any, **kwargs: Any) -> Any:
            calls[key] += 1
            return hook(*args, **kwargs)

        return count

    for path, part in module.named_modules():
        for kind in ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"):
            hooks = getattr(part, kind)
            for key, hook in list(hooks.items()):
                hooks[key] = counting(hook, (path, kind.strip("_")))
    return calls
