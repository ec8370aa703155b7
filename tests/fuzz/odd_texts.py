"""Odd texts: names, selections, options."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

ODD = (
    *("", " ", ".", "..", "...", "/", "//", "\\", "~", "-", "--", "*", "?", "[", "]", "[!", "{", "%s", "%", "$HOME"),
    *("\0", "\n", "\r\n", "\t", "\x1b[31m", "\x7f", "\x85", "\u2028", "\u200b", "\u202e", "\ufeff", "\udce9"),
    *(
        "é",
        "e\u0301",
        "ß",
        "\u0130",
        "語",
        "😀",
        "None",
        "nan",
        "inf",
        "-1",
        "0",
        "1e999",
        "99999999999999999999",
        "True",
    ),
    *("con", "nul.png", "a" * 300, "a" * 5000, "../x", "../../x", "x/../..", "[bold]", "[/]", "<b>", "`x`", "'", '"'),
    *("&", "|", "(", ")", ":", "=", ",", ";"),
)
"""Texts that a program may not expect as names."""

PATHS = ("down1.conv", "down*", "op:conv2d", "op:cat", "inside:up2", "up1", "op:", "inside:", "*", "**", "layer1")
STAGES = {
    "normalizer": ("minmax", "percentile", "symmetric", "fixed"),
    "tiler": ("grid", "strip", "channels"),
    "transform": ("abs", "mean", "topk", "fft", "pca"),
    "edit": ("zero", "mean", "scale", "clamp", "noise", "shuffle", "blur", "replace"),
    "measure": ("dead", "checkerboard", "saturated", "rank", "mode-gap", "overlap", "aliasing", "periodic"),
    "colormap": ("viridis", "magma", "cmap:viridis"),
    "sink": ("png", "sheet", "npz", "safetensors", "stats"),
    "reader": ("image", "tensor"),
    "model": ("facades", "unet_128", "patchgan_pixel", "torchvision/resnet18", "torchvision", "torch.nn:Identity"),
}
OPTIONS = (
    "columns",
    "gap",
    "limit",
    "k",
    "per",
    "low",
    "high",
    "level",
    "channels",
    "region",
    "amount",
    "by",
    "sigma",
    "stride",
    "within",
    "seed",
    "size",
    "rows",
    "key",
    "scale",
    "least",
)


def odd_text(random: Random) -> str:
    """Return an odd text, alone or combined with others."""
    return "".join(random.choice((*ODD, "a", "B", "1", ".png", "x")) for _ in range(random.choice((1, 1, 2, 3))))


def selection(random: Random) -> str:
    """Return a text that resembles a selection."""
    parts = [random.choice((*PATHS, *PATHS, odd_text(random))) for _ in range(random.choice((1, 2, 3, 8)))]
    joined = "".join(f"{random.choice(('', '~', '(', ')', ' '))}{part}{random.choice(' &|~()')}" for part in parts)
    return joined * random.choice((1, 1, 1, 30)) if random.random() < 0.9 else "(" * 5000 + joined


def stage(kind: str, random: Random) -> str:
    """Return the name of a stage with texts that resemble options."""
    name = random.choice((*STAGES[kind], *STAGES[kind], odd_text(random)))
    if random.random() < 0.2:
        return name
    values = ("1", "8", "0", "-3", "2.5", "channel", "layer", "batch", "log", odd_text(random))
    options = [
        f"{random.choice((*OPTIONS, odd_text(random)))}={random.choice(values)}" for _ in range(random.choice((1, 2)))
    ]
    return f"{name}:{','.join(options)}"
