"""Names of runs for tables and pictures: what distinguishes each from the others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery.comparison.runs import Run
    from surgery.plugins import Plugins

_SEPARATORS = re.compile(r"([/\\_.:\s-]+)")


def name_runs(runs: Sequence[Run], plugins: Plugins | None = None) -> list[str]:
    """Return a name for each run, all different: its own, or what distinguishes it from the first run.

    The first one is called by its model if the others differ from it in several properties.
    """
    described = [run.describe(plugins) for run in runs]
    varying = [key for key in described[0] if len({each[key] for each in described}) > 1]
    models = dict(
        zip((each["model"] for each in described), shorten([each["model"] for each in described]), strict=True)
    )
    names: list[str] = []
    for run, properties in zip(runs, described, strict=True):
        is_first = not names
        own = [key for key in varying if (len(varying) == 1 if is_first else properties[key] != described[0][key])]
        texts = [_describe_property(key, properties[key], models) for key in own]
        name = run.name or ", ".join(texts) or models[properties["model"]]
        names.append(name if name not in names else f"{name} ({len(names) + 1})")
    return names


def shorten(texts: Sequence[str]) -> list[str]:
    """Return texts without the words that all begin and end with: ``a/5_net_G.pth``, ``a/10_net_G.pth`` are 5 and 10.

    Each keeps at least one word. Texts that are all the same stay whole.
    """
    split = [_SEPARATORS.split(text) for text in texts]  # words at even places, what is between them at odd ones
    words = [parts[::2] for parts in split]
    if len(set(texts)) < 2:
        return list(texts)
    ends = _count_shared([each[::-1] for each in words], min(map(len, words)) - 1)
    starts = _count_shared(words, min(map(len, words)) - 1 - ends)
    return ["".join(parts[2 * starts : len(parts) - 2 * ends]) for parts in split]


def _describe_property(key: str, text: str, models: dict[str, str]) -> str:
    if key == "model":
        return models[text]
    return f"seed {text}" if key == "seed" else text or f"no {key}"


def _count_shared(words: Sequence[Sequence[str]], most: int) -> int:
    """Return how many leading words are the same in all lists, at most `most`."""
    count = 0
    while count < most and len({each[count] for each in words}) == 1:
        count += 1
    return count
