"""A call of one of torch's kernels, with places in memory instead of tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils._pytree import tree_iter, tree_map

from surgery.diagnosis.memory import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A tensor that a kernel was given."""

    place: Place
    is_followed: bool
    """Whether it may depend on a value that was marked."""
    data: Tensor | None = None
    """A copy of its numbers, if it may be an index."""


@dataclass(frozen=True, slots=True, eq=False)
class KernelCall:
    """One call."""

    kernel: Any
    """The overload of the operator: ``torch.ops.aten.convolution.default``."""
    arguments: Mapping[str, Any]
    """All arguments by name, also those that were left out. Tensors are `Given`."""
    outputs: tuple[Place, ...]
    """What it wrote: its values, and the arguments that it works on in place."""

    @property
    def name(self) -> str:
        """The name of the operator, the same in place and not: ``leaky_relu``."""
        return kernel_name(self.kernel)

    def tensors(self) -> Iterator[tuple[str, Given]]:
        """Yield the tensors that it reads, each with the name of the argument that it is, or is in."""
        for argument in self.kernel._schema.arguments:  # noqa: SLF001
            if not _is_out(argument):
                found = tree_iter(self.arguments[argument.name])
                yield from ((argument.name, given) for given in found if isinstance(given, Given))

    def run(self, replace: Callable[[Given], Tensor]) -> Any:
        """Return what the kernel computes if other tensors take the places of those that it was given."""

        def find(item: Any) -> Any:
            return replace(item) if isinstance(item, Given) else item

        schema = self.kernel._schema.arguments  # noqa: SLF001
        given = {name: tree_map(find, value) for name, value in self.arguments.items()}
        named = {argument.name: given[argument.name] for argument in schema if argument.kwarg_only}
        return self.kernel(*(given[argument.name] for argument in schema if not argument.kwarg_only), **named)


def kernel_name(kernel: Any) -> str:
    """Return the name of a kernel's operator, without the namespace and the underscore of one that works in place."""
    name: str = kernel._schema.name.partition("::")[2]  # noqa: SLF001
    return name.removesuffix("_")


def bind_arguments(kernel: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, with the defaults of those that were left out."""
    schema = kernel._schema.arguments  # noqa: SLF001
    bound = {argument.name: argument.default_value for argument in schema}
    positional = [argument.name for argument in schema if not argument.kwarg_only]
    return {**bound, **dict(zip(positional, args, strict=False)), **kwargs}


def written_tensors(kernel: Any, arguments: Mapping[str, Any]) -> list[Tensor]:
    """Return the arguments of a call that the kernel writes to."""
    written = [argument.name for argument in kernel._schema.arguments if _writes_to(argument)]  # noqa: SLF001
    return [tensor for name in written for tensor in tree_iter(arguments[name]) if isinstance(tensor, Tensor)]


def _writes_to(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def _is_out(argument: Any) -> bool:
    return argument.kwarg_only and _writes_to(argument)
