"""Random models whose steps write in place, and the same models without any write."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

STEPS = ("conv", "act", "square", "scale", "halves", "flat", "part", "keep", "skip", "early", "base", "whole")


class Program(nn.Module):
    """Runs a list of steps, many of which write in place: to a tensor, to a view of it, to what a skip has kept."""

    def __init__(self, steps: list[str]) -> None:
        super().__init__()
        self.steps = steps
        self.convolve = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.convolve(x)
        kept = h
        for step in self.steps:
            if step == "keep":
                kept = h
            elif step == "skip":
                h = h + kept
            else:
                h = getattr(self, step)(h)
        return h.mean()

    def conv(self, h: Tensor) -> Tensor:
        return self.convolve(h)  # type: ignore[no-any-return]

    def act(self, h: Tensor) -> Tensor:
        """Autograd needs the values that this writes, and that later steps overwrite."""
        return h.sigmoid_()

    def square(self, h: Tensor) -> Tensor:
        return h * h

    def scale(self, h: Tensor) -> Tensor:
        return h.mul_(0.7)

    def halves(self, h: Tensor) -> Tensor:
        first, second = h.chunk(2, 1)
        return torch.cat([second, first], 1)

    def flat(self, h: Tensor) -> Tensor:
        """A view is written to, and the whole is read."""
        h.flatten(1).mul_(1.3)
        return h

    def part(self, h: Tensor) -> Tensor:
        """A view of some channels is written to twice, and the whole is read."""
        h.narrow(1, 1, 2).mul_(-0.4).add_(0.1)
        return h

    def early(self, h: Tensor) -> Tensor:
        """A view is read, then its memory is written to by way of the view, then both are read."""
        view = h.flatten(2)
        before = view.mean(2)
        view.mul_(0.9)
        return h * (before + view.mean(2)).view(2, 4, 1, 1)

    def base(self, h: Tensor) -> Tensor:
        """A view is read, then its memory is written to by way of the whole, then both are read."""
        view = h.flatten(2)
        before = view.mean(2)
        h.mul_(0.9)
        return h * (before + view.mean(2)).view(2, 4, 1, 1)

    def whole(self, h: Tensor) -> Tensor:
        """Integers, and a value that nothing reads."""
        h.argmax(1)
        h.sum()
        return h


@dataclass
class Functional:
    """The same without a write: memory is a list of cells, and what writes puts another tensor into a cell."""

    program: Program
    values: list[Tensor] = field(default_factory=list)
    """The values in the order of the operations."""
    cells: list[Tensor] = field(default_factory=list)
    current: int = 0

    def run(self, x: Tensor) -> Tensor:
        self.new(self.take(self.program.convolve(x)))
        kept = self.current
        for step in self.program.steps:
            if step == "keep":
                kept = self.current
            elif step == "skip":
                self.new(self.take(self.cells[self.current] + self.cells[kept]))
            else:
                getattr(self, step)(self.cells[self.current])
        return self.take(self.cells[self.current].mean())

    def take(self, value: Tensor) -> Tensor:
        self.values.append(value)
        return value

    def new(self, value: Tensor) -> None:
        self.cells.append(value)
        self.current = len(self.cells) - 1

    def write(self, value: Tensor) -> None:
        self.cells[self.current] = value

    def conv(self, h: Tensor) -> None:
        self.new(self.take(self.program.convolve(h)))

    def act(self, h: Tensor) -> None:
        self.write(self.take(h.sigmoid()))

    def square(self, h: Tensor) -> None:
        self.new(self.take(h * h))

    def scale(self, h: Tensor) -> None:
        self.write(self.take(h * 0.7))

    def halves(self, h: Tensor) -> None:
        first, second = self.take(h[:, :2]), self.take(h[:, 2:])
        self.new(self.take(torch.cat([second, first], 1)))

    def flat(self, h: Tensor) -> None:
        flat = self.take(h.flatten(1).clone())
        self.write(self.take(flat * 1.3).reshape(h.shape))

    def part(self, h: Tensor) -> None:
        part = self.take(h[:, 1:3])
        scaled = self.take(part * -0.4)
        self.write(torch.cat([h[:, :1], self.take(scaled + 0.1), h[:, 3:]], 1))

    def early(self, h: Tensor) -> None:
        view = self.take(h.flatten(2).clone())
        before = self.take(view.mean(2))
        written = self.take(view * 0.9)
        self.write(written.reshape(h.shape))
        self._multiply(before, written)

    def base(self, h: Tensor) -> None:
        # Memory that a view reads and the whole writes to: what is written to was the view's value too.
        view = self.take(h.flatten(2).clone())
        before = self.take(view.mean(2))
        self.write(self.take(view.reshape(h.shape) * 0.9))
        self._multiply(before, self.cells[self.current].flatten(2))

    def whole(self, h: Tensor) -> None:
        self.take(h.argmax(1))
        self.take(h.sum())

    def _multiply(self, before: Tensor, after: Tensor) -> None:
        factors = self.take(self.take(before + self.take(after.mean(2))).view(2, 4, 1, 1))
        self.new(self.take(self.cells[self.current] * factors))
