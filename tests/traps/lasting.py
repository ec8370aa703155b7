"""State outside torch that changes from run to run: generators, flags, caches."""

from __future__ import annotations

import contextvars
import random
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
import torch
from torch import Tensor, nn

from tests.traps import trap


@trap(refused="something else in its second run")
class OwnPythonsRandom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.random = random.Random(1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.random.random()  # here


@trap(refused="something else in its second run")
class OwnNumpysRandom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.random = np.random.default_rng(1)

    def forward(self, x: Tensor) -> Tensor:
        return x * float(self.random.random())  # here


@trap(refused="something else in its second run")
class OwnOldNumpysRandom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.random = np.random.RandomState(1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.random.rand()  # here


@trap(refused="a random generator that a graph can't store")
class OwnTorchsRandom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rand((), generator=self.generator).item()  # here


@trap(refused="something else in its second run")
class OwnIterator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.numbers = iter(range(100))

    def forward(self, x: Tensor) -> Tensor:
        return x * next(self.numbers)  # here


FLAGS = {"odd": False}
ODD = False


@trap(refused="lasting.py:")
class Alternating(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        global ODD  # noqa: PLW0603
        ODD = not ODD
        return x * 2 if ODD else x + 1


@trap(refused="lasting.py:")
class AlternatingTable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        FLAGS["odd"] = not FLAGS["odd"]
        return x * (2 if FLAGS["odd"] else 3)


@trap(refused="lasting.py:")
class AlternatingByMode(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        global ODD  # noqa: PLW0603
        ODD = not ODD
        return nn.functional.dropout(x * 2 if ODD else x + 1, 0.5, self.training)


@trap(refused="every run of the model changes CountingInADict.seen.runs")
class CountingInADict(nn.Module):
    """Does something else in its fourth run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = {"runs": 0}

    def forward(self, x: Tensor) -> Tensor:
        self.seen["runs"] += 1
        return x * 3 if self.seen["runs"] > 3 else x


@trap(refused="every run of the model changes CountingInAnArray.runs")
class CountingInAnArray(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.runs = np.zeros(10_000)

    def forward(self, x: Tensor) -> Tensor:
        self.runs[0] += 1
        return x * 3 if self.runs[0] > 3 else x


@trap(refused="every run of the model writes to WritingToAClosure.shifted, a tensor outside of it")
class WritingToAClosure(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        shift = torch.zeros(1)

        def shifted(x: Tensor) -> Tensor:
            y = x + shift
            shift.add_(1)
            return y

        self.shifted = shifted

    def forward(self, x: Tensor) -> Tensor:
        return self.shifted(x)


SHIFT = torch.zeros(1)


@trap(refused="every run of the model writes to SHIFT, a tensor outside of it")
class WritingToAGlobalName(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x + SHIFT
        SHIFT.add_(1)
        return y


@trap()
class WritingInAHookOfALeaf(nn.Module):
    """Its graph calls the hook too."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()
        self.act.register_forward_hook(_add_to_shift)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x) * 2


def _add_to_shift(*_: Any) -> None:
    SHIFT.add_(1)


LOCAL = threading.local()
CONTEXT: contextvars.ContextVar[Any] = contextvars.ContextVar("CONTEXT", default=None)
WEAK: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
WEAK_VALUES: WeakValueDictionary[str, Any] = WeakValueDictionary()
ALIVE: list[Any] = []
TABLES: defaultdict[Any, list[Any]] = defaultdict(list)


class CachedIn(nn.Module):
    """Keeps a value of its first input outside itself, and uses it in all later runs."""

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], Any]) -> None:
        super().__init__()
        self.read, self.write = read, write

    def forward(self, x: Tensor) -> Tensor:
        if self.read() is None:
            self.write(x.mean((0, 1)))
        return x * self.read()


def kept_by_a_function() -> Any:
    return getattr(kept_by_a_function, "kept", None)


def keep_weakly(value: Any) -> None:
    """Keep a value in a dictionary of weak references, and alive in an iterator, into which nobody looks."""
    ALIVE.append(iter([value]))
    WEAK_VALUES["kept"] = value


PLACES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "thread_local": (lambda: getattr(LOCAL, "kept", None), lambda value: setattr(LOCAL, "kept", value)),
    "context_variable": (CONTEXT.get, CONTEXT.set),
    "weak_dictionary": (lambda: WEAK.get(CachedIn), lambda value: WEAK.__setitem__(CachedIn, value)),
    "dictionary_of_weak_values": (lambda: WEAK_VALUES.get("kept"), keep_weakly),
    "defaultdict": (lambda: (TABLES["kept"] or [None])[-1], TABLES["kept"].append),
    "function": (kept_by_a_function, lambda value: setattr(kept_by_a_function, "kept", value)),
}


def cached_in(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        return CachedIn(*PLACES[name])

    make.__name__ = make.__qualname__ = f"cached_in_a_{name}"
    return make


for _name in PLACES:
    trap(refused="earlier run", picklable=False)(cached_in(_name))


class AsksForAutocast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.half().float() if torch.is_autocast_enabled() else x * 2  # here


class AsksForAutocastOfADevice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.half().float() if torch.is_autocast_enabled("cpu") else x * 2  # here


class AsksForInferenceMode(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if torch.is_inference_mode_enabled() else x * 2  # here


for _net in (AsksForAutocast, AsksForAutocastOfADevice, AsksForInferenceMode):
    trap(refused="a branch or loop")(_net)


@trap()
class AutocastsDtype(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.to(torch.get_autocast_dtype("cpu")).float()
