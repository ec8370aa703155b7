"""Python code around the operations."""

from __future__ import annotations

import contextlib
import copy
import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.traps import trap


@trap()
class Shapes(nn.Module):
    """Arithmetic with sizes, which depends on the input."""

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        h2, w2 = h // 2, -(-w // 2)
        x = x.view(b, c, h2, 2, w2, 2).permute(0, 1, 3, 5, 2, 4).reshape(b, c * 4, h2, w2)
        x = x + x.size(-1) * x.shape[0] / x.numel() + x.dim() + x.ndim
        return x.reshape(x.shape[:2] + (-1,)) + torch.zeros(b, 1, h2 * w2)


@trap(refused="len() of a tensor")
class Length(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * len(x)  # here


@trap(refused="a branch or loop")
class SizeBranch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.size(0) > 1:  # here
            return x * 2
        return x


@trap(refused="a branch or loop")
class ValueBranch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else -x  # here


@trap(refused="in range() perhaps")
class SizeLoop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros(3, 8, 8)
        for i in range(x.shape[0]):  # here
            total = total + x[i]
        return total


@trap(refused="loop")
class TensorLoop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([row.cumsum(0) for row in x])  # here


@trap()
class ItemUsed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * math.sqrt(x.abs().sum().item())


@trap()
class ItemRecorded(nn.Module):
    """Passes a number that was read from a tensor to an operation."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.abs().sum().item() + x.max().item() ** 2


@trap(refused="a text is made of a value")
class Formatted(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return {f"{x.shape[0]}": x * 2}  # here


@trap(refused="a text is made of a value")
class Printed(nn.Module):
    """Prints, which a graph does not repeat."""

    def forward(self, x: Tensor) -> Tensor:
        _ = f"{x.shape}, {x.dtype!r}, {str(x)[:5]}"  # here
        return x * 2


@trap(refused="looked up in a dict")
class Keyed(nn.Module):
    """The dtype of a tensor as the key of a dict."""

    def forward(self, x: Tensor) -> Tensor:
        return x * {torch.float32: 2.0}.get(x.dtype, 1.0)  # here


@trap(refused="looked up in a dict")
class KeyedByShape(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * {2: 5.0}.get(x.shape[0], 1.0)  # here


@trap(refused="looked up in a dict")
class InSet(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.dtype in {torch.float16, torch.bfloat16}:  # here
            return x * 3
        return x


@trap(refused="`is` may compare the dtype")
class NamedDtypeIs(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        kind = x.dtype  # here
        return x * 2 if torch.float32 is kind else x * 3


@trap(refused="`is` may compare the grad_fn")
class NoGradient(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.grad_fn is None else x * 3  # here


@trap()
class NotNone(nn.Module):
    """Compares values that are not None with None."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        h = x * 2
        h = h if h is not None else x
        return h if mask is None else h * mask


@trap(refused="`is` may compare the dtype")
class DtypeIs(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.dtype is torch.float32 else x * 3  # here


@trap()
class HasAttribute(nn.Module):
    """Asks for attributes that a tensor does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if hasattr(x, "names_of_mine") else x * 3


@trap()
class TypeOf(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if type(x) is Tensor else x * 3


@trap()
class TypeName(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if type(x).__name__ == "Tensor" else x * 3


@trap()
class Callable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if callable(x) else x * 3


@trap()
class IsTensor(nn.Module):
    def forward(self, x: Any) -> Tensor:
        h = x if torch.is_tensor(x) else torch.cat(x)
        h = h.relu() if isinstance(h, (Tensor, nn.Parameter)) else h
        if isinstance(h, (list, tuple)):
            h = h[0]
        return h + 1 if isinstance(h, torch.Tensor) else h


@trap()
class Matched(nn.Module):
    """A `match` on classes."""

    def forward(self, x: Any) -> Tensor:
        match x:
            case [first, *_]:
                return first
            case Tensor():
                return x * 2
            case _:
                return x * 3


@trap()
class TypesOfTypes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        factor = 2.0 + isinstance(x.mT, Tensor) + isinstance(x.data[0], float)
        return x * factor if issubclass(type(x), Tensor) and isinstance(type(x), type) else x


@trap(refused="checks the type of")
class TypesOfSizes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if isinstance(x.shape[0], int) else x * 3  # here


@trap(refused="checks the type of")
class UnknownType(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        first = x.chunk(2)[0]
        return first * 2 if isinstance(first, Tensor) else x  # here


@trap(refused="a `try` hides")
class Swallowed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        try:
            if x.sum() > 0:  # here
                return x
        except Exception:  # noqa: BLE001
            return x * 2
        return -x


@trap(refused="a `try` hides")
class SwallowedLength(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        try:
            n = len(x)  # here
        except Exception:  # noqa: BLE001
            n = 7
        return x * n


@trap(refused="a `try` hides")
class SwallowedNumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        n = 7.0
        with contextlib.suppress(Exception):
            n = float(x.sum())  # here
        return x * n


@trap(refused="a `try` hides")
class SwallowedIndex(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        try:
            n = [1, 2, 3, 4][x.shape[0]]  # here
        except TypeError:
            n = 7
        return x * n


@trap(refused="a `try` hides")
class SwallowedLoop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        try:
            return sum(row for row in x)  # type: ignore[return-value]  # here
        except Exception:  # noqa: BLE001
            return x * 2


@trap(refused="a `try` hides")
class SwallowedContains(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        try:
            found = 1.0 in x  # here
        except Exception:  # noqa: BLE001
            found = True
        return x * 2 if found else x


@trap()
class TryFinally(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        try:
            h = x * 2
            return h + 1
        finally:
            h.mul_(3)


@trap()
class RealTry(nn.Module):
    """Raises and catches an error of its own."""

    def forward(self, x: Tensor) -> Tensor:
        try:
            raise KeyError("of its own")  # noqa: TRY301
        except KeyError:
            return x * 2


@trap()
class Generators(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(3))

    def steps(self, x: Tensor) -> Iterator[Tensor]:
        for layer in self.layers:
            x = layer(x)
            yield x
            x = x.relu_()

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack(list(self.steps(x))).sum(0)


@trap()
class ModuleTables(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.ModuleDict({"b": nn.Conv2d(3, 3, 1), "a": nn.ReLU(inplace=True)})
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(1) * n) for n in range(3)])
        self.named = nn.ParameterDict({"shift": nn.Parameter(torch.ones(1))})

    def forward(self, x: Tensor) -> Tensor:
        for name, layer in self.table.items():
            x = layer(x) if name != "c" else x
        for scale in self.scales:
            x = x * scale
        return self.table["b"](x) + self.named["shift"]


@trap(picklable=False)
class Higher(nn.Module):
    """Functions as values."""

    def __init__(self) -> None:
        super().__init__()
        self.act = F.gelu
        self.layers = [torch.tanh, lambda h: h * 2, F.softplus]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.act(x)


def rearranged(x: Tensor, heads: int) -> Tensor:
    b, c, *rest = x.shape  # here
    return x.reshape(b, heads, c // heads, *rest).transpose(1, 2)


@trap(refused="unpacking")
class Unpacking(nn.Module):
    """Unpacks with a star."""

    def forward(self, x: Tensor) -> Tensor:
        return rearranged(x, 3) * 2


@trap()
class Scripting(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_scripting():
            return x * 1
        if torch.jit.is_tracing():
            return x * 2
        if torch.compiler.is_compiling():
            return x * 3
        return x * 4


@trap()
class Tracing(nn.Module):
    """Asks whether torch.fx is tracing, and takes another branch then."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.fx._symbolic_trace.is_fx_tracing():
            return x * 2
        return x * 3


@trap()
class Asserting(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        torch._assert(x.dim() == 4, "four")
        torch._assert(x.shape[1] == 3, "three channels")
        return x * 2


@trap(refused="a branch or loop")
class PlainAssert(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 3, "three channels"  # here
        return x * 2


@trap(refused="__array__")
class Numpy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float(np.asarray(x.detach()).sum())  # here


@trap(refused="ufuncs")
class NumpyFunction(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return np.abs(x)  # type: ignore[return-value]  # here


@trap()
class NumpyConstant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.from_numpy(np.arange(8, dtype=np.float32)) * np.float32(2) + np.pi


@trap()
class NumpyFirst(nn.Module):
    """Operators with a numpy scalar on the left."""

    def forward(self, x: Tensor) -> Tensor:
        return np.float32(2) * x + np.float64(1)


@trap(refused="a branch or loop")
class Sorted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * max(x.shape[2], x.shape[3])  # here


@trap(refused="int() argument")
class Rounded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, size=int(x.shape[2] * 1.5))  # here


@trap()
class MathFloor(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : math.floor(x.shape[2] / 2)]


@trap()
class Ordered(nn.Module):
    def forward(self, x: Tensor) -> Any:
        found: OrderedDict[str, Tensor] = OrderedDict()
        found["late"] = x * 2
        found["early"] = x * 3
        found.move_to_end("late")
        return found


@trap()
class Comparisons(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        a = (x == 0) | (x != x) | (1 > x) | (2 <= x)
        return (
            a
            + (3 - x)
            + 2 / (x + 10)
            + 2 ** x.clamp(max=1)
            + (-x)
            + (+x)
            + abs(x)
            + (~a)
            + 7 // (x.abs() + 1)
            + 5 % (x.abs() + 1)
        )


@trap()
class Indexing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        rows = torch.arange(2)
        return (
            x[:, 0, None, ...][..., ::2][rows, :, 1:-1]
            + x[[0, 1], [1, 2], 1:-1, ::2][:, None]
            + x[x.shape[0] - 1, 0, 0, 0]
        )


@trap(refused="a branch or loop")
class NotChain(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if not x.requires_grad else x * 3  # here


@trap(refused="a branch or loop")
class OrDefault(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-1] or 4  # here
        return x * size


@trap(refused="a branch or loop")
class IsGrad(nn.Module):
    """Branches on the gradient mode, which the caller sets."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if torch.is_grad_enabled() else x * 3  # here


@trap(refused="a number is needed")
class FromShape(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[x.shape[0]](x)  # here


@trap()
class CopiedValue(nn.Module):
    """Copies of values with the `copy` module."""

    def forward(self, x: Tensor) -> Tensor:
        kept, shallow, listed = copy.deepcopy(x), copy.copy(x), copy.deepcopy((x, {"x": x}))
        return x * 2 + kept + shallow + listed[0] + listed[1]["x"]


@trap()
class ShapeOfAParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3, 1, 1))
        self.register_buffer("mean", torch.rand(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.shape[0] == 3 and self.mean.dim() == 3 and self.weight.size(1) == 1:
            x = x * self.weight
        for _ in range(self.weight.numel()):
            x = x + self.mean
        return x
