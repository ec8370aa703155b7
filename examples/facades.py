"""Procedural façades: pairs of a label map and the street that it describes, numpy only, the same for the same seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Pixels = NDArray[np.float64]
    Paint = Callable[[Pixels, Pixels], Pixels]

LABELS = {
    "sky": (0, 0, 0),
    "wall": (0, 0, 200),
    "window": (0, 150, 255),
    "door": (255, 60, 0),
    "balcony": (200, 0, 200),
    "roof": (255, 170, 0),
    "cornice": (0, 255, 200),
    "ground": (120, 120, 120),
    "shop": (255, 255, 60),
    "tree": (0, 160, 0),
}
SIZE = 256


def draw_pair(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Label map and image, each ``(256, 256, 3)`` uint8."""
    street = Street(np.random.default_rng(seed))
    street.build()
    return street.labels, street.image.clip(0, 255).astype(np.uint8)


def lit(color: tuple[float, float, float], light: Pixels | float) -> Pixels:
    """A color under a light, ``(H, W)`` or one number, as ``(H, W, 3)``."""
    return np.asarray(light, np.float64)[..., None] * np.array(color, np.float64)


def mixed(one: tuple[float, float, float], other: tuple[float, float, float], share: Pixels) -> Pixels:
    """From one color to another, as `share` goes from 0 to 1."""
    return lit(one, 1 - share) + lit(other, share)


def speckle(x: Pixels, y: Pixels) -> Pixels:
    """A number from 0 to 1 that looks random, the same at the same place."""
    noise: Pixels = np.sin(x * 78.233 + y * 12.9898) * 43758.5453
    return noise - np.floor(noise)


class Street:
    """Draws one street twice: what is where, and what it looks like."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.y, self.x = np.mgrid[0:SIZE, 0:SIZE].astype(float)
        self.labels = np.zeros((SIZE, SIZE, 3), np.uint8)
        self.image = mixed((120, 170, 225), (225, 232, 240), (self.y / SIZE * 1.6).clip(0, 1))
        self.ground = int(random.integers(216, 236))

    def build(self) -> None:
        """The ground, houses from left to right, and up to two trees before them."""
        depth = SIZE - self.ground + 1
        self.label("ground", 0, self.ground, SIZE, SIZE)
        self.paint(0, self.ground, SIZE, SIZE, lambda x, y: self._paving(x, y, depth))
        left = int(self.random.integers(-30, 14))
        while left < SIZE:
            right = left + int(self.random.integers(78, 150))
            self.house(left, right)
            left = right + int(self.random.integers(0, 34))
        for _ in range(int(self.random.integers(0, 3))):
            self.tree()

    def label(self, name: str, *box: float) -> None:
        self.labels[self._box(*box)] = LABELS[name]

    def paint(self, left: float, top: float, right: float, bottom: float, color: Paint) -> None:
        """Fill a box with the colors of a function of x and y, ``(H, W)`` each, that gives ``(H, W, 3)``."""
        box = self._box(left, top, right, bottom)
        if self.image[box].size:
            self.image[box] = color(self.x[box], self.y[box])

    def shade(self, left: float, top: float, right: float, bottom: float, light: float) -> None:
        self.image[self._box(left, top, right, bottom)] *= light

    def house(self, left: int, right: int) -> None:
        """Wall, roof and cornice, then floors of windows, the lowest with a door and perhaps a shop."""
        random, ground = self.random, self.ground
        top, roof = int(random.integers(40, 104)), int(random.integers(14, 30))
        self.label("wall", left, top, right, ground)
        self.paint(left, top, right, ground, _bricks)
        self.label("roof", left - 2, top - roof, right + 2, top)
        self.paint(left - 2, top - roof, right + 2, top, lambda x, y: _tiles(x, y, (y - top + roof) / roof))
        self.label("cornice", left - 3, top, right + 3, top + 7)
        self.paint(left - 3, top, right + 3, top + 7, lambda _, y: lit((232, 222, 204), 1.05 - 0.25 * (y - top) / 7))
        self.shade(left, top + 7, right, top + 13, 0.66)
        if right < SIZE:
            self.shade(right, top, right + 9, ground, 0.72)
        floors = max(1, (ground - top - 20) // int(random.integers(38, 54)))
        height, columns = (ground - top - 12) / floors, int(random.integers(2, 5))
        column = (right - left) / columns
        wide, tall = column * random.uniform(0.42, 0.62), height * random.uniform(0.5, 0.68)
        door, shop = int(random.integers(0, columns)), random.random() < 0.35
        balconies = random.random(floors) < 0.4
        if shop:
            self.awning(left + 6, ground - height * 0.9, right - 6, ground - height * 0.62, height)
        for floor in range(floors):
            y, lowest = top + 14 + floor * height, floor == floors - 1
            for number in range(columns):
                x = left + (number + 0.5) * column
                if lowest and number == door:
                    self.door(x - wide / 2, ground - height * (0.6 if shop else 0.85), x + wide / 2, ground)
                elif lowest and shop:
                    self.window(x - column * 0.42, ground - height * 0.55, x + column * 0.42, ground - height * 0.1)
                else:
                    self.window(x - wide / 2, y + 2, x + wide / 2, y + 2 + tall)
                    if balconies[floor] and not lowest:
                        self.balcony(x - wide * 0.72, y + tall * 0.62, x + wide * 0.72, y + tall + 6)

    def window(self, left: float, top: float, right: float, bottom: float) -> None:
        """Frame, panes that mirror the sky, mullions, a sill and its shadow."""
        frame, wide, tall = 2.2, right - left, bottom - top
        self.label("window", left, top, right, bottom)
        self.shade(right, top + 3, right + 4, bottom + 4, 0.62)
        self.shade(left + 3, bottom, right, bottom + 4, 0.62)
        self.paint(left, top, right, bottom, lambda x, _: lit((236, 236, 236), 1 - 0.1 * (x - left) / (wide + 1)))

        def glass(x: Pixels, y: Pixels) -> Pixels:
            across, down = (x - left) / wide, (y - top) / tall
            glare = np.where(np.abs(across - down * 0.8 - 0.15) < 0.13, 70.0, 0.0) * (1 - down)
            return mixed((28, 44, 74), (92, 132, 168), (1 - down).clip(0, 1)) + glare[..., None]

        self.paint(left + frame, top + frame, right - frame, bottom - frame, glass)
        middle, cross = (left + right) / 2, top + tall * 0.4
        self.paint(middle - 1, top, middle + 1, bottom, lambda x, _: lit((225, 225, 225), np.ones_like(x)))
        self.paint(left, cross - 1, right, cross + 1, lambda x, _: lit((225, 225, 225), np.ones_like(x)))
        self.paint(left - 3, bottom, right + 3, bottom + 3, lambda x, _: lit((205, 205, 205), np.ones_like(x)))

    def balcony(self, left: float, top: float, right: float, bottom: float) -> None:
        """A railing, through whose bars the wall is seen."""
        self.label("balcony", left, top, right, bottom)
        self.shade(left + 4, bottom, right + 5, bottom + 7, 0.6)
        behind = self.image[self._box(left, top, right, bottom)].copy()

        def railing(x: Pixels, y: Pixels) -> Pixels:
            colors = lit((42, 46, 50), np.ones_like(x))
            gap = ((x - left) % 5 >= 2) & (y > top + 3) & (y < bottom - 4)
            colors[gap] = behind[gap] * 0.75
            colors[y >= bottom - 4] = (188, 180, 172)
            colors[y <= top + 2] = (70, 74, 80)
            return colors

        self.paint(left, top, right, bottom, railing)

    def door(self, left: float, top: float, right: float, bottom: float) -> None:
        """Six panels in a frame."""
        wide, tall = right - left, bottom - top
        self.label("door", left, top, right, bottom)
        self.shade(right, top + 3, right + 4, bottom, 0.6)
        self.paint(left, top, right, bottom, lambda x, _: lit((104, 62, 34), 1.15 - 0.4 * (x - left) / wide))
        for column in range(2):
            for row in range(3):
                x, y = left + wide * (0.1 + 0.45 * column), top + tall * (0.06 + 0.31 * row)
                x1, y1 = x + wide * 0.35, y + tall * 0.25
                self.paint(x, y, x1, y1, lambda x, _: lit((78, 44, 24), np.ones_like(x)))
                self.paint(x + 1.5, y + 1.5, x1, y1, lambda x, _: lit((126, 78, 44), np.ones_like(x)))

    def awning(self, left: float, top: float, right: float, bottom: float, height: float) -> None:
        """Stripes over a shop window, and their shadow."""

        def stripes(x: Pixels, y: Pixels) -> Pixels:
            red = (((x - left) // 8) % 2 < 1)[..., None]
            light = 1.1 - 0.35 * (y - top) / (bottom - top)
            return np.where(red, lit((214, 64, 58), light), lit((240, 236, 226), light))

        self.label("shop", left, top, right, bottom)
        self.paint(left, top, right, bottom, stripes)
        self.shade(left, bottom, right, bottom + height * 0.12, 0.55)

    def tree(self) -> None:
        """A trunk and a round crown, lit from the upper left."""
        x, radius = self.random.uniform(10, SIZE - 10), self.random.uniform(14, 26)
        y = self.ground - radius * 1.6
        trunk = (x - 2.5, y, x + 2.5, self.ground + 4)
        self.label("tree", *trunk)
        self.paint(*trunk, lambda across, _: lit((92, 66, 44), 1.2 - 0.1 * (across - x + 2.5)))
        dx, dy = self.x - x, self.y - y
        crown = dx**2 + (dy * 1.05) ** 2 < radius**2
        light = (0.95 - 0.45 * (dx + dy) / (1.4 * radius)).clip(0.35, 1.4)
        leaves = 0.8 + 0.4 * speckle(np.floor(self.y / 3), np.floor(self.x / 3))
        self.labels[crown] = LABELS["tree"]
        self.image[crown] = lit((72, 128, 58), light * leaves)[crown]

    @staticmethod
    def _paving(x: Pixels, y: Pixels, depth: float) -> Pixels:
        top = SIZE - depth + 1
        return lit((1, 0.98, 0.94), 95 + 55 * (y - top) / depth - 14.0 * ((x + 3 * y) % 32 < 2))

    @staticmethod
    def _box(left: float, top: float, right: float, bottom: float) -> Any:
        sides = [min(SIZE, max(0, round(side))) for side in (left, top, right, bottom)]
        return slice(sides[1], sides[3]), slice(sides[0], sides[2])


def _bricks(x: Pixels, y: Pixels) -> Pixels:
    row = np.floor(y / 6)
    along = x + row % 2 * 7
    light = (1.06 - 0.22 * x / SIZE) * (1.05 - 0.15 * y / SIZE)
    colors = lit((176, 98, 72), light * (0.88 + 0.24 * speckle(np.floor(along / 14), row)))
    mortar = (y % 6 < 1) | (along % 14 < 1)
    colors[mortar] = lit((196, 184, 170), 1.02 - 0.2 * x / SIZE)[mortar]
    return colors


def _tiles(x: Pixels, y: Pixels, down: Pixels) -> Pixels:
    wave = np.abs((x + 4 * (np.floor(y / 5) % 2)) % 8 - 4) / 4
    return lit((96, 74, 80), (0.7 + 0.45 * down + 0.22 * wave) * np.where(y % 5 < 1, 0.7, 1.0))
