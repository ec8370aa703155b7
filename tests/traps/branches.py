"""Branches on the text or structure of a shape, a dtype or a device, which Python takes without asking the value."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.traps import trap

SIZES = {"16": 2, "32": 3}
KNOWN: set[str] = set()


def name_of_size(x: Tensor) -> str:
    return f"{x.shape[-1]}x{x.shape[-2]}"


class Branching(nn.Module):
    """Multiplies by a number that a question about its input gives."""

    def __init__(self, ask: Callable[[Any, Tensor], float]) -> None:
        super().__init__()
        self.ask = ask
        self.key = ""

    def forward(self, x: Tensor) -> Tensor:
        return x * self.ask(self, x)


def matched(_: Any, x: Tensor) -> int:
    match x.shape:
        case (_, _, _, 16):
            return 2
    return 3


def matched_with_a_star(_: Any, x: Tensor) -> int:
    match x.size():
        case [*_, 16]:
            return 2
    return 3


def matched_attribute(_: Any, x: Tensor) -> int:
    match x:
        case torch.Tensor(shape=(_, _, _, 16)):
            return 2
    return 3


def matched_item(_: Any, x: Tensor) -> int:
    match x.shape[-1]:
        case 16:
            return 2
    return 3


def variable(_: Any, x: Tensor) -> int:
    key = f"{x.shape[-1]}x{x.shape[-2]}"
    return 2 if key == "16x16" else 3


def attribute(model: Any, x: Tensor) -> int:
    model.key = f"size {x.shape[-1]}"
    return 2 if model.key == "size 16" else 3


def known_names(_: Any, x: Tensor) -> int:
    names = [f"size {size}" for size in (x.shape[-1], x.shape[-2])]
    return 2 if "size 16" in names else 3


QUESTIONS: dict[str, Callable[[Any, Tensor], float]] = {
    "part_of_a_text": lambda _, x: 2 if "16" in str(x.shape) else 3,
    "text": lambda _, x: 2 if f"{x.shape}" == "torch.Size([2, 3, 16, 16])" else 3,
    "longer_text": lambda _, x: 2 if f"width {x.shape[-1]}" == "width 16" else 3,
    "text_of_percent": lambda _, x: 2 if "%s" % x.shape[-1] == "16" else 3,  # noqa: UP031
    "text_of_format": lambda _, x: 2 if "{}".format(x.shape[-1]) == "16" else 3,  # noqa: UP032
    "joined_text": lambda _, x: 2 if "x".join(map(str, (x.shape[-1], x.shape[-2]))) == "16x16" else 3,
    "generated_text": lambda _, x: 2 if "x".join(str(size) for size in (x.shape[-1], 1)) == "16x1" else 3,
    "beginning_of_a_text": lambda _, x: 2 if str(x.shape[-1]).strip().startswith("16") else 3,
    "length_of_a_text": lambda _, x: len(str(x.shape[-1])),
    "text_in_a_table": lambda _, x: SIZES.get(f"{x.shape[-1]}", 1),
    "text_in_a_set": lambda _, x: 2 if str(x.shape) in KNOWN else 3,
    "name_of_an_attribute": lambda m, x: 2 if hasattr(m, f"conv_{x.shape[-1]}") else 3,
    "text_of_a_device": lambda _, x: 2 if "cuda" in str(x.device) else 3,
    "text_of_a_dtype": lambda _, x: 2 if str(x.dtype) == "torch.float64" else 3,
    "text_of_a_function": lambda _, x: 2 if name_of_size(x) == "16x16" else 3,
    **{f.__name__: f for f in (variable, attribute, known_names)},
}
MATCHES = (matched, matched_with_a_star, matched_attribute, matched_item)


def branching(name: str, ask: Callable[[Any, Tensor], float]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        return Branching(ask)

    make.__name__ = make.__qualname__ = f"branch_on_{name}"
    return make


for _name, _ask in QUESTIONS.items():
    trap(refused="a text is made of a value", picklable=False)(branching(_name, _ask))
for _ask in MATCHES:
    trap(refused="branches.py:", picklable=False)(branching(_ask.__name__, _ask))


@trap()
class Asserted(nn.Module):
    """Checks its input, with messages of shapes."""

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        torch._assert(channels == 3, f"3 channels wanted, not {channels} of {x.shape}")
        torch._assert(channels < 4, message=f"fewer than {channels}")
        logging.getLogger(__name__).debug("shape %s", x.shape)
        return x * 2


@trap(refused="a text is made of a value")
class AssertedAndBranched(nn.Module):
    """Has the same text in the message of an assertion and in a branch."""

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        torch._assert(channels == 3, f"not {channels}")
        return x * 2 if str(channels) == "3" else x  # here


@trap(refused="a text is made of a value")
class Logged(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        logging.getLogger(__name__).debug(f"the input is {x.shape}")  # noqa: G004  # here
        return x * 2
